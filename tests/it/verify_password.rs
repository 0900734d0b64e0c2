//! VerifyPassword, for login services.

use chrono::TimeDelta;
use diesel_async::SimpleAsyncConnection;
use futures_util::future::join_all;
use tonic::{Code, Status};
use user_service::{
    convert::pb::{self, verify_password_request::Key},
    model::scope::Scope,
};

use crate::support::{
    Asks, Client, TestApp, cheap_hash, fault, given, member, patiently, statements::until_waiting,
};

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
    Ok(client
        .admin
        .verify_password(request)
        .await?
        .into_inner()
        .user_id)
}

async fn ann(app: &TestApp) -> i64 {
    let account = pb::Account {
        username: Some("Ann.Mixed".to_owned()),
        ..given("Ann@Example.org", "+8613800138000")
    };
    let request = pb::CreateUserRequest {
        password: PASSWORD.to_owned(),
        wallet_password: WALLET.to_owned(),
        ..member(account)
    };
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
        assert_eq!(
            verify(&mut service, asks(key, PASSWORD, "1.2.3.4"))
                .await
                .unwrap(),
            user_id
        );
    }
    let login = app
        .service()
        .await
        .account(user_id)
        .await
        .last_login_at
        .unwrap();
    let wallet = pb::VerifyPasswordRequest {
        wallet: true,
        ..asks(Key::UserId(user_id), WALLET, "1.2.3.4")
    };
    app.clock.advance(TimeDelta::minutes(1));
    verify(&mut service, wallet).await.unwrap();

    assert_eq!(login.seconds, crate::support::start_time().timestamp());
    let after = app
        .service()
        .await
        .account(user_id)
        .await
        .last_login_at
        .unwrap();
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
        // The whole way to the limit for some of them; each try of no one's costs a hash.
        let tries = if place < 4 { 6 } else { 1 };
        let mut told = Vec::new();
        for _ in 0..tries {
            let status = verify(&mut service, asks(key.clone(), "not this one", "1.2.3.4"))
                .await
                .unwrap_err();
            let refused = fault::<()>(Err(status.clone()));
            told.push((
                status.code(),
                status.message().to_owned(),
                refused.reason,
                refused.fields,
                refused.metadata,
            ));
        }
        answers.push(told);
    }

    assert_eq!(
        (answers[0][0].0, answers[0][0].2.as_str()),
        (Code::InvalidArgument, "PASSWORD_MISMATCH")
    );
    let left: Vec<&str> = answers[0][..5]
        .iter()
        .map(|told| told.4["attemptsRemaining"].as_str())
        .collect();
    assert_eq!(
        (left, answers[0][5].2.as_str()),
        (vec!["4", "3", "2", "1", "0"], "PASSWORD_ATTEMPTS_EXCEEDED")
    );
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
    let wallet = pb::VerifyPasswordRequest {
        wallet: true,
        ..asks(Key::UserId(user_id), WALLET, "a")
    };
    let wallet = verify(&mut here, wallet).await;
    app.clock.advance(TimeDelta::minutes(9));
    let free = verify(&mut here, right("a")).await;

    assert_eq!(
        (limited.code, limited.reason.as_str()),
        (Code::ResourceExhausted, "PASSWORD_ATTEMPTS_EXCEEDED")
    );
    assert_eq!(
        (limited.quota.as_deref(), limited.wait(), again.wait()),
        (Some("password_wrong"), 540, 540)
    );
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
                let request = asks(
                    Key::UserId(user_id),
                    "not this one",
                    &format!("client {number}"),
                );
                let answer = patiently(async || verify(&mut service, request.clone()).await);
                let refused = fault(answer.await);
                mismatches += usize::from(refused.reason == "PASSWORD_MISMATCH");
            }
            mismatches
        }
    });
    let mismatches: usize = join_all(tries).await.into_iter().sum();
    let limited = fault(
        verify(
            &mut service.clone(),
            asks(Key::UserId(user_id), PASSWORD, "another"),
        )
        .await,
    );
    app.clock.advance(TimeDelta::hours(1));
    let free = verify(
        &mut service.clone(),
        asks(Key::UserId(user_id), PASSWORD, "another"),
    )
    .await;

    assert_eq!(mismatches, 50);
    assert_eq!(
        (limited.reason.as_str(), limited.wait()),
        ("PASSWORD_ATTEMPTS_EXCEEDED", 3600)
    );
    assert!(free.is_ok());
}

#[tokio::test]
async fn p33_a_right_one_clears_the_count() {
    let app = TestApp::new().await;
    let user_id = ann(&app).await;
    let mut service = app.service().await;

    for _ in 0..3 {
        for _ in 0..4 {
            let refused =
                fault(verify(&mut service, asks(Key::UserId(user_id), "not this one", "")).await);
            assert_eq!(refused.reason, "PASSWORD_MISMATCH");
        }
        verify(&mut service, asks(Key::UserId(user_id), PASSWORD, ""))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn p32_a_hash_that_moved_in_is_renewed_on_the_first_success() {
    use diesel::sql_types::Text;
    use diesel_async::RunQueryDsl;
    use user_service::store::sql::Sql;

    let app = TestApp::new().await;
    let password_hash = cheap_hash(PASSWORD);
    let request = pb::CreateUserRequest {
        password_hash,
        ..member(given("ann@example.org", ""))
    };
    let mut service = app.service().await;
    let user_id = service.create(request).await.unwrap().user_id;
    let stored = async || {
        let mut conn = app.database.connect().await;
        let statement =
            Sql::<Text>::new("select password_hash from accounts where user_id = ").bind(user_id);
        statement.get_result::<String>(&mut conn).await.unwrap()
    };

    fault(verify(&mut service, asks(Key::UserId(user_id), "not this one", "")).await);
    let kept = stored().await;
    verify(&mut service, asks(Key::UserId(user_id), PASSWORD, ""))
        .await
        .unwrap();
    let renewed = stored().await;
    verify(&mut service, asks(Key::UserId(user_id), PASSWORD, ""))
        .await
        .unwrap();

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

    service
        .update(Asks::password("amber-harbour-51").of(user_id))
        .await
        .unwrap();

    assert!(
        verify(
            &mut service,
            asks(Key::UserId(user_id), "amber-harbour-51", "")
        )
        .await
        .is_ok()
    );
    assert_eq!(
        fault(verify(&mut service, asks(Key::UserId(user_id), PASSWORD, "")).await).reason,
        "PASSWORD_MISMATCH"
    );
}

#[tokio::test]
async fn p33_a_password_that_is_changed_while_it_is_checked_logs_nobody_in() {
    let app = TestApp::new().await;
    let user_id = ann(&app).await;
    let mut holder = app.database.connect().await;
    holder
        .batch_execute("begin; select from users for update")
        .await
        .unwrap();
    let mut service = app.service().await;
    let asked = tokio::spawn(async move {
        verify(&mut service, asks(Key::UserId(user_id), PASSWORD, "")).await
    });
    // It was right, and waits for the user whom it logs in.
    until_waiting(&mut app.database.connect().await, 1).await;

    let other = cheap_hash("amber-harbour-51");
    let change =
        format!("update accounts set password_hash = '{other}', version = version + 1; commit");
    holder.batch_execute(&change).await.unwrap();
    let answer = fault(asked.await.unwrap());

    assert_eq!(answer.reason, "PASSWORD_MISMATCH");
    let mut service = app.service().await;
    assert_eq!(service.account(user_id).await.last_login_at, None);
    assert!(
        verify(
            &mut service,
            asks(Key::UserId(user_id), "amber-harbour-51", "")
        )
        .await
        .is_ok()
    );
}

async fn exhaust(service: &mut Client, user_id: i64, client: &str) {
    for _ in 0..5 {
        let refused =
            fault(verify(service, asks(Key::UserId(user_id), "not this one", client)).await);
        assert_eq!(refused.reason, "PASSWORD_MISMATCH");
    }
}

#[tokio::test]
async fn p33_a_new_password_unlocks_whoever_sets_it() {
    let app = TestApp::new().await;
    let user_id = ann(&app).await;
    let mut service = app.service().await;
    let service_request = pb::Account {
        email_verified: true,
        ..given("ben@example.org", "")
    };
    let (ben, mut client) = app.join(service_request, PASSWORD).await;

    for (user_id, new) in [
        (user_id, "amber-harbour-51"),
        (ben, "copper-meadow-64"),
        (ben, "silver-orchard-12"),
    ] {
        exhaust(&mut service, user_id, "a").await;
        let locked = fault(verify(&mut service, asks(Key::UserId(user_id), PASSWORD, "a")).await);
        assert_eq!(locked.reason, "PASSWORD_ATTEMPTS_EXCEEDED");
        if new.starts_with("copper") {
            let code = app
                .code(&mut client, pb::CodePurpose::Password, "ben@example.org")
                .await;
            client
                .update(Asks::password(new).mailed(&code))
                .await
                .unwrap();
        } else if user_id == ben {
            client
                .update(Asks::password(new).current("copper-meadow-64"))
                .await
                .unwrap();
        } else {
            service
                .update(Asks::password(new).of(user_id))
                .await
                .unwrap();
        }
        assert_eq!(
            verify(&mut service, asks(Key::UserId(user_id), new, "a"))
                .await
                .unwrap(),
            user_id
        );
    }
}

#[tokio::test]
async fn p33_a_new_password_unlocks_the_account_of_fifty_attempts_and_leaves_the_wallets_count() {
    let app = TestApp::new().await;
    let user_id = ann(&app).await;
    let mut service = app.service().await;
    let wallet = |password: &str| pb::VerifyPasswordRequest {
        wallet: true,
        ..asks(Key::UserId(user_id), password, "wallet")
    };
    for number in 0..9 {
        exhaust(&mut service, user_id, &format!("client {number}")).await;
    }
    for _ in 0..5 {
        fault(verify(&mut service, wallet("not this one")).await);
    }
    let locked = fault(
        verify(
            &mut service,
            asks(Key::UserId(user_id), PASSWORD, "another"),
        )
        .await,
    );

    service
        .update(Asks::password("amber-harbour-51").of(user_id))
        .await
        .unwrap();
    let unlocked = verify(
        &mut service,
        asks(Key::UserId(user_id), "amber-harbour-51", "client 3"),
    )
    .await;
    let of_wallet = fault(verify(&mut service, wallet(WALLET)).await);
    service
        .update(Asks::wallet_password("silver-orchard-12").of(user_id))
        .await
        .unwrap();
    let new_wallet = verify(&mut service, wallet("silver-orchard-12")).await;

    assert_eq!(locked.reason, "PASSWORD_ATTEMPTS_EXCEEDED");
    assert!(unlocked.is_ok() && new_wallet.is_ok());
    assert_eq!(
        of_wallet.reason, "PASSWORD_ATTEMPTS_EXCEEDED",
        "the wallet's secret is another one"
    );
}

#[tokio::test]
async fn p33_the_attempts_that_are_left_link_no_keys() {
    let app = TestApp::new().await;
    let user_id = ann(&app).await;
    let mut service = app.service().await;
    let username = Key::Username("ann.mixed".to_owned());
    let email = Key::Email("ann@example.org".to_owned());
    let keys = [
        Key::UserId(user_id),
        username.clone(),
        Key::UserId(user_id),
        email.clone(),
        username.clone(),
    ];

    let mut left = Vec::new();
    for key in keys {
        let refused = fault(verify(&mut service, asks(key, "not this one", "a")).await);
        left.push(refused.metadata["attemptsRemaining"].clone());
    }
    let locked = fault(verify(&mut service, asks(email.clone(), PASSWORD, "a")).await);
    let other_client =
        fault(verify(&mut service, asks(username.clone(), "not this one", "b")).await);
    verify(&mut service, asks(email, PASSWORD, "b"))
        .await
        .unwrap();
    let cleared = fault(verify(&mut service, asks(username, "not this one", "b")).await);

    assert_eq!(left, ["4", "4", "3", "4", "3"]);
    assert_eq!(
        locked.reason, "PASSWORD_ATTEMPTS_EXCEEDED",
        "the count is the account's"
    );
    assert_eq!(other_client.metadata["attemptsRemaining"], "4");
    assert_eq!(
        cleared.metadata["attemptsRemaining"], "4",
        "a right one clears what every key reports"
    );
}

#[tokio::test]
async fn p33_strangers_do_not_keep_out_a_client_that_logged_in_before() {
    let app = TestApp::new().await;
    let user_id = ann(&app).await;
    let mut service = app.service().await;
    verify(&mut service, asks(Key::UserId(user_id), PASSWORD, "home"))
        .await
        .unwrap();
    let strangers = async |service: &mut Client| {
        for number in 0..10 {
            exhaust(service, user_id, &format!("stranger {number}")).await;
        }
    };

    strangers(&mut service).await;
    let stranger = fault(verify(&mut service, asks(Key::UserId(user_id), PASSWORD, "new")).await);
    let unnamed = fault(verify(&mut service, asks(Key::UserId(user_id), PASSWORD, "")).await);
    let home = verify(
        &mut service,
        asks(Key::Email("ann@example.org".to_owned()), PASSWORD, "home"),
    )
    .await;
    exhaust(&mut service, user_id, "home").await;
    let own_budget =
        fault(verify(&mut service, asks(Key::UserId(user_id), PASSWORD, "home")).await);
    app.clock.advance(TimeDelta::days(91));
    let mut later = app.service().await;
    strangers(&mut later).await;
    let forgotten = fault(verify(&mut later, asks(Key::UserId(user_id), PASSWORD, "home")).await);

    assert_eq!(stranger.reason, "PASSWORD_ATTEMPTS_EXCEEDED");
    assert_eq!(unnamed.reason, "PASSWORD_ATTEMPTS_EXCEEDED");
    assert!(home.is_ok());
    assert_eq!(own_budget.reason, "PASSWORD_ATTEMPTS_EXCEEDED");
    assert_eq!(forgotten.reason, "PASSWORD_ATTEMPTS_EXCEEDED");
}

#[tokio::test]
async fn p33_known_clients_are_bounded_and_go_with_their_user() {
    use diesel::sql_types::BigInt;
    use diesel_async::RunQueryDsl;
    use user_service::store::sql::Sql;

    let app = TestApp::configured(|config| config.passwords.known_clients = 3).await;
    let user_id = ann(&app).await;
    let mut service = app.service().await;
    let count = async || {
        let mut conn = app.database.connect().await;
        Sql::<BigInt>::new("select count(*) from known_clients")
            .get_result::<i64>(&mut conn)
            .await
            .unwrap()
    };

    for number in 0..5 {
        app.clock.advance(TimeDelta::minutes(1));
        verify(
            &mut service,
            asks(Key::UserId(user_id), PASSWORD, &format!("client {number}")),
        )
        .await
        .unwrap();
    }
    verify(&mut service, asks(Key::UserId(user_id), PASSWORD, ""))
        .await
        .unwrap();
    let bounded = count().await;
    app.clock.advance(TimeDelta::days(89));
    app.app.housekeeping.clean().await.unwrap();
    let young = count().await;
    app.clock.advance(TimeDelta::days(2));
    app.app.housekeeping.clean().await.unwrap();
    let old = count().await;
    let mut service = app.service().await;
    verify(&mut service, asks(Key::UserId(user_id), PASSWORD, "client"))
        .await
        .unwrap();
    let again = count().await;
    let request = pb::DeleteUserRequest {
        user_id,
        ..Default::default()
    };
    service.admin.delete_user(request).await.unwrap();

    assert_eq!((bounded, young, old, again, count().await), (3, 3, 0, 1, 0));
}

#[tokio::test]
async fn p33_one_client_has_a_hundred_wrong_attempts_an_hour_over_all_accounts() {
    let app = TestApp::new().await;
    let user_id = ann(&app).await;
    let mut service = app.service().await;

    let mut reasons = Vec::new();
    for number in 0..110 {
        let key = if number == 50 {
            Key::UserId(user_id)
        } else {
            Key::Username(format!("nobody.{number}"))
        };
        let request = asks(key, "not this one", "192.0.2.7");
        let refused =
            fault(patiently(async || verify(&mut service.clone(), request.clone()).await).await);
        reasons.push(refused.reason);
    }
    let right = fault(
        verify(
            &mut service,
            asks(Key::UserId(user_id), PASSWORD, "192.0.2.7"),
        )
        .await,
    );
    let other = verify(
        &mut service,
        asks(Key::UserId(user_id), PASSWORD, "192.0.2.8"),
    )
    .await;
    let unnamed = verify(&mut service, asks(Key::UserId(user_id), PASSWORD, "")).await;

    assert!(
        reasons[..100]
            .iter()
            .all(|reason| reason == "PASSWORD_MISMATCH"),
        "{reasons:?}"
    );
    assert!(
        reasons[100..]
            .iter()
            .all(|reason| reason == "PASSWORD_ATTEMPTS_EXCEEDED"),
        "{reasons:?}"
    );
    assert_eq!(
        (right.quota.as_deref(), right.wait()),
        (Some("password_wrong"), 3600)
    );
    assert!(other.is_ok() && unnamed.is_ok());
}

#[tokio::test]
async fn p33_the_figures_are_configuration() {
    let app = TestApp::configured(|config| {
        config.passwords.wrong_attempts = 2;
        config.passwords.wrong_attempts_seconds = 60;
        config.passwords.client_attempts_per_hour = 3;
        config.passwords.min_length = 10;
    })
    .await;
    let user_id = ann(&app).await;
    let mut service = app.service().await;
    let mut user = app.user(user_id).await;

    let first = fault(verify(&mut service, asks(Key::UserId(user_id), "no", "a")).await);
    fault(verify(&mut service, asks(Key::UserId(user_id), "no", "a")).await);
    let pair = fault(verify(&mut service, asks(Key::UserId(user_id), PASSWORD, "a")).await);
    fault(verify(&mut service, asks(Key::UserId(999_999), "no", "a")).await);
    app.clock.advance(TimeDelta::seconds(60));
    let client = fault(verify(&mut service, asks(Key::UserId(user_id), PASSWORD, "a")).await);
    let update = fault(
        user.update(Asks::password("amber-harbour-51").current("no"))
            .await,
    );
    let short = fault(
        user.update(Asks::password("harbour-5").current(PASSWORD))
            .await,
    );

    assert_eq!(
        (short.told(), short.fields[0].1.as_str()),
        (("INVALID_REQUEST", vec!["new_password"]), "FIELD_LENGTH")
    );
    assert_eq!(first.metadata["attemptsRemaining"], "1");
    assert_eq!(
        (pair.reason.as_str(), pair.wait()),
        ("PASSWORD_ATTEMPTS_EXCEEDED", 60)
    );
    assert_eq!(
        (client.reason.as_str(), client.wait()),
        ("PASSWORD_ATTEMPTS_EXCEEDED", 3540)
    );
    assert_eq!(update.metadata["attemptsRemaining"], "1");
}

/// A user with this hash, and what is stored of it.
async fn migrated(app: &TestApp, username: &str, hash: &str) -> i64 {
    let account = pb::Account {
        username: Some(username.to_owned()),
        ..Default::default()
    };
    let request = pb::CreateUserRequest {
        password_hash: hash.to_owned(),
        ..member(account)
    };
    app.service().await.create(request).await.unwrap().user_id
}

async fn stored_hash(app: &TestApp, user_id: i64) -> String {
    use diesel::sql_types::Text;
    use diesel_async::RunQueryDsl;
    use user_service::store::sql::Sql;

    let mut conn = app.database.connect().await;
    let statement =
        Sql::<Text>::new("select password_hash from accounts where user_id = ").bind(user_id);
    statement.get_result(&mut conn).await.unwrap()
}

#[tokio::test]
async fn p32_hashes_of_other_systems_log_in_and_are_upgraded() {
    const KNOWN: [&str; 7] = [
        "pbkdf2_sha256$1000$saltsaltSALT$JOyTLuD+tx6NUUbPSX2+rjWy7bKsKn1zRKbzRb0JhyI=",
        "$pbkdf2-sha256$1000$c2l4dGVlbiBieXRlcyBvaw$gpLtVvyi1c1YtH6m24Uxsa9pTVES7Rk/JsZJL4Nv5no",
        "pbkdf2:sha256:1000$OdlZPsGuK98gkfjF$5affbf39f1a5c3dc170fbac09e6d63bf7e43747cd2b76b629da26c252989006f",
        "$wp$2y$04$8IIJC3pc2snCrOclajrYp.4RlfcpvHhxFackqKAKObnrzp9dptG4K",
        "$P$5saltSALTg6fciLIMYNG5yjWIdDeVw0",
        "$6$rounds=1000$saltstring$B.n1vD77SdB2TuXAE0nGKP536R1bUc6NvRMEtukg5fkv3SlfIs6RsCY18TxG6AWfmoa/S410tUwH1MRlKRQST0",
        "{SSHA}9YZoFf5/3yMWwowP/xg3HP31LLJzYWx0U0FMVA==",
    ];
    let app = TestApp::new().await;
    let mut service = app.service().await;

    for (number, hash) in KNOWN.into_iter().enumerate() {
        let user_id = migrated(&app, &format!("moved.{number}"), hash).await;
        let wrong = verify(
            &mut service,
            asks(Key::UserId(user_id), "correct horse battery stapler", ""),
        )
        .await;
        assert_eq!(fault(wrong).reason, "PASSWORD_MISMATCH", "{hash}");
        for _ in 0..2 {
            let right = verify(
                &mut service,
                asks(Key::UserId(user_id), "correct horse battery staple", ""),
            )
            .await;
            assert_eq!(right.unwrap(), user_id, "{hash}");
        }
        assert!(
            stored_hash(&app, user_id)
                .await
                .starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
    }
}

#[tokio::test]
async fn p32_other_hashes_are_refused_by_name() {
    let app = TestApp::new().await;
    let refused = async |hash: &str| {
        let account = pb::Account {
            username: Some("moved.user".to_owned()),
            ..Default::default()
        };
        let request = pb::CreateUserRequest {
            password_hash: hash.to_owned(),
            ..member(account)
        };
        let status = app
            .service()
            .await
            .admin
            .create_user(request)
            .await
            .unwrap_err();
        let described = format!(
            "{:?}",
            tonic_types::StatusExt::get_error_details(&status).bad_request()
        );
        (fault::<()>(Err(status)).told().0.to_owned(), described)
    };

    for (hash, name) in [
        ("$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/", "md5_crypt"),
        (
            "$2x$04$8IIJC3pc2snCrOclajrYp.DG4/0uBburRnnQ.RDQpMOiSFDBNmZMe",
            "bcrypt_2x",
        ),
        ("5f4dcc3b5aa765d61d8327deb882cf99", "hex_md5"),
    ] {
        let (reason, described) = refused(hash).await;
        assert_eq!(reason, "INVALID_REQUEST");
        assert!(
            described.contains(&format!("the hash format `{name}` isn't supported")),
            "{described}"
        );
    }
}

#[tokio::test]
async fn p32_a_slip_behind_what_bcrypt_reads_locks_nobody_out() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    // 25 characters of three bytes each.
    let password = "四月的風吹過紫丁香花開在窗前月光照著遠方的路燈火";
    let password = format!("{password}啊哦");
    let slip = format!("{}x", &password[..password.len() - 3]);
    assert!(slip.len() > 72, "{}", slip.len());
    let user_id = migrated(&app, "moved.user", &cheap_hash(&password)).await;

    let by_slip = verify(&mut service, asks(Key::UserId(user_id), &slip, "")).await;
    let kept = stored_hash(&app, user_id).await;
    let right = verify(&mut service, asks(Key::UserId(user_id), &password, "")).await;

    assert!(by_slip.is_ok(), "as in the system that the hash is from");
    assert!(kept.starts_with("$2b$04$"), "{kept}");
    assert!(right.is_ok());
    assert_eq!(stored_hash(&app, user_id).await, kept);
}

#[tokio::test]
async fn p32_hashes_of_every_spelling_are_matched() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let cases = [
        ("cafe\u{301} lantern", "caf\u{e9} lantern"),
        ("fine lantern", "\u{fb01}ne lantern"),
    ];

    for (number, (hashed, other)) in cases.into_iter().enumerate() {
        let user_id = migrated(&app, &format!("moved.{number}"), &cheap_hash(hashed)).await;
        let typed = if number == 0 { hashed } else { other };
        for password in [typed, hashed, other] {
            let right = verify(&mut service, asks(Key::UserId(user_id), password, "")).await;
            assert_eq!(right.unwrap(), user_id, "{password}");
        }
    }
}

#[tokio::test]
async fn p33_the_kinds_of_stored_hashes_are_noted_before_they_count() {
    use diesel::sql_types::Text;
    use diesel_async::RunQueryDsl;
    use user_service::store::sql::Sql;

    let app = TestApp::new().await;
    let kinds = async || {
        let mut conn = app.database.connect().await;
        Sql::<Text>::new("select kind from hash_kinds order by kind")
            .load::<String>(&mut conn)
            .await
            .unwrap()
    };
    let dry = pb::CreateUserRequest {
        password_hash: cheap_hash("x"),
        validate_only: true,
        ..member(given("ann@example.org", ""))
    };
    app.service().await.create(dry).await.unwrap();
    let none = kinds().await;

    migrated(&app, "moved.one", &cheap_hash(PASSWORD)).await;
    migrated(&app, "moved.two", &bcrypt::hash(PASSWORD, 5).unwrap()).await;
    migrated(
        &app,
        "moved.six",
        "pbkdf2_sha256$1000$saltsaltSALT$JOyTLuD+tx6NUUbPSX2+rjWy7bKsKn1zRKbzRb0JhyI=",
    )
    .await;
    ann(&app).await;

    assert_eq!(none, [""; 0]);
    assert_eq!(
        kinds().await,
        ["$2b$04$", "$2b$05$", "$pbkdf2-sha256$i=1000$"]
    );
}

#[tokio::test]
async fn p33_the_kinds_of_hashes_from_before_are_found_by_the_migration() {
    use diesel::sql_types::Text;
    use diesel_async::RunQueryDsl;
    use user_service::{model::password_hash::HashKind, store::sql::Sql};

    let app = TestApp::new().await;
    migrated(&app, "moved.one", &cheap_hash(PASSWORD)).await;
    migrated(
        &app,
        "moved.two",
        &cheap_hash(WALLET).replace("$2b$", "$2y$"),
    )
    .await;
    let phc = "$pbkdf2-sha256$i=1000,l=40$c2l4dGVlbiBieXRlcyBvaw$gpLtVvyi1c1YtH6m24Uxsa9pTVES7Rk/JsZJL4Nv5nptSd5arAtjJA";
    migrated(&app, "moved.six", phc).await;
    let old =
        "$argon2i$m=256,t=2,p=1$c2l4dGVlbiBieXRlcyBvaw$+f0GQz2qsGIRbAX1cMwtfvJ0d/9tt+Esy9CX7uoQxUg";
    migrated(&app, "moved.old", old).await;
    ann(&app).await;
    let mut conn = app.database.connect().await;

    conn.batch_execute(include_str!(
        "../../migrations/2026-12-01-000502_create_hash_kinds/down.sql"
    ))
    .await
    .unwrap();
    conn.batch_execute(include_str!(
        "../../migrations/2026-12-01-000502_create_hash_kinds/up.sql"
    ))
    .await
    .unwrap();
    let found = Sql::<Text>::new("select kind from hash_kinds order by kind");
    let found = found.load::<String>(&mut conn).await.unwrap();

    assert_eq!(
        found,
        [
            "$2b$04$",
            "$argon2i$m=256,t=2,p=1$",
            "$pbkdf2-sha256$i=1000$"
        ]
    );
    assert!(
        found
            .into_iter()
            .all(|kind| HashKind::stored(kind).sample().is_ok())
    );
}
