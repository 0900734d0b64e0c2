//! Custom fields: creating, changing and deleting definitions, indexes, defaults and unique fields.

use diesel::sql_types::{BigInt, Text};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use serde_json::json;
use tonic::Code;
use user_service::{convert::pb, store::sql::Sql};

use crate::support::{TestApp, eventually, fault, indexes, json as fields, person};

fn field(name: &str, kind: pb::FieldType) -> pb::FieldDefinition {
    pb::FieldDefinition {
        name: name.to_owned(),
        r#type: kind.into(),
        ..Default::default()
    }
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
    let list = pb::FieldDefinition {
        item_type: pb::FieldType::Integer.into(),
        ..field("list", pb::FieldType::Array)
    };
    client.create_field(list).await.unwrap();
    let ann = client.create_named("Ann").await;

    let good = json!({
        "text": "Grüße", "whole": "9007199254740993", "real": 1.5, "flag": true, "day": "2020-01-01T08:00:00+08:00",
        "thing": { "a": { "b": [1, null] } }, "place": { "type": "Point", "coordinates": [1, 2] }, "list": [1, 2],
        "doc": { "id": "f", "name": "f.png", "mime_type": "image/png", "size": 3, "url": "https://example.com/f" },
    });
    let kept = client
        .change(ann.user_id, good.clone())
        .await
        .unwrap()
        .custom_fields
        .unwrap();
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
        default_value: Some(user_service::convert::json::to_value(&json!(1))),
        ..field("level", pb::FieldType::Integer)
    };
    client.create_field(level).await.unwrap();
    client
        .create_field(pb::FieldDefinition {
            required: true,
            ..field("origin", pb::FieldType::String)
        })
        .await
        .unwrap();
    client
        .create_field(pb::FieldDefinition {
            unique: true,
            ..field("card", pb::FieldType::String)
        })
        .await
        .unwrap();
    let with = |custom: serde_json::Value| {
        let mut request = person("Ann");
        request.profile.as_mut().unwrap().custom_fields = Some(fields(custom));
        request
    };

    let missing = fault(client.create(person("Ann")).await);
    let ann = client
        .create(with(json!({ "origin": "web", "card": "A1" })))
        .await
        .unwrap();
    let taken = fault(
        client
            .create(with(json!({ "origin": "web", "card": "A1" })))
            .await,
    );
    let cleared = fault(client.change(ann.user_id, json!({ "origin": null })).await);

    assert_eq!(
        missing.fields,
        [(
            "profile.custom_fields.origin".to_owned(),
            "FIELD_REQUIRED".to_owned()
        )]
    );
    assert_eq!(
        ann.custom_fields,
        Some(fields(json!({ "origin": "web", "card": "A1", "level": 1 })))
    );
    assert_eq!(
        (taken.code, taken.reason.as_str()),
        (Code::AlreadyExists, "VALUE_TAKEN")
    );
    assert_eq!(cleared.paths(), ["custom_fields.origin"]);
}

#[tokio::test]
async fn unknown_fields_are_refused_with_near_names() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    client
        .create_field(field("birthday", pb::FieldType::Date))
        .await
        .unwrap();
    let ann = client.create_named("Ann").await;

    let status = client
        .change(ann.user_id, json!({ "birthdy": null }))
        .await
        .unwrap_err();

    let text = format!("{:?}", tonic_types::StatusExt::get_error_details(&status));
    assert!(text.contains("birthday"), "{text}");
}

#[tokio::test]
async fn p5_unknown_operators_are_refused_with_similar_ones() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    client
        .create_field(field("level", pb::FieldType::Integer))
        .await
        .unwrap();
    let ann = client.create_named("Ann").await;
    let told = |status: tonic::Status| {
        let violations = tonic_types::StatusExt::get_details_bad_request(&status)
            .unwrap()
            .field_violations;
        let [violation] = violations.as_slice() else {
            panic!("{violations:?}")
        };
        assert_eq!(violation.reason, "UNKNOWN_FIELD");
        (violation.field.clone(), violation.description.clone())
    };

    for (filter, path, similar) in [
        (json!({ "level": { "$get": 3 } }), "filter.level", "$gte"),
        (json!({ "level": { "$gt3": 3 } }), "filter.level", "$gt"),
        (json!({ "level": { "$inn": [3] } }), "filter.level", "$in"),
        (
            json!({ "level": { "$start": 3 } }),
            "filter.level",
            "$starts_with",
        ),
        (json!({ "$adn": [{ "level": 3 }] }), "filter.$adn", "$and"),
        (
            json!({ "$gte": 3 }),
            "filter.$gte",
            "in the value of a field: $gte",
        ),
    ] {
        let request = pb::ListProfilesRequest {
            filter: Some(fields(filter)),
            ..Default::default()
        };
        let (field, description) = told(client.users.list_profiles(request).await.unwrap_err());
        assert_eq!(field, path);
        assert!(description.contains(similar), "{description}");
    }
    for (change, path, similar) in [
        (
            json!({ "level": { "$inc": 1 } }),
            "custom_fields.level",
            "$incr_by",
        ),
        (
            json!({ "level": { "$incrby": 1 } }),
            "custom_fields.level",
            "$incr_by",
        ),
        (
            json!({ "level": { "$apend": [1] } }),
            "custom_fields.level",
            "$append",
        ),
        (
            json!({ "$sett": { "level": 1 } }),
            "custom_fields.$sett",
            "$set",
        ),
        (
            json!({ "$inc": { "level": 1 } }),
            "custom_fields.$inc",
            "in the value of a field: $incr_by",
        ),
    ] {
        let (field, description) = told(client.change(ann.user_id, change).await.unwrap_err());
        assert_eq!(field, path);
        assert!(description.contains(similar), "{description}");
    }
    let (_, description) = told(
        client
            .change(ann.user_id, json!({ "level": { "$zzzzzz": 1 } }))
            .await
            .unwrap_err(),
    );
    assert_eq!(description, "unknown operator $zzzzzz");
}

#[tokio::test]
async fn names_of_fields_have_rules() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    client
        .create_field(field("level", pb::FieldType::Integer))
        .await
        .unwrap();

    for name in [
        "1st",
        "a-b",
        "nickname",
        "email",
        "last_login_at",
        "_x",
        "x'; drop table users; --",
        &"x".repeat(33),
    ] {
        let refused = fault(
            client
                .create_field(field(name, pb::FieldType::String))
                .await,
        );
        assert_eq!(refused.paths(), ["field.name"], "{name}");
    }
    assert_eq!(
        fault(
            client
                .create_field(field("level", pb::FieldType::String))
                .await
        )
        .reason,
        "FIELD_EXISTS"
    );
}

/// Whether the field `level` is to be indexed.
fn indexed(indexed: bool) -> pb::UpdateFieldRequest {
    pb::UpdateFieldRequest {
        field: Some(pb::FieldDefinition {
            indexed,
            ..field("level", pb::FieldType::Integer)
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["indexed".to_owned()],
        }),
        ..Default::default()
    }
}

async fn work_to_the_end(app: &TestApp) {
    app.clock.advance(chrono::TimeDelta::seconds(31));
    while app.app.field_worker.step().await.unwrap() {}
}

#[tokio::test]
async fn p8_index_fills_while_writers_write_and_readers_rest_on_it_when_it_is_ready() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    client
        .create_field(field("level", pb::FieldType::Integer))
        .await
        .unwrap();
    let mut ids = Vec::new();
    for level in 0..60 {
        let mut person = person("crowd");
        person.profile.as_mut().unwrap().custom_fields = Some(fields(json!({ "level": level })));
        ids.push(client.create(person).await.unwrap().user_id);
    }
    let filling = client
        .admin
        .update_field(indexed(true))
        .await
        .unwrap()
        .into_inner()
        .field
        .unwrap();

    let writes = ids.iter().enumerate().map(|(place, user_id)| {
        let mut client = client.clone();
        let user_id = *user_id;
        async move {
            match place % 3 {
                0 => drop(
                    client
                        .change(user_id, json!({ "level": { "$incr_by": 100 } }))
                        .await
                        .unwrap(),
                ),
                1 => drop(
                    client
                        .change(user_id, json!({ "$unset": { "level": "" } }))
                        .await
                        .unwrap(),
                ),
                _ => drop(
                    client
                        .admin
                        .delete_user(pb::DeleteUserRequest {
                            user_id,
                            ..Default::default()
                        })
                        .await
                        .unwrap(),
                ),
            }
        }
    });
    tokio::join!(
        futures_util::future::join_all(writes),
        work_to_the_end(&app)
    );
    work_to_the_end(&app).await;

    assert!(filling.indexed && !filling.index_ready);
    let listed = client
        .admin
        .list_fields(pb::ListFieldsRequest {
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner()
        .fields;
    assert!(listed[0].index_ready);
    indexes::assert_whole(&app.database).await;
    let request = pb::ListProfilesRequest {
        filter: Some(fields(json!({ "level": 103 }))),
        ..Default::default()
    };
    let found = client
        .users
        .list_profiles(request)
        .await
        .unwrap()
        .into_inner()
        .profiles;
    assert_eq!(
        found
            .iter()
            .map(|profile| profile.user_id)
            .collect::<Vec<_>>(),
        [ids[3]]
    );
}

#[tokio::test]
async fn p8_what_a_late_writer_left_in_an_index_is_gone_when_it_is_filled_anew() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    client
        .create_field(pb::FieldDefinition {
            indexed: true,
            ..field("level", pb::FieldType::Integer)
        })
        .await
        .unwrap();
    let ann = client.create_named("Ann").await;
    client
        .change(ann.user_id, json!({ "level": 1 }))
        .await
        .unwrap();

    // A write that still keeps the index up ends when the index is gone.
    client.admin.update_field(indexed(false)).await.unwrap();
    let mut conn = app.database.connect().await;
    conn.batch_execute("begin; select from users for update")
        .await
        .unwrap();
    let mut late = client.clone();
    let late = tokio::spawn(async move { late.change(ann.user_id, json!({ "level": 2 })).await });
    a_writer_waits(&app).await;
    worked(&app, "none").await;
    conn.batch_execute("rollback").await.unwrap();
    late.await.unwrap().unwrap();
    // The next knows of no index.
    let replica = app.replica().await;
    let mut fresh = replica.service().await;
    fresh
        .change(ann.user_id, json!({ "level": 3 }))
        .await
        .unwrap();
    fresh.admin.update_field(indexed(true)).await.unwrap();
    worked(&app, "ready").await;

    indexes::assert_whole(&app.database).await;
    let replica = app.replica().await;
    let request = pb::ListProfilesRequest {
        order_by: "level".to_owned(),
        ..Default::default()
    };
    let listed = replica
        .service()
        .await
        .users
        .list_profiles(request)
        .await
        .unwrap()
        .into_inner()
        .profiles;
    assert_eq!(
        listed
            .iter()
            .map(|profile| profile.user_id)
            .collect::<Vec<_>>(),
        [ann.user_id]
    );
}

/// Has the second steps done until the index of the one field is in this state.
async fn worked(app: &TestApp, state: &str) {
    let mut conn = app.database.connect().await;
    app.clock.advance(chrono::TimeDelta::seconds(31));
    eventually("the state of the index", async || {
        app.app.field_worker.step().await.unwrap();
        let found: String = Sql::<Text>::new("select index_state from field_definitions")
            .get_result(&mut conn)
            .await
            .unwrap();
        (found == state).then_some(())
    })
    .await;
}

/// Waits until someone waits for the lock of a row.
async fn a_writer_waits(app: &TestApp) {
    let mut conn = app.database.connect().await;
    eventually("a writer who waits", async || {
        let waiting =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        let waiting: i64 = Sql::<BigInt>::new(waiting).get_result(&mut conn).await.unwrap();
        (waiting > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn deleted_field_is_hidden_at_once_and_its_name_is_free_when_its_values_are_erased() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let card = pb::FieldDefinition {
        unique: true,
        indexed: true,
        ..field("card", pb::FieldType::String)
    };
    client.create_field(card.clone()).await.unwrap();
    let ann = client.create_named("Ann").await;
    client
        .change(ann.user_id, json!({ "card": "A1" }))
        .await
        .unwrap();

    client
        .admin
        .delete_field(pb::DeleteFieldRequest {
            name: "card".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap();
    let hidden = client.get(ann.user_id).await.unwrap();
    let refused = fault(client.change(ann.user_id, json!({ "card": "A2" })).await);
    let early = fault(client.create_field(card.clone()).await);
    work_to_the_end(&app).await;
    let again = client
        .create_field(field("card", pb::FieldType::Integer))
        .await;
    let erased = client.get(ann.user_id).await.unwrap();
    let gone = fault(
        client
            .admin
            .delete_field(pb::DeleteFieldRequest {
                name: "nothing".to_owned(),
                ..Default::default()
            })
            .await,
    );

    assert_eq!(hidden.custom_fields, Some(fields(json!({}))));
    assert_eq!(
        refused.fields,
        [("custom_fields.card".to_owned(), "UNKNOWN_FIELD".to_owned())]
    );
    assert_eq!(early.reason, "FIELD_EXISTS");
    assert!(again.is_ok(), "{again:?}");
    assert_eq!(
        erased.etag, hidden.etag,
        "erasing is no change of the profile"
    );
    assert_eq!(gone.reason, "FIELD_NOT_FOUND");
}

#[tokio::test]
async fn update_field_takes_back_promises_and_gives_none() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    client
        .create_field(pb::FieldDefinition {
            unique: true,
            ..field("card", pb::FieldType::String)
        })
        .await
        .unwrap();
    client
        .create_field(field("note", pb::FieldType::String))
        .await
        .unwrap();
    let ann = client.create_named("Ann").await;
    client
        .change(
            ann.user_id,
            json!({ "card": "A1", "note": "x".repeat(600) }),
        )
        .await
        .unwrap();
    let update = |field: pb::FieldDefinition, paths: &[&str]| pb::UpdateFieldRequest {
        field: Some(field),
        update_mask: Some(prost_types::FieldMask {
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
        }),
        ..Default::default()
    };
    let note = || field("note", pb::FieldType::String);

    let unique = update(
        pb::FieldDefinition {
            unique: true,
            ..note()
        },
        &["unique", "type"],
    );
    let unique = fault(client.admin.update_field(unique).await);
    let long = update(
        pb::FieldDefinition {
            indexed: true,
            ..note()
        },
        &["indexed"],
    );
    let long = fault(client.admin.update_field(long).await);
    client
        .admin
        .update_field(update(field("card", pb::FieldType::String), &["unique"]))
        .await
        .unwrap();
    let ben = client.create_named("Ben").await;

    assert_eq!(
        unique.fields,
        [("update_mask".to_owned(), "IMMUTABLE_FIELD".to_owned())]
    );
    assert_eq!(
        long.fields,
        [("field.indexed".to_owned(), "FIELD_LENGTH".to_owned())]
    );
    client
        .change(ben.user_id, json!({ "card": "A1" }))
        .await
        .expect("unique no more");
}

#[tokio::test]
async fn p17_a_default_that_cannot_be_indexed_keeps_its_field_from_it() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let bio = pb::FieldDefinition {
        default_value: Some(user_service::convert::json::to_value(&json!(
            "x".repeat(600)
        ))),
        ..field("bio", pb::FieldType::String)
    };
    client.create_field(bio.clone()).await.unwrap();
    let update = |default_value, paths: &[&str]| pb::UpdateFieldRequest {
        field: Some(pb::FieldDefinition {
            indexed: true,
            default_value,
            ..bio.clone()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
        }),
        ..Default::default()
    };

    let refused = fault(client.admin.update_field(update(None, &["indexed"])).await);
    client
        .admin
        .update_field(update(None, &["indexed", "default_value"]))
        .await
        .unwrap();

    assert_eq!(
        refused.fields,
        [("field.indexed".to_owned(), "FIELD_LENGTH".to_owned())]
    );
}
