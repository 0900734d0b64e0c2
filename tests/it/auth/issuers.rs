use chrono::TimeDelta;
use serde_json::json;
use tonic::Code;
use user_service::{config::Secret, wire::pb};

use super::{Stage, USER_ID, call, claims, with};
use crate::support::{
    TestApp, fault,
    issuer::{Issuer, Signer},
    start_time,
};

#[path = "../../../src/auth/jwt/fixture.rs"]
mod fixture;

#[tokio::test]
async fn p49_tokens_of_three_algorithms_speak_for_a_user() {
    let stage = Stage::new().await;
    let es256 = Signer::es256("second");
    let rsa = json!({"kty": "RSA", "kid": "rsa", "use": "sig", "alg": "RS256", "n": fixture::RSA_N, "e": "AQAB"});
    stage.issuer.serves(&[stage.signer.jwk(), es256.jwk(), rsa]);

    for token in [stage.signer.sign(&claims()), es256.sign(&claims()), fixture::RSA_TOKEN.to_owned()] {
        let mut client = stage.app.client(&token);
        let own = client.users.get_profile(pb::GetProfileRequest::default()).await.unwrap().into_inner();
        assert_eq!(own.profile.unwrap().user_id, USER_ID);
    }
    assert_eq!(stage.issuer.asked(), 1);
}

#[tokio::test]
async fn p49_a_service_has_the_scopes_of_its_token_and_a_user_has_none() {
    let stage = Stage::new().await;
    let scoped = |name: &str, scopes: serde_json::Value| {
        let mut claims = with("sub", "billing");
        claims["client_id"] = "billing".into();
        claims[name] = scopes;
        stage.app.client(&stage.signer.sign(&claims))
    };
    let mut users = stage.app.client(&stage.signer.sign(&with("scope", "profiles.read users.delete")));

    for mut client in [scoped("scope", json!("openid profiles.read")), scoped("scp", json!(["profiles.read"]))] {
        client.get(USER_ID).await.unwrap();
        let deleted =
            fault(client.admin.delete_user(pb::DeleteUserRequest { user_id: USER_ID, ..Default::default() }).await);
        assert_eq!((deleted.code, deleted.reason.as_str()), (Code::PermissionDenied, "SCOPE_MISSING"));
    }
    let listed = fault(users.users.list_profiles(pb::ListProfilesRequest::default()).await);
    assert_eq!(listed.reason, "SCOPE_MISSING");
}

#[tokio::test]
async fn p49_a_claim_of_the_configuration_makes_a_service() {
    let issuer = Issuer::start().await;
    let signer = Signer::eddsa("first");
    issuer.serves(&[signer.jwk()]);
    let mut trusted = issuer.config();
    (trusted.service_claim, trusted.service_value) = (Some("kind".to_owned()), Some("machine".to_owned()));
    let app = TestApp::configured(|config| config.auth.issuers = vec![trusted]).await;
    let mut service = with("kind", "machine");
    service["scope"] = "profiles.read".into();
    let mut pretender = with("client_id", "42");
    pretender["scope"] = "profiles.read".into();

    let mut service = app.client(&signer.sign(&service));
    let mut pretender = app.client(&signer.sign(&pretender));

    service.users.list_profiles(pb::ListProfilesRequest::default()).await.unwrap();
    let refused = fault(pretender.users.list_profiles(pb::ListProfilesRequest::default()).await);
    assert_eq!(refused.reason, "SCOPE_MISSING");
}

#[tokio::test]
async fn p49_times_have_a_leeway_of_30_seconds() {
    let stage = Stage::new().await;
    let now = start_time().timestamp();
    for (name, seconds, outcome) in [
        ("nbf", now + 25, "OK"),
        ("nbf", now + 40, "TOKEN_INVALID"),
        ("iat", now + 40, "TOKEN_INVALID"),
        ("exp", now - 25, "OK"),
        ("exp", now - 40, "TOKEN_EXPIRED"),
    ] {
        assert_eq!(stage.call(&stage.signer.sign(&with(name, seconds))).await, outcome, "{name} {seconds}");
    }
}

#[tokio::test]
async fn p50_a_kept_verdict_ends_with_the_token() {
    let stage = Stage::new().await;
    let token = stage.signer.sign(&with("exp", start_time().timestamp() + 5));

    assert_eq!(stage.call(&token).await, "OK");
    stage.app.clock.advance(TimeDelta::seconds(34));
    assert_eq!(stage.call(&token).await, "OK");
    stage.app.clock.advance(TimeDelta::seconds(2));
    assert_eq!(stage.call(&token).await, "TOKEN_EXPIRED");
}

#[tokio::test]
async fn p49_an_unknown_key_id_has_the_keys_read_again_at_most_every_30_seconds() {
    let stage = Stage::new().await;
    assert_eq!(stage.call(&stage.signer.sign(&claims())).await, "OK");
    let next = Signer::eddsa("next");
    stage.issuer.serves(&[stage.signer.jwk(), next.jwk()]);

    for number in 0..20 {
        assert_eq!(stage.call(&next.sign(&with("jti", number))).await, "TOKEN_INVALID");
    }
    assert_eq!(stage.issuer.asked(), 1);
    stage.app.clock.advance(TimeDelta::seconds(31));
    assert_eq!(stage.call(&next.sign(&claims())).await, "OK");
    assert_eq!(stage.call(&Signer::eddsa("never").sign(&claims())).await, "TOKEN_INVALID");
    assert_eq!(stage.issuer.asked(), 2);
}

#[tokio::test]
async fn p50_the_last_keys_stay_while_their_source_is_down() {
    let stage = Stage::new().await;
    assert_eq!(stage.call(&stage.signer.sign(&claims())).await, "OK");
    stage.issuer.goes_down();
    stage.app.clock.advance(TimeDelta::minutes(20));

    assert_eq!(stage.call(&stage.signer.sign(&with("jti", 2))).await, "OK");
    let refused = fault(stage.app.client(&Signer::eddsa("next").sign(&claims())).get(USER_ID).await);
    assert_eq!((refused.code, refused.reason.as_str()), (Code::Unavailable, "AUTH_BACKEND_UNAVAILABLE"));
}

#[tokio::test]
async fn p50_a_token_that_cannot_be_checked_is_not_a_bad_one() {
    let stage = Stage::new().await;
    stage.issuer.goes_down();

    assert_eq!(stage.call(&stage.signer.sign(&claims())).await, "AUTH_BACKEND_UNAVAILABLE");
    stage.issuer.serves(&[stage.signer.jwk()]);
    stage.app.clock.advance(TimeDelta::seconds(3));
    assert_eq!(stage.call(&stage.signer.sign(&claims())).await, "OK");
}

#[tokio::test]
async fn p49_the_bootstrap_token_makes_the_first_call() {
    let secret = "only-for-the-first-call";
    let app = TestApp::configured(|config| config.auth.bootstrap_token = Some(Secret(secret.to_owned()))).await;
    let request = pb::IssueTokenRequest {
        subject: Some(pb::issue_token_request::Subject::Service("admin".to_owned())),
        scopes: vec!["profiles.read".to_owned()],
        ttl: None,
        ..Default::default()
    };

    let issued = app.client(secret).admin.issue_token(request).await.unwrap().into_inner().secret;

    app.client(&issued).users.list_profiles(pb::ListProfilesRequest::default()).await.unwrap();
    assert_eq!(call(&mut app.client("only-for-the-first-calL")).await, "TOKEN_INVALID");
}
