//! Names and values that look like SQL, JSON paths, LIKE patterns and operators: as values they are
//! plain text, as names they are unknown, and nothing else happens (promise 7).

use prost_types::FieldMask;
use serde_json::{Value, json};
use tonic::Code;
use user_service::convert::pb;

use crate::support::{Client, TestApp, fault, json as fields, person};

const HOSTILE: &[&str] = &[
    "a'b\"; --",
    "a.b'c",
    "'; drop table users; --",
    "\"; delete from users; --",
    "') or true --",
    "1 = 1 or ''='",
    "x' union select password_hash from accounts --",
    "\\'; \\x00 \\",
    "$1",
    "$$",
    "$tag$x$tag$",
    "%",
    "_",
    "%%_\\",
    "\\%",
    "{a,b}",
    "{\"$gt\": \"\"}",
    "$.a[*] ? (@ > 1)",
    "a->>'b'",
    "a #>> '{b}'",
    "custom_fields",
    "u.custom_fields",
    "custom_fields ->> 'x'",
    "null",
    "NULL",
    "true",
    "::text",
    "E'\\n'",
    "U&'\\0041'",
    "/* */",
    "users; --",
    "ﬀ'",
    "＇ or 1=1",
    "?",
    ":name",
    "{}",
    "[]",
    "../..",
    "${x}",
    "{{ x }}",
];

async fn found(client: &mut Client, filter: Value) -> Vec<i64> {
    let request = pb::ListProfilesRequest {
        filter: Some(fields(filter)),
        page_size: 1000,
        order_by: "user_id".to_owned(),
        ..Default::default()
    };
    let page = client
        .users
        .list_profiles(request)
        .await
        .unwrap()
        .into_inner();
    page.profiles
        .iter()
        .map(|profile| profile.user_id)
        .collect()
}

/// A profile for each text, which stands in every place that takes text.
async fn crowd(client: &mut Client) -> Vec<(i64, &'static str)> {
    let text = |name: &str, indexed| pb::FieldDefinition {
        name: name.to_owned(),
        r#type: pb::FieldType::String.into(),
        indexed,
        ..Default::default()
    };
    let list = pb::FieldDefinition {
        r#type: pb::FieldType::Array.into(),
        item_type: pb::FieldType::String.into(),
        ..text("list", true)
    };
    let thing = pb::FieldDefinition {
        r#type: pb::FieldType::Object.into(),
        ..text("thing", false)
    };
    for field in [text("plain", false), text("sought", true), list, thing] {
        client.create_field(field).await.unwrap();
    }
    let mut made = Vec::new();
    for &hostile in HOSTILE {
        let mut request = person(&hostile.chars().take(32).collect::<String>());
        let custom = json!({ "plain": hostile, "sought": hostile, "list": ["x", hostile], "thing": { "a": hostile } });
        let profile = request.profile.as_mut().unwrap();
        profile.custom_fields = Some(fields(custom));
        profile.city = hostile.to_owned();
        profile.openid = Some(hostile.to_owned());
        made.push((client.create(request).await.unwrap().user_id, hostile));
    }
    made
}

#[tokio::test]
async fn p7_values_are_plain_text_in_filters() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let crowd = crowd(&mut client).await;
    let those = |passes: &dyn Fn(&str) -> bool| -> Vec<i64> {
        crowd
            .iter()
            .filter(|(_, text)| passes(text))
            .map(|(id, _)| *id)
            .collect()
    };

    for hostile in HOSTILE {
        let equal = those(&|text| text == *hostile);
        let with = those(&|text| text.contains(hostile));
        let begin = those(&|text| text.starts_with(hostile));
        let above = those(&|text| text > *hostile);
        for name in ["plain", "sought", "thing.a", "city", "openid"] {
            assert_eq!(
                found(&mut client, json!({ name: hostile })).await,
                equal,
                "{name} {hostile}"
            );
            assert_eq!(
                found(&mut client, json!({ name: { "$in": [hostile] } })).await,
                equal,
                "{name} {hostile}"
            );
            assert_eq!(
                found(&mut client, json!({ name: { "$gt": hostile } })).await,
                above,
                "{name} {hostile}"
            );
            assert_eq!(
                found(&mut client, json!({ name: { "$contains": hostile } })).await,
                with,
                "{name} {hostile}"
            );
            assert_eq!(
                found(&mut client, json!({ name: { "$starts_with": hostile } })).await,
                begin,
                "{name} {hostile}"
            );
        }
        assert_eq!(
            found(&mut client, json!({ "list": hostile })).await,
            equal,
            "{hostile}"
        );
        assert_eq!(
            found(&mut client, json!({ "list": { "$all": ["x", hostile] } })).await,
            equal,
            "{hostile}"
        );
        assert_eq!(
            found(&mut client, json!({ "thing": { "a": hostile } })).await,
            equal,
            "{hostile}"
        );
        assert_eq!(
            found(&mut client, json!({ "thing": { "$has_key": hostile } })).await,
            [0_i64; 0],
            "{hostile}"
        );
    }
}

#[tokio::test]
async fn p7_values_are_plain_text_in_changes() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    crowd(&mut client).await;
    let ann = client.create_named("Ann").await.user_id;

    for hostile in HOSTILE {
        client
            .change(
                ann,
                json!({ "plain": hostile, "list": [hostile], "thing": { "a": [hostile] } }),
            )
            .await
            .unwrap();
        client
            .change(ann, json!({ "list": { "$append_unique": [hostile, "y"] } }))
            .await
            .unwrap();
        client
            .change(
                ann,
                json!({ "list": { "$append": [hostile] }, "sought": hostile }),
            )
            .await
            .unwrap();
        let kept = client
            .change(ann, json!({ "thing": { "$update": { "b": hostile } } }))
            .await
            .unwrap();
        let bare = client
            .change(
                ann,
                json!({ "list": { "$remove": [hostile] }, "$unset": { "thing": hostile } }),
            )
            .await;

        let expected = json!({
            "plain": hostile, "sought": hostile, "list": [hostile, "y", hostile],
            "thing": { "a": [hostile], "b": hostile },
        });
        assert_eq!(kept.custom_fields, Some(fields(expected)));
        let expected = json!({ "plain": hostile, "sought": hostile, "list": ["y"] });
        assert_eq!(bare.unwrap().custom_fields, Some(fields(expected)));
    }
}

#[tokio::test]
async fn p7_names_are_unknown_wherever_they_stand() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let count = crowd(&mut client).await.len();
    let ann = client.create_named("Ann").await.user_id;
    let definition = |name: &str| pb::FieldDefinition {
        name: name.to_owned(),
        r#type: pb::FieldType::String.into(),
        ..Default::default()
    };

    for hostile in HOSTILE {
        for name in [
            (*hostile).to_owned(),
            format!("plain{hostile}"),
            format!("thing.{hostile}"),
        ] {
            let filter = pb::ListProfilesRequest {
                filter: Some(fields(json!({ &name: 1 }))),
                ..Default::default()
            };
            let is_key = |step: &str| {
                step.starts_with(|c: char| c.is_ascii_alphabetic())
                    && step
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            };
            // An object may well have a key of that name.
            if !name
                .strip_prefix("thing.")
                .is_some_and(|steps| steps.split('.').all(is_key))
            {
                let refused = fault(client.users.list_profiles(filter).await);
                assert_eq!(
                    (refused.code, refused.reason.as_str()),
                    (Code::InvalidArgument, "FILTER_INVALID"),
                    "{name}"
                );
                assert_eq!(refused.paths(), [format!("filter.{name}")]);
            }

            let test = json!({ "plain": { format!("${name}"): 1 } });
            let filter = pb::ListProfilesRequest {
                filter: Some(fields(test)),
                ..Default::default()
            };
            assert_eq!(
                fault(client.users.list_profiles(filter).await).reason,
                "FILTER_INVALID",
                "${name}"
            );

            for order_by in [name.clone(), format!("-{name}"), format!("nickname,{name}")] {
                let order = pb::ListProfilesRequest {
                    order_by,
                    ..Default::default()
                };
                assert_eq!(
                    fault(client.users.list_profiles(order).await).reason,
                    "ORDER_BY_UNSUPPORTED",
                    "{name}"
                );
            }

            let change = fault(client.change(ann, json!({ &name: 1 })).await);
            assert_eq!(
                (change.code, change.reason.as_str()),
                (Code::InvalidArgument, "INVALID_REQUEST"),
                "{name}"
            );
            let change = fault(client.change(ann, json!({ "$unset": { &name: 1 } })).await);
            assert_eq!(
                (change.code, change.reason.as_str()),
                (Code::InvalidArgument, "INVALID_REQUEST"),
                "{name}"
            );
            let change = fault(
                client
                    .change(ann, json!({ "plain": { format!("${name}"): 1 } }))
                    .await,
            );
            assert_eq!(
                (change.code, change.reason.as_str()),
                (Code::InvalidArgument, "INVALID_REQUEST"),
                "{name}"
            );

            for path in [
                name.clone(),
                format!("custom_fields.{name}"),
                format!("account.{name}"),
            ] {
                let mask = Some(FieldMask {
                    paths: vec![path.clone()],
                });
                let read = pb::ListProfilesRequest {
                    read_mask: mask.clone(),
                    ..Default::default()
                };
                // A mask may lose the underscores of a name.
                if path != "custom_fields" && path != "custom_fields.plain_" {
                    let refused = fault(client.users.list_profiles(read).await);
                    assert_eq!(refused.paths(), ["read_mask"], "{path}");
                    assert_eq!(refused.fields[0].1, "UNKNOWN_FIELD", "{path}");
                }
                let write = pb::UpdateProfileRequest {
                    user_id: ann,
                    update_mask: mask,
                    ..Default::default()
                };
                assert_eq!(
                    fault(client.users.update_profile(write).await).paths(),
                    ["update_mask"],
                    "{path}"
                );
            }
            if !is_key(&name) {
                assert_eq!(
                    fault(client.create_field(definition(&name)).await).paths(),
                    ["field.name"],
                    "{name}"
                );
            }
        }
    }
    assert_eq!(
        found(&mut client, json!({})).await.len(),
        count + 1,
        "everybody is there still"
    );
}

#[tokio::test]
async fn p7_fields_with_names_of_sql_work_as_any_other() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let names = [
        "select", "NULL", "true", "order", "users", "user", "custom", "value", "u", "f", "e",
        "item", "d", "k",
    ];
    for (number, name) in names.into_iter().enumerate() {
        let field = pb::FieldDefinition {
            name: name.to_owned(),
            r#type: pb::FieldType::Integer.into(),
            indexed: number % 2 == 0,
            ..Default::default()
        };
        client.create_field(field).await.unwrap();
    }
    let ann = client.create_named("Ann").await.user_id;
    let ben = client.create_named("Ben").await.user_id;

    for name in names {
        client.change(ann, json!({ name: 1 })).await.unwrap();
        client
            .change(ben, json!({ name: { "$incr_by": 2 } }))
            .await
            .unwrap();

        assert_eq!(
            found(&mut client, json!({ name: 1 })).await,
            [ann],
            "{name}"
        );
        assert_eq!(
            found(&mut client, json!({ name: { "$gt": 1 } })).await,
            [ben],
            "{name}"
        );
        let request = pb::ListProfilesRequest {
            order_by: format!("-{name}"),
            ..Default::default()
        };
        let page = client
            .users
            .list_profiles(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            page.profiles
                .iter()
                .map(|profile| profile.user_id)
                .collect::<Vec<_>>(),
            [ben, ann],
            "{name}"
        );
    }
}
