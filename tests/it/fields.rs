use serde_json::json;
use tonic::Code;
use user_service::wire::pb;

use crate::support::{TestApp, fault, json as fields, person};

fn field(name: &str, kind: pb::FieldType) -> pb::FieldDefinition {
    pb::FieldDefinition { name: name.to_owned(), r#type: kind.into(), ..Default::default() }
}

#[tokio::test]
async fn p17_values_are_held_to_the_declared_type() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    for (name, kind) in [
        ("text", pb::FieldType::String),
        ("whole", pb::FieldType::Integer),
        ("real", pb::FieldType::Number),
        ("flag", pb::FieldType::Boolean),
        ("day", pb::FieldType::Date),
        ("thing", pb::FieldType::Object),
        ("place", pb::FieldType::Geojson),
        ("doc", pb::FieldType::File),
    ] {
        client.create_field(field(name, kind)).await.unwrap();
    }
    let list = pb::FieldDefinition { item_type: pb::FieldType::Integer.into(), ..field("list", pb::FieldType::Array) };
    client.create_field(list).await.unwrap();
    let ann = client.create_named("Ann").await;

    let good = json!({
        "text": "Grüße", "whole": "9007199254740993", "real": 1.5, "flag": true, "day": "2020-01-01T08:00:00+08:00",
        "thing": { "a": { "b": [1, null] } }, "place": { "type": "Point", "coordinates": [1, 2] }, "list": [1, 2],
        "doc": { "id": "f", "name": "f.png", "mime_type": "image/png", "size": 3, "url": "https://example.com/f" },
    });
    let kept = client.change(ann.user_id, good.clone()).await.unwrap().custom_fields.unwrap();
    let bad = json!({
        "text": 1, "whole": 1.5, "real": "x", "flag": 0, "day": "2020-01-01", "thing": [], "list": [1, "x"],
        "place": { "type": "Point", "coordinates": [200, 2] }, "doc": { "id": "f" },
    });
    let refused = fault(client.change(ann.user_id, bad).await);

    let mut expected = good;
    expected["day"] = json!("2020-01-01T00:00:00.000000Z");
    assert_eq!(kept, fields(expected));
    assert_eq!(refused.fields.len(), 9, "{refused:?}");
}

#[tokio::test]
async fn p17_required_default_and_unique() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let level = pb::FieldDefinition {
        default_value: Some(user_service::wire::json::to_value(&json!(1))),
        ..field("level", pb::FieldType::Integer)
    };
    client.create_field(level).await.unwrap();
    client
        .create_field(pb::FieldDefinition { required: true, ..field("origin", pb::FieldType::String) })
        .await
        .unwrap();
    client.create_field(pb::FieldDefinition { unique: true, ..field("card", pb::FieldType::String) }).await.unwrap();
    let with = |custom: serde_json::Value| {
        let mut request = person("Ann");
        request.profile.as_mut().unwrap().custom_fields = Some(fields(custom));
        request
    };

    let missing = fault(client.create(person("Ann")).await);
    let ann = client.create(with(json!({ "origin": "web", "card": "A1" }))).await.unwrap();
    let taken = fault(client.create(with(json!({ "origin": "web", "card": "A1" }))).await);
    let cleared = fault(client.change(ann.user_id, json!({ "origin": null })).await);

    assert_eq!(missing.fields, [("profile.custom_fields.origin".to_owned(), "FIELD_REQUIRED".to_owned())]);
    assert_eq!(ann.custom_fields, Some(fields(json!({ "origin": "web", "card": "A1", "level": 1 }))));
    assert_eq!((taken.code, taken.reason.as_str()), (Code::AlreadyExists, "VALUE_TAKEN"));
    assert_eq!(cleared.paths(), ["custom_fields.origin"]);
}

#[tokio::test]
async fn unknown_fields_are_refused_with_near_names() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    client.create_field(field("birthday", pb::FieldType::Date)).await.unwrap();
    let ann = client.create_named("Ann").await;

    let status = client.change(ann.user_id, json!({ "birthdy": null })).await.unwrap_err();

    let text = format!("{:?}", tonic_types::StatusExt::get_error_details(&status));
    assert!(text.contains("birthday"), "{text}");
}

#[tokio::test]
async fn names_of_fields_have_rules() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    client.create_field(field("level", pb::FieldType::Integer)).await.unwrap();

    for name in ["1st", "a-b", "nickname", "email", "_x", "x'; drop table users; --", &"x".repeat(33)] {
        let refused = fault(client.create_field(field(name, pb::FieldType::String)).await);
        assert_eq!(refused.paths(), ["field.name"], "{name}");
    }
    assert_eq!(fault(client.create_field(field("level", pb::FieldType::String)).await).reason, "FIELD_EXISTS");
}
