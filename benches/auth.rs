//! What it costs to tell who calls: CPU of one call through the layer for each kind of token, with and without a kept
//! verdict, beside the same call without the layer.
//!
//! `cargo bench --bench auth`. It uses the database of `DATABASE_URL`, where it makes one of its own, else a Postgres of
//! its own. Everything runs on one thread, whose time on a CPU is counted; Postgres's own is not in it.

use std::{convert::Infallible, fs, future::Future};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use diesel_async::SimpleAsyncConnection;
use http::{Request, Response};
use prost::Message;
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::json;
use tonic::body::Body;
use tower::{Layer, ServiceExt, service_fn};
use user_service::{
    app::{self, App},
    auth::jwt::JwtIssuer,
    clock::Clock,
    config::{Config, Secret, SecretKey, key_text},
    domain::caller::{Caller, Subject},
    door::Door,
    grpc,
    model::scope::Scope,
    postgres,
    store::schema,
    wire::pb,
};

const DATABASE: &str = "user_service_bench_auth";
const ISSUER: &str = "https://issuer.test";
/// Calls with a verdict that is kept, and calls of an empty service.
const MANY: usize = 200_000;
/// Calls whose token was never seen, and whole calls.
const FEW: usize = 3_000;

fn main() {
    // `cargo test --benches` would run it too, which is nothing that a test should wait for.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let server = std::env::var("DATABASE_URL").is_err().then(|| {
        let folder = postgres::default_folder().join("bench-auth");
        postgres::Server::start(&postgres::Settings { folder: &folder, extra: &[] }).expect("Postgres")
    });
    let url = server.as_ref().map_or_else(|| std::env::var("DATABASE_URL").expect("set"), |own| own.url("postgres"));
    let migrating = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let database = migrating.block_on(prepare(&url));
    drop(migrating);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure(database));
}

async fn prepare(url: &str) -> String {
    let mut conn = schema::connect(url, None).await.expect("a connection");
    let statement = format!("drop database if exists {DATABASE} with (force)");
    conn.batch_execute(&statement).await.expect("no database");
    conn.batch_execute(&format!("create database {DATABASE}")).await.expect("a database");
    let mut url = url::Url::parse(url).expect("a URL");
    url.set_path(DATABASE);
    schema::migrate(url.as_str(), None).await.expect("the migrations run");
    url.into()
}

async fn measure(database: String) {
    let signer = Signer::new();
    let app = build(database, &signer);
    let service = Subject::Service("bench".to_owned());
    let create = pb::CreateUserRequest {
        profile: Some(pb::Profile { nickname: "Ann".to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let user = app.api.create_user(&Caller::operator(), create).await.expect("a user").profile.expect("a user").user_id;
    let issue = async |subject: &Subject, scopes: &[Scope]| {
        app.api.tokens().issue(subject, scopes, TimeDelta::days(1)).await.expect("a token").1
    };
    let mut opaque = Vec::new();
    for _ in 0..FEW {
        opaque.push(issue(&service, Scope::ALL).await);
    }
    let of_user: Vec<String> = (0..FEW).map(|number| signer.sign(&user.to_string(), number)).collect();
    let of_service: Vec<String> = (0..FEW).map(|number| signer.sign("bench", number)).collect();

    let empty = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::empty())));
    let guarded = Door::new(app.api.clone()).layer(empty);
    let services = grpc::Services::new(app.api.clone(), tonic_health::server::health_reporter().1, false);
    let admitted = Caller::new(service, Scope::ALL.to_vec());
    let bare = services.map_request(move |mut request: Request<Body>| {
        request.extensions_mut().insert(admitted.clone());
        request
    });
    let whole = per_call(FEW, |_| bare.clone().oneshot(request("", user))).await;
    let nothing = per_call(MANY, |_| empty.oneshot(request("", user))).await;
    println!("{:<46}{:>10.1} µs", "GetProfile without the layer", whole);
    println!("{:<46}{:>10.1} µs", "an empty call without the layer", nothing);
    for (name, tokens) in [("opaque token", &opaque), ("JWT of a service", &of_service), ("JWT of a user", &of_user)] {
        let ask = async |token: &str| {
            let answered = guarded.clone().oneshot(request(token, user)).await?;
            assert!(!answered.headers().contains_key("grpc-status"), "{:?}", answered.headers());
            Ok::<_, Infallible>(answered)
        };
        let uncached = per_call(FEW, |number| ask(&tokens[number])).await - nothing;
        let cached = per_call(MANY, |_| ask(&tokens[0])).await - nothing;
        for (kind, cost) in [("cached", cached), ("uncached", uncached)] {
            let ratio = (whole + cost) / whole;
            println!("{:<46}{cost:>10.1} µs   GetProfile × {ratio:.3}", format!("the layer, {kind} {name}"));
        }
    }
}

/// Microseconds of CPU of one call.
async fn per_call<F: Future<Output = Result<Response<Body>, Infallible>>>(
    calls: usize,
    call: impl Fn(usize) -> F,
) -> f64 {
    let start = cpu_nanos();
    for number in 0..calls {
        let Ok(response) = call(number).await;
        drop(response);
    }
    (cpu_nanos() - start) as f64 / calls as f64 / 1000.0
}

/// What this thread has had of a CPU.
fn cpu_nanos() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("a number")
}

fn request(token: &str, user_id: i64) -> Request<Body> {
    let key = Some(pb::get_profile_request::Key::UserId(user_id));
    let message = pb::GetProfileRequest { key, read_mask: None }.encode_to_vec();
    let frame = [&[0][..], &u32::try_from(message.len()).expect("short").to_be_bytes(), &message].concat();
    let body = Body::new(http_body_util::Full::new(bytes::Bytes::from(frame)));
    Request::post("/user.v1.UserService/GetProfile")
        .header("content-type", "application/grpc")
        .header("authorization", format!("Bearer {token}"))
        .body(body)
        .expect("a request")
}

fn build(database: String, signer: &Signer) -> App {
    let keys = std::env::temp_dir().join(format!("user-service-bench-{}.json", std::process::id()));
    fs::write(&keys, json!({ "keys": [signer.jwk()] }).to_string()).expect("a file");
    let mut config = Config::default();
    config.database.url = Secret(database);
    config.secrets.keys = vec![SecretKey { id: "bench".to_owned(), key: Secret(key_text([7; 32])) }];
    config.auth.issuers = vec![JwtIssuer {
        issuer: ISSUER.to_owned(),
        audiences: vec!["user-service".to_owned()],
        jwks: keys.to_str().expect("UTF-8").to_owned(),
        ..Default::default()
    }];
    app::build(&config, Clock::System).expect("an app")
}

struct Signer(Ed25519KeyPair);

impl Signer {
    fn new() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        Self(Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key"))
    }

    fn jwk(&self) -> serde_json::Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "bench", "x": URL_SAFE_NO_PAD.encode(self.0.public_key())})
    }

    fn sign(&self, subject: &str, number: usize) -> String {
        let now = Clock::System.now().timestamp();
        let mut claims = json!({
            "iss": ISSUER, "aud": "user-service", "sub": subject, "jti": number, "iat": now, "exp": now + 3600,
        });
        if subject == "bench" {
            claims["client_id"] = subject.into();
            claims["scope"] = "profiles.read".into();
        }
        let header = json!({"alg": "EdDSA", "kid": "bench"});
        let message =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = URL_SAFE_NO_PAD.encode(self.0.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}
