//! The outbox with real processes: three replicas, one relay, and a process that is killed in the
//! middle.

use std::{
    collections::HashMap,
    fs,
    process::{Child, Command, Stdio},
};

use chrono::TimeDelta;
use user_service::{
    clock::Clock,
    config::{Config, Secret, SecretKey, Smtp, key_text},
    convert::pb,
    model::delivery::{Channel, Template},
    notify::transport::smtp::Tls,
    store::outbox::{self, NewDelivery},
};
use uuid::Uuid;

use crate::support::{
    TestApp, TestDatabase, eventually,
    folder::Folder,
    given,
    post::all_sent,
    smtp::{Received, Security, SmtpServer},
};

const MAILS: usize = 1000;

/// A process of the service, killed with the test.
struct Replica(Child);

impl Replica {
    fn start(folder: &Folder, name: &str, database: &TestDatabase, smtp: &SmtpServer) -> Self {
        let mut config = Config::default();
        config.database.url = Secret(database.url());
        config.grpc.address = ([127, 0, 0, 1], 0).into();
        config.secrets.keys = vec![SecretKey {
            id: "test".to_owned(),
            key: Secret(key_text([7; 32])),
        }];
        config.mail.lease_seconds = 5;
        config.mail.smtp = Some(Smtp {
            host: "127.0.0.1".to_owned(),
            port: Some(smtp.address.port()),
            tls: Tls::None,
            ..Smtp::default()
        });
        let file = folder.0.join(format!("{name}.toml"));
        fs::write(&file, toml::to_string(&config).unwrap()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_user-service"));
        command
            .args(["serve", "--config"])
            .arg(file)
            .env_remove("DATABASE_URL")
            .env("RUST_LOG", "warn");
        Self(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }

    /// Ends it without a chance to clean up.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // Gone already where the test killed it.
        self.0.kill().unwrap_or_default();
        self.0.wait().expect("a child");
    }
}

async fn queue(database: &TestDatabase) {
    let mut conn = database.connect().await;
    let now = Clock::System.now();
    for number in 0..MAILS {
        let notice = NewDelivery {
            channel: Channel::Email,
            recipient: format!("user{number}@example.org"),
            template: Template::PasswordChanged,
            languages: Vec::new(),
            app_name: String::new(),
            user_id: None,
            code_id: None,
            expires_at: None,
            not_before: None,
            owner_caller: None,
        };
        outbox::insert(&mut conn, notice, Uuid::new_v4(), now)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn p44_a_relay_that_is_down_is_no_error_of_the_call() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let app = TestApp::configured(|config| {
        config.mail.folder = None;
        config.mail.smtp = Some(Smtp {
            host: "127.0.0.1".to_owned(),
            port: Some(port),
            tls: Tls::None,
            ..Smtp::default()
        });
    })
    .await;
    let (_, mut ann) = app.join(given("ann@example.org", ""), "").await;
    let mut service = app.service().await;

    let delivery_id = ann.send_bind("new@example.org").await.unwrap();
    let tried = eventually("a first attempt", async || {
        let asked = service
            .admin
            .get_delivery(pb::GetDeliveryRequest { delivery_id })
            .await;
        Some(asked.unwrap().into_inner()).filter(|delivery| delivery.attempts > 0)
    })
    .await;
    app.clock.advance(TimeDelta::minutes(10));
    app.app.waker.wake();
    all_sent(&app.database).await;
    let ended = service
        .admin
        .get_delivery(pb::GetDeliveryRequest { delivery_id })
        .await
        .unwrap()
        .into_inner();

    assert_eq!(
        (tried.state(), tried.attempts),
        (pb::DeliveryState::Queued, 1)
    );
    assert_eq!(
        (ended.state(), ended.attempts),
        (pb::DeliveryState::Expired, 1),
        "its code is of no use any more"
    );
}

#[tokio::test]
async fn p47_what_nothing_is_configured_to_send_with_fails() {
    let app = TestApp::configured(|config| {
        config.mail.folder = None;
        config.sms.url = None;
        config.sms.secret = None;
    })
    .await;
    let (_, mut ann) = app.join(given("ann@example.org", ""), "").await;
    let mut service = app.service().await;

    for address in ["new@example.org", "+8613800138000"] {
        let delivery_id = ann.send_bind(address).await.unwrap();
        let failed = eventually("the end of the delivery", async || {
            let asked = service
                .admin
                .get_delivery(pb::GetDeliveryRequest { delivery_id })
                .await;
            Some(asked.unwrap().into_inner())
                .filter(|delivery| delivery.state() != pb::DeliveryState::Queued)
        });
        assert_eq!(failed.await.state(), pb::DeliveryState::Failed, "{address}");
    }
}

fn message_id(mail: &Received) -> &str {
    mail.data
        .lines()
        .find(|line| line.starts_with("Message-ID:"))
        .expect("a Message-ID")
}

// Real processes send on their own; the relays answer meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p43_three_processes_deliver_a_thousand_mails_though_one_is_killed() {
    let database = TestDatabase::new().await;
    queue(&database).await;
    let (folder, relay) = (Folder::new(), SmtpServer::start(Security::None).await);
    // The one that will die has a relay of its own, so that what it sent is known.
    let its_relay = SmtpServer::start(Security::None).await;
    let mut killed = Replica::start(&folder, "killed", &database, &its_relay);
    its_relay.wait_for(1).await;
    let _others = ["first", "second"].map(|name| Replica::start(&folder, name, &database, &relay));
    relay.wait_for(50).await;

    killed.kill();
    let sent_by_it = its_relay.received();
    assert!(sent_by_it.len() < MAILS - 50, "it was killed in the middle");
    all_sent(&database).await;
    let mut by_recipient: HashMap<String, Vec<String>> = HashMap::new();
    for mail in relay.received().iter().chain(&sent_by_it) {
        by_recipient
            .entry(mail.to[0].clone())
            .or_default()
            .push(message_id(mail).to_owned());
    }

    assert_eq!(by_recipient.len(), MAILS, "every mail is delivered");
    let twice: Vec<(&String, &Vec<String>)> = by_recipient
        .iter()
        .filter(|(_, ids)| ids.len() > 1)
        .collect();
    assert!(twice.len() <= 8, "no more than it had under way: {twice:?}");
    for (recipient, ids) in twice {
        assert!(ids.len() == 2 && ids[0] == ids[1], "{recipient} {ids:?}");
        assert!(
            sent_by_it.iter().any(|mail| mail.to[0] == *recipient),
            "{recipient} was never the killed one's"
        );
    }
}
