//! Definitions of fields: etags, pages, and how many there may be.

use diesel_async::SimpleAsyncConnection;
use futures_util::future::join_all;
use prost_types::FieldMask;
use serde_json::{Value, json};
use tonic::{Code, Status};
use user_service::convert::{json as wire_json, pb};

use crate::support::{
    Client, TestApp, fault, person,
    rest::{self, Caller},
};

fn field(name: &str, kind: pb::FieldType) -> pb::FieldDefinition {
    pb::FieldDefinition {
        name: name.to_owned(),
        r#type: kind.into(),
        ..Default::default()
    }
}

fn with_default(name: &str, kind: pb::FieldType, value: &Value) -> pb::FieldDefinition {
    pb::FieldDefinition {
        default_value: Some(wire_json::to_value(value)),
        ..field(name, kind)
    }
}

async fn update(
    client: &mut Client,
    field: pb::FieldDefinition,
    path: &str,
    etag: &str,
) -> Result<pb::FieldDefinition, Status> {
    let request = pb::UpdateFieldRequest {
        field: Some(field),
        update_mask: Some(FieldMask {
            paths: vec![path.to_owned()],
        }),
        etag: etag.to_owned(),
    };
    Ok(client
        .admin
        .update_field(request)
        .await?
        .into_inner()
        .field
        .unwrap())
}

async fn delete(client: &mut Client, name: &str, etag: &str) -> Result<(), Status> {
    let request = pb::DeleteFieldRequest {
        name: name.to_owned(),
        etag: etag.to_owned(),
    };
    client.admin.delete_field(request).await.map(drop)
}

async fn page(
    client: &mut Client,
    page_size: i32,
    page_token: &str,
) -> Result<pb::ListFieldsResponse, Status> {
    let request = pb::ListFieldsRequest {
        page_size,
        page_token: page_token.to_owned(),
    };
    Ok(client.admin.list_fields(request).await?.into_inner())
}

/// Puts so many definitions into the database, where they are made faster than one by one.
async fn insert_fields(app: &TestApp, count: usize) {
    let statement = format!(
        "insert into field_definitions (name, kind, created_at, changed_at) \
         select 'f' || number, 'string', now(), now() from generate_series(1, {count}) as given (number)"
    );
    app.database
        .connect()
        .await
        .batch_execute(&statement)
        .await
        .unwrap();
}

#[tokio::test]
async fn p72_an_etag_changes_with_every_update_and_with_nothing_else() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let level = || field("level", pb::FieldType::Integer);
    let made = client.create_field(level()).await.unwrap();
    let ann = client.create_named("Ann").await;
    client
        .change(ann.user_id, json!({ "level": 7 }))
        .await
        .unwrap();

    let described = update(
        &mut client,
        pb::FieldDefinition {
            description: "x".to_owned(),
            ..level()
        },
        "description",
        &made.etag,
    );
    let described = described.await.unwrap();
    let indexed = pb::FieldDefinition {
        indexed: true,
        ..level()
    };
    let indexed = update(&mut client, indexed, "indexed", &described.etag)
        .await
        .unwrap();
    app.clock.advance(chrono::TimeDelta::seconds(31));
    while app.app.field_worker.step().await.unwrap() {}
    let filled = page(&mut client, 0, "").await.unwrap().fields.remove(0);
    let same = pb::FieldDefinition {
        indexed: true,
        ..level()
    };
    let same = update(&mut client, same, "indexed", &filled.etag)
        .await
        .unwrap();

    let etags = [&made.etag, &described.etag, &indexed.etag, &same.etag];
    assert!(etags.iter().all(|etag| !etag.is_empty()));
    assert!(
        (1..etags.len()).all(|place| !etags[..place].contains(&etags[place])),
        "{etags:?}"
    );
    assert!(!indexed.index_ready && filled.index_ready);
    assert_eq!(
        filled.etag, indexed.etag,
        "the backfill is no change of the definition"
    );
}

#[tokio::test]
async fn p72_a_stale_etag_changes_and_deletes_nothing() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let level = || field("level", pb::FieldType::Integer);
    let made = client.create_field(level()).await.unwrap();
    let writable = || pb::FieldDefinition {
        user_writable: true,
        ..level()
    };
    let current = update(&mut client, writable(), "user_writable", "")
        .await
        .unwrap();

    let stale = fault(update(&mut client, level(), "user_writable", &made.etag).await);
    let kept = fault(delete(&mut client, "level", &made.etag).await);
    let unknown = fault(delete(&mut client, "nothing", &made.etag).await);
    let named = fault(update(&mut client, writable(), "etag", "").await);
    let given = pb::FieldDefinition {
        etag: made.etag.clone(),
        ..field("other", pb::FieldType::Integer)
    };
    let given = fault(client.create_field(given).await);

    assert_eq!(
        (stale.code, stale.reason.as_str()),
        (Code::Aborted, "ETAG_MISMATCH")
    );
    assert_eq!(
        (kept.code, kept.reason.as_str()),
        (Code::Aborted, "ETAG_MISMATCH")
    );
    assert_eq!(unknown.reason, "FIELD_NOT_FOUND");
    assert_eq!(
        named.fields,
        [("update_mask".to_owned(), "IMMUTABLE_FIELD".to_owned())]
    );
    assert_eq!(
        given.fields,
        [("field.etag".to_owned(), "IMMUTABLE_FIELD".to_owned())]
    );
    assert_eq!(
        page(&mut client, 0, "").await.unwrap().fields,
        std::slice::from_ref(&current)
    );
    delete(&mut client, "level", &current.etag).await.unwrap();

    app.clock.advance(chrono::TimeDelta::seconds(31));
    while app.app.field_worker.step().await.unwrap() {}
    let next = client.create_field(level()).await.unwrap();
    assert_ne!(next.etag, made.etag, "another field of the same name");
}

#[tokio::test]
async fn p72_of_parallel_updates_with_one_etag_one_succeeds() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let made = client
        .create_field(field("level", pb::FieldType::Integer))
        .await
        .unwrap();

    let tries = (0..10).map(|number| {
        let (mut client, etag) = (client.clone(), made.etag.clone());
        let new = pb::FieldDefinition {
            description: number.to_string(),
            ..field("level", pb::FieldType::Integer)
        };
        async move { update(&mut client, new, "description", &etag).await }
    });
    let (done, stale): (Vec<_>, Vec<_>) =
        join_all(tries).await.into_iter().partition(Result::is_ok);

    assert_eq!(done.len(), 1);
    for answer in stale {
        assert_eq!(fault(answer).reason, "ETAG_MISMATCH");
    }
}

#[tokio::test]
async fn p72_fields_are_listed_page_by_page_oldest_first() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    insert_fields(&app, 250).await;
    let names = |page: &pb::ListFieldsResponse| -> Vec<String> {
        page.fields.iter().map(|field| field.name.clone()).collect()
    };
    let expected: Vec<String> = (1..=250).map(|number| format!("f{number}")).collect();

    let (mut seen, mut sizes, mut token) = (Vec::new(), Vec::new(), String::new());
    loop {
        let found = page(&mut client, 0, &token).await.unwrap();
        sizes.push(found.fields.len());
        seen.extend(names(&found));
        token = found.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let whole = page(&mut client, 100_000, "").await.unwrap();
    let exact = page(&mut client, 250, "").await.unwrap();
    let first = page(&mut client, 7, "").await.unwrap();
    delete(&mut client, "f8", "").await.unwrap();
    let second = page(&mut client, 2, &first.next_page_token).await.unwrap();

    assert_eq!((sizes, seen), (vec![100, 100, 50], expected.clone()));
    assert_eq!(
        (names(&whole), whole.next_page_token.as_str()),
        (expected.clone(), "")
    );
    assert_eq!(
        (names(&exact), exact.next_page_token.as_str()),
        (expected, "")
    );
    assert_eq!(names(&second), ["f9", "f10"]);

    let reason = |answer: Result<pb::ListFieldsResponse, Status>| fault(answer).reason;
    assert_eq!(
        fault(page(&mut client, -1, "").await).fields,
        [("page_size".to_owned(), "FIELD_RANGE".to_owned())]
    );
    assert_eq!(
        reason(page(&mut client, 7, "none").await),
        "PAGE_TOKEN_INVALID"
    );
    let of_tokens = pb::ListTokensRequest {
        subject: Some(pb::list_tokens_request::Subject::Service("test".to_owned())),
        page_token: first.next_page_token.clone(),
        ..Default::default()
    };
    assert_eq!(
        fault(client.admin.list_tokens(of_tokens).await).reason,
        "PAGE_TOKEN_MISMATCH"
    );
    app.clock.advance(chrono::TimeDelta::days(3));
    page(&mut client, 7, &first.next_page_token)
        .await
        .expect("tokens are valid for three days");
    app.clock.advance(chrono::TimeDelta::seconds(2));
    assert_eq!(
        reason(page(&mut client, 7, &first.next_page_token).await),
        "PAGE_TOKEN_EXPIRED"
    );
}

#[tokio::test]
async fn p72_a_hundred_parallel_creates_at_the_limit_leave_five_hundred() {
    let app = TestApp::new().await;
    let replica = app.replica().await;
    let mut clients = [app.service().await, replica.service().await];
    insert_fields(&app, 499).await;

    let tries = (0..100).map(|number| {
        let mut client = clients[number % 2].clone();
        async move {
            client
                .create_field(field(&format!("new_{number}"), pb::FieldType::String))
                .await
        }
    });
    let (done, refused): (Vec<_>, Vec<_>) =
        join_all(tries).await.into_iter().partition(Result::is_ok);

    assert_eq!(done.len(), 1);
    for answer in refused {
        let refused = fault(answer);
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (Code::ResourceExhausted, "FIELD_LIMIT_REACHED")
        );
        assert_eq!(
            (refused.quota.as_deref(), refused.retry),
            (Some("field_definitions"), None)
        );
    }
    let [client, _] = &mut clients;
    assert_eq!(page(client, 500, "").await.unwrap().fields.len(), 500);
    let exists = fault(
        client
            .create_field(field("f1", pb::FieldType::String))
            .await,
    );
    assert_eq!(exists.reason, "FIELD_EXISTS");

    // A deleted field counts until its values are erased.
    delete(client, "f1", "").await.unwrap();
    let early = fault(
        client
            .create_field(field("late", pb::FieldType::String))
            .await,
    );
    assert_eq!(early.reason, "FIELD_LIMIT_REACHED");
    app.clock.advance(chrono::TimeDelta::seconds(31));
    while app.app.field_worker.step().await.unwrap() {}
    client
        .create_field(field("late", pb::FieldType::String))
        .await
        .unwrap();
    // The service itself knows all of them.
    let mut ann = person("Ann");
    ann.profile.as_mut().unwrap().custom_fields =
        Some(crate::support::json(json!({ "late": "x", "f499": "y" })));
    client.create(ann).await.unwrap();
}

#[tokio::test]
async fn p72_defaults_of_all_fields_fit_into_one_document() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let long = |length: usize| json!("x".repeat(length));
    let text = |name: &str, length: usize| with_default(name, pb::FieldType::String, &long(length));
    for name in ["a", "b", "c"] {
        client.create_field(text(name, 16_000)).await.unwrap();
    }
    client
        .create_field(field("d", pb::FieldType::String))
        .await
        .unwrap();

    client.create_field(text("e", 2_000)).await.unwrap();

    let left = 64 * 1024 - r#"{"a":"","b":"","c":"","d":"","e":""}"#.len() - 48_000 - 2_000;
    update(&mut client, text("d", left), "default_value", "")
        .await
        .expect("exactly full");
    let over = fault(update(&mut client, text("d", left + 1), "default_value", "").await);
    let one_more = fault(
        client
            .create_field(with_default("f", pb::FieldType::Boolean, &json!(true)))
            .await,
    );
    client
        .create_field(field("f", pb::FieldType::Boolean))
        .await
        .expect("no default needs no room");

    assert_eq!(
        over.told(),
        ("INVALID_REQUEST", vec!["field.default_value"])
    );
    assert_eq!(
        one_more.told(),
        ("INVALID_REQUEST", vec!["field.default_value"])
    );
    client.create_named("Ann").await;
    update(
        &mut client,
        field("a", pb::FieldType::String),
        "default_value",
        "",
    )
    .await
    .expect("clearing makes room");
    update(
        &mut client,
        with_default("f", pb::FieldType::Boolean, &json!(true)),
        "default_value",
        "",
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn p72_parallel_defaults_are_counted_together() {
    let app = TestApp::new().await;
    let replica = app.replica().await;
    let clients = [app.service().await, replica.service().await];
    let text = |name: &str| with_default(name, pb::FieldType::String, &json!("x".repeat(16_000)));
    for name in ["old_0", "old_1", "old_2", "old_3"] {
        clients[0]
            .clone()
            .create_field(field(name, pb::FieldType::String))
            .await
            .unwrap();
    }

    let tries = (0..8).map(|number| {
        let mut client = clients[number % 2].clone();
        let (new, old) = (
            text(&format!("new_{number}")),
            text(&format!("old_{}", number / 2)),
        );
        async move {
            let update = number % 2 == 0;
            if update {
                self::update(&mut client, old, "default_value", "").await
            } else {
                client.create_field(new).await
            }
        }
    });
    let (done, refused): (Vec<_>, Vec<_>) =
        join_all(tries).await.into_iter().partition(Result::is_ok);

    assert_eq!((done.len(), refused.len()), (4, 4));
    for answer in refused {
        assert_eq!(
            fault(answer).told(),
            ("INVALID_REQUEST", vec!["field.default_value"])
        );
    }
    clients[0].clone().create_named("Ann").await;
}

#[tokio::test]
async fn p72_at_most_128_fields_have_a_default() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    insert_fields(&app, 127).await;
    app.database
        .connect()
        .await
        .batch_execute("update field_definitions set default_value = '1'")
        .await
        .unwrap();

    client
        .create_field(with_default("last", pb::FieldType::Integer, &json!(1)))
        .await
        .unwrap();
    let over = fault(
        client
            .create_field(with_default("over", pb::FieldType::Integer, &json!(1)))
            .await,
    );

    assert_eq!(
        over.told(),
        ("INVALID_REQUEST", vec!["field.default_value"])
    );
    client.create_named("Ann").await;
}

#[tokio::test]
async fn p72_rest_has_the_etag_of_a_definition_in_its_headers() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let made = json!({ "field": { "name": "level", "type": "FIELD_TYPE_INTEGER" } });
    let change =
        json!({ "field": { "description": "x" }, "updateMask": "description" }).to_string();
    let header = |reply: &rest::Reply| reply.headers["etag"].to_str().unwrap().to_owned();

    let made = service.send("POST", "/v1/fields", made.to_string()).await;
    let first = header(&made);
    let changed = service
        .with("if-match", &first)
        .send("PATCH", "/v1/fields/level", change.clone())
        .await;
    let stale = service
        .with("if-match", &first)
        .send("PATCH", "/v1/fields/level", change)
        .await;
    let kept = service
        .with("if-match", &first)
        .send("DELETE", "/v1/fields/level", "")
        .await;
    let deleted = service
        .with("if-match", &header(&changed))
        .send("DELETE", "/v1/fields/level", "")
        .await;

    assert_eq!(
        first,
        format!("\"{}\"", made.body["field"]["etag"].as_str().unwrap())
    );
    assert_eq!(
        (
            changed.status.as_u16(),
            &changed.body["field"]["description"]
        ),
        (200, &json!("x"))
    );
    assert_eq!(
        (stale.status.as_u16(), stale.reason()),
        (412, "ETAG_MISMATCH")
    );
    assert_eq!(
        (kept.status.as_u16(), kept.reason()),
        (412, "ETAG_MISMATCH")
    );
    assert_eq!(deleted.status.as_u16(), 200);
}

#[tokio::test]
async fn a_definition_of_a_newer_version_is_an_error_and_keeps_its_index() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let indexed = pb::FieldDefinition {
        indexed: true,
        ..field("level", pb::FieldType::Integer)
    };
    client.create_field(indexed).await.unwrap();
    let ann = client.create_named("Ann").await;
    client
        .change(ann.user_id, json!({ "level": 3 }))
        .await
        .unwrap();
    let mut conn = app.database.connect().await;

    conn.batch_execute("update field_definitions set kind = 'color', index_state = 'leaving'")
        .await
        .unwrap();
    app.clock.advance(chrono::TimeDelta::hours(1));
    let worked = app.app.field_worker.step().await;
    let listed = fault(
        client
            .admin
            .list_fields(pb::ListFieldsRequest::default())
            .await,
    );
    conn.batch_execute("update field_definitions set kind = 'integer', index_state = 'ready'")
        .await
        .unwrap();

    assert!(
        worked.is_err(),
        "nothing is known of such a field, so nothing is emptied"
    );
    assert_eq!(
        (listed.code, listed.reason.as_str()),
        (Code::Internal, "INTERNAL")
    );
    let filter = Some(crate::support::json(json!({ "level": 3 })));
    let request = pb::ListProfilesRequest {
        filter,
        ..Default::default()
    };
    assert_eq!(
        client
            .users
            .list_profiles(request)
            .await
            .unwrap()
            .into_inner()
            .profiles
            .len(),
        1
    );
}
