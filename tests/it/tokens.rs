//! Tokens: issuing, listing, expiry and revocation.

use std::time::{Duration, Instant};

use futures_util::{
    StreamExt,
    future::{join, join_all},
    stream,
};
use tonic::{Code, Request};
use user_service::{convert::pb, model::scope::Scope};

use crate::support::{Client, TestApp, fault};

const ID: &str = "6d1b3c1e-3f8a-4b7e-9f39-1c2d3e4f5a6b";

fn issue(service: &str, scopes: &[&str]) -> pb::IssueTokenRequest {
    pb::IssueTokenRequest {
        subject: Some(pb::issue_token_request::Subject::Service(
            service.to_owned(),
        )),
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
    request
        .metadata_mut()
        .append("authorization", "Bearer x".parse().unwrap());

    let none = fault(app.stranger().get(1).await);
    let unknown = fault(app.client("us_unknown").get(1).await);
    let second = fault(two.users.get_profile(request).await);

    assert_eq!(
        (none.code, none.reason.as_str()),
        (Code::Unauthenticated, "TOKEN_MISSING")
    );
    assert_eq!(
        (unknown.code, unknown.reason.as_str()),
        (Code::Unauthenticated, "TOKEN_INVALID")
    );
    // The client's own interceptor replaces the value, so that this one is a single wrong token.
    assert_eq!(second.code, Code::InvalidArgument);
}

#[tokio::test]
async fn p49_only_the_hash_of_a_token_is_kept() {
    use diesel_async::RunQueryDsl;
    use user_service::store::sql::Sql;

    let app = TestApp::new().await;
    let mut client = app.service().await;
    let secret = client
        .admin
        .issue_token(issue("billing", &["profiles.read"]))
        .await
        .unwrap()
        .into_inner()
        .secret;

    let mut conn = app.database.connect().await;
    let rows: Vec<String> = Sql::<diesel::sql_types::Text>::new("select tokens::text from tokens")
        .load(&mut conn)
        .await
        .unwrap();

    assert!(rows.len() > 1);
    assert!(rows.iter().all(|row| !row.contains(&secret)));
    assert!(
        app.client(&secret)
            .users
            .list_profiles(pb::ListProfilesRequest::default())
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn p51_permission_comes_before_existence_and_faults() {
    let app = TestApp::new().await;
    let mut weak = app.service_with(&[Scope::ProfilesRead]).await;

    let deleted = fault(
        weak.admin
            .delete_user(pb::DeleteUserRequest {
                user_id: -5,
                ..Default::default()
            })
            .await,
    );
    let user = app.service().await.create_named("Ann").await;
    let mut own = app.user(user.user_id).await;
    let listed = fault(
        own.users
            .list_profiles(pb::ListProfilesRequest {
                page_size: -1,
                ..Default::default()
            })
            .await,
    );

    assert_eq!(
        (deleted.code, deleted.reason.as_str()),
        (Code::PermissionDenied, "SCOPE_MISSING")
    );
    assert_eq!(deleted.metadata["requiredScope"], "users.delete");
    assert_eq!(listed.code, Code::PermissionDenied);
}

#[tokio::test]
async fn p51_nobody_issues_a_scope_that_they_lack() {
    let app = TestApp::new().await;
    let mut client = app
        .service_with(&[Scope::TokensWrite, Scope::ProfilesRead])
        .await;

    client
        .admin
        .issue_token(issue("a", &["profiles.read"]))
        .await
        .unwrap();
    let more = fault(
        client
            .admin
            .issue_token(issue("a", &["profiles.write"]))
            .await,
    );
    let unknown = fault(
        client
            .admin
            .issue_token(issue("a", &["profiles.raed"]))
            .await,
    );

    assert_eq!(more.metadata["requiredScope"], "profiles.write");
    assert_eq!(
        unknown.fields,
        [("scopes".to_owned(), "UNKNOWN_FIELD".to_owned())]
    );
}

#[tokio::test]
async fn tokens_are_listed_revoked_and_expire() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let first = client
        .admin
        .issue_token(issue("billing", &["profiles.read"]))
        .await
        .unwrap()
        .into_inner();
    let second = client
        .admin
        .issue_token(issue("billing", &[]))
        .await
        .unwrap()
        .into_inner();
    let list = |page_token: String| pb::ListTokensRequest {
        subject: Some(pb::list_tokens_request::Subject::Service(
            "billing".to_owned(),
        )),
        page_size: 1,
        page_token,
    };

    let newest = client
        .admin
        .list_tokens(list(String::new()))
        .await
        .unwrap()
        .into_inner();
    let oldest = client
        .admin
        .list_tokens(list(newest.next_page_token))
        .await
        .unwrap()
        .into_inner();
    let token_id = first.token.unwrap().token_id;
    client
        .admin
        .revoke_token(pb::RevokeTokenRequest { token_id })
        .await
        .unwrap();
    let again = fault(
        client
            .admin
            .revoke_token(pb::RevokeTokenRequest { token_id })
            .await,
    );
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
async fn p49_a_token_lives_no_longer_than_configured_for_its_kind() {
    const DAY: i64 = 86_400;
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ann = client.create_named("Ann").await.user_id;
    let with = |ttl: Option<(i64, i32)>, request: pb::IssueTokenRequest| pb::IssueTokenRequest {
        ttl: ttl.map(|(seconds, nanos)| prost_types::Duration { seconds, nanos }),
        ..request
    };
    let outside = [
        (i64::MAX / 1000, 900_000_000),
        (i64::MAX, 0),
        (365 * DAY, 1),
        (0, 0),
        (-1, 0),
    ]
    .map(|ttl| (ttl, issue("b", &[])));
    for (ttl, request) in outside
        .into_iter()
        .chain([((90 * DAY, 1), issue_to(ann, ""))])
    {
        let refused = fault(client.admin.issue_token(with(Some(ttl), request)).await);
        assert_eq!(
            refused.fields,
            [("ttl".to_owned(), "FIELD_RANGE".to_owned())],
            "{ttl:?}"
        );
    }
    let shorter = app
        .replica_configured(|config| {
            (config.tokens.user_max_days, config.tokens.service_max_days) = (1, 2)
        })
        .await;
    let mut there = shorter.service().await;
    let too_long = fault(
        there
            .admin
            .issue_token(with(Some((DAY, 1)), issue_to(ann, "")))
            .await,
    );
    let short = there
        .admin
        .issue_token(issue("b", &[]))
        .await
        .unwrap()
        .into_inner()
        .token
        .unwrap();

    assert_eq!(
        too_long.fields,
        [("ttl".to_owned(), "FIELD_RANGE".to_owned())]
    );
    assert_eq!(
        short.expires_at.unwrap().seconds - short.created_at.unwrap().seconds,
        2 * DAY
    );
}

#[tokio::test]
async fn p51_the_names_of_the_operator_and_of_the_bootstrap_token_are_not_given_away() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    for name in ["operator", "bootstrap"] {
        let refused = fault(client.admin.issue_token(issue(name, &[])).await);
        assert_eq!(
            refused.fields,
            [("service".to_owned(), "FIELD_FORMAT".to_owned())],
            "{name}"
        );
    }
}

/// Issues a token of a service with the right to issue more.
async fn issuer(client: &mut Client, name: &str, seconds: i64) -> pb::IssueTokenResponse {
    let ttl = Some(prost_types::Duration { seconds, nanos: 0 });
    let request = issue(name, &["tokens.write", "sessions.write", "profiles.read"]);
    client
        .admin
        .issue_token(pb::IssueTokenRequest { ttl, ..request })
        .await
        .unwrap()
        .into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn p67_a_token_ends_with_the_token_that_issued_it() {
    let app = TestApp::new().await;
    let replica = app.replica().await;
    let mut client = app.service().await;
    let ann = client.create_named("Ann").await.user_id;
    let (login, other) = (
        issuer(&mut client, "login", 3600).await,
        issuer(&mut client, "login", 3600).await,
    );
    let orders = issuer(&mut app.client(&login.secret), "orders", 7200).await;
    let session = app
        .client(&orders.secret)
        .admin
        .issue_token(issue_to(ann, ""))
        .await
        .unwrap()
        .into_inner();
    let kept = app
        .client(&other.secret)
        .admin
        .issue_token(issue_to(ann, ""))
        .await
        .unwrap()
        .into_inner();
    let tokens = [&login, &orders, &session].map(|issued| issued.token.clone().unwrap());
    for secret in [&login.secret, &orders.secret, &session.secret] {
        replica.client(secret).get(ann).await.unwrap();
    }

    client
        .admin
        .revoke_token(pb::RevokeTokenRequest {
            token_id: tokens[0].token_id,
        })
        .await
        .unwrap();

    for secret in [&login.secret, &orders.secret, &session.secret] {
        assert_eq!(
            fault(app.client(secret).get(ann).await).reason,
            "TOKEN_REVOKED"
        );
        let (start, mut there) = (Instant::now(), replica.client(secret));
        while there.get(ann).await.is_ok() {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "the other replica never rejects it"
            );
        }
    }
    app.client(&kept.secret).get(ann).await.unwrap();
    assert_eq!(
        tokens.each_ref().map(|token| &*token.issued_by),
        ["services/test", "services/login", "services/orders"]
    );
    assert!(
        tokens
            .iter()
            .all(|token| token.expires_at == tokens[0].expires_at),
        "{tokens:?}"
    );
}

#[tokio::test]
async fn p67_what_is_issued_while_its_issuer_is_revoked_does_not_outlive_it() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ann = client.create_named("Ann").await.user_id;
    let login = issuer(&mut client, "login", 3600).await;

    // More than replicas are told of one by one.
    let issuing = stream::iter(0..120).map(|_| {
        let mut login = app.client(&login.secret);
        async move { login.admin.issue_token(issue_to(ann, "")).await }
    });
    let issuing = issuing.buffer_unordered(8).collect::<Vec<_>>();
    let subject = Some(pb::revoke_tokens_request::Subject::Service(
        "login".to_owned(),
    ));
    let revoking = async {
        while live_tokens(&mut client.clone(), ann).await.len() < 101 {}
        client
            .clone()
            .admin
            .revoke_tokens(pb::RevokeTokensRequest { subject })
            .await
    };
    let (issued, revoked) = join(issuing, revoking).await;

    assert_eq!(
        revoked.unwrap().into_inner().revoked,
        1,
        "those of the service itself are counted"
    );
    assert_eq!(live_tokens(&mut client, ann).await, Vec::<i64>::new());
    for outcome in issued {
        match outcome {
            Ok(response) => {
                let refused = fault(app.client(&response.into_inner().secret).get(ann).await);
                assert_eq!(refused.reason, "TOKEN_REVOKED");
            }
            Err(_) => assert_eq!(fault(outcome).reason, "TOKEN_REVOKED"),
        }
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
    let listed = client
        .admin
        .list_tokens(pb::ListTokensRequest {
            subject,
            page_size: 1000,
            ..Default::default()
        })
        .await
        .unwrap();
    listed
        .into_inner()
        .tokens
        .into_iter()
        .map(|token| token.token_id)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn p67_a_repeated_issue_revokes_the_first_token_on_every_replica() {
    let app = TestApp::new().await;
    let replica = app.replica().await;
    let mut client = app.service().await;
    let ann = client.create_named("Ann").await.user_id;

    let first = client
        .admin
        .issue_token(issue_to(ann, ID))
        .await
        .unwrap()
        .into_inner();
    replica.client(&first.secret).get(ann).await.unwrap();
    let second = client
        .admin
        .issue_token(issue_to(ann, ID))
        .await
        .unwrap()
        .into_inner();
    let here = fault(app.client(&first.secret).get(ann).await);
    let (start, mut there) = (Instant::now(), replica.client(&first.secret));
    while there.get(ann).await.is_ok() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the other replica never rejects it"
        );
    }
    let ttl = Some(prost_types::Duration {
        seconds: 60,
        nanos: 0,
    });
    let reused = fault(
        client
            .admin
            .issue_token(pb::IssueTokenRequest {
                ttl,
                ..issue_to(ann, ID)
            })
            .await,
    );
    let malformed = fault(client.admin.issue_token(issue_to(ann, "1")).await);

    assert_ne!(first.secret, second.secret);
    assert_eq!(here.reason, "TOKEN_REVOKED");
    assert_eq!(
        app.client(&second.secret).get(ann).await.unwrap().user_id,
        ann
    );
    assert_eq!(
        live_tokens(&mut client, ann).await,
        [second.token.unwrap().token_id]
    );
    assert_eq!(reused.told(), ("REQUEST_ID_REUSED", vec!["request_id"]));
    assert_eq!(
        malformed.fields,
        [("request_id".to_owned(), "FIELD_FORMAT".to_owned())]
    );
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
    let request = pb::IssueTokenRequest {
        request_id: ID.to_owned(),
        ..issue("billing", &["profiles.read"])
    };
    let secret = client
        .admin
        .issue_token(request)
        .await
        .unwrap()
        .into_inner()
        .secret;

    let mut conn = app.database.connect().await;
    let rows: Vec<Vec<u8>> = Sql::<diesel::sql_types::Bytea>::new("select reply from idempotency")
        .load(&mut conn)
        .await
        .unwrap();

    assert_eq!(rows.len(), 1);
    let holds = |part: &[u8]| rows[0].windows(part.len()).any(|window| window == part);
    assert!(!holds(secret.as_bytes()) && !holds(&token::hash(&secret)));
}
