//! VerifyPassword, for login services.

use chrono::TimeDelta;
use diesel_async::SimpleAsyncConnection;
use futures_util::future::join_all;
use tonic::{Code, Status};
use user_service::{
    model::scope::Scope,
    wire::pb::{self, verify_password_request::Key},
};

use crate::support::{Asks, Client, TestApp, cheap_hash, fault, given, member, patiently, statements::until_waiting};

const PASSWORD: &str = "violet-lantern-93";
const WALLET: &str = "copper-window-27";

fn asks(key: Key, password: &str, client: &str) -> pb::VerifyPasswordRequest {
    pb::VerifyPasswordRequest {
        key: Some(key),
        password: password.to_owned(),
        wallet: false,
        client: client.to_owned(),
    }
}

async fn verify(client: &mut Client, request: pb::VerifyPasswordRequest) -> Result<i64, Status> {
    Ok(client.admin.verify_password(request).await?.into_inner().user_id)
}

async fn ann(app: &TestApp) -> i64 {
    let account = pb::Account { username: Some("Ann.Mixed".to_owned()), ..given("Ann@Example.org", "+8613800138000") };
    let request =
        pb::CreateUserRequest { password: PASSWORD.to_owned(), wallet_password: WALLET.to_owned(), ..member(account) };
    app.service().await.create(request).await.unwrap().user_id
}

#[tokio::test]
async fn p33_the_right_password_tells_whose_it_is_by_every_key() {
    let app = TestApp::new().await;
    let user_id = ann(&app).await;
    let mut service = app.service_with(&[Scope::PasswordsVerify]).await;
    let keys = [
        Key::UserId(user_id),
        Key::Username("ANN.mixed".to_owned()),
        Key::Email("ann@EXAMPLE.org".to_owned()),
        Key::Phone("+8613800138000".to_owned()),
    ];

    for key in keys {
        assert_eq!(verify(&mut service, asks(key, PASSWORD, "1.2.3.4")).await.unwrap(), user_id);
    }
    let login = app.service().await.account(user_id).await.last_login_at.unwrap();
    let wallet = pb::VerifyPasswordRequest { wallet: true, ..asks(Key::UserId(user_id), WALLET, "1.2.3.4") };
    app.clock.advance(TimeDelta::minutes(1));
    verify(&mut service, wallet).await.unwrap();

    assert_eq!(login.seconds, crate::support::start_time().timestamp());
    let after = app.service().await.account(user_id).await.last_login_at.unwrap();
    assert_eq!(after, login, "the wallet's is no login");
}

#[tokio::test]
async fn p33_unknown_user_no_password_and_wrong_password_are_one_answer() {
    let app = TestApp::new().await;
    let user_id = ann(&app).await;
    let (without, _) = app.join(given("ben@example.org", ""), "").await;
    let mut service = app.service().await;
    let keys = [
        Key::UserId(user_id),
        Key::UserId(without),
        Key::UserId(999_999),
        Key::Username("nobody.here".to_owned()),
        Key::Email("nobody@example.org".to_owned()),
        Key::Email("no address".to_owned()),
        Key::Phone("+8613900139000".to_owned()),
    ];

    let mut answers = Vec::new();
    for (place, key) in keys.into_iter().enumerate() {
        // The whole way to the limit for some of them; each try of nobody's costs a hash.
        let tries = if place < 4 { 6 } else { 1 };
        let mut told = Vec::new();
        for _ in 0..tries {
            let status = verify(&mut service, asks(key.clone(), "not this one", "1.2.3.4")).await.unwrap_err();
            let refused = fault::<()>(Err(status.clone()));
            told.push((status.code(), status.message().to_owned(), refused.reason, refused.fields, refused.metadata));
        }
        answers.push(told);
    }

    assert_eq!((answers[0][0].0, answers[0][0].2.as_str()), (Code::InvalidArgument, "PASSWORD_MISMATCH"));
    let left: Vec<&str> = answers[0][..5].iter().map(|told| told.4["attemptsRemaining"].as_str()).collect();
    assert_eq!((left, answers[0][5].2.as_str()), (vec!["4", "3", "2", "1", "0"], "PASSWORD_ATTEMPTS_EXCEEDED"));
    for told in &answers[1..] {
        assert_eq!(*told, answers[0][..told.len()]);
    }
}

#[tokio::test]
async fn p33_limits_are_of_client_and_secret_and_hold_over_replicas_and_restarts() {
    let app = TestApp::new().await;
    let user_id = ann(&app).await;
    let replica = app.replica().await;
    let (mut here, mut there) = (app.service().await, replica.service().await);
    let wrong = |client: &str| asks(Key::UserId(user_id), "not this one", client);
    let right = |client: &str| asks(Key::Username("ann.mixed".to_owned()), PASSWORD, client);
    for _ in 0..2 {
        fault(verify(&mut here, wrong("a")).await);
        fault(verify(&mut there, wrong("a")).await);
    }
    fault(verify(&mut here, wrong("a")).await);
    app.clock.advance(TimeDelta::minutes(6));

    let limited = fault(verify(&mut there, right("a")).await);
    let restarted = app.replica().await;
    let again = fault(verify(&mut restarted.service().await, right("a")).await);
    let other_client = verify(&mut here, right("b")).await;
    let wallet = pb::VerifyPasswordRequest { wallet: true, ..asks(Key::UserId(user_id), WALLET, "a") };
    let wallet = verify(&mut here, wallet).await;
    app.clock.advance(TimeDelta::minutes(9));
    let free = verify(&mut here, right("a")).await;

    assert_eq!((limited.code, limited.reason.as_str()), (Code::ResourceExhausted, "PASSWORD_ATTEMPTS_EXCEEDED"));
    assert_eq!((limited.quota.as_deref(), limited.wait(), again.wait()), (Some("password_wrong"), 540, 540));
    assert!(other_client.is_ok() && wallet.is_ok() && free.is_ok());
}

#[tokio::test]
async fn p33_fifty_an_hour_for_an_account_over_all_clients_and_parallel_guesses_count() {
    let app = TestApp::new().await;
    let user_id = ann(&app).await;
    let service = app.service().await;

    let tries = (0..12).map(|number| {
        let mut service = service.clone();
        async move {
            let mut mismatches = 0;
            for _ in 0..5 {
                let request = asks(Key::UserId(user_id), "not this one", &format!("client {number}"));
                let answer = patiently(async || verify(&mut service, request.clone()).await);
                let refused = fault(answer.await);
                mismatches += usize::from(refused.reason == "PASSWORD_MISMATCH");
            }
            mismatches
        }
    });
    let mismatches: usize = join_all(tries).await.into_iter().sum();
    let limited = fault(verify(&mut service.clone(), asks(Key::UserId(user_id), PASSWORD, "another")).await);
    app.clock.advance(TimeDelta::hours(1));
    let free = verify(&mut service.clone(), asks(Key::UserId(user_id), PASSWORD, "another")).await;

    assert_eq!(mismatches, 50);
    assert_eq!((limited.reason.as_str(), limited.wait()), ("PASSWORD_ATTEMPTS_EXCEEDED", 3600));
    assert!(free.is_ok());
}

#[tokio::test]
async fn p33_a_right_one_clears_the_count() {
    let app = TestApp::new().await;
    let user_id = ann(&app).await;
    let mut service = app.service().await;

    for _ in 0..3 {
        for _ in 0..4 {
            let refused = fault(verify(&mut service, asks(Key::UserId(user_id), "not this one", "")).await);
            assert_eq!(refused.reason, "PASSWORD_MISMATCH");
        }
        verify(&mut service, asks(Key::UserId(user_id), PASSWORD, "")).await.unwrap();
    }
}

#[tokio::test]
async fn p32_a_hash_that_moved_in_is_renewed_on_the_first_success() {
    use diesel::sql_types::Text;
    use diesel_async::RunQueryDsl;
    use user_service::store::sql::Sql;

    let app = TestApp::new().await;
    let password_hash = cheap_hash(PASSWORD);
    let request = pb::CreateUserRequest { password_hash, ..member(given("ann@example.org", "")) };
    let mut service = app.service().await;
    let user_id = service.create(request).await.unwrap().user_id;
    let stored = async || {
        let mut conn = app.database.connect().await;
        let statement = Sql::<Text>::new("select password_hash from accounts where user_id = ").bind(user_id);
        statement.get_result::<String>(&mut conn).await.unwrap()
    };

    fault(verify(&mut service, asks(Key::UserId(user_id), "not this one", "")).await);
    let kept = stored().await;
    verify(&mut service, asks(Key::UserId(user_id), PASSWORD, "")).await.unwrap();
    let renewed = stored().await;
    verify(&mut service, asks(Key::UserId(user_id), PASSWORD, "")).await.unwrap();

    assert!(kept.starts_with("$2b$04$"));
    assert!(renewed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    assert_eq!(stored().await, renewed);
}

#[tokio::test]
async fn p51_permission_and_faults_come_first() {
    let app = TestApp::new().await;
    let user_id = ann(&app).await;
    let mut weak = app.service_with(&[Scope::AccountsWrite]).await;
    let mut service = app.service().await;
    let mut user = app.user(user_id).await;

    let weak = fault(verify(&mut weak, pb::VerifyPasswordRequest::default()).await);
    let own = fault(verify(&mut user, asks(Key::UserId(user_id), PASSWORD, "")).await);
    let nothing = fault(verify(&mut service, pb::VerifyPasswordRequest::default()).await);
    let faulty = fault(verify(&mut service, asks(Key::UserId(-1), "", &"x".repeat(129))).await);

    assert_eq!(weak.metadata["requiredScope"], "passwords.verify");
    assert_eq!(own.code, Code::PermissionDenied);
    assert_eq!(nothing.paths(), ["user_id", "password"]);
    assert_eq!(faulty.paths(), ["user_id", "password", "client"]);
}

#[tokio::test]
async fn p33_a_changed_password_is_the_only_right_one() {
    let app = TestApp::new().await;
    let user_id = ann(&app).await;
    let mut service = app.service().await;

    service.update(Asks::password("amber-harbour-51").of(user_id)).await.unwrap();

    assert!(verify(&mut service, asks(Key::UserId(user_id), "amber-harbour-51", "")).await.is_ok());
    assert_eq!(fault(verify(&mut service, asks(Key::UserId(user_id), PASSWORD, "")).await).reason, "PASSWORD_MISMATCH");
}

#[tokio::test]
async fn p33_a_password_that_is_changed_while_it_is_checked_logs_nobody_in() {
    let app = TestApp::new().await;
    let user_id = ann(&app).await;
    let mut holder = app.database.connect().await;
    holder.batch_execute("begin; select from users for update").await.unwrap();
    let mut service = app.service().await;
    let asked = tokio::spawn(async move { verify(&mut service, asks(Key::UserId(user_id), PASSWORD, "")).await });
    // It was right, and waits for the user whom it logs in.
    until_waiting(&mut app.database.connect().await, 1).await;

    let other = cheap_hash("amber-harbour-51");
    let change = format!("update accounts set password_hash = '{other}', version = version + 1; commit");
    holder.batch_execute(&change).await.unwrap();
    let answer = fault(asked.await.unwrap());

    assert_eq!(answer.reason, "PASSWORD_MISMATCH");
    let mut service = app.service().await;
    assert_eq!(service.account(user_id).await.last_login_at, None);
    assert!(verify(&mut service, asks(Key::UserId(user_id), "amber-harbour-51", "")).await.is_ok());
}
