//! BulkUpdateFields: one change for many users, chosen by ids or by a filter, resumed and
//! idempotent.

use diesel_async::SimpleAsyncConnection;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tonic::Code;
use user_service::convert::{json as wire_json, pb};

use crate::support::{Client, TestApp, fault, json as fields, statements::until_waiting};

fn field(name: &str, kind: pb::FieldType) -> pb::FieldDefinition {
    pb::FieldDefinition {
        name: name.to_owned(),
        r#type: kind.into(),
        ..Default::default()
    }
}

/// Users with levels 0, 1, 2, … and two fields.
async fn crowd(client: &mut Client, count: i64) -> Vec<i64> {
    let level = pb::FieldDefinition {
        indexed: true,
        ..field("level", pb::FieldType::Integer)
    };
    client.create_field(level).await.unwrap();
    client
        .create_field(pb::FieldDefinition {
            unique: true,
            ..field("card", pb::FieldType::String)
        })
        .await
        .unwrap();
    let mut ids = Vec::new();
    for level in 0..count {
        let mut person = crate::support::person("crowd");
        person.profile.as_mut().unwrap().custom_fields = Some(fields(json!({ "level": level })));
        ids.push(client.create(person).await.unwrap().user_id);
    }
    ids
}

fn bulk(filter: Value, change: Value) -> pb::BulkUpdateFieldsRequest {
    pb::BulkUpdateFieldsRequest {
        filter: Some(fields(filter)),
        custom_fields: Some(fields(change)),
        ..Default::default()
    }
}

fn id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A crowd that no connection is left for is told to come again, and the request id makes that
/// safe. Changes of the same users wait for each other in order of their ids, so no one is told of
/// a deadlock.
fn may_be_repeated(refused: &tonic::Status) -> bool {
    refused.code() == Code::Unavailable
}

async fn levels(client: &mut Client) -> Vec<i64> {
    let request = pb::ListProfilesRequest {
        order_by: "user_id".to_owned(),
        page_size: 1000,
        ..Default::default()
    };
    let page = client
        .users
        .list_profiles(request)
        .await
        .unwrap()
        .into_inner();
    let level = |profile: pb::Profile| match &wire_json::object(profile.custom_fields.unwrap())["level"]
    {
        Value::String(decimal) => decimal.parse().unwrap(),
        number => number.as_i64().unwrap(),
    };
    page.profiles.into_iter().map(level).collect()
}

#[tokio::test]
async fn p21_walk_meets_each_profile_once_although_the_change_moves_it_out_of_the_filter() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    crowd(&mut client, 10).await;
    let mut request = bulk(
        json!({ "level": { "$lt": 100 } }),
        json!({ "level": { "$incr_by": 1000 } }),
    );
    request.limit = 3;
    let mut calls = 0;

    loop {
        let done = client
            .users
            .bulk_update_fields(request.clone())
            .await
            .unwrap()
            .into_inner();
        calls += 1;
        if done.next_page_token.is_empty() {
            break;
        }
        request.page_token = done.next_page_token;
    }

    assert_eq!(calls, 4);
    assert_eq!(levels(&mut client).await, (1000..1010).collect::<Vec<_>>());
}

#[tokio::test]
async fn p22_a_hundred_parallel_increments_lose_none() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ids = crowd(&mut client, 5).await;

    let bulks = (0..50).map(|_| {
        let mut client = client.clone();
        async move {
            let request = bulk(json!({}), json!({ "level": { "$incr_by": 1 } }));
            let request = pb::BulkUpdateFieldsRequest {
                allow_all: true,
                request_id: id(),
                ..request
            };
            while let Err(refused) = client.users.bulk_update_fields(request.clone()).await {
                assert!(may_be_repeated(&refused), "{refused:?}");
            }
        }
    });
    let singles = (0..50).map(|_| {
        let mut client = client.clone();
        let user_id = ids[0];
        async move {
            let request = pb::UpdateProfileRequest {
                user_id,
                custom_fields: Some(fields(json!({ "level": { "$incr_by": 1 } }))),
                request_id: id(),
                ..Default::default()
            };
            while let Err(refused) = client.users.update_profile(request.clone()).await {
                assert!(may_be_repeated(&refused), "{refused:?}");
            }
        }
    });
    tokio::join!(join_all(bulks), join_all(singles));

    assert_eq!(levels(&mut client).await, [100, 51, 52, 53, 54]);
}

#[tokio::test]
async fn p23_each_failure_is_told_for_its_own_profile() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ids = crowd(&mut client, 3).await;
    client
        .change(ids[1], json!({ "level": i64::MAX.to_string() }))
        .await
        .unwrap();

    let change = bulk(
        json!({ "level": { "$gte": 0 } }),
        json!({ "level": { "$incr_by": 1 } }),
    );
    let done = client
        .users
        .bulk_update_fields(change.clone())
        .await
        .unwrap()
        .into_inner();
    let whole = pb::BulkUpdateFieldsRequest {
        all_or_nothing: true,
        ..change
    };
    let refused = fault(client.users.bulk_update_fields(whole).await);

    assert_eq!((done.succeeded, done.failed), (2, 1));
    let Some(pb::update_result::Outcome::Failure(failure)) = &done.results[1].outcome else {
        panic!("{done:?}")
    };
    assert_eq!(
        (failure.reason.as_str(), failure.field.as_str()),
        ("OP_OVERFLOW", "custom_fields.level")
    );
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::OutOfRange, "OP_OVERFLOW")
    );
    assert_eq!(refused.metadata["userId"], ids[1].to_string());
    assert_eq!(levels(&mut client).await, [1, i64::MAX, 3]);
}

#[tokio::test]
async fn p23_unique_value_goes_to_the_lowest_and_is_free_again_where_nothing_came_of_it() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ids = crowd(&mut client, 3).await;
    client
        .change(ids[0], json!({ "level": i64::MAX.to_string() }))
        .await
        .unwrap();

    let set = bulk(json!({ "level": { "$gte": 0 } }), json!({ "card": "A1" }));
    let first = client
        .users
        .bulk_update_fields(set)
        .await
        .unwrap()
        .into_inner();
    let both = bulk(
        json!({ "user_id": ids[0] }),
        json!({ "card": "B2", "level": { "$incr_by": 1 } }),
    );
    let failed = client
        .users
        .bulk_update_fields(both)
        .await
        .unwrap()
        .into_inner();
    let free = client.change(ids[2], json!({ "card": "B2" })).await;
    let again = client.change(ids[1], json!({ "card": "A1" })).await;
    let increment = fault(
        client
            .users
            .bulk_update_fields(bulk(
                json!({ "user_id": 1 }),
                json!({ "card": { "$incr_by": 1 } }),
            ))
            .await,
    );

    assert_eq!((first.succeeded, first.failed), (1, 2));
    assert_eq!(failed.failed, 1);
    assert!(
        free.is_ok(),
        "the claim of a change that failed was given back"
    );
    assert_eq!(fault(again).reason, "VALUE_TAKEN");
    assert_eq!(increment.reason, "OP_TYPE_MISMATCH");
}

#[tokio::test]
async fn p24_guards_keep_a_change_from_going_too_far() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    crowd(&mut client, 4).await;
    let change = json!({ "level": 9 });

    let all = fault(
        client
            .users
            .bulk_update_fields(bulk(json!({}), change.clone()))
            .await,
    );
    let lost = bulk(json!({ "$or": [{ "level": 99 }, {}] }), change.clone());
    let lost = fault(client.users.bulk_update_fields(lost).await);
    let meant = pb::BulkUpdateFieldsRequest {
        allow_all: true,
        validate_only: true,
        ..bulk(json!({ "$and": [{}] }), change.clone())
    };
    let meant = client
        .users
        .bulk_update_fields(meant)
        .await
        .unwrap()
        .into_inner();
    let counted = pb::BulkUpdateFieldsRequest {
        expected_total: Some(3),
        ..bulk(json!({ "level": { "$gte": 0 } }), change.clone())
    };
    let counted = fault(client.users.bulk_update_fields(counted).await);
    let trial = pb::BulkUpdateFieldsRequest {
        validate_only: true,
        ..bulk(json!({ "level": 2 }), change)
    };
    let trial = client
        .users
        .bulk_update_fields(trial)
        .await
        .unwrap()
        .into_inner();

    assert_eq!(
        (all.reason.as_str(), all.paths()),
        ("FILTER_REQUIRED", vec!["filter"])
    );
    assert_eq!(
        (lost.reason.as_str(), lost.paths()),
        ("FILTER_REQUIRED", vec!["filter.$or[1]"])
    );
    assert_eq!(meant.succeeded, 4);
    assert_eq!(
        (counted.code, counted.metadata["matched"].as_str()),
        (Code::FailedPrecondition, "4")
    );
    assert_eq!(trial.succeeded, 1);
    assert_eq!(levels(&mut client).await, [0, 1, 2, 3]);
}

#[tokio::test]
async fn p20_repeated_bulk_change_counts_once() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    crowd(&mut client, 2).await;
    let request = pb::BulkUpdateFieldsRequest {
        request_id: "6d1b3c1e-3f8a-4b7e-9f39-1c2d3e4f5a6b".to_owned(),
        ..bulk(
            json!({ "level": { "$gte": 0 } }),
            json!({ "level": { "$incr_by": 1 } }),
        )
    };

    let first = client
        .users
        .bulk_update_fields(request.clone())
        .await
        .unwrap()
        .into_inner();
    let again = client
        .users
        .bulk_update_fields(request)
        .await
        .unwrap()
        .into_inner();

    assert_eq!(first, again);
    assert_eq!(levels(&mut client).await, [1, 2]);
}

#[tokio::test]
async fn p20_a_repeat_that_searches_after_the_first_call_committed_gets_its_response() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    crowd(&mut client, 2).await;
    let (mut holder, mut other) = (app.database.connect().await, app.database.connect().await);
    let request = pb::BulkUpdateFieldsRequest {
        request_id: id(),
        expected_total: Some(2),
        ..bulk(
            json!({ "level": { "$lt": 9 } }),
            json!({ "level": { "$incr_by": 100 } }),
        )
    };
    let first = client
        .users
        .bulk_update_fields(request.clone())
        .await
        .unwrap()
        .into_inner();
    let aged = |sign: &str| {
        format!("update idempotency set created_at = created_at {sign} interval '2 days'")
    };
    // A response that is too old stands for one that is not committed yet when the repeat looks for
    // it.
    other.batch_execute(&aged("-")).await.unwrap();
    holder
        .batch_execute("begin; lock table users in access exclusive mode")
        .await
        .unwrap();
    let asked = tokio::spawn({
        let mut client = client.clone();
        async move { client.users.bulk_update_fields(request).await }
    });
    // The search of the repeat waits.
    until_waiting(&mut other, 1).await;

    other.batch_execute(&aged("+")).await.unwrap();
    holder.batch_execute("rollback").await.unwrap();
    let again = asked.await.unwrap().unwrap().into_inner();

    assert_eq!(again, first);
    assert_eq!(levels(&mut client).await, [100, 101]);
}

#[tokio::test]
async fn p23_a_user_who_is_changed_meanwhile_is_not_passed_over() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ids = crowd(&mut client, 2).await;
    let (mut holder, mut other) = (app.database.connect().await, app.database.connect().await);
    let level = |level: i64| {
        format!(
            "update users set custom_fields = '{{\"level\": {level}}}' where user_id = {}",
            ids[0]
        )
    };
    other.batch_execute(&level(i64::MAX)).await.unwrap();
    holder
        .batch_execute(&format!(
            "begin; select from users where user_id = {} for update",
            ids[1]
        ))
        .await
        .unwrap();
    let asked = tokio::spawn(async move {
        client
            .users
            .bulk_update_fields(bulk(
                json!({ "user_id": { "$gt": 0 } }),
                json!({ "level": { "$incr_by": 1 } }),
            ))
            .await
    });
    // The first was rejected, and the change of the second waits.
    until_waiting(&mut other, 1).await;

    other.batch_execute(&level(5)).await.unwrap();
    holder.batch_execute("rollback").await.unwrap();
    let told = asked.await.unwrap().unwrap().into_inner();

    assert_eq!((told.succeeded, told.failed), (2, 0), "{told:?}");
    let first = app
        .service()
        .await
        .get(ids[0])
        .await
        .unwrap()
        .custom_fields
        .unwrap();
    assert_eq!(first, fields(json!({ "level": 6 })));
}
