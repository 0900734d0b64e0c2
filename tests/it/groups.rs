//! Group membership: changed atomically against the stored list, one by one and in bulk.

use futures_util::future::join_all;
use serde_json::json;
use tonic::{Code, Status};
use user_service::convert::pb;

use crate::support::{Client, TestApp, fault, json as fields, patiently, person};

async fn create(client: &mut Client, groups: impl IntoIterator<Item = i64>) -> i64 {
    let mut request = person("member");
    request.profile.as_mut().unwrap().group_ids = groups.into_iter().collect();
    client.create(request).await.unwrap().user_id
}

fn change(user_id: i64, add: &[i64], remove: &[i64]) -> pb::UpdateProfileRequest {
    pb::UpdateProfileRequest {
        user_id,
        add_group_ids: add.to_vec(),
        remove_group_ids: remove.to_vec(),
        ..Default::default()
    }
}

async fn update(
    client: &mut Client,
    request: pb::UpdateProfileRequest,
) -> Result<pb::Profile, Status> {
    Ok(client
        .users
        .update_profile(request)
        .await?
        .into_inner()
        .profile
        .unwrap())
}

async fn groups(client: &mut Client, user_id: i64) -> Vec<i64> {
    client.get(user_id).await.unwrap().group_ids
}

fn bulk(user_ids: &[i64], add: &[i64], remove: &[i64]) -> pb::BulkUpdateFieldsRequest {
    pb::BulkUpdateFieldsRequest {
        filter: Some(fields(json!({ "user_id": { "$in": user_ids } }))),
        add_group_ids: add.to_vec(),
        remove_group_ids: remove.to_vec(),
        ..Default::default()
    }
}

fn id() -> String {
    uuid::Uuid::new_v4().to_string()
}

#[tokio::test]
async fn p69_the_list_keeps_its_order_and_new_groups_come_last() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let user_id = create(&mut client, [5, 3, 9, 1]).await;

    let made = update(&mut client, change(user_id, &[8, 3, 2, 8], &[5, 77, 5]))
        .await
        .unwrap();
    let removed = update(&mut client, change(user_id, &[], &[9]))
        .await
        .unwrap();
    let added = update(&mut client, change(user_id, &[i64::MAX], &[]))
        .await
        .unwrap();

    assert_eq!(made.group_ids, [3, 9, 1, 8, 2]);
    assert_eq!(removed.group_ids, [3, 1, 8, 2]);
    assert_eq!(added.group_ids, [3, 1, 8, 2, i64::MAX]);
    assert_eq!(client.get(user_id).await.unwrap(), added);
    // Long lists are changed another way, to the same end.
    let (more, fewer): (Vec<i64>, Vec<i64>) = (
        (100..140).rev().chain([8, 100]).collect(),
        [1, 3].into_iter().chain(500..530).collect(),
    );
    let long = update(&mut client, change(user_id, &more, &fewer))
        .await
        .unwrap();
    assert_eq!(
        long.group_ids,
        [8, 2, i64::MAX]
            .into_iter()
            .chain((100..140).rev())
            .collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn p69_a_hundred_parallel_additions_lose_none() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let user_id = create(&mut client, [1000, 1001]).await;

    // Half of them one by one, and of these half with a request id; half in bulk. Two take one out.
    let calls = (1..=100).map(|group: i64| {
        let mut client = client.clone();
        async move {
            let request_id = if group % 4 < 2 { id() } else { String::new() };
            let removed: &[i64] = if group == 7 || group == 50 {
                &[1000]
            } else {
                &[]
            };
            if group % 2 == 0 {
                let request = pb::UpdateProfileRequest {
                    request_id,
                    ..change(user_id, &[group], removed)
                };
                return patiently(async || update(&mut client, request.clone()).await)
                    .await
                    .map(drop);
            }
            let request = pb::BulkUpdateFieldsRequest {
                request_id,
                ..bulk(&[user_id], &[group], removed)
            };
            patiently(async || client.users.bulk_update_fields(request.clone()).await)
                .await
                .map(drop)
        }
    });
    for done in join_all(calls).await {
        done.unwrap();
    }

    let mut found = groups(&mut client, user_id).await;
    assert_eq!(found.first(), Some(&1001), "the order is kept");
    found.sort_unstable();
    assert_eq!(found, (1..=100).chain([1001]).collect::<Vec<_>>());
}

#[tokio::test]
async fn p69_a_user_belongs_to_a_thousand_groups_at_most() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let user_id = create(&mut client, 1..=999).await;
    let before = client.get(user_id).await.unwrap();

    let mut refused = Vec::new();
    for request in [
        change(user_id, &[2000, 2001], &[]),
        pb::UpdateProfileRequest {
            request_id: id(),
            ..change(user_id, &[2000, 2001], &[])
        },
        pb::UpdateProfileRequest {
            validate_only: true,
            ..change(user_id, &[2000, 2001], &[])
        },
        change(user_id, &[2000, 2001, 2002], &[1]),
        change(user_id, &(1..=1001).collect::<Vec<_>>(), &[]),
    ] {
        refused.push(fault(update(&mut client, request).await));
    }
    assert_eq!(client.get(user_id).await.unwrap(), before);
    let full = update(&mut client, change(user_id, &[2000], &[]))
        .await
        .unwrap();
    let swapped = update(&mut client, change(user_id, &[2001, 5, 2002], &[1, 2]))
        .await
        .unwrap();
    let again = update(
        &mut client,
        change(user_id, &(500..=999).collect::<Vec<_>>(), &[]),
    )
    .await
    .unwrap();

    for refused in refused {
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (Code::InvalidArgument, "INVALID_REQUEST")
        );
        assert_eq!(
            refused.fields,
            [("add_group_ids".to_owned(), "FIELD_RANGE".to_owned())]
        );
    }
    assert_eq!(
        (full.group_ids.len(), swapped.group_ids.len()),
        (1000, 1000)
    );
    assert_eq!(swapped.group_ids[996..], [999, 2000, 2001, 2002][..]);
    assert_eq!(again.group_ids, swapped.group_ids);
}

#[tokio::test]
async fn p69_requests_that_contradict_themselves_are_refused() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let user_id = create(&mut client, [1]).await;
    let with_mask = |request: pb::UpdateProfileRequest| pb::UpdateProfileRequest {
        profile: Some(pb::Profile {
            group_ids: vec![4],
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["group_ids".to_owned()],
        }),
        ..request
    };

    for (request, expected) in [
        (
            change(user_id, &[2, 3], &[3]),
            vec!["add_group_ids", "remove_group_ids"],
        ),
        (change(user_id, &[0], &[]), vec!["add_group_ids"]),
        (
            change(user_id, &[2, -2], &[-1]),
            vec!["add_group_ids", "remove_group_ids"],
        ),
        (
            change(user_id, &[], &(1..=1001).collect::<Vec<_>>()),
            vec!["remove_group_ids"],
        ),
        (with_mask(change(user_id, &[2], &[])), vec!["add_group_ids"]),
        (
            with_mask(change(user_id, &[], &[1])),
            vec!["remove_group_ids"],
        ),
        (change(user_id, &[], &[]), vec!["update_mask"]),
        (
            pb::UpdateProfileRequest {
                profile: Some(pb::Profile::default()),
                ..change(user_id, &[2], &[])
            },
            vec!["update_mask"],
        ),
    ] {
        let refused = fault(update(&mut client, request.clone()).await);
        assert_eq!(refused.told(), ("INVALID_REQUEST", expected), "{request:?}");
    }
    for (request, expected) in [
        (
            bulk(&[user_id], &[2, 3], &[3]),
            vec!["add_group_ids", "remove_group_ids"],
        ),
        (
            bulk(&[user_id], &[0], &[-1]),
            vec!["add_group_ids", "remove_group_ids"],
        ),
        (bulk(&[user_id], &[], &[]), vec!["custom_fields"]),
    ] {
        let refused = fault(client.users.bulk_update_fields(request.clone()).await);
        assert_eq!(refused.told(), ("INVALID_REQUEST", expected), "{request:?}");
    }
    assert_eq!(groups(&mut client, user_id).await, [1]);
}

#[tokio::test]
async fn p69_a_user_token_changes_no_groups() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let user_id = create(&mut service, [1]).await;
    let mut user = app.user(user_id).await;

    for request in [
        change(0, &[2], &[]),
        change(user_id, &[], &[1]),
        change(0, &[-1], &[]),
    ] {
        let refused = fault(update(&mut user, request).await);
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (Code::PermissionDenied, "SCOPE_MISSING")
        );
        assert_eq!(refused.metadata["requiredScope"], "profiles.write");
    }
    assert_eq!(groups(&mut service, user_id).await, [1]);
}

#[tokio::test]
async fn p69_groups_keep_the_promises_of_every_update() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let number = pb::FieldDefinition {
        name: "score".to_owned(),
        r#type: pb::FieldType::Integer.into(),
        ..Default::default()
    };
    client.create_field(number).await.unwrap();
    let user_id = create(&mut client, [1]).await;
    let etag = client.get(user_id).await.unwrap().etag;

    let trial = pb::UpdateProfileRequest {
        validate_only: true,
        ..change(user_id, &[2], &[1])
    };
    let trial = update(&mut client, trial).await.unwrap();
    assert_eq!(
        (trial.group_ids, trial.etag.as_str()),
        (vec![2], etag.as_str())
    );
    assert_eq!(groups(&mut client, user_id).await, [1]);

    let guarded = pb::UpdateProfileRequest {
        etag: etag.clone(),
        ..change(user_id, &[2], &[])
    };
    let done = update(&mut client, guarded.clone()).await.unwrap();
    let stale = fault(update(&mut client, guarded).await);
    assert_ne!(done.etag, etag);
    assert_eq!(stale.reason, "ETAG_MISMATCH");

    let once = pb::UpdateProfileRequest {
        request_id: id(),
        ..change(user_id, &[3], &[])
    };
    let first = update(&mut client, once.clone()).await.unwrap();
    update(&mut client, change(user_id, &[], &[3]))
        .await
        .unwrap();
    assert_eq!(update(&mut client, once.clone()).await.unwrap(), first);
    let other = pb::UpdateProfileRequest {
        add_group_ids: vec![4],
        ..once
    };
    assert_eq!(
        fault(update(&mut client, other).await).reason,
        "REQUEST_ID_REUSED"
    );
    assert_eq!(groups(&mut client, user_id).await, [1, 2]);

    let all = pb::UpdateProfileRequest {
        profile: Some(pb::Profile {
            city: "Bonn".to_owned(),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["city".to_owned()],
        }),
        custom_fields: Some(fields(json!({ "score": { "$incr_by": 2 } }))),
        ..change(user_id, &[9], &[2])
    };
    let all = update(&mut client, all).await.unwrap();
    assert_eq!((all.city.as_str(), all.group_ids), ("Bonn", vec![1, 9]));
    assert_eq!(all.custom_fields, Some(fields(json!({ "score": 2 }))));

    let overflow = json!({ "score": { "$incr_by": i64::MAX.to_string() } });
    let overflow = pb::UpdateProfileRequest {
        custom_fields: Some(fields(overflow)),
        ..change(user_id, &[10], &[])
    };
    assert_eq!(
        fault(update(&mut client, overflow).await).reason,
        "OP_OVERFLOW"
    );
    assert_eq!(
        fault(update(&mut client, change(1 << 40, &[1], &[])).await).reason,
        "USER_NOT_FOUND"
    );
    assert_eq!(groups(&mut client, user_id).await, [1, 9]);
}

#[tokio::test]
async fn p69_in_bulk_each_profile_succeeds_or_fails_by_itself() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let number = pb::FieldDefinition {
        name: "score".to_owned(),
        r#type: pb::FieldType::Integer.into(),
        ..Default::default()
    };
    client.create_field(number).await.unwrap();
    let few = create(&mut client, [78, 5]).await;
    let full = create(&mut client, 1001..=2000).await;
    let none = create(&mut client, []).await;
    let all = [few, full, none];
    client
        .change(none, json!({ "score": i64::MAX.to_string() }))
        .await
        .unwrap();

    let done = client
        .users
        .bulk_update_fields(bulk(&all, &[77, 5, 77], &[78]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((done.succeeded, done.failed), (2, 1));
    let Some(pb::update_result::Outcome::Failure(failure)) = &done.results[1].outcome else {
        panic!("{done:?}")
    };
    assert_eq!(
        (failure.reason.as_str(), failure.field.as_str()),
        ("INVALID_REQUEST", "add_group_ids")
    );
    assert_eq!(groups(&mut client, few).await, [5, 77]);
    assert_eq!(
        groups(&mut client, full).await,
        (1001..=2000).collect::<Vec<_>>()
    );
    assert_eq!(groups(&mut client, none).await, [77, 5]);

    let whole = pb::BulkUpdateFieldsRequest {
        all_or_nothing: true,
        ..bulk(&all, &[79], &[])
    };
    let whole = fault(client.users.bulk_update_fields(whole).await);
    assert_eq!(
        (whole.code, whole.told()),
        (
            Code::InvalidArgument,
            ("INVALID_REQUEST", vec!["add_group_ids"])
        )
    );
    assert_eq!(whole.metadata["userId"], full.to_string());

    let trial = pb::BulkUpdateFieldsRequest {
        validate_only: true,
        ..bulk(&all, &[79], &[1001])
    };
    assert_eq!(
        client
            .users
            .bulk_update_fields(trial)
            .await
            .unwrap()
            .into_inner()
            .succeeded,
        3
    );
    assert_eq!(groups(&mut client, few).await, [5, 77]);

    // Both kinds of change, and both kinds of failure.
    let both = pb::BulkUpdateFieldsRequest {
        custom_fields: Some(fields(json!({ "score": { "$incr_by": 1 } }))),
        request_id: id(),
        ..bulk(&all, &[80], &[])
    };
    let done = client
        .users
        .bulk_update_fields(both.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        client
            .users
            .bulk_update_fields(both)
            .await
            .unwrap()
            .into_inner(),
        done,
        "it counts once"
    );
    let reasons: Vec<_> = done
        .results
        .iter()
        .map(|result| match result.outcome.as_ref().unwrap() {
            pb::update_result::Outcome::UpdatedAt(_) => "",
            pb::update_result::Outcome::Failure(failure) => failure.reason.as_str(),
        })
        .collect();
    assert_eq!(reasons, ["", "INVALID_REQUEST", "OP_OVERFLOW"]);
    assert_eq!(groups(&mut client, few).await, [5, 77, 80]);
    assert_eq!(groups(&mut client, none).await, [77, 5]);
}
