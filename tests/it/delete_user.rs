//! DeleteUser under a condition, as a dry run, and repeated.

use futures_util::future::join_all;
use tonic::{Code, Status};
use user_service::{
    convert::pb::{self, DeleteUserRequest},
    store::sql::Sql,
};

use crate::support::{Client, TestApp, fault, rest::Caller};

const ID: &str = "6d1b3c1e-3f8a-4b7e-9f39-1c2d3e4f5a6b";

fn of(user_id: i64) -> DeleteUserRequest {
    DeleteUserRequest {
        user_id,
        ..Default::default()
    }
}

async fn delete(
    client: &mut Client,
    request: DeleteUserRequest,
) -> Result<pb::DeleteUserResponse, Status> {
    Ok(client.admin.delete_user(request).await?.into_inner())
}

#[tokio::test]
async fn p70_a_stale_etag_deletes_nothing() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ann = client.create_named("Ann").await;
    let current = client.rename(ann.user_id, "Anna").await.unwrap();

    for etag in [ann.etag.as_str(), "no etag", "ffff"] {
        let stale = fault(
            delete(
                &mut client,
                DeleteUserRequest {
                    etag: etag.to_owned(),
                    ..of(ann.user_id)
                },
            )
            .await,
        );
        assert_eq!(
            (stale.code, stale.reason.as_str()),
            (Code::Aborted, "ETAG_MISMATCH"),
            "{etag}"
        );
    }
    assert_eq!(client.get(ann.user_id).await.unwrap(), current);
    delete(
        &mut client,
        DeleteUserRequest {
            etag: current.etag,
            ..of(ann.user_id)
        },
    )
    .await
    .unwrap();

    assert_eq!(
        fault(client.get(ann.user_id).await).reason,
        "USER_NOT_FOUND"
    );
}

#[tokio::test]
async fn p70_a_missing_user_is_no_error_where_that_is_allowed() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ann = client.create_named("Ann").await;
    let allowed = |etag: &str| DeleteUserRequest {
        allow_missing: true,
        etag: etag.to_owned(),
        ..of(ann.user_id)
    };

    let stale = fault(delete(&mut client, allowed("ffff")).await);
    delete(&mut client, allowed(&ann.etag)).await.unwrap();
    delete(&mut client, allowed("ffff"))
        .await
        .expect("the etag of a missing user is ignored");
    delete(
        &mut client,
        DeleteUserRequest {
            allow_missing: true,
            ..of(987_654)
        },
    )
    .await
    .expect("never existed");
    let invalid = fault(
        delete(
            &mut client,
            DeleteUserRequest {
                user_id: -1,
                ..allowed("")
            },
        )
        .await,
    );
    let missing = fault(delete(&mut client, of(ann.user_id)).await);

    assert_eq!(stale.reason, "ETAG_MISMATCH");
    assert_eq!(
        invalid.fields,
        [("user_id".to_owned(), "FIELD_RANGE".to_owned())]
    );
    assert_eq!(
        (missing.code, missing.reason.as_str()),
        (Code::NotFound, "USER_NOT_FOUND")
    );
}

#[tokio::test]
async fn p70_a_dry_run_makes_all_checks_and_deletes_nothing() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ann = client.create_named("Ann").await;
    let mut user = app.user(ann.user_id).await;
    let dry = |request: DeleteUserRequest| DeleteUserRequest {
        validate_only: true,
        ..request
    };

    let stale = fault(
        delete(
            &mut client,
            dry(DeleteUserRequest {
                etag: "ffff".to_owned(),
                ..of(ann.user_id)
            }),
        )
        .await,
    );
    let missing = fault(delete(&mut client, dry(of(987_654))).await);
    let nil = DeleteUserRequest {
        request_id: uuid::Uuid::nil().to_string(),
        ..of(0)
    };
    let invalid = fault(delete(&mut client, dry(nil)).await);
    delete(
        &mut client,
        dry(DeleteUserRequest {
            request_id: ID.to_owned(),
            ..of(ann.user_id)
        }),
    )
    .await
    .unwrap();

    assert_eq!(
        (stale.reason.as_str(), missing.reason.as_str()),
        ("ETAG_MISMATCH", "USER_NOT_FOUND")
    );
    assert_eq!(invalid.paths(), ["request_id", "user_id"]);
    assert_eq!(
        user.get_own().await,
        ann,
        "the user and its token are as they were"
    );
    let other = DeleteUserRequest {
        request_id: ID.to_owned(),
        ..of(987_654)
    };
    assert_eq!(
        fault(delete(&mut client, other).await).reason,
        "USER_NOT_FOUND",
        "a dry run stores no request id"
    );
}

#[tokio::test]
async fn p70_the_stored_response_outlives_the_user() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let created = pb::CreateUserRequest {
        request_id: ID.to_owned(),
        ..crate::support::person("Ann")
    };
    let ann = client.create(created).await.unwrap();
    let request = DeleteUserRequest {
        request_id: ID.to_owned(),
        etag: ann.etag,
        ..of(ann.user_id)
    };

    delete(&mut client, request.clone()).await.unwrap();
    delete(&mut client, request.clone())
        .await
        .expect("the first response again");
    let reused = fault(
        delete(
            &mut client,
            DeleteUserRequest {
                etag: String::new(),
                ..request.clone()
            },
        )
        .await,
    );
    let again = fault(
        delete(
            &mut client,
            DeleteUserRequest {
                request_id: String::new(),
                ..request
            },
        )
        .await,
    );

    assert_eq!(reused.told(), ("REQUEST_ID_REUSED", vec!["request_id"]));
    assert_eq!(again.reason, "USER_NOT_FOUND");
    let mut conn = app.database.connect().await;
    let stored = "select rpc || coalesce(user_id::text, '') from idempotency";
    let stored: Vec<String> =
        diesel_async::RunQueryDsl::load(Sql::<diesel::sql_types::Text>::new(stored), &mut conn)
            .await
            .unwrap();
    assert_eq!(
        stored,
        ["DeleteUser"],
        "the response of CreateUser went with the user"
    );
}

#[tokio::test]
async fn p70_parallel_repeats_on_two_replicas_delete_once() {
    let app = TestApp::new().await;
    let replica = app.replica().await;
    let mut clients = [app.service().await, replica.service().await];
    let ann = clients[0].create_named("Ann").await;
    let request = DeleteUserRequest {
        request_id: ID.to_owned(),
        etag: ann.etag,
        ..of(ann.user_id)
    };

    let tries = clients.iter().cycle().take(12).map(|client| {
        let (mut client, request) = (client.clone(), request.clone());
        async move { delete(&mut client, request).await }
    });
    let (done, waiting): (Vec<_>, Vec<_>) =
        join_all(tries).await.into_iter().partition(Result::is_ok);

    assert!(!done.is_empty());
    for answer in waiting {
        assert_eq!(fault(answer).reason, "REQUEST_IN_PROGRESS");
    }
    for client in &mut clients {
        delete(client, request.clone()).await.unwrap();
    }
}

#[tokio::test]
async fn p70_rest_takes_the_condition_as_if_match_and_the_rest_in_the_query() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let created = service.send("POST", "/v1/users", "{}").await;
    let etag = created.headers["etag"].to_str().unwrap().to_owned();
    let path = format!(
        "/v1/users/{}",
        created.body["profile"]["userId"].as_str().unwrap()
    );

    let stale = service
        .with("if-match", "\"ffff\"")
        .send("DELETE", &path, "")
        .await;
    let dry = service
        .with("if-match", &etag)
        .send("DELETE", &format!("{path}?validateOnly=true"), "")
        .await;
    let there = service.get(&format!("{path}/profile")).await;
    let deleted = service
        .with("if-match", &etag)
        .send("DELETE", &format!("{path}?requestId={ID}"), "")
        .await;
    let again = service
        .with("if-match", &etag)
        .send("DELETE", &format!("{path}?requestId={ID}"), "")
        .await;
    let missing = service
        .with("if-match", &etag)
        .send("DELETE", &path, "")
        .await;
    let allowed = service
        .with("if-match", &etag)
        .send("DELETE", &format!("{path}?allow_missing=true"), "")
        .await;

    assert_eq!(
        (stale.status.as_u16(), stale.reason()),
        (412, "ETAG_MISMATCH")
    );
    assert_eq!((dry.status.as_u16(), there.status.as_u16()), (200, 200));
    assert_eq!((deleted.status.as_u16(), again.status.as_u16()), (200, 200));
    assert_eq!(
        (missing.status.as_u16(), missing.reason()),
        (404, "USER_NOT_FOUND")
    );
    assert_eq!(allowed.status.as_u16(), 200);
}
