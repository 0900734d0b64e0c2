//! A mail in the form that travels.

use lettre::{
    Address,
    address::AddressError,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
};

use crate::notify::{Mail, Message, SendError};

/// Why mails can't be from an address.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("must be an ASCII address, or have only an internationalized domain")]
    NotAscii,
}

/// Who mails are from.
#[derive(Clone, Debug)]
pub struct Sender(Mailbox);

impl Sender {
    /// Reads `Name <user@domain>`, or an address alone.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(given: &str) -> Result<Self, SenderError> {
        let mailbox: Mailbox = given.parse()?;
        // The domain goes in ASCII; a local part can't, and not every relay accepts it.
        let ascii = Some(&mailbox.email).filter(|email| email.user().is_ascii());
        let email = ascii
            .and_then(|email| address(email.as_ref()))
            .ok_or(SenderError::NotAscii)?;
        Ok(Self(Mailbox::new(mailbox.name, email)))
    }

    /// The mail as a letter. Its `Message-ID` and `Date` are the same over all tries.
    ///
    /// # Errors
    /// A permanent one where the recipient is no address that mail can go to.
    pub fn mime(&self, mail: &Message<Mail>) -> Result<lettre::Message, SendError> {
        let recipient =
            address(&mail.recipient).ok_or_else(|| SendError::permanent("not an address"))?;
        lettre::Message::builder()
            .from(self.0.clone())
            .to(Mailbox::new(None, recipient))
            .subject(mail.content.subject.clone())
            .date(mail.created_at.into())
            .message_id(Some(format!("<{}@{}>", mail.message_id, self.0.email.domain())))
            // RFC 3834: no out-of-office note comes back.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ))
            .multipart(MultiPart::alternative_plain_html(
                mail.content.text.clone(),
                mail.content.html.clone(),
            ))
            .map_err(|_| SendError::permanent("not a valid message"))
    }
}

/// The address with its domain in ASCII, so that no relay needs SMTPUTF8.
fn address(given: &str) -> Option<Address> {
    let (local, domain) = given.rsplit_once('@')?;
    Address::new(local, idna::domain_to_ascii(domain).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;

    fn mail(recipient: &str, subject: &str) -> Message<Mail> {
        Message {
            message_id: Uuid::nil(),
            created_at: DateTime::UNIX_EPOCH,
            recipient: recipient.to_owned(),
            content: Mail {
                subject: subject.to_owned(),
                text: "您好 123456".to_owned(),
                html: "<p>123456</p>".to_owned(),
            },
        }
    }

    fn formatted(mail: &Message<Mail>) -> Result<String, SendError> {
        let sender = Sender::parse("Example <no-reply@example.org>").unwrap();
        Ok(String::from_utf8(sender.mime(mail)?.formatted()).unwrap())
    }

    #[test]
    fn a_letter_has_a_stable_id_and_says_that_a_program_wrote_it() {
        let mime = formatted(&mail("Ann@bücher.example", "验证码")).unwrap();
        assert!(
            mime.contains("Message-ID: <00000000-0000-0000-0000-000000000000@example.org>\r\n"),
            "{mime}"
        );
        assert!(
            mime.contains("Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n"),
            "{mime}"
        );
        assert!(mime.contains("To: Ann@xn--bcher-kva.example\r\n"), "{mime}");
        assert!(
            mime.contains("Auto-Submitted: auto-generated\r\n"),
            "{mime}"
        );
        assert!(mime.is_ascii());
    }

    #[test]
    fn no_header_can_be_slipped_in() {
        for recipient in [
            "a@b.example\r\nBcc: c@d.example",
            "a\r\nBcc: c@d.example",
            "nobody",
            "@b.example",
            "a@",
        ] {
            assert!(
                formatted(&mail(recipient, "Hello")).is_err(),
                "{recipient:?}"
            );
        }
        let mime = formatted(&mail("a@b.example", "Hello\r\nBcc: c@d.example")).unwrap();
        assert!(!mime.lines().any(|line| line.starts_with("Bcc")), "{mime}");
    }
}
