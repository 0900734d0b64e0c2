#[path = "fixture.rs"]
mod fixture;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use hmac::{Hmac, KeyInit, Mac};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    },
};
use serde_json::json;
use sha2::Sha256;

use super::*;
use crate::{
    auth::testing::{Bench, ISSUER, Signer, claims, issuer, message, set, start, with},
    clock::ManualClock,
    model::{scope::Scope, token::Subject},
};

#[tokio::test]
async fn p49_a_users_token_speaks_for_the_user_and_its_scopes_count_nothing() {
    let bench = Bench::new().await;
    let token = bench
        .signer
        .sign(&with("scope", json!("profiles.read users.delete")));

    let grant = bench.grant(&token).await;

    assert!(bench.jwts.take(&token));
    assert_eq!(grant.caller.subject, Subject::User(42));
    assert_eq!(grant.caller.scopes, []);
    assert_eq!(grant.issued_at, start() - TimeDelta::seconds(60));
    assert_eq!(grant.expires_at, start() + TimeDelta::seconds(3630));
}

#[tokio::test]
async fn p49_a_service_is_told_by_its_client_id() {
    let bench = Bench::new().await;
    for (name, scopes) in [
        ("scope", json!("profiles.read unknown  codes.send")),
        ("scp", json!(["profiles.read", "codes.send"])),
        ("scp", json!("profiles.read codes.send")),
    ] {
        let mut claims = with("sub", json!("billing"));
        claims["client_id"] = json!("billing");
        claims[name] = scopes;
        let grant = bench.grant(&bench.signer.sign(&claims)).await;
        assert_eq!(grant.caller.subject, Subject::Service("billing".to_owned()));
        assert_eq!(grant.caller.scopes, [Scope::ProfilesRead, Scope::CodesSend]);
    }
    let mut other = with("sub", json!("billing"));
    other["client_id"] = json!("another");
    bench.refuses(&other).await;
}

#[tokio::test]
async fn p49_a_service_is_told_by_the_configured_claim_alone() {
    let bench = Bench::with(|config| {
        config.service_claim = Some("kinds".to_owned());
        config.service_value = Some("service".to_owned());
    })
    .await;
    for kinds in [json!("service"), json!(["a", "service"])] {
        let mut claims = with("sub", json!("42"));
        claims["kinds"] = kinds;
        let grant = bench.grant(&bench.signer.sign(&claims)).await;
        assert_eq!(grant.caller.subject, Subject::Service("42".to_owned()));
    }
    let grant = bench
        .grant(&bench.signer.sign(&with("client_id", json!("shop"))))
        .await;
    assert_eq!(grant.caller.subject, Subject::User(42));
    bench.refuses(&with("client_id", json!("42"))).await;
}

#[tokio::test]
async fn p49_a_users_subject_is_an_id_in_decimal() {
    let bench = Bench::new().await;
    for sub in [
        "",
        "0",
        "-1",
        "+1",
        "007",
        " 1",
        "1.0",
        "1e3",
        "alice",
        "9223372036854775808",
    ] {
        bench.refuses(&with("sub", json!(sub))).await;
    }
    bench.refuses(&with("sub", json!(42))).await;
}

#[tokio::test]
async fn p49_times_have_a_leeway_of_30_seconds() {
    let bench = Bench::new().await;
    let now = start().timestamp();
    for good in [
        with("exp", json!(now - 25)),
        with("nbf", json!(now + 25)),
        with("exp", json!(now as f64 + 0.5)),
    ] {
        assert!(
            bench.jwts.verify(&bench.signer.sign(&good)).await.is_ok(),
            "{good}"
        );
    }
    let expired = bench.signer.sign(&with("exp", json!(now - 31)));
    assert_eq!(bench.reason(&expired).await, Reason::TokenExpired);
    for bad in [
        with("nbf", json!(now + 35)),
        with("iat", json!(now + 35)),
        with("exp", json!("tomorrow")),
    ] {
        bench.refuses(&bad).await;
    }
    for bad in [json!(null), json!(1e300), json!(i64::MAX), json!(-1)] {
        bench.refuses(&with("exp", bad)).await;
    }
    let mut endless = claims();
    endless.as_object_mut().unwrap().remove("exp");
    bench.refuses(&endless).await;
}

#[tokio::test]
async fn p49_issuer_and_audience_must_be_ours() {
    let bench = Bench::new().await;
    assert!(
        bench
            .jwts
            .verify(
                &bench
                    .signer
                    .sign(&with("aud", json!(["other", "user-service"])))
            )
            .await
            .is_ok()
    );
    for aud in [
        json!("other"),
        json!(["other"]),
        json!([]),
        json!(null),
        json!({"user-service": 1}),
    ] {
        bench.refuses(&with("aud", aud)).await;
    }
    for iss in [json!("https://issuer.test/"), json!(null), json!([ISSUER])] {
        bench.refuses(&with("iss", iss)).await;
    }
}

#[tokio::test]
async fn p49_another_issuers_key_is_no_key() {
    let folder = tempdir();
    let (ours, theirs) = (Signer::new("same"), Signer::new("same"));
    let mut configs = Vec::new();
    for (name, signer) in [
        ("https://ours.test", &ours),
        ("https://theirs.test", &theirs),
    ] {
        let file = folder.join(format!("{}.json", configs.len()));
        std::fs::write(&file, set(&[signer.jwk()])).unwrap();
        let mut config = issuer(file.to_str().unwrap());
        config.issuer = name.to_owned();
        configs.push(config);
    }
    let jwts = Jwts::new(&configs, Clock::Manual(ManualClock::new(start()))).unwrap();

    assert!(
        jwts.verify(&ours.sign(&with("iss", json!("https://ours.test"))))
            .await
            .is_ok()
    );
    assert!(
        jwts.verify(&theirs.sign(&with("iss", json!("https://theirs.test"))))
            .await
            .is_ok()
    );
    let forged = jwts
        .verify(&theirs.sign(&with("iss", json!("https://ours.test"))))
        .await;
    assert_eq!(forged.unwrap_err().reason(), Reason::TokenInvalid);
    std::fs::remove_dir_all(folder).unwrap();
}

fn tempdir() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("user-service-jwt-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    folder
}

#[tokio::test]
async fn p49_forged_headers_are_refused() {
    let bench = Bench::new().await;
    let claims = claims().to_string();
    for header in [
        r#"{"kid":"first"}"#,
        r#"{"alg":"none","kid":"first"}"#,
        r#"{"alg":"NONE","kid":"first"}"#,
        r#"{"alg":"eddsa","kid":"first"}"#,
        r#"{"alg":"ES256","kid":"first"}"#,
        r#"{"alg":"RS256","kid":"first"}"#,
        r#"{"alg":"EdDSA","kid":"FIRST"}"#,
        r#"{"alg":"EdDSA","kid":1}"#,
        r#"{"alg":"EdDSA","kid":"first","crit":["exp"]}"#,
        r#"{"alg":"EdDSA","kid":"first","crit":[]}"#,
        r#"{"alg":"none","alg":"EdDSA","kid":"first"}"#,
        r#"["EdDSA"]"#,
        "",
    ] {
        assert_eq!(
            bench.reason(&bench.signer.sign_with(header, &claims)).await,
            Reason::TokenInvalid,
            "{header}"
        );
    }
    let unsigned = format!("{}.", message(r#"{"alg":"none"}"#, &claims));
    assert_eq!(bench.reason(&unsigned).await, Reason::TokenInvalid);
}

#[tokio::test]
async fn p49_the_public_key_is_no_secret_of_hs256() {
    let bench = Bench::new().await;
    let message = message(r#"{"alg":"HS256","kid":"first"}"#, &claims().to_string());
    for secret in [
        bench.signer.key.public_key().as_ref().to_vec(),
        bench.signer.jwk()["x"].to_string().into_bytes(),
    ] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
        mac.update(message.as_bytes());
        let token = format!(
            "{message}.{}",
            URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
        );
        assert_eq!(bench.reason(&token).await, Reason::TokenInvalid);
    }
}

#[tokio::test]
async fn p49_claims_with_a_name_twice_are_refused() {
    let bench = Bench::new().await;
    let twice = claims().to_string().replacen('{', r#"{"sub":"1","#, 1);
    let token = bench
        .signer
        .sign_with(r#"{"alg":"EdDSA","kid":"first"}"#, &twice);
    assert_eq!(bench.reason(&token).await, Reason::TokenInvalid);
}

#[tokio::test]
async fn p49_broken_forms_are_refused() {
    let bench = Bench::new().await;
    let good = bench.signer.sign(&claims());
    let changed = good.replacen(
        &URL_SAFE_NO_PAD.encode(claims().to_string()),
        &URL_SAFE_NO_PAD.encode(with("sub", json!("43")).to_string()),
        1,
    );
    let deep = message(r#"{"alg":"EdDSA"}"#, &"[".repeat(4000)) + ".AAAA";
    for token in [
        "",
        "..",
        "a.b.c",
        "e30.e30.",
        &format!("{good}."),
        &format!("{good}="),
        &format!("{good}A"),
        &changed,
        &deep,
    ] {
        assert_eq!(bench.reason(token).await, Reason::TokenInvalid, "{token}");
    }
    let large = format!("{}.a.a", "a".repeat(64 * 1024));
    assert_eq!(bench.reason(&large).await, Reason::TokenMalformed);
}

/// Longer than the lifetime of the fixture's tokens.
fn a_century(config: &mut JwtIssuer) {
    config.max_lifetime_hours = 24 * 365 * 100;
}

#[tokio::test]
async fn p49_four_more_algorithms_are_accepted() {
    let random = SystemRandom::new();
    let bench = Bench::with(a_century).await;
    let (mut keys, mut tokens) = (
        Vec::new(),
        vec![fixture::RSA_TOKEN.to_owned(), fixture::PSS_TOKEN.to_owned()],
    );
    for (name, curve, scheme) in [
        ("ES256", "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING),
        ("ES384", "P-384", &ECDSA_P384_SHA384_FIXED_SIGNING),
    ] {
        let document = EcdsaKeyPair::generate_pkcs8(scheme, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(scheme, document.as_ref(), &random).unwrap();
        let public = &key.public_key().as_ref()[1..];
        let (x, y) = public.split_at(public.len() / 2);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        keys.push(json!({"kty": "EC", "crv": curve, "kid": name, "x": x, "y": y}));
        let message = message(&json!({"alg": name}).to_string(), &claims().to_string());
        let signature = key.sign(&random, message.as_bytes()).unwrap();
        tokens.push(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)));
    }
    keys.push(json!({"kty": "RSA", "kid": "rsa", "use": "sig", "alg": "RS256", "n": fixture::RSA_N, "e": "AQAB"}));
    keys.push(json!({"kty": "RSA", "kid": "pss", "n": fixture::PSS_N, "e": "AQAB"}));
    bench.server.serves(&keys);

    for token in tokens {
        assert_eq!(bench.grant(&token).await.caller.subject, Subject::User(42));
        let (message, _) = token.rsplit_once('.').unwrap();
        assert_eq!(
            bench.reason(&format!("{message}.AAAA")).await,
            Reason::TokenInvalid
        );
    }
}

#[tokio::test]
async fn p49_a_key_for_one_algorithm_verifies_no_other() {
    let bench = Bench::with(a_century).await;
    bench.server.serves(&[
        json!({"kty": "RSA", "kid": "pss", "alg": "RS256", "n": fixture::PSS_N, "e": "AQAB"}),
    ]);
    assert_eq!(bench.reason(fixture::PSS_TOKEN).await, Reason::TokenInvalid);
}

#[tokio::test]
async fn p49_the_type_of_a_token_is_that_of_an_access_token() {
    let bench = Bench::new().await;
    let typed = |typ: serde_json::Value| {
        let header = json!({"alg": "EdDSA", "kid": "first", "typ": typ}).to_string();
        bench.signer.sign_with(&header, &claims().to_string())
    };
    for typ in ["JWT", "jwt", "at+jwt", "application/at+jwt", "AT+JWT"] {
        assert!(bench.jwts.verify(&typed(json!(typ))).await.is_ok(), "{typ}");
    }
    for typ in [
        json!("id+jwt"),
        json!("dpop+jwt"),
        json!("logout+jwt"),
        json!("application/"),
        json!(""),
        json!(1),
    ] {
        assert_eq!(
            bench.reason(&typed(typ.clone())).await,
            Reason::TokenInvalid,
            "{typ}"
        );
    }
}

#[tokio::test]
async fn p49_a_lifetime_beyond_the_configured_one_is_invalid() {
    let bench = Bench::with(|config| config.max_lifetime_hours = 2).await;
    let issued_at = start().timestamp() - 60;
    let of = |seconds: i64| with("exp", json!(issued_at + seconds));
    assert!(
        bench
            .jwts
            .verify(&bench.signer.sign(&of(7200)))
            .await
            .is_ok()
    );
    bench.refuses(&of(7201)).await;

    let mut undated = with("exp", json!(start().timestamp() + 7201));
    undated.as_object_mut().unwrap().remove("iat");
    bench.refuses(&undated).await;
    bench.clock.advance(TimeDelta::seconds(1));
    assert!(
        bench
            .jwts
            .verify(&bench.signer.sign(&undated))
            .await
            .is_ok()
    );
}

fn of_service(name: &str) -> serde_json::Value {
    let mut claims = with("sub", json!(name));
    claims["client_id"] = json!(name);
    claims["scope"] = json!("profiles.read users.delete");
    claims
}

#[tokio::test]
async fn p49_an_issuer_grants_no_more_than_its_reach() {
    let bench = Bench::with(|config| {
        config.services = Some(vec!["billing".to_owned()]);
        config.scopes = Some(vec!["profiles.read".to_owned(), "codes.send".to_owned()]);
        config.users = false;
    })
    .await;

    let grant = bench
        .grant(&bench.signer.sign(&of_service("billing")))
        .await;

    assert_eq!(grant.caller.scopes, [Scope::ProfilesRead]);
    bench.refuses(&of_service("shipping")).await;
    bench.refuses(&claims()).await;
}

#[tokio::test]
async fn p49_no_token_speaks_for_the_operator_or_the_bootstrap_token() {
    let bench = Bench::new().await;
    for name in ["operator", "bootstrap"] {
        bench.refuses(&of_service(name)).await;
    }
}

#[tokio::test]
async fn p49_a_token_like_a_services_without_its_claim_is_no_users() {
    let by_claim = Bench::with(|config| {
        config.service_claim = Some("kind".to_owned());
        config.service_value = Some("service".to_owned());
    })
    .await;
    for bench in [by_claim, Bench::new().await] {
        for (claim, value) in [
            ("azp", "42"),
            ("appid", "42"),
            ("cid", "42"),
            ("idtyp", "app"),
            ("gty", "client-credentials"),
        ] {
            bench.refuses(&with(claim, json!(value))).await;
        }
        // A user token names the client that it was issued to.
        assert!(
            bench
                .jwts
                .verify(&bench.signer.sign(&with("azp", json!("shop"))))
                .await
                .is_ok()
        );
    }
}

#[tokio::test]
async fn p49_a_subject_is_that_of_a_connection_where_configured() {
    let bench = Bench::with(|config| config.user_provider = Some("example_id".to_owned())).await;
    for subject in ["0b7e9c1a-0000-4000-8000-000000000001", "42"] {
        match bench
            .jwts
            .verify(&bench.signer.sign(&with("sub", json!(subject))))
            .await
            .unwrap()
        {
            Verified::Linked(linked) => assert_eq!(
                (&*linked.provider, &*linked.subject),
                ("example_id", subject)
            ),
            Verified::Known(grant) => panic!("{grant:?}"),
        }
    }
    // The second is the NFC form of the first, so one connection would match two subjects.
    assert!(
        bench
            .jwts
            .verify(&bench.signer.sign(&with("sub", json!("\u{e9}"))))
            .await
            .is_ok()
    );
    for subject in ["e\u{301}", "", "a\nb"] {
        bench.refuses(&with("sub", json!(subject))).await;
    }
}

#[tokio::test]
async fn p49_the_longest_token_is_configured() {
    let bench = Bench::new().await;
    let long = bench.signer.sign(&with("groups", json!("g".repeat(9000))));

    let longer = bench.jwts.clone().with_max_bytes(16 * 1024);

    assert_eq!(bench.reason(&long).await, Reason::TokenMalformed);
    assert!(longer.verify(&long).await.is_ok());
}

#[test]
fn faults_of_the_configuration_are_told_together() {
    let half = JwtIssuer {
        service_claim: Some("kind".to_owned()),
        ..issuer("keys.json")
    };
    let configs = [
        JwtIssuer::default(),
        half,
        issuer(""),
        issuer("https://"),
        issuer("a.json"),
        issuer("b.json"),
    ];
    let errors = Jwts::new(&configs, Clock::System).err().unwrap();
    assert_eq!(errors.len(), 5, "{errors:?}");
    let text = |name: &str| Some(name.to_owned());
    for reach in [
        JwtIssuer {
            scopes: Some(vec!["profiles.raed".to_owned()]),
            ..issuer("a.json")
        },
        JwtIssuer {
            services: Some(vec!["operator".to_owned()]),
            ..issuer("a.json")
        },
        JwtIssuer {
            users: false,
            user_provider: text("example_id"),
            ..issuer("a.json")
        },
        JwtIssuer {
            user_provider: text("Example"),
            ..issuer("a.json")
        },
        JwtIssuer {
            max_lifetime_hours: 0,
            ..issuer("a.json")
        },
    ] {
        assert_eq!(JwtIssuer::errors(&[reach]).len(), 1);
    }
    let unknown =
        serde_json::from_value::<JwtIssuer>(json!({"issuer": ISSUER, "algorithm": "none"}));
    assert!(unknown.is_err());
}
