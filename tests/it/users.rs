//! CreateUser and DeleteUser: unique values, races, and what is erased.

use futures_util::future::join_all;
use tonic::Code;
use user_service::convert::pb;

use crate::support::{TestApp, fault, given, person};

fn with_id(nickname: &str, user_id: i64) -> pb::CreateUserRequest {
    let mut request = person(nickname);
    request.profile.as_mut().unwrap().user_id = user_id;
    request
}

#[tokio::test]
async fn create_user_takes_explicit_ids_and_goes_on_after_them() {
    let app = TestApp::new().await;
    let mut client = app.service().await;

    let first = client.create(with_id("Ann", 500)).await.unwrap();
    let next = client.create_named("Ben").await;
    let taken = fault(client.create(with_id("Cid", 500)).await);
    let too_large = fault(client.create(with_id("Dan", 1 << 53)).await);

    assert_eq!((first.user_id, next.user_id), (500, 501));
    assert_eq!(
        (taken.code, taken.reason.as_str()),
        (Code::AlreadyExists, "USER_ID_TAKEN")
    );
    assert_eq!(
        too_large.fields,
        [("profile.user_id".to_owned(), "FIELD_RANGE".to_owned())]
    );
}

#[tokio::test]
async fn p30_race_for_a_username_has_one_winner() {
    let app = TestApp::new().await;
    let client = app.service().await;

    let tries = (0..12).map(|number| {
        let mut client = client.clone();
        let mut request = person("racer");
        let username = if number % 2 == 0 {
            "Racer.One"
        } else {
            "rACER.oNE"
        };
        request.account = Some(pb::Account {
            username: Some(username.to_owned()),
            ..Default::default()
        });
        async move { client.create(request).await }
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(tries).await.into_iter().partition(Result::is_ok);

    assert_eq!(won.len(), 1);
    for answer in lost {
        let refused = fault(answer);
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (Code::AlreadyExists, "USERNAME_TAKEN")
        );
        assert_eq!(refused.resource.as_deref(), Some("account.username"));
    }
}

#[tokio::test]
async fn create_user_refuses_what_the_service_sets() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let mut request = person("Ann");
    let profile = request.profile.as_mut().unwrap();
    profile.etag = "1".to_owned();
    profile.created_by = 3;

    let refused = fault(client.create(request).await);

    assert_eq!(refused.paths(), ["profile.created_by", "profile.etag"]);
    assert!(
        refused
            .fields
            .iter()
            .all(|(_, reason)| reason == "IMMUTABLE_FIELD")
    );
}

#[tokio::test]
async fn delete_user_erases_all_and_keeps_the_number() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let mut request = person("Ann");
    request.account = Some(pb::Account {
        email: Some("ann@example.com".to_owned()),
        ..Default::default()
    });
    let ann = client.create(request.clone()).await.unwrap();
    let mut user = app.user(ann.user_id).await;

    client
        .admin
        .delete_user(pb::DeleteUserRequest {
            user_id: ann.user_id,
            ..Default::default()
        })
        .await
        .unwrap();

    assert_eq!(
        fault(client.get(ann.user_id).await).reason,
        "USER_NOT_FOUND"
    );
    assert_eq!(fault(user.get(ann.user_id).await).reason, "TOKEN_INVALID");
    assert_eq!(
        fault(client.create(with_id("Ben", ann.user_id)).await).reason,
        "USER_ID_TAKEN"
    );
    client
        .create(request)
        .await
        .expect("the email is free again");
    let again = fault(
        client
            .admin
            .delete_user(pb::DeleteUserRequest {
                user_id: ann.user_id,
                ..Default::default()
            })
            .await,
    );
    assert_eq!(again.reason, "USER_NOT_FOUND");
}

#[tokio::test]
async fn p19_validate_only_makes_no_user() {
    let app = TestApp::new().await;
    let mut client = app.service().await;

    let reply = client
        .create(pb::CreateUserRequest {
            validate_only: true,
            ..person("Ann")
        })
        .await
        .unwrap();

    assert_eq!((reply.user_id, reply.nickname.as_str()), (0, "Ann"));
    let listed = client
        .users
        .list_profiles(pb::ListProfilesRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(listed.profiles.is_empty());
}

#[tokio::test]
async fn p19_a_trial_moves_no_ids() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let far = (1 << 52) - 1;
    let faulty = pb::Account {
        username: Some("ann.lee".to_owned()),
        ..Default::default()
    };
    client
        .create(pb::CreateUserRequest {
            account: Some(faulty.clone()),
            ..with_id("Ann", 500)
        })
        .await
        .unwrap();

    let trial = pb::CreateUserRequest {
        validate_only: true,
        ..with_id("Ben", far)
    };
    let tried = client.create(trial).await.unwrap();
    let refused = fault(
        client
            .create(pb::CreateUserRequest {
                account: Some(faulty),
                ..with_id("Ben", far)
            })
            .await,
    );
    let next = client.create_named("Cid").await;

    assert_eq!(
        (tried.user_id, refused.reason.as_str()),
        (far, "USERNAME_TAKEN")
    );
    assert_eq!(next.user_id, 501);
}

#[tokio::test]
async fn create_user_returns_the_account_as_it_is_stored() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let request = pb::CreateUserRequest {
        account: Some(pb::Account {
            username: Some("Ann.Lee".to_owned()),
            phone: Some("+8613800138000".to_owned()),
            last_login_at: Some(prost_types::Timestamp {
                seconds: 1_500_000_000,
                nanos: 0,
            }),
            ..given("Ann@Example.org", "")
        }),
        password: "violet-lantern-93".to_owned(),
        request_id: "6d1b3c1e-3f8a-4b7e-9f39-1c2d3e4f5a6b".to_owned(),
        ..person("Ann")
    };

    let dry = pb::CreateUserRequest {
        validate_only: true,
        ..request.clone()
    };
    let dry = client
        .admin
        .create_user(dry)
        .await
        .unwrap()
        .into_inner()
        .account
        .unwrap();
    let made = client
        .admin
        .create_user(request.clone())
        .await
        .unwrap()
        .into_inner();
    let again = client
        .admin
        .create_user(request)
        .await
        .unwrap()
        .into_inner();

    let account = made.account.clone().unwrap();
    assert_eq!(account, client.account(account.user_id).await);
    assert!(
        account.email_verified
            && !account.phone_verified
            && account.has_password
            && !account.has_wallet_password
    );
    assert_eq!(made.profile.as_ref().unwrap().user_id, account.user_id);
    assert_eq!(again, made);
    assert_eq!(
        dry,
        pb::Account {
            user_id: 0,
            ..account
        }
    );
}

#[tokio::test]
async fn create_user_verifies_no_address_that_is_not_given() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let account = |email: Option<&str>| pb::CreateUserRequest {
        account: Some(pb::Account {
            email: email.map(str::to_owned),
            email_verified: true,
            phone_verified: true,
            ..Default::default()
        }),
        ..Default::default()
    };

    for email in [None, Some("")] {
        let refused = fault(client.create(account(email)).await);
        assert_eq!(refused.paths(), ["account.email", "account.phone"]);
        assert!(
            refused
                .fields
                .iter()
                .all(|(_, reason)| reason == "FIELD_REQUIRED"),
            "{refused:?}"
        );
    }
    let malformed = fault(client.create(account(Some("nobody"))).await);
    let fields = [
        ("account.phone", "FIELD_REQUIRED"),
        ("account.email", "FIELD_FORMAT"),
    ];
    assert_eq!(
        malformed.fields,
        fields.map(|(path, reason)| (path.to_owned(), reason.to_owned()))
    );
}
