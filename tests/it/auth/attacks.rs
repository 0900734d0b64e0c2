//! Forged, stolen and malformed tokens are rejected.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use diesel::sql_types::BigInt;
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use futures_util::{StreamExt, stream};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;
use user_service::{auth::jwt::JwtIssuer, convert::pb, store::sql::Sql};

use super::{Stage, call, claims, with};
use crate::support::{
    TestApp, fault,
    issuer::{Issuer, Signer, message},
    start_time,
};

#[tokio::test]
async fn p49_no_algorithm_is_no_signature() {
    let stage = Stage::new().await;
    for algorithm in ["none", "None", "NONE", ""] {
        let header = json!({"alg": algorithm, "kid": "first"});
        let unsigned = format!("{}.", message(&header, &claims()));
        assert_eq!(stage.call(&unsigned).await, "TOKEN_INVALID", "{algorithm}");
        assert_eq!(
            stage
                .call(&stage.signer.sign_with(&header, &claims()))
                .await,
            "TOKEN_INVALID",
            "{algorithm}"
        );
    }
}

#[tokio::test]
async fn p49_the_public_key_is_no_secret_of_hs256() {
    let stage = Stage::new().await;
    let message = message(&json!({"alg": "HS256", "kid": "first"}), &claims());
    for secret in [
        stage.signer.public(),
        stage.signer.jwk()["x"].as_str().unwrap().as_bytes(),
    ] {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
        mac.update(message.as_bytes());
        let forged = format!(
            "{message}.{}",
            URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
        );
        assert_eq!(stage.call(&forged).await, "TOKEN_INVALID");
    }
}

#[tokio::test]
async fn p49_the_key_of_that_id_must_have_signed() {
    let stage = Stage::new().await;
    let stranger = Signer::eddsa("first");
    for header in [
        json!({"alg": "EdDSA", "kid": "first"}),
        json!({"alg": "EdDSA"}),
    ] {
        assert_eq!(
            stage.call(&stranger.sign_with(&header, &claims())).await,
            "TOKEN_INVALID"
        );
    }
    for id in ["other", "FIRST", "../first", ""] {
        let token = stage
            .signer
            .sign_with(&json!({"alg": "EdDSA", "kid": id}), &claims());
        assert_eq!(stage.call(&token).await, "TOKEN_INVALID", "{id}");
    }
}

#[tokio::test]
async fn p49_a_key_in_the_token_is_no_key() {
    let stage = Stage::new().await;
    let stranger = Signer::eddsa("own");
    let url = "http://127.0.0.1:1/jwks";
    for header in [
        json!({"alg": "EdDSA", "jwk": stranger.jwk()}),
        json!({"alg": "EdDSA", "kid": "own", "jku": url}),
        json!({"alg": "EdDSA", "kid": "own", "x5u": url}),
    ] {
        assert_eq!(
            stage.call(&stranger.sign_with(&header, &claims())).await,
            "TOKEN_INVALID",
            "{header}"
        );
    }
}

#[tokio::test]
async fn p49_another_issuers_key_is_no_key() {
    let (ours, theirs) = (Issuer::start().await, Issuer::start().await);
    let (our_key, their_key) = (Signer::eddsa("same"), Signer::eddsa("same"));
    ours.serves(&[our_key.jwk()]);
    theirs.serves(&[their_key.jwk()]);
    let other = JwtIssuer {
        issuer: "https://other.test".to_owned(),
        ..theirs.config()
    };
    let app = TestApp::configured(|config| config.auth.issuers = vec![ours.config(), other]).await;

    let forged = their_key.sign(&claims());
    let unknown = our_key.sign(&with("iss", "https://unknown.test"));
    let theirs = their_key.sign(&with("iss", "https://other.test"));

    assert_eq!(call(&mut app.client(&forged)).await, "TOKEN_INVALID");
    assert_eq!(call(&mut app.client(&unknown)).await, "TOKEN_INVALID");
    // A good one of theirs is taken, and then its user is not there.
    assert_eq!(call(&mut app.client(&theirs)).await, "USER_NOT_FOUND");
}

#[tokio::test]
async fn p49_expired_tokens_are_told_so() {
    let stage = Stage::new().await;
    assert_eq!(
        stage
            .call(
                &stage
                    .signer
                    .sign(&with("exp", start_time().timestamp() - 31))
            )
            .await,
        "TOKEN_EXPIRED"
    );
    for exp in [json!(null), json!("4102444800"), json!(-1), json!(1e300)] {
        assert_eq!(
            stage
                .call(&stage.signer.sign(&with("exp", exp.clone())))
                .await,
            "TOKEN_INVALID",
            "{exp}"
        );
    }
}

#[tokio::test]
async fn p49_tokens_from_the_future_are_refused() {
    let stage = Stage::new().await;
    for name in ["nbf", "iat"] {
        let token = stage
            .signer
            .sign(&with(name, start_time().timestamp() + 3600));
        assert_eq!(stage.call(&token).await, "TOKEN_INVALID", "{name}");
    }
}

#[tokio::test]
async fn p49_a_token_for_another_service_is_refused() {
    let stage = Stage::new().await;
    for audience in [
        json!("billing"),
        json!(["billing", "mail"]),
        json!([]),
        json!(null),
        json!("user-service,x"),
    ] {
        let token = stage.signer.sign(&with("aud", audience.clone()));
        assert_eq!(stage.call(&token).await, "TOKEN_INVALID", "{audience}");
    }
    assert_eq!(
        stage
            .call(
                &stage
                    .signer
                    .sign(&with("aud", json!(["billing", "user-service"])))
            )
            .await,
        "OK"
    );
}

#[tokio::test]
async fn p48_a_token_of_64_kb_is_malformed() {
    let stage = Stage::new().await;
    let long = "a".repeat(64 * 1024);
    for token in [
        long.clone(),
        format!("{long}.{long}.a")[..64 * 1024].to_owned(),
        format!("us_{long}"),
    ] {
        assert_eq!(stage.call(&token).await, "TOKEN_MALFORMED");
    }
    // What is longer still breaks a bound of the transport, before anything of ours is asked.
    let endless = stage
        .app
        .client(&"a".repeat(1024 * 1024))
        .get(1)
        .await
        .unwrap_err();
    assert_ne!(endless.code(), Code::Ok);
    assert_eq!(stage.call(&stage.signer.sign(&claims())).await, "OK");
}

#[tokio::test]
async fn p48_line_breaks_in_the_header_break_the_call() {
    let stage = Stage::new().await;
    let token = stage.signer.sign(&claims());

    for value in [
        format!("Bearer {token}\r\n x"),
        format!("Bearer {token}\r x"),
        format!("Bearer\r\n {token}"),
    ] {
        // RST_STREAM or GOAWAY: nothing that a service would ever see.
        assert!(
            matches!(answer_to_frames(&stage.app, &value).await, 3 | 7),
            "{value:?}"
        );
        let answer = answer_over_http1(&stage.app, &value).await;
        let is_refused = ["HTTP/1.1 400 ", "HTTP/1.1 401 "]
            .iter()
            .any(|start| answer.starts_with(start));
        assert!(is_refused, "{value:?}: {answer}");
    }
    assert_eq!(
        answer_to_frames(&stage.app, &format!("Bearer {token}")).await,
        1
    );
    assert!(
        answer_over_http1(&stage.app, &format!("Bearer {token}"))
            .await
            .starts_with("HTTP/1.1 200 ")
    );
}

/// The kind of the first frame that answers a call whose header no client of ours would send.
async fn answer_to_frames(app: &TestApp, authorization: &str) -> u8 {
    let mut headers = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/userservice.v1.UserService/GetProfile"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("authorization", authorization),
    ] {
        headers.push(0);
        for text in [name, value] {
            write_length(&mut headers, text.len());
            headers.extend_from_slice(text.as_bytes());
        }
    }
    let mut stream = TcpStream::connect(app.address()).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let length = u32::try_from(headers.len()).unwrap().to_be_bytes();
    stream
        .write_all(&[&length[1..], &[1, 5, 0, 0, 0, 1], &headers].concat())
        .await
        .unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let mut body = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut body).await.unwrap();
        // SETTINGS, PING and WINDOW_UPDATE answer nothing.
        if !matches!(head[3], 4 | 6 | 8) {
            return head[3];
        }
    }
}

/// An integer of HPACK with a prefix of seven bits.
fn write_length(headers: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else {
        return headers.push(length as u8);
    };
    headers.push(127);
    while rest >= 128 {
        headers.push(rest as u8 | 128);
        rest >>= 7;
    }
    headers.push(rest as u8);
}

async fn answer_over_http1(app: &TestApp, authorization: &str) -> String {
    let mut stream = TcpStream::connect(app.rest()).await.unwrap();
    let request = format!(
        "GET /v1/users/me/profile HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: {authorization}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn p50_thousands_of_bad_tokens_leave_the_database_to_good_ones() {
    let stage = Stage::new().await;
    let mut good = stage.app.client(&stage.signer.sign(&claims()));
    assert_eq!(call(&mut good).await, "OK");
    let stranger = stage.app.stranger();
    let flood = stream::iter(0..3000).for_each_concurrent(64, |number| {
        let mut users = stranger.users.clone();
        async move {
            let mut request = tonic::Request::new(pb::GetProfileRequest::default());
            request.metadata_mut().insert(
                "authorization",
                format!("Bearer us_{number}").parse().unwrap(),
            );
            assert_eq!(
                fault(users.get_profile(request).await).reason,
                "TOKEN_INVALID"
            );
        }
    });
    let calls = async {
        for _ in 0..50 {
            let outcome = tokio::time::timeout(Duration::from_secs(5), call(&mut good)).await;
            assert_eq!(outcome.expect("a good token is not kept waiting"), "OK");
        }
    };

    tokio::join!(flood, calls);

    let mut conn = stage.app.database.connect().await;
    let statement = Sql::<BigInt>::new(
        "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
    );
    let connections: i64 = statement.get_result(&mut conn).await.unwrap();
    assert!(
        connections <= 10,
        "{connections} of 16 connections and one that listens"
    );
}

#[tokio::test]
async fn p50_a_bad_token_is_looked_up_once() {
    let stage = Stage::new().await;
    assert_eq!(stage.call("us_bad").await, "TOKEN_INVALID");
    let mut conn = stage.app.database.connect().await;
    conn.batch_execute("alter table tokens rename to away")
        .await
        .unwrap();

    assert_eq!(stage.call("us_bad").await, "TOKEN_INVALID");
    assert_eq!(stage.call("us_other").await, "AUTH_BACKEND_UNAVAILABLE");
}

#[tokio::test]
async fn p50_a_forged_signature_never_reaches_the_database() {
    let stage = Stage::new().await;
    assert_eq!(stage.call(&stage.signer.sign(&claims())).await, "OK");
    let mut conn = stage.app.database.connect().await;
    conn.batch_execute("alter table accounts rename to away")
        .await
        .unwrap();

    for number in 0..100 {
        assert_eq!(
            stage
                .call(&Signer::eddsa("first").sign(&with("jti", number)))
                .await,
            "TOKEN_INVALID"
        );
    }
    assert_eq!(
        stage.call(&stage.signer.sign(&with("jti", 1))).await,
        "AUTH_BACKEND_UNAVAILABLE"
    );
}
