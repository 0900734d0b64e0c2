//! Builds what sends mails and text messages.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use secrecy::SecretString;

use crate::{
    clock::Clock,
    config::{self, Config},
    domain::{codes::digits, db::Db},
    model::keys::Keys,
    model::{code, delivery::Channel},
    notify::{
        templates::Templates,
        transport::{
            MailDir, MailTransport, Sender, Smtp, TextTransport, Transports, Webhook,
            smtp::SmtpSettings, webhook::WebhookSettings,
        },
        worker::{Settings, Waker, Worker},
    },
};

/// The worker. What nothing is configured to send with fails.
///
/// # Errors
/// Templates, a folder, a relay or a webhook that cannot be used.
pub(super) fn worker(
    config: &Config,
    db: Db,
    clock: Clock,
    keys: Keys,
    waker: Waker,
) -> anyhow::Result<Worker> {
    let templates = Templates::load(config.mail.templates.as_deref(), &config.mail.app_name)
        .context("mail.templates")?;
    let mail = match (&config.mail.smtp, &config.mail.folder) {
        (Some(smtp), _) => MailTransport::Smtp(smtp_relay(smtp)?),
        (None, Some(folder)) => {
            let opened = MailDir::open(folder)
                .with_context(|| format!("mail.folder: {}", folder.display()))?;
            MailTransport::File(opened)
        }
        (None, None) => MailTransport::None,
    };
    let text = match (&config.sms.url, &config.sms.secret) {
        (Some(url), Some(secret)) => {
            let settings = WebhookSettings {
                url: url.clone(),
                secret: SecretString::from(secret.0.clone()),
                ca_file: config.sms.ca_file.clone(),
            };
            TextTransport::Webhook(Box::new(
                Webhook::new(&settings, clock.clone()).context("sms")?,
            ))
        }
        _ if config.sms.log => TextTransport::Log,
        _ => TextTransport::None,
    };
    let sender = Sender::parse(&config.mail.from).context("mail.from")?;
    let digits = move |seed: &crate::store::outbox::CodeSeed| {
        let channel = Channel::parse(&seed.channel)?;
        let bytes = code::seed(
            seed.user_id,
            channel,
            &seed.purpose,
            &seed.address,
            &seed.nonce,
        );
        digits(&keys, &seed.key_id, &bytes)
    };
    // Files are written at once, and in order a person finds the newest last.
    let concurrency = if matches!(mail, MailTransport::File(_)) {
        1
    } else {
        Settings::default().concurrency
    };
    let lease = Duration::from_secs(u64::from(config.mail.lease_seconds));
    Ok(Worker {
        db,
        clock,
        templates: Arc::new(templates),
        transports: Arc::new(Transports { sender, mail, text }),
        digits: Arc::new(digits),
        settings: Settings {
            concurrency,
            lease,
            ..Settings::default()
        },
        waker,
    })
}

fn smtp_relay(smtp: &config::Smtp) -> anyhow::Result<Smtp> {
    let password = smtp
        .password
        .as_ref()
        .map(|password| SecretString::from(password.0.clone()));
    let settings = SmtpSettings {
        host: smtp.host.clone(),
        port: smtp.port.unwrap_or_else(|| smtp.tls.port()),
        tls: smtp.tls,
        credentials: smtp.username.clone().zip(password),
        ca_file: smtp.ca_file.clone(),
        // Each send that ends finds room for its connection, and the next one finds a connection.
        idle_connections: Settings::default().concurrency,
        hello_name: smtp.hello_name.clone(),
    };
    Smtp::new(&settings).context("mail.smtp")
}
