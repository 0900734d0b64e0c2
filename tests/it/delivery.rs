//! The outbox and its worker, with real Postgres and a real SMTP server.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;
use tokio::{sync::oneshot, task::JoinHandle};
use user_service::{
    clock::{Clock, ManualClock},
    domain::db::{Db, End},
    error::{Error, Reason},
    model::delivery::{Channel, Delivery, State, Template},
    notify::{
        templates::Templates,
        transport::{
            MailTransport, Sender, Smtp, TextTransport, Transports,
            smtp::{SmtpSettings, Tls},
        },
        worker::{Settings, Waker, Worker},
    },
    store::{
        codes,
        outbox::{self, NewDelivery, Outcome, Requeue},
        sql::Sql,
    },
};
use uuid::Uuid;

use crate::support::{
    database::TestDatabase,
    eventually,
    smtp::{Received, Security, SmtpServer},
};

/// A database, a relay and a clock, with as many workers as a test starts.
struct Post {
    db: Db,
    clock: ManualClock,
    smtp: SmtpServer,
    waker: Waker,
    _database: TestDatabase,
}

struct Running {
    stop: oneshot::Sender<()>,
    work: JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.work.await.unwrap();
    }
}

impl Post {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        Self {
            db: Db::new(
                &database.url(),
                user_service::store::connector::Connector::new(None).unwrap(),
                8,
            ),
            clock: ManualClock::new(DateTime::from_timestamp(1_800_000_000, 0).unwrap()),
            smtp: SmtpServer::start(Security::None).await,
            waker: Waker::default(),
            _database: database,
        }
    }

    fn now(&self) -> DateTime<Utc> {
        Clock::Manual(self.clock.clone()).now()
    }

    /// Starts a worker that looks only when it is woken, unless `settings` say otherwise.
    fn start(&self, settings: Settings) -> Running {
        let smtp = SmtpSettings {
            host: "127.0.0.1".to_owned(),
            port: self.smtp.address.port(),
            tls: Tls::None,
            credentials: None,
            ca_file: None,
            idle_connections: 4,
            hello_name: None,
        };
        let worker = Worker {
            db: self.db.clone(),
            clock: Clock::Manual(self.clock.clone()),
            templates: Arc::new(Templates::load(None, "Example").unwrap()),
            transports: Arc::new(Transports {
                sender: Sender::parse("no-reply@example.org").unwrap(),
                mail: MailTransport::Smtp(Smtp::new(&smtp).unwrap()),
                text: TextTransport::Log,
            }),
            digits: Arc::new(|seed| Some(format!("{:06}", 48_000 + u32::from(seed.nonce[0])))),
            settings,
            waker: self.waker.clone(),
        };
        let (stop, stopped) = oneshot::channel();
        let work = tokio::spawn(worker.run(async { stopped.await.unwrap_or_default() }));
        Running { stop, work }
    }

    async fn insert(&self, new: NewDelivery) -> i64 {
        let now = self.now();
        self.db
            .run(async |conn| Ok(outbox::insert(conn, new, Uuid::new_v4(), now).await?))
            .await
            .unwrap()
    }

    async fn find(&self, outbox_id: i64) -> Delivery {
        let found = self
            .db
            .run(async |conn| Ok(outbox::find(conn, outbox_id, None).await?))
            .await;
        found.unwrap().unwrap()
    }

    /// Waits until a delivery looks as it should.
    async fn until(&self, outbox_id: i64, holds: impl Fn(&Delivery) -> bool) -> Delivery {
        eventually("the delivery's state", async || {
            Some(self.find(outbox_id).await).filter(&holds)
        })
        .await
    }

    /// Waits until each of these deliveries has been tried so often.
    async fn until_tried(&self, deliveries: &[i64], tries: i32) {
        for &outbox_id in deliveries {
            self.until(outbox_id, |delivery| delivery.attempts == tries)
                .await;
        }
    }

    /// Everybody who is written to, with the UUID of the Message-ID.
    async fn message_ids(&self) -> BTreeSet<(String, String)> {
        let statement = Sql::<(Text, Text)>::new("select recipient, message_id::text from outbox");
        let rows = self
            .db
            .run(async |conn| Ok(statement.load(conn).await?))
            .await;
        rows.unwrap().into_iter().collect()
    }

    /// Since when the oldest that is queued has waited.
    async fn oldest(&self) -> Option<DateTime<Utc>> {
        self.db
            .run(async |conn| Ok(outbox::oldest_queued(conn).await?))
            .await
            .unwrap()
    }

    async fn leased(&self, limit: i64) -> Vec<i64> {
        let now = self.now();
        let rows = self
            .db
            .run(async |conn| {
                Ok(outbox::lease(conn, limit, now + TimeDelta::seconds(60), now).await?)
            })
            .await;
        rows.unwrap().iter().map(|row| row.outbox_id).collect()
    }
}

fn on_call() -> Settings {
    Settings {
        poll: Duration::from_secs(3600),
        ..Settings::default()
    }
}

fn notice(recipient: &str) -> NewDelivery {
    NewDelivery {
        channel: Channel::Email,
        recipient: recipient.to_owned(),
        template: Template::PasswordChanged,
        languages: vec!["zh_CN".to_owned()],
        app_name: String::new(),
        user_id: Some(7),
        code_id: None,
        expires_at: None,
        not_before: None,
        owner_caller: Some("service:web".to_owned()),
    }
}

#[tokio::test]
async fn p43_a_rolled_back_cause_sends_nothing() {
    let post = Post::new().await;
    let now = post.now();
    let failed: Result<(), Error> = post
        .db
        .transaction(End::Commit, async |conn| {
            outbox::insert(conn, notice("ann@example.org"), Uuid::new_v4(), now).await?;
            Err(Error::new(Reason::EmailTaken))
        })
        .await;
    assert!(failed.is_err());
    assert_eq!(post.leased(10).await, [0; 0]);
}

#[tokio::test]
async fn p43_three_workers_deliver_each_of_many_mails_once() {
    let post = Post::new().await;
    for index in 0..200 {
        post.insert(notice(&format!("user{index}@example.org")))
            .await;
    }
    let workers = [(); 3].map(|()| post.start(Settings::default()));

    let received = post.smtp.wait_for(200).await;

    for worker in workers {
        worker.stop().await;
    }
    let received_later = post.smtp.received();
    assert_eq!((received.len(), received_later.len()), (200, 200));
    let recipients: BTreeSet<_> = received.iter().map(|mail| mail.to[0].clone()).collect();
    assert_eq!(recipients.len(), 200);
}

#[tokio::test]
async fn p43_the_mail_of_a_dead_worker_is_sent_when_its_lease_is_over() {
    let post = Post::new().await;
    let id = post.insert(notice("ann@example.org")).await;
    assert_eq!(post.leased(10).await, [id]);
    assert_eq!(post.leased(10).await, [0; 0], "it is another's");
    let worker = post.start(on_call());

    post.clock.advance(TimeDelta::seconds(61));
    post.waker.wake();

    let delivery = post
        .until(id, |delivery| delivery.state == State::Accepted)
        .await;
    assert_eq!(delivery.attempts, 1);
    worker.stop().await;
}

#[tokio::test]
async fn p43_who_lost_a_lease_settles_nothing() {
    let post = Post::new().await;
    let id = post.insert(notice("ann@example.org")).await;
    let now = post.now();
    let (first, second) = (now + TimeDelta::seconds(60), now + TimeDelta::seconds(121));
    let settled = post.db.run(async |conn| {
        outbox::lease(conn, 1, first, now).await?;
        outbox::lease(conn, 1, second, first).await?;
        let late = outbox::settle(
            conn,
            id,
            first,
            Outcome::Failed { error: "x".into() },
            second,
        )
        .await?;
        let right = outbox::settle(conn, id, second, Outcome::Accepted, second).await?;
        Ok((late, right))
    });
    assert_eq!(settled.await.unwrap(), (false, true));
    assert_eq!(post.find(id).await.state, State::Accepted);
}

#[tokio::test]
async fn p44_a_mail_that_is_put_off_comes_later_with_its_code() {
    let post = Post::new().await;
    let now = post.now();
    let code_id = insert_code(&post.db, now).await;
    post.smtp.answer_next_with(&[451]);
    let mut code = notice("ann@example.org");
    (code.template, code.code_id) = (Template::CodeBind, Some(code_id));
    code.expires_at = Some(now + TimeDelta::minutes(10));
    let id = post.insert(code).await;
    let worker = post.start(on_call());

    let put_off = post.until(id, |delivery| delivery.attempts == 1).await;
    assert_eq!(
        (put_off.state, put_off.last_error.as_deref()),
        (State::Queued, Some("smtp 451"))
    );
    post.clock.advance(TimeDelta::seconds(7));
    post.waker.wake();

    let delivery = post
        .until(id, |delivery| delivery.state == State::Accepted)
        .await;
    assert_eq!(delivery.attempts, 2);
    let received = post.smtp.received();
    assert_eq!(received.len(), 1);
    assert!(received[0].data.contains("048009"), "{}", received[0].data);
    worker.stop().await;
}

#[tokio::test]
async fn p44_mails_wait_for_a_relay_that_is_away_and_are_sent_once_when_it_is_back() {
    let mut post = Post::new().await;
    let worker = post.start(on_call());
    post.insert(notice("first@example.org")).await;
    post.waker.wake();
    // A connection is open by now, and breaks.
    post.smtp.wait_for(1).await;
    post.smtp.go_away().await;
    let mut queued = Vec::new();
    for index in 0..20 {
        queued.push(
            post.insert(notice(&format!("user{index}@example.org")))
                .await,
        );
    }
    let message_ids = post.message_ids().await;

    // A minute, in which each is tried three times.
    for (seconds, tries) in [(0, 1), (7, 2), (53, 3)] {
        post.clock.advance(TimeDelta::seconds(seconds));
        post.waker.wake();
        post.until_tried(&queued, tries).await;
    }
    let refused = post.smtp.received().len();
    post.smtp.come_back();
    post.clock.advance(TimeDelta::seconds(97));
    post.waker.wake();
    post.until_tried(&queued, 4).await;

    worker.stop().await;
    let received = post.smtp.received();
    assert_eq!((refused, received.len()), (1, 21));
    let sent: BTreeSet<_> = received
        .iter()
        .map(|mail| (mail.to[0].clone(), message_id(mail)))
        .collect();
    assert_eq!(
        sent, message_ids,
        "each once, with the Message-ID that it had from the first"
    );
}

#[tokio::test]
async fn p43_a_code_that_cannot_be_used_any_more_is_not_sent() {
    let post = Post::new().await;
    let now = post.now();
    let mut queued = Vec::new();
    for _ in 0..3 {
        let code_id = insert_code(&post.db, now).await;
        let mut code = notice("ann@example.org");
        (code.template, code.code_id) = (Template::CodeBind, Some(code_id));
        code.expires_at = Some(now + TimeDelta::minutes(10));
        queued.push(post.insert(code).await);
    }
    let worker = post.start(on_call());

    post.waker.wake();
    let newest = queued.pop().unwrap();
    post.until(newest, |delivery| delivery.state == State::Accepted)
        .await;
    for superseded in queued {
        let delivery = post
            .until(superseded, |delivery| delivery.state == State::Expired)
            .await;
        assert_eq!(delivery.attempts, 0);
    }
    assert_eq!(post.smtp.received().len(), 1);

    let used = insert_code(&post.db, now).await;
    post.db
        .run(async |conn| Ok(codes::consume(conn, 7, used, now).await?))
        .await
        .unwrap();
    let mut code = notice("ann@example.org");
    (code.template, code.code_id, code.expires_at) = (
        Template::CodeBind,
        Some(used),
        Some(now + TimeDelta::minutes(10)),
    );
    let id = post.insert(code).await;
    post.waker.wake();
    post.until(id, |delivery| delivery.state == State::Expired)
        .await;
    assert_eq!(post.smtp.received().len(), 1);
    worker.stop().await;
}

/// The UUID of a mail's Message-ID.
fn message_id(mail: &Received) -> String {
    let line = mail
        .data
        .lines()
        .find_map(|line| line.strip_prefix("Message-ID: <"));
    line.expect("a Message-ID")
        .split('@')
        .next()
        .unwrap()
        .to_owned()
}

/// A code whose nonce begins with 9.
async fn insert_code(db: &Db, now: DateTime<Utc>) -> i64 {
    let statement = Sql::<BigInt>::new(
        "insert into codes (user_id, channel, purpose, address, nonce, key_id, created_at, expires_at) \
         values (7, 'email', 'bind', 'ann@example.org', '\\x0900', 'a', ",
    );
    let statement = statement
        .bind(now)
        .push(", ")
        .bind(now + TimeDelta::minutes(10))
        .push(") returning code_id");
    db.run(async |conn| Ok(statement.get_result(conn).await?))
        .await
        .unwrap()
}

#[tokio::test]
async fn p44_a_refused_mail_fails_at_once_and_five_tries_are_the_last() {
    let post = Post::new().await;
    post.smtp.answer_next_with(&[550, 450, 450, 450, 450, 450]);
    let worker = post.start(on_call());

    let refused = post.insert(notice("nobody@example.org")).await;
    post.waker.wake();
    let delivery = post
        .until(refused, |delivery| delivery.state == State::Failed)
        .await;
    assert_eq!(
        (delivery.attempts, delivery.last_error.as_deref()),
        (1, Some("smtp 550"))
    );

    let put_off = post.insert(notice("ann@example.org")).await;
    let since = post.oldest().await;
    for tries in 1..=5 {
        assert_eq!(
            post.oldest().await,
            since,
            "it has waited since it was queued, whatever is tried"
        );
        post.waker.wake();
        post.until(put_off, |delivery| delivery.attempts == tries)
            .await;
        post.clock.advance(TimeDelta::seconds(400));
    }
    assert_eq!(post.find(put_off).await.state, State::Failed);
    let failed = post
        .db
        .run(async |conn| Ok(outbox::list_failed(conn, None, 10).await?))
        .await
        .unwrap();
    let failed: Vec<i64> = failed.iter().map(|delivery| delivery.outbox_id).collect();
    assert_eq!(failed, [put_off, refused]);
    assert!(post.smtp.received().is_empty());

    let now = post.now();
    let requeued = async |id| {
        post.db
            .run(async |conn| Ok(outbox::requeue(conn, id, now).await?))
            .await
            .unwrap()
    };
    assert_eq!(
        (
            requeued(Requeue::One(refused)).await,
            requeued(Requeue::One(refused)).await
        ),
        (1, 0)
    );
    assert_eq!(requeued(Requeue::Since(now)).await, 0);
    assert_eq!(
        requeued(Requeue::Since(now - TimeDelta::days(1))).await,
        1,
        "all that is left"
    );
    post.waker.wake();
    for id in [refused, put_off] {
        post.until(id, |delivery| delivery.state == State::Accepted)
            .await;
    }
    worker.stop().await;
}

#[tokio::test]
async fn p44_nothing_is_sent_after_it_expired() {
    let post = Post::new().await;
    let mut late = notice("ann@example.org");
    late.expires_at = Some(post.now() + TimeDelta::minutes(10));
    let id = post.insert(late).await;
    post.clock.advance(TimeDelta::minutes(10));
    let worker = post.start(on_call());

    let delivery = post
        .until(id, |delivery| delivery.state == State::Expired)
        .await;

    assert_eq!(delivery.attempts, 0);
    worker.stop().await;
    assert!(post.smtp.received().is_empty());
}

#[tokio::test]
async fn p45_the_state_of_a_notice_is_nobodys_to_ask() {
    let post = Post::new().await;
    let asked_for = post.insert(notice("ann@example.org")).await;
    let notice = post
        .insert(NewDelivery {
            owner_caller: None,
            ..notice("ann@example.org")
        })
        .await;
    let (asked_for, notice) = post
        .db
        .run(async |conn| {
            Ok((
                outbox::find(conn, asked_for, None).await?,
                outbox::find(conn, notice, None).await?,
            ))
        })
        .await
        .unwrap();
    assert_eq!(asked_for.unwrap().state, State::Queued);
    assert!(notice.is_none());
}

#[tokio::test]
async fn p54_leases_are_freed_when_a_worker_stops() {
    let post = Post::new().await;
    post.smtp.answer_next_with(&[0]);
    let id = post.insert(notice("ann@example.org")).await;
    let worker = post.start(Settings {
        grace: Duration::from_millis(100),
        ..on_call()
    });
    eventually("a lease", async || {
        let held = Sql::<BigInt>::new("select count(*) from outbox where leased_until is not null");
        let held: i64 = post
            .db
            .run(async |conn| Ok(held.get_result(conn).await?))
            .await
            .unwrap();
        (held == 1).then_some(())
    })
    .await;

    worker.stop().await;

    assert_eq!(post.leased(10).await, [id]);
}

#[tokio::test]
async fn p43_a_worker_that_nobody_wakes_looks_by_itself() {
    let post = Post::new().await;
    let worker = post.start(Settings {
        poll: Duration::from_millis(50),
        ..Settings::default()
    });
    let id = post.insert(notice("ann@example.org")).await;
    post.until(id, |delivery| delivery.state == State::Accepted)
        .await;
    assert_eq!(post.oldest().await, None);
    worker.stop().await;
}
