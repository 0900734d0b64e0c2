//! Mails by SMTP, against a real server.

use std::time::Duration;

use chrono::DateTime;
use secrecy::SecretString;
use user_service::mail::{
    Class, Mail, Message, SendError,
    transport::{
        MailTransport, Sender, Smtp, TextTransport, Transports,
        smtp::{SmtpSettings, Tls},
    },
};
use uuid::Uuid;

use crate::support::smtp::{Security, SmtpServer};

const LIMIT: Duration = Duration::from_secs(10);

fn settings(server: &SmtpServer, tls: Tls) -> SmtpSettings {
    SmtpSettings {
        host: "localhost".to_owned(),
        port: server.address.port(),
        tls,
        credentials: None,
        ca_file: Some(server.ca_file().to_owned()),
        idle_connections: 2,
    }
}

fn transports(settings: &SmtpSettings) -> Transports {
    Transports {
        sender: Sender::parse("Example <no-reply@example.org>").unwrap(),
        mail: MailTransport::Smtp(Smtp::new(settings).unwrap()),
        text: TextTransport::Log,
    }
}

fn mail(text: &str) -> Message<Mail> {
    Message {
        message_id: Uuid::nil(),
        created_at: DateTime::UNIX_EPOCH,
        recipient: "ann@example.org".to_owned(),
        content: Mail { subject: "Hello".to_owned(), text: text.to_owned(), html: format!("<p>{text}</p>") },
    }
}

fn error(what: &'static str, class: Class) -> Result<(), SendError> {
    Err(SendError { class, what: what.into() })
}

#[tokio::test]
async fn p47_a_mail_goes_by_each_way_of_encryption() {
    for (security, tls) in [(Security::None, Tls::None), (Security::StartTls, Tls::StartTls), (Security::Tls, Tls::Tls)]
    {
        let server = SmtpServer::start_with_login(security).await;
        let mut settings = settings(&server, tls);
        settings.credentials = Some(("relay".to_owned(), SecretString::from("secret")));

        let sent = transports(&settings).mail(&mail("Good morning"), LIMIT).await;

        assert_eq!(sent, Ok(()), "{security:?}");
        let received = &server.wait_for(1).await[0];
        assert_eq!(received.to, ["ann@example.org"]);
        assert_eq!(received.login, Some(("relay".to_owned(), "secret".to_owned())));
        assert!(received.data.contains(&format!("Message-ID: <{}@example.org>", Uuid::nil())));
        assert!(received.data.contains("Good morning"));
    }
}

#[tokio::test]
async fn p44_a_refused_password_is_told() {
    let server = SmtpServer::start_with_login(Security::Tls).await;
    let mut settings = settings(&server, Tls::Tls);
    settings.credentials = Some(("relay".to_owned(), SecretString::from("wrong")));
    let sent = transports(&settings).mail(&mail("a"), LIMIT).await;
    assert_eq!(sent, error("smtp 535", Class::Permanent));
}

#[tokio::test]
async fn p47_without_starttls_nothing_is_sent_in_the_clear() {
    let server = SmtpServer::start(Security::None).await;
    let sent = transports(&settings(&server, Tls::StartTls)).mail(&mail("secret"), LIMIT).await;
    assert_eq!(sent, error("smtp client", Class::Retry));
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn p47_a_certificate_of_nobody_that_is_trusted_gets_no_mail() {
    let server = SmtpServer::start(Security::Tls).await;
    let mut settings = settings(&server, Tls::Tls);
    settings.ca_file = None;
    let sent = transports(&settings).mail(&mail("secret"), LIMIT).await;
    assert_eq!(sent.unwrap_err().class, Class::Retry);
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn p44_the_answer_decides_whether_it_is_tried_again() {
    let server = SmtpServer::start(Security::None).await;
    let transports = transports(&settings(&server, Tls::None));
    server.answer_next_with(&[451, 550]);
    assert_eq!(transports.mail(&mail("a"), LIMIT).await, error("smtp 451", Class::Retry));
    assert_eq!(transports.mail(&mail("a"), LIMIT).await, error("smtp 550", Class::Permanent));
    assert_eq!(transports.mail(&mail("a"), LIMIT).await, Ok(()));
}

#[tokio::test]
async fn p47_connections_are_used_again() {
    let server = SmtpServer::start(Security::StartTls).await;
    let transports = transports(&settings(&server, Tls::StartTls));
    for _ in 0..3 {
        transports.mail(&mail("a"), LIMIT).await.unwrap();
    }
    let received = server.wait_for(3).await;
    assert!(received.iter().all(|mail| mail.connection == 0), "{received:?}");
}

#[tokio::test]
async fn p43_a_silent_relay_is_given_up_and_its_connection_closed() {
    let server = SmtpServer::start(Security::None).await;
    let transports = transports(&settings(&server, Tls::None));
    transports.mail(&mail("first"), LIMIT).await.unwrap();
    server.answer_next_with(&[0]);

    let sent = transports.mail(&mail("second"), Duration::from_millis(300)).await;
    assert_eq!(sent, error("timeout", Class::Retry));

    transports.mail(&mail("third"), LIMIT).await.unwrap();
    let received = server.wait_for(2).await;
    assert_eq!(received[1].connection, 1);
    assert!(received[1].data.contains("third") && !received[1].data.contains("NOOP"));
}
