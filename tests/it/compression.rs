//! Compressed requests and responses, and content types, over both transports.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::{client::legacy::Client as HttpClient, rt::TokioExecutor};
use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, codec::CompressionEncoding, metadata::MetadataValue};
use user_service::{convert::pb, model::scope::Scope};

use crate::support::{
    TestApp, fault,
    rest::{Caller, make_user},
};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn p57_grpc_accepts_gzip_and_zstd_and_compresses_large_responses() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let mut first = 0;
    for index in 0..60 {
        let user_id = service.create_named(&format!("{index:032}")).await.user_id;
        first = if index == 0 { user_id } else { first };
    }
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut client = service
            .users
            .clone()
            .send_compressed(encoding)
            .accept_compressed(encoding);
        let small = pb::ListProfilesRequest {
            page_size: 2,
            ..Default::default()
        };
        assert_eq!(
            client
                .list_profiles(small)
                .await
                .unwrap()
                .into_inner()
                .profiles
                .len(),
            2
        );
        let mask = prost_types::FieldMask {
            paths: vec!["nickname".to_owned()],
        };
        let keys = (0..100)
            .map(|_| pb::ProfileKey {
                key: Some(pb::profile_key::Key::UserId(first)),
            })
            .collect();
        let request = pb::BatchGetProfilesRequest {
            keys,
            read_mask: Some(mask),
        };
        assert_eq!(
            client
                .batch_get_profiles(request)
                .await
                .unwrap()
                .into_inner()
                .results
                .len(),
            100
        );
        let large = pb::ListProfilesRequest {
            page_size: 1000,
            ..Default::default()
        };
        assert_eq!(
            client
                .list_profiles(large)
                .await
                .unwrap()
                .into_inner()
                .profiles
                .len(),
            60
        );
    }
}

/// The body of ListProfiles as it travels, for a caller that accepts gzip.
async fn list_as_sent(app: &TestApp, page_size: i32) -> Vec<u8> {
    let message = pb::ListProfilesRequest {
        page_size,
        ..Default::default()
    }
    .encode_to_vec();
    let framed = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
    let client = HttpClient::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let request = Request::post(format!(
        "http://{}/userservice.v1.UserService/ListProfiles",
        app.address()
    ))
    .header("content-type", "application/grpc")
    .header("te", "trailers")
    .header("grpc-accept-encoding", "identity,deflate,gzip")
    .header(
        "authorization",
        format!("Bearer {}", app.issue_service(Scope::ALL).await),
    )
    .body(Full::new(bytes::Bytes::from(framed)))
    .unwrap();
    client
        .request(request)
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes()
        .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn p57_only_large_responses_are_compressed() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    for index in 0..60 {
        let avatar_url = format!("https://example.com/{}", "x".repeat(400));
        let profile = pb::Profile {
            nickname: format!("{index:032}"),
            avatar_url,
            ..Default::default()
        };
        service
            .create(pb::CreateUserRequest {
                profile: Some(profile),
                ..Default::default()
            })
            .await
            .unwrap();
    }
    let (small, large) = (list_as_sent(&app, 2).await, list_as_sent(&app, 60).await);
    assert_eq!((small[0], large[0]), (0, 1), "the flag of compression");
    assert!(large.len() < 16 * 1024, "{}", large.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn p57_the_limit_of_a_message_counts_what_is_decompressed() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let ann = service.create_named("Ann").await.user_id;
    let client = app.user(ann).await;
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut client = client.users.clone().send_compressed(encoding);
        let profile = pb::Profile {
            nickname: "x".repeat(200_000),
            ..Default::default()
        };
        let request = pb::UpdateProfileRequest {
            profile: Some(profile),
            ..Default::default()
        };
        let fault = fault(client.update_profile(request).await);
        assert_eq!(
            (fault.code, fault.reason.as_str()),
            (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
            "{encoding:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p57_another_encoding_is_rejected_with_those_that_are_supported() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let mut request = tonic::Request::new(pb::GetProfileRequest::default());
    request
        .metadata_mut()
        .insert("grpc-encoding", MetadataValue::from_static("br"));
    let status = service.users.get_profile(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    let accepted = status
        .metadata()
        .get("grpc-accept-encoding")
        .unwrap()
        .to_str()
        .unwrap();
    assert!(
        accepted.contains("gzip") && accepted.contains("zstd"),
        "{accepted}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn p57_what_is_not_grpc_gets_415() {
    let app = TestApp::new().await;
    let client = HttpClient::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    for content_type in [
        "application/json",
        "application/grpc-web+proto",
        "text/plain",
    ] {
        let request = Request::post(format!(
            "http://{}/userservice.v1.UserService/GetProfile",
            app.address()
        ))
        .header("content-type", content_type)
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
        let response = client.request(request).await.unwrap();
        assert_eq!(
            response.status(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "{content_type}"
        );
        assert!(
            response
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .is_empty()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p57_bodies_of_the_gateway_may_be_compressed() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let user_id = make_user(&service, "Ann").await;
    let path = format!("/v1/users/{user_id}/profile");
    let body = json!({ "profile": { "nickname": "Ben" }, "updateMask": "nickname" }).to_string();

    let compressed = service
        .with("content-encoding", "gzip")
        .with("content-type", "application/json");
    let reply = compressed.send("PATCH", &path, gzip(body.as_bytes())).await;
    assert_eq!(
        (reply.status, &reply.body["profile"]["nickname"]),
        (StatusCode::OK, &json!("Ben"))
    );

    let bomb = gzip(&vec![b' '; 4 * 1024 * 1024]);
    assert_eq!(
        compressed.send("PATCH", &path, bomb).await.status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    let reply = compressed.send("PATCH", &path, body.clone()).await;
    assert_eq!(
        (reply.status, reply.reason()),
        (StatusCode::BAD_REQUEST, "INVALID_REQUEST")
    );

    let unsupported = service
        .with("content-encoding", "br")
        .send("PATCH", &path, body.clone())
        .await;
    assert_eq!(unsupported.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let form = service
        .with("content-type", "application/x-www-form-urlencoded")
        .send("PATCH", &path, body)
        .await;
    assert_eq!(form.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let import = compressed
        .send("POST", "/v1/users:import", gzip(b"{}\n"))
        .await;
    assert_eq!(import.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_ne!(import.body, Value::Null);
}
