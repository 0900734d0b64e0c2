//! Signed tokens of external issuers: key sets, algorithms, claims and outages.

use chrono::TimeDelta;
use serde_json::json;
use tonic::Code;
use user_service::{config::Secret, convert::pb};

use super::{
    Stage, USER_ID, call, claims,
    revocation::{becomes, hears},
    with,
};
use crate::support::{
    TestApp, fault,
    issuer::{Issuer, Signer},
    start_time,
};

#[path = "../../../src/auth/jwt/fixture.rs"]
mod fixture;

#[tokio::test]
async fn p49_tokens_of_five_algorithms_speak_for_a_user() {
    // The tokens of the fixture live for decades.
    let stage = Stage::trusting(|issuer| issuer.max_lifetime_hours = 24 * 365 * 100).await;
    let es256 = Signer::es256("second");
    let rsa = json!({"kty": "RSA", "kid": "rsa", "use": "sig", "alg": "RS256", "n": fixture::RSA_N, "e": "AQAB"});
    let pss = json!({"kty": "RSA", "kid": "pss", "n": fixture::PSS_N, "e": "AQAB"});
    let es384 = Signer::es384("third");
    stage
        .issuer
        .serves(&[stage.signer.jwk(), es256.jwk(), es384.jwk(), rsa, pss]);

    let signers = [&stage.signer, &es256, &es384];
    let fixtures = [fixture::RSA_TOKEN, fixture::PSS_TOKEN].map(str::to_owned);
    for token in signers
        .map(|signer| signer.sign(&claims()))
        .into_iter()
        .chain(fixtures)
    {
        let mut client = stage.app.client(&token);
        let own = client
            .users
            .get_profile(pb::GetProfileRequest::default())
            .await
            .unwrap()
            .into_inner();
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
    let mut users = stage.app.client(
        &stage
            .signer
            .sign(&with("scope", "profiles.read users.delete")),
    );

    for mut client in [
        scoped("scope", json!("openid profiles.read")),
        scoped("scp", json!(["profiles.read"])),
    ] {
        client.get(USER_ID).await.unwrap();
        let deleted = fault(
            client
                .admin
                .delete_user(pb::DeleteUserRequest {
                    user_id: USER_ID,
                    ..Default::default()
                })
                .await,
        );
        assert_eq!(
            (deleted.code, deleted.reason.as_str()),
            (Code::PermissionDenied, "SCOPE_MISSING")
        );
    }
    let listed = fault(
        users
            .users
            .list_profiles(pb::ListProfilesRequest::default())
            .await,
    );
    assert_eq!(listed.reason, "SCOPE_MISSING");
}

#[tokio::test]
async fn p49_a_claim_of_the_configuration_makes_a_service() {
    let issuer = Issuer::start().await;
    let signer = Signer::eddsa("first");
    issuer.serves(&[signer.jwk()]);
    let mut trusted = issuer.config();
    (trusted.service_claim, trusted.service_value) =
        (Some("kind".to_owned()), Some("machine".to_owned()));
    let app = TestApp::configured(|config| config.auth.issuers = vec![trusted]).await;
    let mut service = with("kind", "machine");
    service["scope"] = "profiles.read".into();
    let mut pretender = with("client_id", "42");
    pretender["scope"] = "profiles.read".into();

    let mut service = app.client(&signer.sign(&service));
    let mut pretender = app.client(&signer.sign(&pretender));

    service
        .users
        .list_profiles(pb::ListProfilesRequest::default())
        .await
        .unwrap();
    let refused = fault(
        pretender
            .users
            .list_profiles(pb::ListProfilesRequest::default())
            .await,
    );
    assert_eq!(refused.reason, "TOKEN_INVALID");
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
        assert_eq!(
            stage.call(&stage.signer.sign(&with(name, seconds))).await,
            outcome,
            "{name} {seconds}"
        );
    }
}

#[tokio::test]
async fn p50_a_kept_verdict_ends_with_the_token() {
    let stage = Stage::new().await;
    let token = stage
        .signer
        .sign(&with("exp", start_time().timestamp() + 5));

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

    // The key may be newer than the reading, so the token is not called bad before the keys can be
    // read again.
    stage.app.clock.advance(TimeDelta::seconds(1));
    for number in 0..20 {
        let newer = with("iat", start_time().timestamp() + 1);
        let newer = next.sign_with(
            &json!({"alg": "EdDSA", "kid": "next", "number": number}),
            &newer,
        );
        assert_eq!(stage.call(&newer).await, "AUTH_BACKEND_UNAVAILABLE");
    }
    assert_eq!(stage.issuer.asked(), 1);
    stage.app.clock.advance(TimeDelta::seconds(31));
    assert_eq!(stage.call(&next.sign(&claims())).await, "OK");
    assert_eq!(stage.issuer.asked(), 2);
    stage.app.clock.advance(TimeDelta::seconds(31));
    assert_eq!(
        stage.call(&Signer::eddsa("never").sign(&claims())).await,
        "TOKEN_INVALID"
    );
    assert_eq!(stage.issuer.asked(), 3);
}

#[tokio::test]
async fn p50_the_last_keys_stay_while_their_source_is_down() {
    let stage = Stage::new().await;
    assert_eq!(stage.call(&stage.signer.sign(&claims())).await, "OK");
    stage.issuer.goes_down();
    stage.app.clock.advance(TimeDelta::minutes(20));

    assert_eq!(stage.call(&stage.signer.sign(&with("jti", 2))).await, "OK");
    let refused = fault(
        stage
            .app
            .client(&Signer::eddsa("next").sign(&claims()))
            .get(USER_ID)
            .await,
    );
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::Unavailable, "AUTH_BACKEND_UNAVAILABLE")
    );
}

#[tokio::test]
async fn p50_a_token_that_cannot_be_checked_is_not_a_bad_one() {
    let stage = Stage::new().await;
    stage.issuer.goes_down();

    assert_eq!(
        stage.call(&stage.signer.sign(&claims())).await,
        "AUTH_BACKEND_UNAVAILABLE"
    );
    stage.issuer.serves(&[stage.signer.jwk()]);
    stage.app.clock.advance(TimeDelta::seconds(3));
    assert_eq!(stage.call(&stage.signer.sign(&claims())).await, "OK");
}

#[tokio::test]
async fn p49_the_bootstrap_token_makes_the_first_call() {
    let secret = "only-for-the-first-call";
    let app =
        TestApp::configured(|config| config.auth.bootstrap_token = Some(Secret(secret.to_owned())))
            .await;
    let request = pb::IssueTokenRequest {
        subject: Some(pb::issue_token_request::Subject::Service(
            "admin".to_owned(),
        )),
        scopes: vec!["profiles.read".to_owned()],
        ttl: None,
        ..Default::default()
    };

    let issued = app
        .client(secret)
        .admin
        .issue_token(request)
        .await
        .unwrap()
        .into_inner()
        .secret;

    app.client(&issued)
        .users
        .list_profiles(pb::ListProfilesRequest::default())
        .await
        .unwrap();
    assert_eq!(
        call(&mut app.client("only-for-the-first-calL")).await,
        "TOKEN_INVALID"
    );
}

fn link(subject: &str) -> pb::LinkConnectionRequest {
    pb::LinkConnectionRequest {
        user_id: USER_ID,
        provider: "example_id".to_owned(),
        subject: subject.to_owned(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p49_a_token_speaks_for_the_user_with_its_connection_as_long_as_it_is_linked() {
    let stage =
        Stage::trusting(|issuer| issuer.user_provider = Some("example_id".to_owned())).await;
    let there = stage.replica().await;
    hears(&there, &stage.app).await;
    let mut service = stage.app.service().await;
    let subject = "0b7e9c1a-0000-4000-8000-000000000001";
    let token = stage.signer.sign(&with("sub", subject));
    let numeric = stage.signer.sign(&claims());

    assert_eq!(
        stage.call(&token).await,
        "TOKEN_INVALID",
        "nobody has the connection"
    );
    let username = pb::Account {
        username: Some("ann.lee".to_owned()),
        ..Default::default()
    };
    let named = pb::UpdateAccountRequest {
        user_id: USER_ID,
        account: Some(username),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["username".to_owned()],
        }),
        ..Default::default()
    };
    service.users.update_account(named).await.unwrap();
    let linked = service
        .admin
        .link_connection(link(subject))
        .await
        .unwrap()
        .into_inner()
        .connection
        .unwrap();
    // A bad verdict counts for five seconds.
    stage.app.clock.advance(TimeDelta::seconds(5));
    assert_eq!(stage.call(&token).await, "OK");
    assert_eq!(
        stage.call(&numeric).await,
        "TOKEN_INVALID",
        "no subject is an id here"
    );
    let mut client = there.client(&token);
    assert_eq!(call(&mut client).await, "OK");

    let unlink = pb::UpdateAccountRequest {
        user_id: USER_ID,
        unlink_connection_id: linked.connection_id,
        ..Default::default()
    };
    service.users.update_account(unlink).await.unwrap();

    // The clock stands still, so that no verdict is too old.
    assert_eq!(stage.call(&token).await, "TOKEN_INVALID");
    becomes(&mut client, "TOKEN_INVALID").await;
}

#[tokio::test]
async fn p49_a_token_over_8_kib_is_accepted_where_configured() {
    let stage = Stage::new().await;
    let trusted = stage.trusted.clone();
    let there = stage.app.replica_configured(|config| {
        config.auth.issuers = vec![trusted.clone()];
        config.auth.max_token_bytes = 32 * 1024;
    });
    let token = stage.signer.sign(&with("groups", "g".repeat(12_000)));

    assert_eq!(stage.call(&token).await, "TOKEN_MALFORMED");
    assert_eq!(call(&mut there.await.client(&token)).await, "OK");
}
