//! Mails by SMTP, against a real server.

use std::{net::SocketAddr, time::Duration};

use chrono::DateTime;
use secrecy::SecretString;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};
use user_service::notify::{
    Mail, Message, RetryClass, SendError,
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
        hello_name: None,
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
        content: Mail {
            subject: "Hello".to_owned(),
            text: text.to_owned(),
            html: format!("<p>{text}</p>"),
        },
    }
}

fn error(what: &'static str, class: RetryClass) -> Result<(), SendError> {
    Err(SendError {
        class,
        what: what.into(),
    })
}

#[tokio::test]
async fn p47_a_mail_goes_by_each_way_of_encryption() {
    for (security, tls) in [
        (Security::None, Tls::None),
        (Security::StartTls, Tls::StartTls),
        (Security::Tls, Tls::Tls),
    ] {
        let server = SmtpServer::start_with_login(security).await;
        let mut settings = settings(&server, tls);
        settings.credentials = Some(("relay".to_owned(), SecretString::from("secret")));

        let sent = transports(&settings)
            .mail(&mail("Good morning"), LIMIT)
            .await;

        assert_eq!(sent, Ok(()), "{security:?}");
        let received = &server.wait_for(1).await[0];
        assert_eq!(received.to, ["ann@example.org"]);
        assert_eq!(
            received.login,
            Some(("relay".to_owned(), "secret".to_owned()))
        );
        assert!(
            received
                .data
                .contains(&format!("Message-ID: <{}@example.org>", Uuid::nil()))
        );
        assert!(received.data.contains("Good morning"));
    }
}

#[tokio::test]
async fn p44_a_rejected_password_of_ours_is_retried() {
    let server = SmtpServer::start_with_login(Security::Tls).await;
    let mut settings = settings(&server, Tls::Tls);
    settings.credentials = Some(("relay".to_owned(), SecretString::from("wrong")));
    let sent = transports(&settings).mail(&mail("a"), LIMIT).await;
    assert_eq!(sent, error("smtp auth 535", RetryClass::Retry));
}

#[tokio::test]
async fn p47_without_starttls_nothing_is_sent_in_the_clear() {
    let server = SmtpServer::start(Security::None).await;
    let sent = transports(&settings(&server, Tls::StartTls))
        .mail(&mail("secret"), LIMIT)
        .await;
    assert_eq!(sent, error("smtp starttls not offered", RetryClass::Retry));
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn p47_a_certificate_of_nobody_that_is_trusted_gets_no_mail() {
    let server = SmtpServer::start(Security::Tls).await;
    let mut settings = settings(&server, Tls::Tls);
    settings.ca_file = None;
    let sent = transports(&settings).mail(&mail("secret"), LIMIT).await;
    assert_eq!(sent.unwrap_err().class, RetryClass::Retry);
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn p44_the_answer_decides_whether_it_is_tried_again() {
    let server = SmtpServer::start(Security::None).await;
    let transports = transports(&settings(&server, Tls::None));
    server.answer_next_with(&[451, 550]);
    assert_eq!(
        transports.mail(&mail("a"), LIMIT).await,
        error("smtp 451", RetryClass::Retry)
    );
    assert_eq!(
        transports.mail(&mail("a"), LIMIT).await,
        error("smtp 550", RetryClass::Permanent)
    );
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
    assert!(
        received.iter().all(|mail| mail.connection == 0),
        "{received:?}"
    );
}

#[tokio::test]
async fn p43_a_silent_relay_is_given_up_and_its_connection_closed() {
    let server = SmtpServer::start(Security::None).await;
    let transports = transports(&settings(&server, Tls::None));
    transports.mail(&mail("first"), LIMIT).await.unwrap();
    server.answer_next_with(&[0]);

    let sent = transports
        .mail(&mail("second"), Duration::from_millis(300))
        .await;
    assert_eq!(sent, error("timeout", RetryClass::Retry));

    transports.mail(&mail("third"), LIMIT).await.unwrap();
    let received = server.wait_for(2).await;
    assert_eq!(received[1].connection, 1);
    assert!(received[1].data.contains("third") && !received[1].data.contains("NOOP"));
}

/// A relay that answers each command with bytes of the test's choice, and notes what it was sent.
struct Scripted {
    address: SocketAddr,
    commands: mpsc::UnboundedReceiver<String>,
    serving: JoinHandle<()>,
}

impl Scripted {
    /// Serves one connection after another; `reply` gives the bytes for a command, `.` being the
    /// end of a mail.
    async fn start(reply: fn(&str) -> &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sent, commands) = mpsc::unbounded_channel();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                converse(stream, reply, &sent).await.unwrap_or_default();
            }
        });
        Self {
            address,
            commands,
            serving,
        }
    }

    fn transports(&self) -> Transports {
        transports(&SmtpSettings {
            host: self.address.ip().to_string(),
            port: self.address.port(),
            tls: Tls::None,
            credentials: None,
            ca_file: None,
            idle_connections: 4,
            hello_name: Some("users.example.com".to_owned()),
        })
    }

    /// The commands so far.
    fn commands(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.commands.try_recv().ok()).collect()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn converse(
    mut stream: TcpStream,
    reply: fn(&str) -> &'static [u8],
    sent: &mpsc::UnboundedSender<String>,
) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader).lines();
    writer.write_all(b"220\r\n").await?;
    let mut is_mail = false;
    while let Some(line) = lines.next_line().await? {
        if is_mail && line != "." {
            continue;
        }
        is_mail = line == "DATA";
        sent.send(line.clone()).unwrap_or_default();
        writer.write_all(reply(&line)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn p44_the_code_of_a_reply_alone_decides() {
    // "邮件" in GBK, without a text, with a line feed alone, and over lines of which one has such
    // text.
    let reply = |command: &str| -> &'static [u8] {
        match command.split([':', ' ']).next().unwrap() {
            "EHLO" => b"250-\xd3\xca\xbc\xfe\r\n250 8BITMIME\r\n",
            "MAIL" => b"250\r\n",
            "RCPT" => b"250 \xd3\xca\xbc\xfe\n",
            "DATA" => b"354\r\n",
            "." => b"250 \xd3\xca\xbc\xfe \xd2\xd1\xbd\xd3\xca\xd5\r\n",
            _ => b"250\r\n",
        }
    };
    let mut relay = Scripted::start(reply).await;
    let transports = relay.transports();
    assert_eq!(transports.mail(&mail("a"), LIMIT).await, Ok(()));
    assert_eq!(transports.mail(&mail("b"), LIMIT).await, Ok(()));
    let commands = relay.commands();
    let count = |of: &str| commands.iter().filter(|command| *command == of).count();
    assert_eq!(
        (count("EHLO users.example.com"), count("DATA"), count(".")),
        (1, 2, 2),
        "{commands:?}"
    );
}

#[tokio::test]
async fn p44_a_rejection_with_a_text_in_another_encoding_is_final() {
    let reply = |command: &str| -> &'static [u8] {
        if command.starts_with("RCPT") {
            b"550 \xd3\xca\xbc\xfe\r\n"
        } else {
            b"250\r\n"
        }
    };
    let relay = Scripted::start(reply).await;
    assert_eq!(
        relay.transports().mail(&mail("a"), LIMIT).await,
        error("smtp 550", RetryClass::Permanent)
    );
}

#[tokio::test]
async fn p44_a_relay_that_requires_a_login_is_tried_again() {
    let reply = |command: &str| -> &'static [u8] {
        if command.starts_with("MAIL") {
            b"530 5.7.0\r\n"
        } else {
            b"250\r\n"
        }
    };
    let relay = Scripted::start(reply).await;
    assert_eq!(
        relay.transports().mail(&mail("a"), LIMIT).await,
        error("smtp 530", RetryClass::Retry)
    );
}
