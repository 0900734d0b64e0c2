//! LinkConnection, and unlinking by UpdateAccount.

use futures_util::future::join_all;
use tonic::Code;
use user_service::{
    convert::pb::{self, CodePurpose, get_profile_request::Key},
    model::scope::Scope,
};

use crate::support::{Asks, TestApp, fault, given};

#[tokio::test]
async fn link_a_connection_is_linked_once_and_finds_its_user() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let (user_id, _) = app.join(given("ann@example.org", ""), "").await;

    let first = service
        .link(user_id, "wechat_mini_program", "oX1")
        .await
        .unwrap();
    let etag = service.account(user_id).await.etag;
    let again = service
        .link(user_id, "wechat_mini_program", "oX1")
        .await
        .unwrap();

    assert_eq!(first, again);
    assert_eq!(
        (first.provider.as_str(), first.subject.as_str()),
        ("wechat_mini_program", "oX1")
    );
    let account = service.account(user_id).await;
    assert_eq!(
        (account.connections, account.etag),
        (vec![first], etag),
        "linking again is no write"
    );
    let key = pb::ConnectionKey {
        provider: "wechat_mini_program".to_owned(),
        subject: "oX1".to_owned(),
    };
    assert_eq!(
        service.get_by(Key::Connection(key)).await.unwrap().user_id,
        user_id
    );
}

#[tokio::test]
async fn link_a_connection_of_another_user_is_taken() {
    let app = TestApp::new().await;
    let service = app.service().await;
    let mut tries = Vec::new();
    for number in 0..6 {
        let (user_id, _) = app
            .join(given("", &format!("+861380013800{number}")), "")
            .await;
        let mut service = service.clone();
        tries.push(async move { service.link(user_id, "github", "7").await });
    }

    let (won, lost): (Vec<_>, Vec<_>) = join_all(tries).await.into_iter().partition(Result::is_ok);

    assert_eq!(won.len(), 1);
    for answer in lost {
        let refused = fault(answer);
        assert_eq!(
            (refused.code, refused.told()),
            (Code::AlreadyExists, ("CONNECTION_TAKEN", vec!["subject"]))
        );
    }
}

#[tokio::test]
async fn link_permission_faults_and_existence_in_that_order() {
    let app = TestApp::new().await;
    let mut weak = app.service_with(&[Scope::AccountsRead]).await;
    let mut service = app.service().await;
    let (user_id, mut user) = app.join(given("ann@example.org", ""), "").await;

    let weak = fault(weak.link(0, "", "").await);
    let own = fault(user.link(user_id, "github", "7").await);
    let faulty = fault(service.link(-1, "GitHub", "").await);
    let missing = fault(service.link(user_id + 1, "github", "7").await);

    assert_eq!(weak.metadata["requiredScope"], "accounts.write");
    assert_eq!(own.code, Code::PermissionDenied);
    assert_eq!(faulty.paths(), ["user_id", "provider", "subject"]);
    assert_eq!(
        (missing.code, missing.reason.as_str()),
        (Code::NotFound, "USER_NOT_FOUND")
    );
}

#[tokio::test]
async fn fresns_delete_connect_needs_a_code_and_the_owner_is_told() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let (user_id, mut user) = app
        .join(given("ann@example.org", "+8613800138000"), "")
        .await;
    let first = service
        .link(user_id, "github", "7")
        .await
        .unwrap()
        .connection_id;
    let second = service
        .link(user_id, "qq", "8")
        .await
        .unwrap()
        .connection_id;

    let by_mail = app
        .code(&mut user, CodePurpose::Unlink, "ann@example.org")
        .await;
    user.update(Asks::unlink(first).mailed(&by_mail))
        .await
        .unwrap();
    let used = fault(user.update(Asks::unlink(second).mailed(&by_mail)).await);
    let by_text = app
        .code(&mut user, CodePurpose::Unlink, "+8613800138000")
        .await;
    let done = user
        .update(Asks::unlink(second).texted(&by_text))
        .await
        .unwrap();
    let again = service.link(user_id, "github", "7").await;

    assert_eq!(used.reason, "CODE_USED");
    assert!(done.connections.is_empty());
    let (linked, unlinked) = ("notice.connection_linked", "notice.connection_unlinked");
    let told = [linked, linked, "code.unlink", unlinked, unlinked, linked];
    assert_eq!(app.queued("ann@example.org").await, told);
    assert!(again.is_ok(), "and the connection is free again");
}

#[tokio::test]
async fn fresns_a_connection_that_is_not_linked_burns_no_code() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let (user_id, mut user) = app.join(given("ann@example.org", ""), "").await;
    let (other_id, _) = app.join(given("ben@example.org", ""), "").await;
    let own = service
        .link(user_id, "github", "7")
        .await
        .unwrap()
        .connection_id;
    let others = service
        .link(other_id, "github", "8")
        .await
        .unwrap()
        .connection_id;
    let code = app
        .code(&mut user, CodePurpose::Unlink, "ann@example.org")
        .await;

    let refused = fault(user.update(Asks::unlink(others).mailed(&code)).await);
    let by_service = fault(service.update(Asks::unlink(others).of(user_id)).await);
    let done = user.update(Asks::unlink(own).mailed(&code)).await;

    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::NotFound, "CONNECTION_NOT_FOUND")
    );
    assert_eq!(by_service.reason, "CONNECTION_NOT_FOUND");
    assert!(done.is_ok());
}

#[tokio::test]
async fn p1_a_look_up_finds_a_connection_by_what_linking_takes_alone() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let (user_id, _) = app.join(given("ann@example.org", ""), "").await;
    let long = "s".repeat(255);
    for subject in ["b:c", "e\u{301}", &long] {
        service.link(user_id, "a", subject).await.unwrap();
    }
    let key = |provider: &str, subject: &str| {
        Key::Connection(pb::ConnectionKey {
            provider: provider.to_owned(),
            subject: subject.to_owned(),
        })
    };

    for found in ["b:c", "e\u{301}", "\u{e9}", &long] {
        assert_eq!(
            service.get_by(key("a", found)).await.unwrap().user_id,
            user_id,
            "{found}"
        );
    }
    for (provider, subject) in [
        ("a:b", "c"),
        ("A", "b:c"),
        ("a ", "b:c"),
        ("a", &format!("{long}s")),
        ("a", "b:c\n"),
    ] {
        let refused = fault(service.get_by(key(provider, subject)).await);
        assert_eq!(refused.reason, "USER_NOT_FOUND", "{provider} {subject}");
    }
    assert_eq!(
        fault(service.get_by(key("a", "")).await).reason,
        "INVALID_REQUEST"
    );
}
