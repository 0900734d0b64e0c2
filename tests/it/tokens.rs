use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tonic::{Code, Request};
use user_service::{model::scope::Scope, wire::pb};

use crate::support::{Client, TestApp, fault};

const ID: &str = "6d1b3c1e-3f8a-4b7e-9f39-1c2d3e4f5a6b";

fn issue(service: &str, scopes: &[&str]) -> pb::IssueTokenRequest {
    pb::IssueTokenRequest {
        subject: Some(pb::issue_token_request::Subject::Service(service.to_owned())),
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        ttl: None,
        ..Default::default()
    }
}

#[tokio::test]
async fn p48_calls_without_one_good_token_are_refused() {
    let app = TestApp::new().await;
    let mut two = app.service().await;
    let mut request = Request::new(pb::GetProfileRequest::default());
    request.metadata_mut().append("authorization", "Bearer x".parse().unwrap());

    let none = fault(app.stranger().get(1).await);
    let unknown = fault(app.client("us_unknown").get(1).await);
    let second = fault(two.users.get_profile(request).await);

    assert_eq!((none.code, none.reason.as_str()), (Code::Unauthenticated, "TOKEN_MISSING"));
    assert_eq!((unknown.code, unknown.reason.as_str()), (Code::Unauthenticated, "TOKEN_INVALID"));
    // The client's own interceptor replaces the value, so that this one is a single wrong token.
    assert_eq!(second.code, Code::InvalidArgument);
}

#[tokio::test]
async fn p49_only_the_hash_of_a_token_is_kept() {
    use diesel_async::RunQueryDsl;
    use user_service::store::sql::Sql;

    let app = TestApp::new().await;
    let mut client = app.service().await;
    let secret = client.admin.issue_token(issue("billing", &["profiles.read"])).await.unwrap().into_inner().secret;

    let mut conn = app.database.connect().await;
    let rows: Vec<String> =
        Sql::<diesel::sql_types::Text>::new("select tokens::text from tokens").load(&mut conn).await.unwrap();

    assert!(rows.len() > 1);
    assert!(rows.iter().all(|row| !row.contains(&secret)));
    assert!(app.client(&secret).users.list_profiles(pb::ListProfilesRequest::default()).await.is_ok());
}

#[tokio::test]
async fn p51_permission_comes_before_existence_and_faults() {
    let app = TestApp::new().await;
    let mut weak = app.service_with(&[Scope::ProfilesRead]).await;

    let deleted = fault(weak.admin.delete_user(pb::DeleteUserRequest { user_id: -5, ..Default::default() }).await);
    let user = app.service().await.create_named("Ann").await;
    let mut own = app.user(user.user_id).await;
    let listed = fault(own.users.list_profiles(pb::ListProfilesRequest { page_size: -1, ..Default::default() }).await);

    assert_eq!((deleted.code, deleted.reason.as_str()), (Code::PermissionDenied, "SCOPE_MISSING"));
    assert_eq!(deleted.metadata["requiredScope"], "users.delete");
    assert_eq!(listed.code, Code::PermissionDenied);
}

#[tokio::test]
async fn p51_nobody_issues_a_scope_that_they_lack() {
    let app = TestApp::new().await;
    let mut client = app.service_with(&[Scope::TokensWrite, Scope::ProfilesRead]).await;

    client.admin.issue_token(issue("a", &["profiles.read"])).await.unwrap();
    let more = fault(client.admin.issue_token(issue("a", &["profiles.write"])).await);
    let unknown = fault(client.admin.issue_token(issue("a", &["profiles.raed"])).await);

    assert_eq!(more.metadata["requiredScope"], "profiles.write");
    assert_eq!(unknown.fields, [("scopes".to_owned(), "UNKNOWN_FIELD".to_owned())]);
}

#[tokio::test]
async fn tokens_are_listed_revoked_and_expire() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let first = client.admin.issue_token(issue("billing", &["profiles.read"])).await.unwrap().into_inner();
    let second = client.admin.issue_token(issue("billing", &[])).await.unwrap().into_inner();
    let list = |page_token: String| pb::ListTokensRequest {
        subject: Some(pb::list_tokens_request::Subject::Service("billing".to_owned())),
        page_size: 1,
        page_token,
    };

    let newest = client.admin.list_tokens(list(String::new())).await.unwrap().into_inner();
    let oldest = client.admin.list_tokens(list(newest.next_page_token)).await.unwrap().into_inner();
    let token_id = first.token.unwrap().token_id;
    client.admin.revoke_token(pb::RevokeTokenRequest { token_id }).await.unwrap();
    let again = fault(client.admin.revoke_token(pb::RevokeTokenRequest { token_id }).await);
    let revoked = fault(app.client(&first.secret).get(1).await);
    app.clock.advance(chrono::TimeDelta::days(366));
    let expired = fault(app.client(&second.secret).get(1).await);

    assert_eq!(newest.tokens[0].token_id, second.token.unwrap().token_id);
    assert_eq!(oldest.tokens[0].token_id, token_id);
    assert_eq!(again.reason, "TOKEN_NOT_FOUND");
    assert_eq!(revoked.reason, "TOKEN_REVOKED");
    assert_eq!(expired.reason, "TOKEN_EXPIRED");
}

#[tokio::test]
async fn p49_a_token_is_good_for_ten_years_at_most() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    for (seconds, nanos) in [(i64::MAX / 1000, 900_000_000), (i64::MAX, 0), (3650 * 86_400, 1), (0, 0), (-1, 0)] {
        let ttl = Some(prost_types::Duration { seconds, nanos });
        let refused = fault(client.admin.issue_token(pb::IssueTokenRequest { ttl, ..issue("billing", &[]) }).await);
        assert!(
            refused.fields.contains(&("ttl".to_owned(), "FIELD_RANGE".to_owned())),
            "{seconds} {nanos}: {refused:?}"
        );
    }
}

fn issue_to(user_id: i64, request_id: &str) -> pb::IssueTokenRequest {
    pb::IssueTokenRequest {
        subject: Some(pb::issue_token_request::Subject::UserId(user_id)),
        request_id: request_id.to_owned(),
        ..Default::default()
    }
}

async fn live_tokens(client: &mut Client, user_id: i64) -> Vec<i64> {
    let subject = Some(pb::list_tokens_request::Subject::UserId(user_id));
    let listed = client.admin.list_tokens(pb::ListTokensRequest { subject, ..Default::default() }).await.unwrap();
    listed.into_inner().tokens.into_iter().map(|token| token.token_id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn p67_a_repeated_issue_revokes_the_first_token_on_every_replica() {
    let app = TestApp::new().await;
    let replica = app.replica().await;
    let mut client = app.service().await;
    let ann = client.create_named("Ann").await.user_id;

    let first = client.admin.issue_token(issue_to(ann, ID)).await.unwrap().into_inner();
    replica.client(&first.secret).get(ann).await.unwrap();
    let second = client.admin.issue_token(issue_to(ann, ID)).await.unwrap().into_inner();
    let here = fault(app.client(&first.secret).get(ann).await);
    let (start, mut there) = (Instant::now(), replica.client(&first.secret));
    while let Ok(_) = there.get(ann).await {
        assert!(start.elapsed() < Duration::from_secs(20), "the other replica never rejects it");
    }
    let ttl = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let reused = fault(client.admin.issue_token(pb::IssueTokenRequest { ttl, ..issue_to(ann, ID) }).await);
    let malformed = fault(client.admin.issue_token(issue_to(ann, "1")).await);

    assert_ne!(first.secret, second.secret);
    assert_eq!(here.reason, "TOKEN_REVOKED");
    assert_eq!(app.client(&second.secret).get(ann).await.unwrap().user_id, ann);
    assert_eq!(live_tokens(&mut client, ann).await, [second.token.unwrap().token_id]);
    assert_eq!(reused.told(), ("REQUEST_ID_REUSED", vec!["request_id"]));
    assert_eq!(malformed.fields, [("request_id".to_owned(), "FIELD_FORMAT".to_owned())]);
}

#[tokio::test]
async fn p67_ten_parallel_issues_with_one_id_leave_one_live_token() {
    let app = TestApp::new().await;
    let replica = app.replica().await;
    let secret = app.issue_service(&[Scope::SessionsWrite]).await;
    let ann = app.service().await.create_named("Ann").await.user_id;
    let clients = [app.client(&secret), replica.client(&secret)];

    let calls = clients.iter().cycle().take(10).map(|client| {
        let mut client = client.clone();
        async move { client.admin.issue_token(issue_to(ann, ID)).await }
    });
    let mut issued = Vec::new();
    for outcome in join_all(calls).await {
        match outcome {
            Ok(response) => issued.push(response.into_inner().token.unwrap().token_id),
            Err(_) => assert_eq!(fault(outcome).reason, "REQUEST_IN_PROGRESS"),
        }
    }

    let live = live_tokens(&mut app.client(&secret), ann).await;
    assert_eq!(live.len(), 1, "{issued:?}");
    assert_eq!(issued.iter().max(), live.first());
}

#[tokio::test]
async fn p20_what_is_stored_of_an_issue_holds_no_secret() {
    use diesel_async::RunQueryDsl;
    use user_service::{model::token, store::sql::Sql};

    let app = TestApp::new().await;
    let mut client = app.service().await;
    let request = pb::IssueTokenRequest { request_id: ID.to_owned(), ..issue("billing", &["profiles.read"]) };
    let secret = client.admin.issue_token(request).await.unwrap().into_inner().secret;

    let mut conn = app.database.connect().await;
    let rows: Vec<Vec<u8>> =
        Sql::<diesel::sql_types::Bytea>::new("select reply from idempotency").load(&mut conn).await.unwrap();

    assert_eq!(rows.len(), 1);
    let holds = |part: &[u8]| rows[0].windows(part.len()).any(|window| window == part);
    assert!(!holds(secret.as_bytes()) && !holds(&token::hash(&secret)));
}
