//! Codes as they are shown: how often they may be tried, what became of them, and where their
//! digits are not.

use std::{
    io,
    sync::{Arc, Mutex},
};

use chrono::TimeDelta;
use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;
use futures_util::future::join_all;
use tonic::Code;
use user_service::{
    config::{Secret, SecretKey, key_text},
    convert::pb::{self, CodePurpose},
    store::sql::Sql,
};

use crate::support::{Asks, Client, TestApp, fault, given, patiently, wrong};

const PHONE: &str = "+8613900139000";

async fn ann(app: &TestApp) -> Client {
    app.join(given("ann@example.org", ""), "").await.1
}

/// Shows a code for the phone that is to be bound.
async fn show(client: &mut Client, code: &str) -> Result<pb::Account, tonic::Status> {
    client.update(Asks::phone(PHONE).new_code(code)).await
}

#[tokio::test]
async fn p39_five_tries_a_code_and_then_even_the_right_one_is_refused() {
    let app = TestApp::new().await;
    let mut ann = ann(&app).await;
    let code = app.bind_code(&mut ann, PHONE).await;

    for left in ["4", "3", "2", "1", "0"] {
        let refused = fault(show(&mut ann, &wrong(&code)).await);
        assert_eq!(refused.told(), ("CODE_INVALID", vec!["proof.new_code"]));
        assert_eq!(refused.metadata["attemptsRemaining"], left);
    }
    let spent = fault(show(&mut ann, &code).await);

    assert_eq!(
        (spent.code, spent.reason.as_str()),
        (Code::FailedPrecondition, "CODE_ATTEMPTS_EXHAUSTED")
    );
    assert_eq!(spent.preconditions, ["proof.new_code"]);
}

#[tokio::test]
async fn p39_ten_wrong_a_day_whatever_new_codes_are_sent() {
    let app = TestApp::new().await;
    let mut ann = ann(&app).await;
    for _ in 0..2 {
        let code = app.bind_code(&mut ann, PHONE).await;
        for _ in 0..5 {
            assert_eq!(
                fault(show(&mut ann, &wrong(&code)).await).reason,
                "CODE_INVALID"
            );
        }
        app.clock.advance(TimeDelta::seconds(61));
    }
    let code = app.bind_code(&mut ann, PHONE).await;

    let spent = fault(show(&mut ann, &code).await);
    let other = app.bind_code(&mut ann, "new@example.org").await;
    let same_purpose = fault(ann.confirm("new@example.org", &other, "000000").await);
    let replace = app
        .code(&mut ann, CodePurpose::Replace, "ann@example.org")
        .await;
    let other_purpose = fault(ann.update(Asks::clear("email").code(&replace)).await);
    app.clock
        .advance(TimeDelta::hours(24) - TimeDelta::seconds(122));
    let still = fault(show(&mut ann, &code).await);
    app.clock.advance(TimeDelta::seconds(123));
    let code = app.bind_code(&mut ann, PHONE).await;
    let done = show(&mut ann, &code).await.unwrap();

    assert_eq!(
        (spent.code, spent.reason.as_str()),
        (Code::ResourceExhausted, "CODE_BUDGET_EXCEEDED")
    );
    assert_eq!(
        (spent.quota.as_deref(), spent.wait()),
        (Some("code_wrong_day"), 24 * 3600 - 122)
    );
    assert_eq!(same_purpose.reason, "CODE_BUDGET_EXCEEDED");
    assert_eq!(
        other_purpose.reason, "LAST_CREDENTIAL",
        "another purpose has a budget of its own"
    );
    assert_eq!(
        still.reason, "CODE_EXPIRED",
        "the budget is free by the time, the old code is not"
    );
    assert_eq!(done.phone.as_deref(), Some(PHONE));
}

#[tokio::test]
async fn p39_fifty_wrong_at_once_count_as_fifty() {
    let app = TestApp::new().await;
    let mut ann = ann(&app).await;
    let code = app.bind_code(&mut ann, PHONE).await;
    let wrong = wrong(&code);

    let tries = (0..50).map(|_| {
        let (mut ann, wrong) = (ann.clone(), wrong.clone());
        async move { fault(patiently(async || show(&mut ann, &wrong).await).await).reason }
    });
    let reasons = join_all(tries).await;

    let count = |reason: &str| reasons.iter().filter(|told| *told == reason).count();
    assert_eq!(
        (count("CODE_INVALID"), count("CODE_ATTEMPTS_EXHAUSTED")),
        (5, 45),
        "{reasons:?}"
    );
    assert_eq!(
        fault(show(&mut ann, &code).await).reason,
        "CODE_ATTEMPTS_EXHAUSTED"
    );
}

#[tokio::test]
async fn p39_tries_hold_over_replicas_and_restarts() {
    let app = TestApp::new().await;
    let (user_id, mut here) = app.join(given("ann@example.org", ""), "").await;
    let replica = app.replica().await;
    let mut there = replica.user(user_id).await;
    for _ in 0..2 {
        let code = app.bind_code(&mut here, PHONE).await;
        for left in ["4", "3", "2", "1", "0"] {
            std::mem::swap(&mut here, &mut there);
            let refused = fault(show(&mut here, &wrong(&code)).await);
            assert_eq!(refused.metadata["attemptsRemaining"], left);
        }
        let restarted = app.replica().await;
        let spent = fault(show(&mut restarted.user(user_id).await, &code).await);
        assert!(
            ["CODE_ATTEMPTS_EXHAUSTED", "CODE_BUDGET_EXCEEDED"].contains(&spent.reason.as_str()),
            "{spent:?}"
        );
        app.clock.advance(TimeDelta::seconds(61));
    }

    let code = app.bind_code(&mut here, PHONE).await;
    let restarted = app.replica().await;
    let over_the_day = fault(show(&mut restarted.user(user_id).await, &code).await);

    assert_eq!(over_the_day.reason, "CODE_BUDGET_EXCEEDED");
}

#[tokio::test]
async fn p39_tries_count_when_the_call_fails_by_another_proof_and_right_ones_are_given_back() {
    let app = TestApp::new().await;
    let mut ann = ann(&app).await;
    let new = app.bind_code(&mut ann, "new@example.org").await;
    let current = app
        .code(&mut ann, CodePurpose::Replace, "ann@example.org")
        .await;

    for _ in 0..4 {
        fault(ann.confirm("new@example.org", &new, &wrong(&current)).await);
    }
    let last = fault(
        ann.confirm("new@example.org", &wrong(&new), &wrong(&current))
            .await,
    );
    let spent = fault(ann.confirm("new@example.org", &new, &current).await);
    app.clock.advance(TimeDelta::seconds(61));
    let current = app
        .code(&mut ann, CodePurpose::Replace, "ann@example.org")
        .await;
    let done = ann.confirm("new@example.org", &new, &current).await;

    assert_eq!(
        (last.told(), &*last.metadata["attemptsRemaining"]),
        (("CODE_INVALID", vec!["code", "current_email_code"]), "0")
    );
    assert_eq!(
        (spent.reason.as_str(), spent.preconditions),
        (
            "CODE_ATTEMPTS_EXHAUSTED",
            vec!["current_email_code".to_owned()]
        )
    );
    assert!(
        done.is_ok(),
        "the right code had one wrong try alone: {done:?}"
    );
}

#[tokio::test]
async fn p40_twenty_right_at_once_are_one_success() {
    let app = TestApp::new().await;
    let mut ann = ann(&app).await;
    let code = app.bind_code(&mut ann, PHONE).await;

    let tries = (0..20).map(|_| {
        let (mut ann, code) = (ann.clone(), code.clone());
        async move { patiently(async || show(&mut ann, &code).await).await }
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(tries).await.into_iter().partition(Result::is_ok);
    let later = fault(show(&mut ann, &code).await);

    assert_eq!((won.len(), lost.len()), (1, 19));
    assert_eq!(
        (later.code, later.reason.as_str()),
        (Code::FailedPrecondition, "CODE_USED")
    );
    assert_eq!(
        app.queued("ann@example.org").await,
        ["notice.phone_changed"]
    );
}

#[tokio::test]
async fn p37_what_became_of_a_code_is_told_for_a_day() {
    let app = TestApp::new().await;
    let mut ann = ann(&app).await;
    assert_eq!(
        fault(show(&mut ann, "123456").await).reason,
        "CODE_NOT_REQUESTED"
    );
    let first = app.bind_code(&mut ann, PHONE).await;
    app.clock.advance(TimeDelta::seconds(61));
    let second = app.bind_code(&mut ann, PHONE).await;

    let superseded = fault(show(&mut ann, &first).await);
    for left in ["3", "2", "1", "0"] {
        let third = fault(show(&mut ann, &wrong(&second)).await);
        assert_eq!(
            third.metadata["attemptsRemaining"], left,
            "the older one's digits counted as a try"
        );
    }
    app.clock.advance(TimeDelta::seconds(61));
    let third = app.bind_code(&mut ann, PHONE).await;
    app.clock.advance(TimeDelta::minutes(10));
    let expired = fault(show(&mut ann, &third).await);
    app.clock.advance(TimeDelta::hours(24));
    let forgotten = fault(show(&mut ann, &third).await);

    assert_eq!(
        (superseded.reason.as_str(), superseded.preconditions),
        ("CODE_SUPERSEDED", vec!["proof.new_code".to_owned()])
    );
    assert_eq!(
        (expired.code, expired.reason.as_str()),
        (Code::FailedPrecondition, "CODE_EXPIRED")
    );
    assert_eq!(forgotten.reason, "CODE_NOT_REQUESTED");
}

#[tokio::test]
async fn p37_a_code_is_of_one_user_purpose_channel_and_address() {
    let app = TestApp::new().await;
    let mut first = ann(&app).await;
    let (_, mut ben) = app
        .join(given("ben@example.org", "+8613800138001"), "")
        .await;
    let code = app.bind_code(&mut first, PHONE).await;

    let of_another_user = fault(show(&mut ben, &code).await);
    let to_another_address = fault(
        first
            .update(Asks::phone("+8613900139001").new_code(&code))
            .await,
    );
    let on_another_channel = fault(first.confirm("new@example.org", &code, &code).await);
    let for_another_purpose = fault(
        first
            .update(Asks::password("violet-lantern-93").mailed(&code))
            .await,
    );
    let no_code = fault(show(&mut first, "12345").await);

    assert_eq!(of_another_user.reason, "CURRENT_CODE_REQUIRED");
    let replace = app
        .code(&mut ben, CodePurpose::Replace, "+8613800138001")
        .await;
    let of_another_user = fault(
        ben.update(Asks::phone(PHONE).code(&replace).new_code(&code))
            .await,
    );
    for refused in [
        of_another_user,
        to_another_address,
        on_another_channel,
        for_another_purpose,
    ] {
        assert_eq!(refused.reason, "CODE_NOT_REQUESTED");
    }
    assert_eq!(
        (no_code.reason.as_str(), no_code.fields),
        (
            "INVALID_REQUEST",
            vec![("proof.new_code".to_owned(), "FIELD_FORMAT".to_owned())]
        )
    );
    assert!(
        show(&mut first, &code).await.is_ok(),
        "none of that counted"
    );
}

#[tokio::test]
async fn p40_a_change_voids_what_it_should_and_nothing_else() {
    let app = TestApp::new().await;
    let (user_id, mut ann) = app
        .join(given("ann@example.org", ""), "violet-lantern-93")
        .await;
    let mut service = app.service().await;

    let replace = app
        .code(&mut ann, CodePurpose::Replace, "ann@example.org")
        .await;
    let bind = app.bind_code(&mut ann, "new@example.org").await;
    service
        .update(Asks::email("other@example.org").of(user_id))
        .await
        .unwrap();
    let moved = fault(ann.update(Asks::clear("email").code(&replace)).await);
    let bound = ann.confirm("new@example.org", &bind, "").await.unwrap();
    let phone = app.bind_code(&mut ann, PHONE).await;
    ann.update(Asks::password("amber-harbour-51").current("violet-lantern-93"))
        .await
        .unwrap();
    let voided = fault(show(&mut ann, &phone).await);
    app.clock.advance(TimeDelta::seconds(61));
    let phone = app.bind_code(&mut ann, PHONE).await;
    service
        .admin
        .delete_user(pb::DeleteUserRequest {
            user_id,
            ..Default::default()
        })
        .await
        .unwrap();
    let gone = fault(
        service
            .update(Asks::phone(PHONE).new_code(&phone).of(user_id))
            .await,
    );

    assert_eq!(
        moved.reason, "CODE_NOT_REQUESTED",
        "the code of the old address says nothing of the new one"
    );
    assert_eq!(bound.email.as_deref(), Some("new@example.org"));
    assert_eq!(voided.reason, "CODE_SUPERSEDED");
    assert_eq!(gone.reason, "USER_NOT_FOUND");
}

#[tokio::test]
async fn p04_codes_leave_the_etag_and_a_login_does_not() {
    let app = TestApp::new().await;
    let mut ann = ann(&app).await;
    let before = ann.account(0).await;

    let code = app.bind_code(&mut ann, PHONE).await;
    fault(show(&mut ann, &wrong(&code)).await);
    let counted = ann.account(0).await;
    let seconds = crate::support::start_time().timestamp();
    let account = pb::Account {
        last_login_at: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        ..Default::default()
    };
    let login = ann
        .update(Asks(crate::support::named(account, &["last_login_at"])))
        .await
        .unwrap();

    assert_eq!(counted.etag, before.etag);
    assert_ne!(login.etag, before.etag);
}

#[tokio::test]
async fn p58_codes_and_request_ids_of_the_old_key_hold_while_keys_rotate() {
    let key = |id: &str, byte| SecretKey {
        id: id.to_owned(),
        key: Secret(key_text([byte; 32])),
    };
    let app = TestApp::new().await;
    let (user_id, mut ann) = app.join(given("ann@example.org", ""), "").await;
    let id = "6d1b3c1e-3f8a-4b7e-9f39-1c2d3e4f5a6b";
    let renamed = ann
        .update(Asks::username("ann.mixed").once(id))
        .await
        .unwrap();
    let code = app.bind_code(&mut ann, PHONE).await;
    let token = app.user_token(user_id).await;

    let without = app
        .replica_configured(|config| config.secrets.keys = vec![key("new", 8)])
        .await;
    let unknown = fault(show(&mut without.client(&token), &code).await);
    let rotated = app
        .replica_configured(|config| config.secrets.keys.insert(0, key("new", 8)))
        .await;
    let mut ann = rotated.client(&token);
    let kept = ann
        .update(Asks::username("ann.mixed").once(id))
        .await
        .unwrap();
    let bound = show(&mut ann, &code).await.unwrap();

    assert_eq!(
        unknown.reason, "CODE_INVALID",
        "a key that is gone ends its codes"
    );
    assert_eq!((kept, bound.phone.as_deref()), (renamed, Some(PHONE)));
}

/// Takes all that is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Every row of every table as text.
async fn rows(app: &TestApp) -> Vec<String> {
    let mut conn = app.database.connect().await;
    let tables =
        "select table_name::text from information_schema.tables where table_schema = 'public'";
    let tables: Vec<String> = Sql::<Text>::new(tables).load(&mut conn).await.unwrap();
    assert!(
        tables.iter().any(|table| table == "codes") && tables.iter().any(|table| table == "outbox")
    );
    let mut rows = Vec::new();
    for table in tables {
        let statement = format!("select '{table} ' || row_to_json(t)::text from \"{table}\" t");
        let statement = Sql::<Text>::new(Box::leak(statement.into_boxed_str()));
        rows.extend(statement.load::<String>(&mut conn).await.unwrap());
    }
    rows
}

// One thread does all the work, so that its logs are this test's alone.
#[tokio::test(flavor = "current_thread")]
async fn p38_the_digits_of_a_code_are_in_no_table_and_no_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .without_time()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    // With one subscriber alone, a place that another test's thread reaches first would be silent
    // for all.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let app = TestApp::new().await;
    let mut ann = ann(&app).await;
    let mut codes: Vec<String> = Vec::new();
    // Times of the manual clock have zeros before their microseconds; a code like them would be
    // found by chance.
    while codes.is_empty() || codes.iter().any(|code| code.starts_with("000")) {
        app.clock.advance(TimeDelta::seconds(61));
        let request_id = uuid::Uuid::new_v4().to_string();
        let request = pb::SendPhoneCodeRequest {
            phone: PHONE.to_owned(),
            request_id,
            ..Default::default()
        };
        ann.users.send_phone_code(request).await.unwrap();
        codes = vec![app.newest_code(PHONE).await];
        codes.push(
            app.code(&mut ann, CodePurpose::Replace, "ann@example.org")
                .await,
        );
    }
    let live = rows(&app).await;
    let id = "00000000-3f8a-4b7e-9f39-1c2d3e4f5a6b";
    fault(
        ann.update(Asks::phone(PHONE).new_code(&wrong(&codes[0])).once(id))
            .await,
    );
    ann.update(Asks::phone(PHONE).new_code(&codes[0]).once(id))
        .await
        .unwrap();
    app.all_sent().await;
    let used = rows(&app).await;

    let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(
        logged.contains("peer=Server") && logged.contains("peer=Client"),
        "both sides are logged"
    );
    assert!(
        live.len() > 5 && used.len() > live.len(),
        "{live:?} {used:?}"
    );
    codes.push(wrong(&codes[0]));
    for code in codes {
        let in_bytes: String = code.bytes().map(|byte| format!("{byte:02x}")).collect();
        for row in live.iter().chain(&used) {
            assert!(
                !row.contains(&code) && !row.contains(&in_bytes),
                "{code} is in {row}"
            );
        }
        let line = logged.lines().find(|line| line.contains(&code));
        assert_eq!(line, None, "{code} is in the log");
    }
}
