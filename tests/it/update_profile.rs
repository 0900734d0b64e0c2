//! UpdateProfile: masks, update operators on custom fields, etags and races.

use futures_util::future::join_all;
use serde_json::json;
use tonic::Code;
use user_service::{
    convert::{
        json as wire_json, pb,
        proto_struct::{Show, Struct},
    },
    model::{document::Document, scope::Scope},
};

use crate::support::{TestApp, fault, json as fields, patiently};

fn update(user_id: i64, profile: pb::Profile, paths: &[&str]) -> pb::UpdateProfileRequest {
    pb::UpdateProfileRequest {
        user_id,
        profile: Some(profile),
        update_mask: Some(prost_types::FieldMask {
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
        }),
        ..Default::default()
    }
}

fn field(name: &str, kind: pb::FieldType) -> pb::FieldDefinition {
    pb::FieldDefinition {
        name: name.to_owned(),
        r#type: kind.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn p13_custom_fields_in_the_profile_are_told_where_they_belong() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let user_id = service.create_named("Ann").await.user_id;
    let custom_fields = Some(crate::support::json(serde_json::json!({ "level": 3 })));
    let profile = Some(pb::Profile {
        nickname: "Bea".to_owned(),
        custom_fields,
        ..Default::default()
    });
    let update = |paths: &[&str]| {
        let paths = paths.iter().map(|&path| path.to_owned()).collect();
        pb::UpdateProfileRequest {
            user_id,
            profile: profile.clone(),
            update_mask: Some(prost_types::FieldMask { paths }),
            ..Default::default()
        }
    };

    let unmasked = fault(service.users.update_profile(update(&[])).await);
    let masked = service
        .users
        .update_profile(update(&["custom_fields.level"]))
        .await
        .unwrap_err();
    let named = service
        .users
        .update_profile(update(&["nickname"]))
        .await
        .unwrap()
        .into_inner()
        .profile
        .unwrap();

    assert!(
        unmasked.paths().contains(&"profile.custom_fields"),
        "{:?}",
        unmasked.paths()
    );
    assert!(
        format!("{masked:?}").contains("belong in custom_fields"),
        "{masked:?}"
    );
    assert_eq!(named.nickname, "Bea", "what a mask leaves out is ignored");
}

#[tokio::test]
async fn p13_only_what_is_named_changes() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ann = client.create_named("Ann").await;

    let given = pb::Profile {
        nickname: "Ben".to_owned(),
        city: "Bonn".to_owned(),
        ..Default::default()
    };
    client
        .users
        .update_profile(update(ann.user_id, given, &["city"]))
        .await
        .unwrap();

    let read = client.get(ann.user_id).await.unwrap();
    assert_eq!(
        (read.nickname.as_str(), read.city.as_str()),
        ("Ann", "Bonn")
    );
    assert_ne!(read.etag, ann.etag);
    assert_ne!(read.updated_at, ann.updated_at);
    assert_eq!(read.created_at, ann.created_at);
}

#[tokio::test]
async fn p13_writers_of_different_fields_both_survive() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    for name in ["a", "b"] {
        client
            .create_field(field(name, pb::FieldType::Integer))
            .await
            .unwrap();
    }
    let ann = client.create_named("Ann").await;

    let writes = (0..40).map(|number| {
        let mut client = client.clone();
        let change = json!({ (if number % 2 == 0 { "a" } else { "b" }): number });
        async move { client.change(ann.user_id, change).await.unwrap() }
    });
    join_all(writes).await;

    let read = client
        .get(ann.user_id)
        .await
        .unwrap()
        .custom_fields
        .unwrap();
    assert_eq!(wire_json::object(read).len(), 2);
}

#[tokio::test]
async fn p22_a_hundred_parallel_additions_lose_none_and_double_none() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let tags = pb::FieldDefinition {
        item_type: pb::FieldType::Integer.into(),
        ..field("tags", pb::FieldType::Array)
    };
    client.create_field(tags).await.unwrap();
    let ann = client.create_named("Ann").await;

    // Fifty values, each of them twice.
    let writes = (0..100).map(|number| {
        let mut client = client.clone();
        let change = json!({ "tags": { "$append_unique": [number % 50] } });
        async move {
            patiently(async || client.change(ann.user_id, change.clone()).await)
                .await
                .unwrap()
        }
    });
    join_all(writes).await;

    let read = client
        .get(ann.user_id)
        .await
        .unwrap()
        .custom_fields
        .unwrap();
    let mut kept: Vec<i64> =
        serde_json::from_value(wire_json::object(read)["tags"].clone()).unwrap();
    kept.sort_unstable();
    assert_eq!(kept, (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn p14_stale_etag_is_aborted_and_one_of_twenty_wins() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ann = client.create_named("Ann").await;

    let writes = (0..20).map(|number| {
        let mut client = client.clone();
        let given = pb::Profile {
            nickname: format!("Ann {number}"),
            ..Default::default()
        };
        let request = pb::UpdateProfileRequest {
            etag: ann.etag.clone(),
            ..update(ann.user_id, given, &["nickname"])
        };
        async move { client.users.update_profile(request).await }
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(writes).await.into_iter().partition(Result::is_ok);

    assert_eq!(won.len(), 1);
    for answer in lost {
        let refused = fault(answer);
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (Code::Aborted, "ETAG_MISMATCH")
        );
    }
}

#[tokio::test]
async fn p15_named_and_unset_is_cleared() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    client
        .create_field(field("note", pb::FieldType::String))
        .await
        .unwrap();
    let ann = client.create_named("Ann").await;
    client
        .change(ann.user_id, json!({ "note": "x" }))
        .await
        .unwrap();

    client
        .users
        .update_profile(update(ann.user_id, pb::Profile::default(), &["nickname"]))
        .await
        .unwrap();
    let nulled = client
        .change(ann.user_id, json!({ "note": null }))
        .await
        .unwrap();
    let unset = client
        .change(ann.user_id, json!({ "$unset": { "note": "" } }))
        .await
        .unwrap();

    assert_eq!(nulled.nickname, "");
    assert_eq!(nulled.custom_fields, Some(fields(json!({ "note": null }))));
    assert_eq!(unset.custom_fields, Some(fields(json!({}))));
}

#[tokio::test]
async fn p16_users_write_their_own_fields_alone() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    service
        .create_field(pb::FieldDefinition {
            user_writable: true,
            ..field("motto", pb::FieldType::String)
        })
        .await
        .unwrap();
    service
        .create_field(field("level", pb::FieldType::Integer))
        .await
        .unwrap();
    let ann = service.create_named("Ann").await;
    let mut user = app.user(ann.user_id).await;

    user.change(ann.user_id, json!({ "motto": "carpe diem" }))
        .await
        .unwrap();
    let level = fault(user.change(ann.user_id, json!({ "level": 99 })).await);
    let other = fault(user.change(ann.user_id + 1, json!({ "motto": "x" })).await);
    let groups = update(ann.user_id, pb::Profile::default(), &["group_ids"]);
    let groups = fault(user.users.update_profile(groups).await);

    assert_eq!(
        (
            level.reason.as_str(),
            level.metadata["requiredScope"].as_str()
        ),
        ("SCOPE_MISSING", "profiles.write")
    );
    assert_eq!(other.reason, "NOT_OWNER");
    assert_eq!(groups.reason, "SCOPE_MISSING");
}

#[tokio::test]
async fn p16_system_fields_are_immutable() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ann = client.create_named("Ann").await;

    let paths = ["user_id", "created_at", "etag", "account.email", "nope"];
    let refused = fault(
        client
            .users
            .update_profile(update(ann.user_id, pb::Profile::default(), &paths))
            .await,
    );

    let reasons: Vec<&str> = refused
        .fields
        .iter()
        .map(|(_, reason)| reason.as_str())
        .collect();
    assert_eq!(
        reasons,
        [
            "IMMUTABLE_FIELD",
            "IMMUTABLE_FIELD",
            "IMMUTABLE_FIELD",
            "IMMUTABLE_FIELD",
            "UNKNOWN_FIELD"
        ]
    );
}

#[tokio::test]
async fn p16_openid_is_a_login_and_the_last_one_stays() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let mut new = crate::support::person("Ann");
    new.profile.as_mut().unwrap().openid = Some("open-1".to_owned());
    let ann = client.create(new).await.unwrap();
    let ben = client.create_named("Ben").await;
    let mut weak = app.service_with(&[Scope::ProfilesWrite]).await;
    let openid = |value: Option<&str>| pb::Profile {
        openid: value.map(str::to_owned),
        ..Default::default()
    };

    let weak = fault(
        weak.users
            .update_profile(update(ann.user_id, openid(Some("x")), &["openid"]))
            .await,
    );
    let last = fault(
        client
            .users
            .update_profile(update(ann.user_id, openid(None), &["openid"]))
            .await,
    );
    let taken = fault(
        client
            .users
            .update_profile(update(ben.user_id, openid(Some("open-1")), &["openid"]))
            .await,
    );

    assert_eq!(weak.metadata["requiredScope"], "accounts.write");
    assert_eq!(last.reason, "LAST_CREDENTIAL");
    assert_eq!(
        (taken.code, taken.reason.as_str()),
        (Code::AlreadyExists, "VALUE_TAKEN")
    );
    assert_eq!(taken.paths(), ["profile.openid"]);
}

#[tokio::test]
async fn p18_text_rules_are_told_all_at_once() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ann = client.create_named("Ann").await;

    let given = pb::Profile {
        nickname: "x".repeat(33),
        avatar_url: "http://example.com/a.png".to_owned(),
        language: "not a language".to_owned(),
        city: "Bo\u{202e}nn".to_owned(),
        gender: 7,
        ..Default::default()
    };
    let paths = ["nickname", "avatar_url", "language", "city", "gender"];
    let refused = fault(
        client
            .users
            .update_profile(update(ann.user_id, given, &paths))
            .await,
    );

    let expected = [
        ("profile.nickname", "FIELD_LENGTH"),
        ("profile.avatar_url", "FIELD_FORMAT"),
        ("profile.language", "FIELD_FORMAT"),
        ("profile.city", "FIELD_FORMAT"),
        ("profile.gender", "FIELD_RANGE"),
    ];
    let told: Vec<(&str, &str)> = refused
        .fields
        .iter()
        .map(|(path, reason)| (path.as_str(), reason.as_str()))
        .collect();
    assert_eq!(told, expected);
}

#[tokio::test]
async fn p19_validate_only_writes_nothing() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ann = client.create_named("Ann").await;

    let given = pb::Profile {
        nickname: "Ben".to_owned(),
        ..Default::default()
    };
    let request = pb::UpdateProfileRequest {
        validate_only: true,
        ..update(ann.user_id, given, &["nickname"])
    };
    let reply = client
        .users
        .update_profile(request)
        .await
        .unwrap()
        .into_inner()
        .profile
        .unwrap();

    assert_eq!((reply.nickname.as_str(), &reply.etag), ("Ben", &ann.etag));
    assert_eq!(client.get(ann.user_id).await.unwrap().nickname, "Ann");
}

#[tokio::test]
async fn p20_repeated_request_id_counts_once() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    client
        .create_field(field("score", pb::FieldType::Integer))
        .await
        .unwrap();
    let ann = client.create_named("Ann").await;
    let request = pb::UpdateProfileRequest {
        user_id: ann.user_id,
        custom_fields: Some(fields(json!({ "score": { "$incr_by": 5 } }))),
        request_id: "6d1b3c1e-3f8a-4b7e-9f39-1c2d3e4f5a6b".to_owned(),
        ..Default::default()
    };

    let tries = join_all((0..10).map(|_| {
        let (mut client, request) = (client.clone(), request.clone());
        async move { client.users.update_profile(request).await }
    }));
    for answer in tries.await {
        if answer.is_err() {
            assert_eq!(fault(answer).reason, "REQUEST_IN_PROGRESS");
        }
    }
    let other = pb::UpdateProfileRequest {
        custom_fields: Some(fields(json!({ "score": 1 }))),
        ..request
    };
    let reused = fault(client.users.update_profile(other).await);

    let read = client
        .get(ann.user_id)
        .await
        .unwrap()
        .custom_fields
        .unwrap();
    assert_eq!(read, fields(json!({ "score": 5 })));
    assert_eq!(
        (reused.reason.as_str(), reused.paths()),
        ("REQUEST_ID_REUSED", vec!["request_id"])
    );
}

#[tokio::test]
async fn p20_entries_in_another_order_are_the_same_request() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    for name in ["a", "b"] {
        client
            .create_field(field(name, pb::FieldType::Integer))
            .await
            .unwrap();
    }
    let ann = client.create_named("Ann").await;
    let change = |text: &str| pb::UpdateProfileRequest {
        user_id: ann.user_id,
        custom_fields: Some(Struct::of(&Document::of_text(text.to_owned()), |_| {
            Show::Yes
        })),
        request_id: "6d1b3c1e-3f8a-4b7e-9f39-1c2d3e4f5a6b".to_owned(),
        ..Default::default()
    };

    let first = client
        .users
        .update_profile(change(r#"{"a": {"$incr_by": 1}, "b": 2}"#))
        .await
        .unwrap()
        .into_inner();
    let again = client
        .users
        .update_profile(change(r#"{"b": 2, "a": {"$incr_by": 1}}"#))
        .await
        .unwrap()
        .into_inner();

    assert_eq!(
        again, first,
        "maps have no order on the wire, and many clients send them in another each time"
    );
}

#[tokio::test]
async fn p13_a_path_that_is_named_often_counts_once_and_there_are_not_many() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ann = client.create_named("Ann").await;
    let profile = |nickname: &str| pb::Profile {
        nickname: nickname.to_owned(),
        ..Default::default()
    };
    let names = |count: usize| {
        (0..count)
            .map(|number| format!("path_{number}"))
            .collect::<Vec<_>>()
    };
    let masked = |paths: Vec<String>, nickname: &str| pb::UpdateProfileRequest {
        update_mask: Some(prost_types::FieldMask { paths }),
        ..update(ann.user_id, profile(nickname), &[])
    };

    let often = vec!["nickname".to_owned(); 99_000];
    let long = fault(
        client
            .users
            .update_profile(masked(often.clone(), &"x".repeat(1 << 20)))
            .await,
    );
    let short = client
        .users
        .update_profile(masked(often, "Anna"))
        .await
        .unwrap()
        .into_inner()
        .profile
        .unwrap();
    let many = fault(
        client
            .users
            .update_profile(masked(names(2000), "Ann"))
            .await,
    );
    let custom: serde_json::Map<_, _> = names(2000)
        .into_iter()
        .map(|name| (name, json!(1)))
        .collect();
    let changes = fault(client.change(ann.user_id, custom.into()).await);

    assert_eq!(
        long.fields,
        [("profile.nickname".to_owned(), "FIELD_LENGTH".to_owned())]
    );
    assert_eq!(short.nickname, "Anna");
    assert_eq!(
        many.fields[0],
        ("update_mask".to_owned(), "FIELD_LENGTH".to_owned())
    );
    assert_eq!(
        changes.fields,
        [("custom_fields".to_owned(), "FIELD_LENGTH".to_owned())]
    );
}
