//! Request ids where processes die: a write whose caller never heard of it is asked for again, and
//! stands once.
//!
//! Each write is asked of three processes. The first is killed when it is about to commit, the
//! second when Postgres has committed and the process has not heard of it; the third lives and
//! answers.

use serde_json::{Value, json};
use tokio_stream::StreamExt;
use tonic::Status;
use tonic_health::pb::health_check_response::ServingStatus::Serving;
use user_service::convert::{
    pb::{self, update_result::Outcome},
    proto_struct::Struct,
};

use crate::support::{
    Client, TestApp,
    gate::{Gate, Hold},
    json as fields, person,
    serve::Serve,
};

const ID: &str = "6d1b3c1e-3f8a-4b7e-9f39-1c2d3e4f5a6b";

/// Asks a process that is killed while its transaction is held; anyone who asked hears nothing.
async fn ask_killed<A: std::fmt::Debug>(
    app: &TestApp,
    hold: Hold,
    ask: &impl AsyncFn(Client) -> Result<A, Status>,
) {
    let gate = Gate::open(&app.database, hold).await;
    let mut serve = Serve::start_with(&app.database, &[("DATABASE__URL", gate.url())]);
    serve.wait_for(Serving).await;
    let client = serve.client().await;

    let kill = async {
        gate.reached().await;
        serve.kill();
    };
    tokio::select! {
        answer = ask(client) => panic!("{answer:?} before the process was killed"),
        () = kill => {}
    }
    gate.close(&app.database).await;
}

/// Asks a process that is killed before its COMMIT, and another that is killed after it; everybody
/// after each.
async fn ask_killed_around_commit<A: std::fmt::Debug>(
    app: &TestApp,
    client: &mut Client,
    ask: &impl AsyncFn(Client) -> Result<A, Status>,
) -> (Vec<pb::Profile>, Vec<pb::Profile>) {
    ask_killed(app, Hold::BeforeCommit, ask).await;
    let untouched = everybody(client).await;
    ask_killed(app, Hold::AfterCommit, ask).await;
    (untouched, everybody(client).await)
}

/// Asks a process that lives.
async fn ask_living<A>(app: &TestApp, ask: &impl AsyncFn(Client) -> Result<A, Status>) -> A {
    let serve = Serve::start(&app.database);
    serve.wait_for(Serving).await;
    ask(serve.client().await).await.unwrap()
}

/// Everybody, oldest first.
async fn everybody(client: &mut Client) -> Vec<pb::Profile> {
    let request = pb::ListProfilesRequest {
        order_by: "user_id".to_owned(),
        page_size: 1000,
        ..Default::default()
    };
    client
        .users
        .list_profiles(request)
        .await
        .unwrap()
        .into_inner()
        .profiles
}

/// A service with the field `score`, whose clients see what becomes of the data.
async fn with_score() -> (TestApp, Client) {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let (name, kind) = ("score".to_owned(), pb::FieldType::Integer.into());
    client
        .create_field(pb::FieldDefinition {
            name,
            r#type: kind,
            ..Default::default()
        })
        .await
        .unwrap();
    (app, client)
}

fn score(score: Value) -> Option<Struct> {
    Some(fields(json!({ "score": score })))
}

#[tokio::test]
async fn p20_an_increment_counts_once_though_its_processes_die_around_the_commit() {
    let (app, mut client) = with_score().await;
    client.create_named("Ann").await;
    let before = everybody(&mut client).await;
    let ask = async |mut client: Client| {
        let request = pb::UpdateProfileRequest {
            user_id: before[0].user_id,
            custom_fields: score(json!({ "$incr_by": 5 })),
            request_id: ID.to_owned(),
            ..Default::default()
        };
        Ok(client
            .users
            .update_profile(request)
            .await?
            .into_inner()
            .profile
            .unwrap())
    };

    let (untouched, done) = ask_killed_around_commit(&app, &mut client, &ask).await;
    client
        .change(done[0].user_id, json!({ "score": 100 }))
        .await
        .unwrap();
    let answer = ask_living(&app, &ask).await;

    assert_eq!(untouched, before);
    assert_eq!(done[0].custom_fields, score(json!(5)));
    assert_eq!(
        answer, done[0],
        "the answer of the first time, whatever was written since"
    );
    assert_eq!(
        everybody(&mut client).await[0].custom_fields,
        score(json!(100))
    );
}

#[tokio::test]
async fn p20_a_bulk_change_counts_once_though_its_processes_die_around_the_commit() {
    let (app, mut client) = with_score().await;
    for nickname in ["Ann", "Ben", "Cid"] {
        client.create_named(nickname).await;
    }
    let before = everybody(&mut client).await;
    let ask = async |mut client: Client| {
        let request = pb::BulkUpdateFieldsRequest {
            custom_fields: score(json!({ "$incr_by": 5 })),
            allow_all: true,
            request_id: ID.to_owned(),
            ..Default::default()
        };
        Ok(client.users.bulk_update_fields(request).await?.into_inner())
    };

    let (untouched, done) = ask_killed_around_commit(&app, &mut client, &ask).await;
    client
        .change(done[0].user_id, json!({ "score": 100 }))
        .await
        .unwrap();
    let answer = ask_living(&app, &ask).await;

    assert_eq!(untouched, before);
    assert!(
        done.iter()
            .all(|profile| profile.custom_fields == score(json!(5))),
        "{done:?}"
    );
    let result = |profile: &pb::Profile| pb::UpdateResult {
        user_id: profile.user_id,
        outcome: profile.updated_at.map(Outcome::UpdatedAt),
    };
    assert_eq!(
        answer.results,
        done.iter().map(result).collect::<Vec<_>>(),
        "the answer of the first time"
    );
    let now: Vec<_> = everybody(&mut client)
        .await
        .into_iter()
        .map(|profile| profile.custom_fields)
        .collect();
    assert_eq!(now, [score(json!(100)), score(json!(5)), score(json!(5))]);
}

#[tokio::test]
async fn p20_a_user_is_made_once_though_the_processes_die_around_the_commit() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ask = async |mut client: Client| {
        client
            .create(pb::CreateUserRequest {
                request_id: ID.to_owned(),
                ..person("Ann")
            })
            .await
    };

    let (untouched, done) = ask_killed_around_commit(&app, &mut client, &ask).await;
    let answer = ask_living(&app, &ask).await;

    assert_eq!(untouched, []);
    assert_eq!(done.len(), 1);
    assert_eq!(answer, done[0]);
    assert_eq!(everybody(&mut client).await, done);
}

#[tokio::test]
async fn p20_imported_users_stand_once_though_the_processes_die_around_the_commit() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let user = |number: u128| pb::CreateUserRequest {
        request_id: uuid::Uuid::from_u128(number).to_string(),
        ..person(&format!("user {number}"))
    };
    let ask = async |mut client: Client| {
        let stream = tokio_stream::iter(1..=60)
            .map(user)
            .map(|user| pb::ImportUsersRequest { user: Some(user) });
        let mut answers = client.admin.import_users(stream).await?.into_inner();
        let mut all = Vec::new();
        while let Some(answer) = answers.message().await? {
            all.push(answer);
        }
        Ok(all)
    };

    let (untouched, done) = ask_killed_around_commit(&app, &mut client, &ask).await;
    let answers = ask_living(&app, &ask).await;

    assert_eq!(untouched, []);
    assert_eq!(done.len(), 60);
    assert_eq!(
        answers,
        [pb::ImportUsersResponse {
            created: 60,
            next_index: 60,
            ..Default::default()
        }]
    );
    assert_eq!(everybody(&mut client).await, done);
}
