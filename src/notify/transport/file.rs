//! Mails as files, for development: one `.eml` a mail, told on stderr.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use tokio::fs;

use crate::notify::{Mail, Message, SendError};

/// The folder that mails are kept in.
#[derive(Clone, Debug)]
pub struct MailDir(PathBuf);

impl MailDir {
    /// Makes the folder where it is absent.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self(folder.to_owned()))
    }

    /// Where a mail lies. Names sort by time, and a mail that is sent twice has one.
    pub fn path(&self, mail: &Message<Mail>) -> PathBuf {
        let time = mail.created_at.format("%Y%m%dT%H%M%S%6f");
        self.0.join(format!("{time}-{}.eml", mail.message_id))
    }

    /// Keeps a letter. The file appears whole or not at all.
    ///
    /// # Errors
    /// A temporary failure, if the file system reports an error.
    pub async fn keep(
        &self,
        mail: &Message<Mail>,
        mime: &lettre::Message,
    ) -> Result<(), SendError> {
        let path = self.path(mail);
        let unfinished = path.with_extension("part");
        let kept = async {
            fs::write(&unfinished, mime.formatted()).await?;
            fs::rename(&unfinished, &path).await
        };
        kept.await
            .and_then(|()| writeln!(io::stderr(), "mail: {}", path.display()))
            .map_err(|error| SendError::retry(format!("file: {}", error.kind())))
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;
    use crate::notify::transport::Sender;

    #[tokio::test]
    async fn a_mail_that_is_kept_twice_is_one_file() {
        let folder = std::env::temp_dir().join(format!("mail-dir-{}", Uuid::new_v4()));
        let mail_dir = MailDir::open(&folder.join("mails")).unwrap();
        let mail = Message {
            message_id: Uuid::nil(),
            created_at: DateTime::UNIX_EPOCH,
            recipient: "ann@example.org".to_owned(),
            content: Mail {
                subject: "Hello".to_owned(),
                text: "text".to_owned(),
                html: "<p>text</p>".to_owned(),
            },
        };
        let mime = Sender::parse("no-reply@example.org")
            .unwrap()
            .mime(&mail)
            .unwrap();

        mail_dir.keep(&mail, &mime).await.unwrap();
        mail_dir.keep(&mail, &mime).await.unwrap();

        let files: Vec<PathBuf> = std::fs::read_dir(folder.join("mails"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(files, [mail_dir.path(&mail)]);
        assert_eq!(files[0].extension().unwrap(), "eml");
        assert!(
            std::fs::read_to_string(&files[0])
                .unwrap()
                .contains("Subject: Hello")
        );
        std::fs::remove_dir_all(folder).unwrap();
    }
}
