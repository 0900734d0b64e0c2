//! Passwords and wallet passwords by UpdateAccount.

use diesel::sql_types::Integer;
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use tonic::Code;
use user_service::{
    convert::pb::{self, CodePurpose, get_profile_request::Key},
    store::sql::Sql,
};

use crate::support::{
    Asks, Client, TestApp, cheap_hash, eventually, fault, given, member, patiently,
    statements::until_waiting, wrong,
};

const OLD: &str = "violet-lantern-93";
const NEW: &str = "amber-harbour-51";
const WALLET: &str = "copper-window-27";

/// Whether a password is the one in force.
async fn is_right(app: &TestApp, user_id: i64, password: &str, wallet: bool) -> bool {
    let key = Some(pb::verify_password_request::Key::UserId(user_id));
    let request = pb::VerifyPasswordRequest {
        key,
        password: password.to_owned(),
        wallet,
        client: uuid::Uuid::new_v4().to_string(),
    };
    app.service()
        .await
        .admin
        .verify_password(request)
        .await
        .is_ok()
}

async fn ann(app: &TestApp) -> (i64, Client) {
    app.join(given("ann@example.org", "+8613800138000"), OLD)
        .await
}

#[tokio::test]
async fn fresns_a_password_is_changed_by_the_current_one_or_by_a_code() {
    let app = TestApp::new().await;
    let (user_id, mut ann) = ann(&app).await;

    let bare = fault(ann.update(Asks::password(NEW)).await);
    ann.update(Asks::password(NEW).current(OLD)).await.unwrap();
    assert!(
        is_right(&app, user_id, NEW, false).await && !is_right(&app, user_id, OLD, false).await
    );
    let mailed = app
        .code(&mut ann, CodePurpose::Password, "ann@example.org")
        .await;
    ann.update(Asks::password(OLD).mailed(&mailed))
        .await
        .unwrap();
    let texted = app
        .code(&mut ann, CodePurpose::Password, "+8613800138000")
        .await;
    let swapped = fault(ann.update(Asks::password(NEW).mailed(&texted)).await);
    ann.update(Asks::password(NEW).texted(&texted))
        .await
        .unwrap();

    assert_eq!(
        (bare.code, bare.told()),
        (
            Code::InvalidArgument,
            ("PROOF_REQUIRED", vec!["new_password"])
        )
    );
    assert_eq!(
        swapped.reason, "CODE_USED",
        "the code type tells which address it was sent to"
    );
    assert!(is_right(&app, user_id, NEW, false).await);
}

#[tokio::test]
async fn fresns_a_wallet_password_is_changed_likewise_and_is_a_second_secret() {
    let app = TestApp::new().await;
    let (user_id, mut ann) = ann(&app).await;
    let mut service = app.service().await;

    let bare = fault(ann.update(Asks::wallet_password(WALLET)).await);
    let code = app
        .code(&mut ann, CodePurpose::WalletPassword, "ann@example.org")
        .await;
    let first = ann
        .update(Asks::wallet_password(WALLET).mailed(&code))
        .await
        .unwrap();
    let by_login = fault(
        ann.update(Asks::wallet_password("simple").current(OLD))
            .await,
    );
    ann.update(Asks::wallet_password("simple").current_wallet(WALLET))
        .await
        .unwrap();
    let of_another = app
        .code(&mut ann, CodePurpose::Password, "+8613800138000")
        .await;
    let of_another = fault(
        ann.update(Asks::wallet_password(WALLET).texted(&of_another))
            .await,
    );
    let set = service
        .update(Asks::wallet_password(WALLET).of(user_id))
        .await
        .unwrap();

    assert_eq!(bare.told(), ("PROOF_REQUIRED", vec!["new_wallet_password"]));
    assert_eq!(
        by_login.told(),
        ("PROOF_REQUIRED", vec!["new_wallet_password"])
    );
    assert!(first.has_wallet_password && set.has_wallet_password);
    assert_eq!(of_another.reason, "CODE_NOT_REQUESTED");
    assert!(
        is_right(&app, user_id, WALLET, true).await && is_right(&app, user_id, OLD, false).await
    );
    assert!(!is_right(&app, user_id, WALLET, false).await);
}

#[tokio::test]
async fn p27_a_first_password_needs_a_code_where_an_address_is_verified() {
    let app = TestApp::new().await;
    let (_, mut with) = app.join(given("ann@example.org", ""), "").await;
    let name = pb::Account {
        username: Some("ben.mixed".to_owned()),
        ..Default::default()
    };
    let (_, mut without) = app.join(name, "").await;

    let bare = fault(with.update(Asks::password(NEW)).await);
    let code = app
        .code(&mut with, CodePurpose::Password, "ann@example.org")
        .await;
    let by_code = with
        .update(Asks::password(NEW).mailed(&code))
        .await
        .unwrap();
    let current = fault(without.update(Asks::password(NEW).current("any")).await);
    let free = without
        .update(Asks::password(NEW).and(Asks::wallet_password(WALLET)))
        .await
        .unwrap();

    assert_eq!(bare.reason, "PROOF_REQUIRED");
    assert_eq!(
        current.reason, "PASSWORD_MISMATCH",
        "there is none that could be right"
    );
    assert!(by_code.has_password && free.has_password && free.has_wallet_password);
}

#[tokio::test]
async fn p32_passwords_that_are_refused() {
    let app = TestApp::new().await;
    let (user_id, mut ann) = ann(&app).await;
    let mut service = app.service().await;
    service
        .update(
            Asks::username("Mara.Quill")
                .and(Asks::email("zora.brandt@example.org"))
                .of(user_id),
        )
        .await
        .unwrap();

    for short in [
        Asks::password("short77"),
        Asks::password(&"x".repeat(129)),
        Asks::wallet_password("tiny5"),
    ] {
        let refused = fault(ann.update(short.current(OLD)).await);
        assert_eq!(
            (refused.reason.as_str(), refused.fields[0].1.as_str()),
            ("INVALID_REQUEST", "FIELD_LENGTH")
        );
    }
    for easy in ["password123", "9mARA.qUILL-violet", "7ZORA.brandt-violet"] {
        let refused = fault(ann.update(Asks::password(easy).current(OLD)).await);
        assert_eq!(
            (refused.code, refused.told()),
            (
                Code::InvalidArgument,
                ("PASSWORD_REJECTED", vec!["new_password"])
            )
        );
        let by_service = fault(service.update(Asks::password(easy).of(user_id)).await);
        assert_eq!(by_service.reason, "PASSWORD_REJECTED");
    }
    // The wallet's has no such rules.
    assert!(
        service
            .update(Asks::wallet_password("123456").of(user_id))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn p32_the_wallet_password_differs_from_the_password_both_ways() {
    let app = TestApp::new().await;
    let (user_id, mut ann) = ann(&app).await;
    let mut service = app.service().await;

    let same = fault(service.update(Asks::wallet_password(OLD).of(user_id)).await);
    service
        .update(Asks::wallet_password(WALLET).of(user_id))
        .await
        .unwrap();
    let other_way = fault(ann.update(Asks::password(WALLET).current(OLD)).await);
    let both = Asks::password(NEW)
        .and(Asks::wallet_password(NEW))
        .of(user_id);
    let both = fault(service.update(both).await);
    let swapped = Asks::password(WALLET)
        .and(Asks::wallet_password(OLD))
        .of(user_id);

    assert_eq!(
        same.told(),
        ("PASSWORD_REJECTED", vec!["new_wallet_password"])
    );
    assert_eq!(
        other_way.told(),
        ("PASSWORD_REJECTED", vec!["new_password"])
    );
    assert_eq!(both.reason, "PASSWORD_REJECTED");
    assert!(
        service.update(swapped).await.is_ok(),
        "both are new, and they differ"
    );
}

#[tokio::test]
async fn p33_five_wrong_in_fifteen_minutes_for_each_secret_and_no_lasting_lock() {
    let app = TestApp::new().await;
    let (user_id, mut ann) = ann(&app).await;
    app.service()
        .await
        .update(Asks::wallet_password(WALLET).of(user_id))
        .await
        .unwrap();
    let guess = |password: &str| Asks::password(NEW).current(password);

    fault(ann.update(guess("no")).await);
    ann.update(Asks::username("ann.mixed").current(OLD))
        .await
        .unwrap();
    for left in ["4", "3", "2", "1", "0"] {
        let refused = fault(ann.update(guess("no")).await);
        assert_eq!(
            refused.told(),
            ("PASSWORD_MISMATCH", vec!["proof.current_password"])
        );
        assert_eq!(
            refused.metadata["attemptsRemaining"], left,
            "a right one cleared the count"
        );
    }
    app.clock.advance(chrono::TimeDelta::minutes(5));
    let limited = fault(ann.update(guess(OLD)).await);
    let wallet = ann
        .update(Asks::wallet_password("simple").current_wallet(WALLET))
        .await;
    let verify = is_right(&app, user_id, OLD, false).await;
    app.clock.advance(chrono::TimeDelta::minutes(10));
    let done = ann.update(guess(OLD)).await;

    assert_eq!(
        (limited.code, limited.reason.as_str()),
        (Code::ResourceExhausted, "PASSWORD_ATTEMPTS_EXCEEDED")
    );
    assert_eq!(
        (limited.quota.as_deref(), limited.wait()),
        (Some("password_wrong"), 600)
    );
    assert!(
        wallet.is_ok() && verify,
        "the wallet's secret and VerifyPassword count apart"
    );
    assert!(done.is_ok());
}

#[tokio::test]
async fn p33_parallel_guesses_are_five_guesses() {
    let app = TestApp::new().await;
    let (_, ann) = ann(&app).await;

    let tries = (0..20).map(|_| {
        let mut ann = ann.clone();
        async move {
            let guess = patiently(async || ann.update(Asks::password(NEW).current("no")).await);
            fault(guess.await).reason
        }
    });
    let reasons = futures_util::future::join_all(tries).await;

    assert_eq!(
        reasons
            .iter()
            .filter(|reason| *reason == "PASSWORD_MISMATCH")
            .count(),
        5,
        "{reasons:?}"
    );
    assert_eq!(
        reasons
            .iter()
            .filter(|reason| *reason == "PASSWORD_ATTEMPTS_EXCEEDED")
            .count(),
        15,
        "{reasons:?}"
    );
}

#[tokio::test]
async fn p34_a_changed_password_ends_the_other_tokens_and_the_codes_and_is_told() {
    let app = TestApp::new().await;
    let (user_id, mut ann) = ann(&app).await;
    let mut other = app.user(user_id).await;
    let replica = app.replica().await;
    let mut elsewhere = replica.client(&app.user_token(user_id).await);
    elsewhere.get(user_id).await.unwrap();
    let code = app.bind_code(&mut other, "new@example.org").await;

    ann.update(Asks::password(NEW).current(OLD)).await.unwrap();
    let revoked = fault(other.get(user_id).await);
    let voided = fault(ann.confirm("new@example.org", &code, "123456").await);

    assert_eq!(
        (revoked.code, revoked.reason.as_str()),
        (Code::Unauthenticated, "TOKEN_REVOKED")
    );
    assert_eq!(voided.reason, "CODE_SUPERSEDED");
    assert_eq!(
        app.queued("ann@example.org").await,
        ["notice.password_changed"]
    );
    assert!(ann.get(user_id).await.is_ok(), "the caller's own stays");
    revoked_in_the_end(&mut elsewhere, user_id).await;
}

/// The other replica hears of it by NOTIFY.
async fn revoked_in_the_end(client: &mut Client, user_id: i64) {
    let refused = eventually("a token that another replica refuses", async || {
        client.get(user_id).await.err()
    })
    .await;
    assert_eq!(fault::<()>(Err(refused)).reason, "TOKEN_REVOKED");
}

#[tokio::test]
async fn p34_a_services_change_ends_all_tokens_and_a_wallet_password_none() {
    let app = TestApp::new().await;
    let (user_id, mut ann) = ann(&app).await;
    let mut service = app.service().await;

    service
        .update(Asks::wallet_password(WALLET).of(user_id))
        .await
        .unwrap();
    let still = ann.get(user_id).await;
    service
        .update(Asks::password(NEW).of(user_id))
        .await
        .unwrap();
    let revoked = fault(ann.get(user_id).await);

    assert!(still.is_ok());
    assert_eq!(revoked.reason, "TOKEN_REVOKED");
    assert!(service.get_by(Key::UserId(user_id)).await.is_ok());
}

#[tokio::test]
async fn p29_a_wrong_password_leaves_a_right_code_unburnt() {
    let app = TestApp::new().await;
    let (_, mut ann) = ann(&app).await;
    let code = app
        .code(&mut ann, CodePurpose::Password, "ann@example.org")
        .await;

    let refused = fault(
        ann.update(Asks::password(NEW).mailed(&code).current("no"))
            .await,
    );
    let wrong = fault(ann.update(Asks::password(NEW).mailed(&wrong(&code))).await);
    let done = ann.update(Asks::password(NEW).mailed(&code)).await;

    assert_eq!(refused.reason, "PASSWORD_MISMATCH");
    assert_eq!(
        wrong.metadata["attemptsRemaining"], "4",
        "the right code's try was given back"
    );
    assert!(done.is_ok());
}

#[tokio::test]
async fn p32_a_hash_that_would_cost_too_much_is_refused_when_it_comes() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let end = "c2l4dGVlbiBieXRlcyBvaw$DFJl3+LYuTnYvEglMJWlNe078oGA5gKVBvWvbqtptz4";
    let too_costly = [
        format!("$argon2id$v=19$m=262145,t=1,p=1${end}"),
        format!("$argon2id$v=19$m=19456,t=4294967295,p=1${end}"),
        format!("$scrypt$ln=30,r=8,p=1${end}"),
        format!("$pbkdf2-sha256$i=4000001${end}"),
        "$2b$17$8IIJC3pc2snCrOclajrYp.DG4/0uBburRnnQ.RDQpMOiSFDBNmZMe".to_owned(),
    ];
    let member = |hash: &str| pb::CreateUserRequest {
        account: Some(pb::Account {
            username: Some("mara.quill".to_owned()),
            ..Default::default()
        }),
        password_hash: hash.to_owned(),
        wallet_password_hash: hash.to_owned(),
        ..Default::default()
    };

    for hash in &too_costly {
        let refused = fault(service.create(member(hash)).await);
        let told = ["password_hash", "wallet_password_hash"]
            .map(|path| (path.to_owned(), "FIELD_RANGE".to_owned()));
        assert_eq!(refused.fields, told, "{hash}");
    }
    let users = too_costly.iter().map(|hash| pb::ImportUsersRequest {
        user: Some(member(hash)),
    });
    let users: Vec<_> = users.collect();
    let mut answers = service
        .admin
        .import_users(tokio_stream::iter(users))
        .await
        .unwrap()
        .into_inner();
    let batch = answers.message().await.unwrap().unwrap();

    assert_eq!((batch.created, batch.failed), (0, 5));
    assert!(
        batch
            .failures
            .iter()
            .all(|failure| failure.field == "password_hash"),
        "{batch:?}"
    );
    assert!(
        service
            .get_by(Key::Username("mara.quill".to_owned()))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn p27_a_password_that_is_changed_meanwhile_proves_nothing_more() {
    let app = TestApp::new().await;
    let (user_id, mut ann) = ann(&app).await;
    let mut holder = app.database.connect().await;
    holder
        .batch_execute("begin; select from users for update")
        .await
        .unwrap();
    let asked = tokio::spawn(async move { ann.update(Asks::password(NEW).current(OLD)).await });
    // The current one was right, and the change waits for the user.
    until_waiting(&mut app.database.connect().await, 1).await;

    let others = cheap_hash(WALLET);
    let change =
        format!("update accounts set password_hash = '{others}', version = version + 1; commit");
    holder.batch_execute(&change).await.unwrap();
    let answer = fault(asked.await.unwrap());

    assert_eq!(
        (answer.code, answer.reason.as_str()),
        (Code::Aborted, "WRITE_CONFLICT")
    );
    assert!(is_right(&app, user_id, WALLET, false).await);
}

#[tokio::test]
async fn p39_a_right_code_of_a_call_that_is_cut_off_keeps_its_tries() {
    let app = TestApp::new().await;
    let (user_id, mut ann) = ann(&app).await;
    let code = app
        .code(&mut ann, CodePurpose::Password, "ann@example.org")
        .await;
    let (mut holder, mut watcher) = (app.database.connect().await, app.database.connect().await);
    holder
        .batch_execute("begin; select from users for update")
        .await
        .unwrap();

    // More often than a code has tries, and than a day has.
    for _ in 0..11 {
        let (mut ann, code) = (ann.clone(), code.clone());
        let asked =
            tokio::spawn(async move { ann.update(Asks::password(NEW).mailed(&code)).await });
        until_waiting(&mut watcher, 1).await;
        asked.abort();
        eventually("tries that are given back", async || {
            let tries = Sql::<Integer>::new("select attempts from codes")
                .get_result::<i32>(&mut watcher)
                .await
                .unwrap();
            (tries == 0).then_some(())
        })
        .await;
        until_waiting(&mut watcher, 0).await;
    }
    holder.batch_execute("rollback").await.unwrap();
    ann.update(Asks::password(NEW).mailed(&code)).await.unwrap();

    assert!(is_right(&app, user_id, NEW, false).await);
}

#[tokio::test]
async fn p32_a_new_password_is_judged_after_the_proofs() {
    let app = TestApp::new().await;
    let (user_id, mut ann) = ann(&app).await;
    let code = app
        .code(&mut ann, CodePurpose::Password, "ann@example.org")
        .await;

    let bare = fault(ann.update(Asks::password("password123")).await);
    let mismatch = fault(
        ann.update(Asks::password("password123").current("no"))
            .await,
    );
    let wrong = fault(
        ann.update(Asks::password("password123").mailed(&wrong(&code)))
            .await,
    );
    let easy = fault(
        ann.update(Asks::password("password123").mailed(&code))
            .await,
    );
    let taken = Asks::password("password123")
        .and(Asks::email("new@example.org"))
        .of(user_id);
    let by_service = fault(app.service().await.update(taken).await);
    ann.update(Asks::password(NEW).mailed(&code)).await.unwrap();

    assert_eq!(bare.reason, "PROOF_REQUIRED");
    assert_eq!(
        mismatch.told(),
        ("PASSWORD_MISMATCH", vec!["proof.current_password"])
    );
    assert_eq!(wrong.reason, "CODE_INVALID");
    assert_eq!(easy.told(), ("PASSWORD_REJECTED", vec!["new_password"]));
    assert_eq!(by_service.reason, "PASSWORD_REJECTED");
    assert!(
        is_right(&app, user_id, NEW, false).await,
        "the code was not used up"
    );
}

#[tokio::test]
async fn p32_the_deployments_names_and_its_own_list_are_rejected() {
    let folder = crate::support::folder::Folder::new();
    let list = folder.write("blocklist.txt", "Violet-Harbour-51\nanother-blocked-one\n");
    let app = TestApp::configured(|config| {
        config.passwords.blocklist_file = Some(list.clone());
        config.mail.app_name = "Marbrook Gazette".to_owned();
    })
    .await;
    let (user_id, mut ann) = ann(&app).await;

    for blocked in [
        "violet-harbour-51",
        "MarbrookGazette",
        "marbrook gazette",
        "user-service",
    ] {
        let refused = fault(ann.update(Asks::password(blocked).current(OLD)).await);
        assert_eq!(
            refused.told(),
            ("PASSWORD_REJECTED", vec!["new_password"]),
            "{blocked}"
        );
    }
    let account = pb::Account {
        username: Some("ben.mixed".to_owned()),
        ..Default::default()
    };
    let request = pb::CreateUserRequest {
        password: "ANOTHER-blocked-one".to_owned(),
        ..member(account)
    };
    let created = fault(app.service().await.create(request).await);
    ann.update(Asks::password("violet-harbour-52").current(OLD))
        .await
        .unwrap();

    assert_eq!(created.told(), ("PASSWORD_REJECTED", vec!["password"]));
    assert!(is_right(&app, user_id, "violet-harbour-52", false).await);
}

#[tokio::test]
async fn p33_a_new_password_clears_the_count_of_wrong_ones() {
    let app = TestApp::new().await;
    let (user_id, mut ann) = ann(&app).await;
    let mut service = app.service().await;
    service
        .update(Asks::wallet_password(WALLET).of(user_id))
        .await
        .unwrap();
    for _ in 0..5 {
        fault(ann.update(Asks::password(NEW).current("no")).await);
        fault(
            ann.update(Asks::wallet_password("simple").current_wallet("no"))
                .await,
        );
    }
    let locked = fault(ann.update(Asks::password(NEW).current(OLD)).await);

    let code = app
        .code(&mut ann, CodePurpose::Password, "ann@example.org")
        .await;
    ann.update(Asks::password(NEW).mailed(&code)).await.unwrap();
    let of_wallet = fault(
        ann.update(Asks::wallet_password("simple").current_wallet(WALLET))
            .await,
    );
    let by_new = ann.update(Asks::password(OLD).current(NEW)).await;
    service
        .update(Asks::wallet_password("ample-window").of(user_id))
        .await
        .unwrap();
    let by_new_wallet = ann
        .update(Asks::wallet_password("simple").current_wallet("ample-window"))
        .await;

    assert_eq!(locked.reason, "PASSWORD_ATTEMPTS_EXCEEDED");
    assert_eq!(
        of_wallet.reason, "PASSWORD_ATTEMPTS_EXCEEDED",
        "the wallet's secret is another one"
    );
    assert!(by_new.is_ok() && by_new_wallet.is_ok());
}

#[tokio::test]
async fn p33_a_dry_run_compares_nothing_that_is_not_proved() {
    let app = TestApp::new().await;
    let (user_id, mut ann) = ann(&app).await;
    app.service()
        .await
        .update(Asks::wallet_password(WALLET).of(user_id))
        .await
        .unwrap();
    let same = || Asks::wallet_password(OLD).current_wallet(WALLET);

    for _ in 0..7 {
        ann.update(same().trial()).await.unwrap();
        ann.update(Asks::wallet_password(NEW).current_wallet(WALLET).trial())
            .await
            .unwrap();
    }
    let proved = fault(ann.update(same().current(OLD).trial()).await);
    let real = fault(ann.update(same()).await);
    let current = ann.update(Asks::password(NEW).current(OLD)).await;

    assert_eq!(
        proved.told(),
        ("PASSWORD_REJECTED", vec!["new_wallet_password"])
    );
    assert_eq!(
        real.told(),
        ("PASSWORD_REJECTED", vec!["new_wallet_password"])
    );
    assert!(
        current.is_ok(),
        "a dry run is no attempt, and a right one is not counted"
    );
}

#[tokio::test]
async fn p33_comparisons_and_current_passwords_share_one_budget() {
    let app = TestApp::new().await;
    let (user_id, mut ann) = ann(&app).await;
    app.service()
        .await
        .update(Asks::wallet_password("wallet-0").of(user_id))
        .await
        .unwrap();
    let change = |number: usize| {
        Asks::wallet_password(&format!("wallet-{}", number + 1))
            .current_wallet(&format!("wallet-{number}"))
    };
    for _ in 0..2 {
        fault(ann.update(Asks::password(NEW).current("no")).await);
    }

    // The first tells that the password is another one.
    for number in 0..7 {
        ann.update(change(number)).await.unwrap();
    }
    let blind = ann
        .update(Asks::wallet_password(OLD).current_wallet("wallet-7"))
        .await;
    let left = [
        fault(ann.update(Asks::password(NEW).current("no")).await),
        fault(ann.update(Asks::password(NEW).current("no")).await),
    ];
    let locked = fault(ann.update(Asks::password(NEW).current(OLD)).await);

    assert!(
        blind.is_ok(),
        "nothing is compared any more, and nothing is told"
    );
    assert_eq!(
        left.map(|refused| refused.metadata["attemptsRemaining"].clone()),
        ["1", "0"]
    );
    assert_eq!(locked.reason, "PASSWORD_ATTEMPTS_EXCEEDED");
}
