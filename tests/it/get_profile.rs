//! GetProfile: by user id and by every other key, masks, and what each caller sees.

use tonic::Code;
use user_service::{
    convert::pb::{self, get_profile_request::Key},
    model::scope::Scope,
};

use crate::support::{TestApp, fault, person};

fn with_account(nickname: &str) -> pb::CreateUserRequest {
    let mut request = person(nickname);
    request.account = Some(pb::Account {
        username: Some("Ann.Example".to_owned()),
        email: Some("Ann@Bücher.example".to_owned()),
        phone: Some("+8613800138000".to_owned()),
        ..Default::default()
    });
    let profile = request.profile.as_mut().unwrap();
    profile.openid = Some("open-1".to_owned());
    profile.unionid = Some("union-1".to_owned());
    request
}

#[tokio::test]
async fn p1_every_unique_key_finds_the_profile() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ann = client.create(with_account("Ann")).await.unwrap();

    for key in [
        Key::UserId(ann.user_id),
        Key::Username("ANN.EXAMPLE".to_owned()),
        Key::Email("ann@XN--BCHER-KVA.example".to_owned()),
        Key::Phone("+8613800138000".to_owned()),
        Key::Openid("open-1".to_owned()),
        Key::Unionid("union-1".to_owned()),
    ] {
        let found = client.get_by(key.clone()).await.unwrap();
        assert_eq!(found.user_id, ann.user_id, "{key:?}");
    }
}

#[tokio::test]
async fn p1_unknown_user_is_not_found_and_no_value_is_repeated() {
    let app = TestApp::new().await;
    let mut client = app.service().await;

    let by_id = fault(client.get(404).await);
    let by_email = fault(
        client
            .get_by(Key::Email("nobody@example.com".to_owned()))
            .await,
    );

    assert_eq!(
        (by_id.code, by_id.reason.as_str()),
        (Code::NotFound, "USER_NOT_FOUND")
    );
    assert_eq!(by_id.resource.as_deref(), Some("users/404"));
    assert_eq!(by_email.resource.as_deref(), Some("email"));
}

#[tokio::test]
async fn p1_user_token_without_a_key_means_itself_and_learns_nothing_of_others() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let ann = service.create(with_account("Ann")).await.unwrap();
    let ben = service.create_named("Ben").await;
    let mut user = app.user(ben.user_id).await;

    let own = user
        .users
        .get_profile(pb::GetProfileRequest::default())
        .await
        .unwrap()
        .into_inner()
        .profile
        .unwrap();
    let others = [
        Key::UserId(ann.user_id),
        Key::UserId(999),
        Key::Openid("open-1".into()),
        Key::Openid("none".into()),
    ];

    assert_eq!(own.nickname, "Ben");
    for key in others {
        assert_eq!(fault(user.get_by(key).await).reason, "NOT_OWNER");
    }
}

#[tokio::test]
async fn p1_bad_keys_are_faults() {
    let app = TestApp::new().await;
    let mut client = app.service().await;

    let none = fault(
        client
            .users
            .get_profile(pb::GetProfileRequest::default())
            .await,
    );
    let negative = fault(client.get(-1).await);
    let empty = fault(client.get_by(Key::Username(String::new())).await);
    let nul = fault(client.get_by(Key::Openid("a\0b".to_owned())).await);

    assert_eq!(
        none.fields,
        [("user_id".to_owned(), "FIELD_REQUIRED".to_owned())]
    );
    assert_eq!(
        negative.fields,
        [("user_id".to_owned(), "FIELD_RANGE".to_owned())]
    );
    assert_eq!(
        empty.fields,
        [("username".to_owned(), "FIELD_REQUIRED".to_owned())]
    );
    assert_eq!(
        nul.fields,
        [("openid".to_owned(), "FIELD_FORMAT".to_owned())]
    );
}

#[tokio::test]
async fn p2_reply_holds_what_the_mask_names_and_the_etag() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ann = client.create(with_account("Ann")).await.unwrap();
    let read = |paths: &[&str]| pb::GetProfileRequest {
        key: Some(Key::UserId(ann.user_id)),
        read_mask: Some(prost_types::FieldMask {
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
        }),
    };

    let named = client
        .users
        .get_profile(read(&["nickname", "account.email"]))
        .await
        .unwrap()
        .into_inner()
        .profile;
    let unknown = fault(
        client
            .users
            .get_profile(read(&["nickname", "nope", "custom_fields.nope"]))
            .await,
    );

    let expected = pb::Profile {
        nickname: "Ann".to_owned(),
        etag: ann.etag.clone(),
        account: Some(pb::Account {
            email: Some("Ann@Bücher.example".to_owned()),
            etag: "1".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    assert_eq!(named, Some(expected));
    assert_eq!(unknown.fields.len(), 2);
    assert!(
        unknown
            .fields
            .iter()
            .all(|(path, reason)| path == "read_mask" && reason == "UNKNOWN_FIELD")
    );
}

#[tokio::test]
async fn p2_account_needs_a_scope_of_its_own() {
    let app = TestApp::new().await;
    let ann = app
        .service()
        .await
        .create(with_account("Ann"))
        .await
        .unwrap();
    let mut client = app.service_with(&[Scope::ProfilesRead]).await;

    let request = pb::GetProfileRequest {
        key: Some(Key::UserId(ann.user_id)),
        read_mask: Some(prost_types::FieldMask {
            paths: vec!["account".to_owned()],
        }),
    };
    let by_mask = fault(client.users.get_profile(request).await);
    let by_key = fault(
        client
            .get_by(Key::Email("nobody@example.com".to_owned()))
            .await,
    );

    for refused in [by_mask, by_key] {
        assert_eq!(refused.reason, "SCOPE_MISSING");
        assert_eq!(refused.metadata["requiredScope"], "accounts.read");
    }
}

#[tokio::test]
async fn p3_write_through_one_replica_is_read_through_another() {
    let app = TestApp::new().await;
    let mut here = app.service().await;
    let ann = here.create_named("Ann").await;
    // A second pool over the same database is all that another replica would be.
    let mut config = user_service::config::Config::default();
    config.database.url = user_service::config::Secret(app.database.url());
    config.secrets.keys = vec![user_service::config::SecretKey {
        id: "test".to_owned(),
        key: user_service::config::Secret(user_service::config::key_text([7; 32])),
    }];
    let there = user_service::app::build(
        &config,
        user_service::clock::Clock::Manual(app.clock.clone()),
    )
    .unwrap()
    .api;
    let caller = user_service::domain::caller::Caller::operator();

    for round in 0..50 {
        let nickname = format!("Ann {round}");
        here.users
            .update_profile(pb::UpdateProfileRequest {
                user_id: ann.user_id,
                profile: Some(pb::Profile {
                    nickname: nickname.clone(),
                    ..Default::default()
                }),
                update_mask: Some(prost_types::FieldMask {
                    paths: vec!["nickname".to_owned()],
                }),
                ..Default::default()
            })
            .await
            .unwrap();
        let request = pb::GetProfileRequest {
            key: Some(Key::UserId(ann.user_id)),
            read_mask: None,
        };
        let read = there
            .get_profile(&caller, request)
            .await
            .unwrap()
            .profile
            .unwrap();
        assert_eq!(read.nickname, nickname);
    }
}
