use tonic::{Code, Request};
use user_service::{model::scope::Scope, wire::pb};

use crate::support::{TestApp, fault};

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
