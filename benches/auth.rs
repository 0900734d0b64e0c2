//! What it costs to tell who calls: CPU of one verdict for each kind of token, kept and new, and of
//! the whole layer around a call, beside GetProfile without that layer.
//!
//! `cargo bench --bench auth`. It uses the database of `DATABASE_URL`, where it makes one of its
//! own, else a Postgres of its own. Everything runs on one thread, whose time on a CPU is counted;
//! Postgres's own is not in it.

#[path = "common/folder.rs"]
mod folder;

use std::{convert::Infallible, fs, path::Path, sync::Arc};

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
    call_guard::CallGuard,
    clock::Clock,
    config::{Config, Secret, SecretKey, key_text},
    convert::pb,
    dev::postgres,
    domain::caller::Caller,
    grpc,
    model::{scope::Scope, token::Subject},
    store::schema,
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
    let folder = folder::Folder::open(None, "auth").expect("a folder");
    let server = std::env::var("DATABASE_URL").is_err().then(|| {
        postgres::Server::start(&postgres::Settings {
            folder: &folder.path,
            extra: &[],
        })
        .expect("Postgres")
    });
    let url = server.as_ref().map_or_else(
        || std::env::var("DATABASE_URL").expect("set"),
        |own| own.url("postgres"),
    );
    let migrating = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let database = migrating.block_on(prepare(&url));
    drop(migrating);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(measure(database, &folder.path));
}

async fn prepare(url: &str) -> String {
    let mut conn = schema::connect(url, None).await.expect("a connection");
    let statement = format!("drop database if exists {DATABASE} with (force)");
    conn.batch_execute(&statement).await.expect("no database");
    conn.batch_execute(&format!("create database {DATABASE}"))
        .await
        .expect("a database");
    let mut url = url::Url::parse(url).expect("a URL");
    url.set_path(DATABASE);
    schema::migrate(url.as_str(), None)
        .await
        .expect("the migrations run");
    url.into()
}

async fn measure(database: String, folder: &Path) {
    let signer = Signer::new();
    let app = build(database, folder, &signer);
    let service = Subject::Service("bench".to_owned());
    let create = pb::CreateUserRequest {
        profile: Some(pb::Profile {
            nickname: "Ann".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let user = app
        .api
        .create_user(&Caller::operator(), create)
        .await
        .expect("a user")
        .profile
        .expect("a user")
        .user_id;
    let issue = async |subject: &Subject, scopes: &[Scope]| {
        app.api
            .tokens()
            .issue(subject, scopes, TimeDelta::days(1))
            .await
            .expect("a token")
            .1
    };
    let mut opaque = Vec::new();
    for _ in 0..FEW {
        opaque.push(issue(&service, Scope::ALL).await);
    }
    let of_user: Vec<String> = (0..FEW)
        .map(|number| signer.sign(&user.to_string(), number))
        .collect();
    let of_service: Vec<String> = (0..FEW)
        .map(|number| signer.sign("bench", number))
        .collect();

    let empty =
        service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::empty())));
    let guarded = CallGuard::new(app.api.clone(), app.callers.clone(), app.deadlines).layer(empty);
    let services = grpc::Services::new(
        app.api.clone(),
        tonic_health::server::health_reporter().1,
        &Config::default().grpc,
    );
    let admitted = Arc::new(Caller::new(service, Scope::ALL.to_vec()));
    let bare = services.map_request(move |mut request: Request<Body>| {
        request.extensions_mut().insert(admitted.clone());
        request
    });
    let whole = per_call(FEW, async |_| answer(bare.clone(), request("", user)).await).await;
    println!("{:<46}{:>10.1} µs", "GetProfile without the layer", whole);
    let told = |what: String, cost: f64| {
        println!(
            "{what:<46}{cost:>10.1} µs   GetProfile × {:.3}",
            (whole + cost) / whole
        );
    };
    for (name, tokens) in [
        ("opaque token", &opaque),
        ("JWT of a service", &of_service),
        ("JWT of a user", &of_user),
    ] {
        let verify = async |number: usize| {
            drop(app.api.verify(&tokens[number]).await.expect("a good token"))
        };
        told(
            format!("who calls, uncached {name}"),
            per_call(FEW, verify).await,
        );
        told(
            format!("who calls, cached {name}"),
            per_call(MANY, async |_| verify(0).await).await,
        );
        let nothing = per_call(MANY, async |_| {
            answer(empty, request(&tokens[0], user)).await
        })
        .await;
        let layer = per_call(MANY, async |_| {
            answer(guarded.clone(), request(&tokens[0], user)).await
        })
        .await;
        told(format!("the whole layer, cached {name}"), layer - nothing);
    }
}

/// One call that must be answered well.
async fn answer<S>(service: S, request: Request<Body>)
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let Ok(response) = service.oneshot(request).await;
    let status = response.headers().get("grpc-status");
    assert!(
        status.is_none_or(|status| status == "0"),
        "{:?}",
        response.headers()
    );
}

/// Microseconds of CPU of one call.
async fn per_call(calls: usize, call: impl AsyncFn(usize)) -> f64 {
    let start = cpu_nanos();
    for number in 0..calls {
        call(number).await;
    }
    (cpu_nanos() - start) as f64 / calls as f64 / 1000.0
}

/// What this thread has had of a CPU.
fn cpu_nanos() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split(' ')
        .next()
        .and_then(|nanos| nanos.parse().ok())
        .expect("a number")
}

fn request(token: &str, user_id: i64) -> Request<Body> {
    let key = Some(pb::get_profile_request::Key::UserId(user_id));
    let message = pb::GetProfileRequest {
        key,
        read_mask: None,
    }
    .encode_to_vec();
    let frame = [
        &[0][..],
        &u32::try_from(message.len()).expect("short").to_be_bytes(),
        &message,
    ]
    .concat();
    let body = Body::new(http_body_util::Full::new(bytes::Bytes::from(frame)));
    Request::post("/userservice.v1.UserService/GetProfile")
        .header("content-type", "application/grpc")
        .header("authorization", format!("Bearer {token}"))
        .body(body)
        .expect("a request")
}

fn build(database: String, folder: &Path, signer: &Signer) -> App {
    let keys = folder.join("keys.json");
    fs::write(&keys, json!({ "keys": [signer.jwk()] }).to_string()).expect("a file");
    let mut config = Config::default();
    config.database.url = Secret(database);
    config.secrets.keys = vec![SecretKey {
        id: "bench".to_owned(),
        key: Secret(key_text([7; 32])),
    }];
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
        let message = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = URL_SAFE_NO_PAD.encode(self.0.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}
