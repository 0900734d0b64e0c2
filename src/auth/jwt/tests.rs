#[path = "fixture.rs"]
mod fixture;

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use sha2::Sha256;

use super::*;
use crate::{clock::ManualClock, domain::caller::Subject, model::scope::Scope};

const ISSUER: &str = "https://issuer.test";

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_100, 0).unwrap()
}

/// A key with the claims that everything starts from.
struct Signer {
    id: String,
    key: Ed25519KeyPair,
}

impl Signer {
    fn new(id: &str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self {
            id: id.to_owned(),
            key: Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap(),
        }
    }

    fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.key.public_key());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": x})
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_with(
            &json!({"alg": "EdDSA", "kid": self.id}).to_string(),
            &claims.to_string(),
        )
    }

    fn sign_with(&self, header: &str, claims: &str) -> String {
        let message = message(header, claims);
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

fn message(header: &str, claims: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

fn set(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": "user-service", "sub": "42", "iat": start().timestamp() - 60, "exp": start().timestamp() + 3600})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

/// A server of keys that counts how often it is asked.
#[derive(Clone, Default)]
struct Server {
    document: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start(&self) -> String {
        let app = Router::new()
            .route(
                "/jwks",
                get(async |State(server): State<Server>| {
                    server.asked.fetch_add(1, Ordering::SeqCst);
                    server
                        .document
                        .lock()
                        .unwrap()
                        .clone()
                        .ok_or(StatusCode::SERVICE_UNAVAILABLE)
                }),
            )
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}/jwks")
    }

    fn serves(&self, keys: &[Value]) {
        *self.document.lock().unwrap() = Some(set(keys));
    }

    fn is_down(&self) {
        *self.document.lock().unwrap() = None;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn issuer(jwks: &str) -> JwtIssuer {
    JwtIssuer {
        issuer: ISSUER.to_owned(),
        audiences: vec!["user-service".to_owned()],
        jwks: jwks.to_owned(),
        ..JwtIssuer::default()
    }
}

struct Bench {
    server: Server,
    signer: Signer,
    clock: ManualClock,
    jwts: Jwts,
}

impl Bench {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl Fn(&mut JwtIssuer)) -> Self {
        let (server, signer) = (Server::default(), Signer::new("first"));
        server.serves(&[signer.jwk()]);
        let mut config = issuer(&server.start().await);
        change(&mut config);
        let clock = ManualClock::new(start());
        let jwts = Jwts::new(&[config], Clock::Manual(clock.clone())).unwrap();
        Self {
            server,
            signer,
            clock,
            jwts,
        }
    }

    async fn reason(&self, token: &str) -> Reason {
        self.jwts.verify(token).await.unwrap_err().reason()
    }

    async fn refuses(&self, claims: &Value) {
        assert_eq!(
            self.reason(&self.signer.sign(claims)).await,
            Reason::TokenInvalid,
            "{claims}"
        );
    }
}

#[tokio::test]
async fn p49_a_users_token_speaks_for_the_user_and_its_scopes_count_nothing() {
    let bench = Bench::new().await;
    let token = bench.signer.sign(&with("scope", json!("profiles.read users.delete")));

    let grant = bench.jwts.verify(&token).await.unwrap();

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
        let grant = bench.jwts.verify(&bench.signer.sign(&claims)).await.unwrap();
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
        let grant = bench.jwts.verify(&bench.signer.sign(&claims)).await.unwrap();
        assert_eq!(grant.caller.subject, Subject::Service("42".to_owned()));
    }
    let grant = bench
        .jwts
        .verify(&bench.signer.sign(&with("client_id", json!("42"))))
        .await
        .unwrap();
    assert_eq!(grant.caller.subject, Subject::User(42));
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
        assert!(bench.jwts.verify(&bench.signer.sign(&good)).await.is_ok(), "{good}");
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
            .verify(&bench.signer.sign(&with("aud", json!(["other", "user-service"]))))
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
    for (name, signer) in [("https://ours.test", &ours), ("https://theirs.test", &theirs)] {
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
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()));
        assert_eq!(bench.reason(&token).await, Reason::TokenInvalid);
    }
}

#[tokio::test]
async fn p49_claims_with_a_name_twice_are_refused() {
    let bench = Bench::new().await;
    let twice = claims().to_string().replacen('{', r#"{"sub":"1","#, 1);
    let token = bench.signer.sign_with(r#"{"alg":"EdDSA","kid":"first"}"#, &twice);
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

#[tokio::test]
async fn p49_es256_and_rs256_are_taken() {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
    let (x, y) = key.public_key().as_ref()[1..].split_at(32);
    let bench = Bench::new().await;
    bench.server.serves(&[
        json!({"kty": "EC", "crv": "P-256", "kid": "ec", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)}),
        json!({"kty": "RSA", "kid": "rsa", "use": "sig", "alg": "RS256", "n": fixture::RSA_N, "e": "AQAB"}),
    ]);

    let message = message(r#"{"alg":"ES256"}"#, &claims().to_string());
    let signature = key.sign(&random, message.as_bytes()).unwrap();
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));

    assert!(bench.jwts.verify(&token).await.is_ok());
    let grant = bench.jwts.verify(fixture::RSA_TOKEN).await.unwrap();
    assert_eq!(grant.caller.subject, Subject::User(42));
    let (message, _) = fixture::RSA_TOKEN.rsplit_once('.').unwrap();
    assert_eq!(bench.reason(&format!("{message}.AAAA")).await, Reason::TokenInvalid);
}

#[tokio::test]
async fn p49_an_unknown_key_id_has_the_keys_read_again_at_most_every_30_seconds() {
    let bench = Bench::new().await;
    let second = Signer::new("second");
    let token = second.sign(&claims());
    assert!(bench.jwts.verify(&bench.signer.sign(&claims())).await.is_ok());
    for _ in 0..5 {
        assert_eq!(bench.reason(&token).await, Reason::TokenInvalid);
    }
    assert_eq!(bench.server.asked(), 1);

    bench.server.serves(&[bench.signer.jwk(), second.jwk()]);
    bench.clock.advance(TimeDelta::seconds(29));
    assert_eq!(bench.reason(&token).await, Reason::TokenInvalid);
    bench.clock.advance(TimeDelta::seconds(1));
    assert!(bench.jwts.verify(&token).await.is_ok());
    assert!(bench.jwts.verify(&bench.signer.sign(&claims())).await.is_ok());
    assert_eq!(bench.server.asked(), 2);
}

#[tokio::test]
async fn p49_a_wrong_signature_of_a_known_key_reads_nothing() {
    let bench = Bench::new().await;
    assert!(bench.jwts.verify(&bench.signer.sign(&claims())).await.is_ok());
    bench.clock.advance(TimeDelta::seconds(60));
    assert_eq!(
        bench.reason(&Signer::new("first").sign(&claims())).await,
        Reason::TokenInvalid
    );
    assert_eq!(bench.server.asked(), 1);
}

#[tokio::test]
async fn p49_many_at_once_cause_one_reading() {
    let bench = Bench::new().await;
    let token = bench.signer.sign(&claims());
    let all = futures_util::future::join_all((0..20).map(|_| bench.jwts.verify(&token))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(bench.server.asked(), 1);
}

#[tokio::test]
async fn p50_the_last_keys_stay_while_their_source_is_down() {
    let bench = Bench::new().await;
    let token = bench.signer.sign(&claims());
    assert!(bench.jwts.verify(&token).await.is_ok());
    bench.server.is_down();
    bench.clock.advance(TimeDelta::seconds(60));
    // A key that nobody can tell of is not called bad.
    assert_eq!(
        bench.reason(&Signer::new("second").sign(&claims())).await,
        Reason::AuthBackendUnavailable
    );
    assert_eq!(
        bench.reason(&Signer::new("third").sign(&claims())).await,
        Reason::AuthBackendUnavailable
    );
    assert_eq!(bench.server.asked(), 2);
    assert!(bench.jwts.verify(&token).await.is_ok());
}

#[tokio::test]
async fn p50_without_any_keys_the_verifier_is_unavailable() {
    let bench = Bench::new().await;
    let token = bench.signer.sign(&claims());
    bench.server.is_down();
    assert_eq!(bench.reason(&token).await, Reason::AuthBackendUnavailable);
    bench.server.serves(&[bench.signer.jwk()]);
    assert_eq!(bench.reason(&token).await, Reason::AuthBackendUnavailable);
    bench.clock.advance(TimeDelta::seconds(2));
    assert!(bench.jwts.verify(&token).await.is_ok());

    let gone = Jwts::new(&[issuer("/no/such/file")], Clock::Manual(bench.clock.clone())).unwrap();
    assert_eq!(
        gone.verify(&token).await.unwrap_err().reason(),
        Reason::AuthBackendUnavailable
    );
}

#[tokio::test]
async fn p49_a_withdrawn_key_counts_no_more_after_minutes() {
    let bench = Bench::new().await;
    let token = bench.signer.sign(&claims());
    assert!(bench.jwts.verify(&token).await.is_ok());
    bench.server.serves(&[]);
    bench.clock.advance(TimeDelta::minutes(6));
    let refused = async {
        while bench.jwts.verify(&token).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), refused)
        .await
        .unwrap();
    assert_eq!(bench.server.asked(), 2);
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
    let faults = Jwts::new(&configs, Clock::System).err().unwrap();
    assert_eq!(faults.len(), 5, "{faults:?}");
    let unknown = serde_json::from_value::<JwtIssuer>(json!({"issuer": ISSUER, "algorithm": "none"}));
    assert!(unknown.is_err());
}
