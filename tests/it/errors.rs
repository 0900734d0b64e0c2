//! Errors: code, reason and details of every reason, the same over gRPC and REST.

use std::{collections::HashMap, convert::Infallible, process::Command};

use tonic::{Code, Status, body::Body};
use tower::{Layer, ServiceExt, service_fn};
use user_service::{call_guard::CallGuard, config::Secret, convert::pb};

use crate::support::{TestApp, fault};

#[tokio::test]
async fn details_stay_under_four_kibibytes_however_many_faults() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let paths = (0..400)
        .map(|number| format!("unknown_{number}_{}", "x".repeat(200)))
        .collect();
    let request = pb::GetProfileRequest {
        key: Some(pb::get_profile_request::Key::UserId(1)),
        read_mask: Some(prost_types::FieldMask { paths }),
    };

    let refused = fault(client.users.get_profile(request).await);

    assert!(refused.details_size < 4096, "{}", refused.details_size);
    let omitted: usize = refused.metadata["violationsOmitted"].parse().unwrap();
    assert_eq!(omitted + refused.fields.len(), 400);
}

#[tokio::test]
async fn message_over_the_limit_says_so() {
    let app = TestApp::new().await;
    let mut client = app.service().await;

    let refused = fault(
        client
            .create(crate::support::person(&"x".repeat(5_000_000)))
            .await,
    );

    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::ResourceExhausted, "MESSAGE_TOO_LARGE")
    );
}

/// Python's own client and its rich status, against what our clients do not send: broken bytes,
/// unknown methods.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_client_reads_every_error_the_transport_makes() {
    const SCRIPT: &str = r#"
import json, sys, grpc
from grpc_status import rpc_status
from google.rpc import error_details_pb2 as details
address, token = sys.argv[1:]
channel = grpc.insecure_channel(address)
def call(method, body, metadata=(("authorization", "Bearer " + token),)):
    stub = channel.unary_unary(method, request_serializer=None, response_deserializer=None)
    try:
        stub(body, metadata=metadata, timeout=10)
        return "OK"
    except grpc.RpcError as error:
        info, request = details.ErrorInfo(), details.RequestInfo()
        status = rpc_status.from_call(error)
        for detail in status.details:
            detail.Unpack(info) or detail.Unpack(request)
        assert info.domain == "userservice.v1" and request.request_id, status
        return f"{error.code().name} {info.reason}"
get = "/userservice.v1.UserService/GetProfile"
print(json.dumps({
    "broken": call(get, b"\xff\xff\xff"),
    "utf8": call(get, b"\x12\x02\xff\xfe"),
    "deep": call("/userservice.v1.UserService/ListProfiles", b"\x0a\x02" * 200),
    "unknown": call("/userservice.v1.UserService/Nothing", b""),
    "two": call(get, b"", (("authorization", "Bearer a"), ("authorization", "Bearer b"))),
    "none": call(get, b"", ()),
}))
"#;
    let app = TestApp::new().await;
    let client = app.service().await;
    drop(client);
    let (_, secret) = app
        .api
        .tokens()
        .issue(
            &user_service::model::token::Subject::Service("python".to_owned()),
            user_service::model::scope::Scope::ALL,
            chrono::TimeDelta::days(1),
        )
        .await
        .unwrap();
    let python = crate::cli::clients().join("python");
    let address = app.address().to_string();

    let output = tokio::task::spawn_blocking(move || {
        Command::new(python)
            .args(["-c", SCRIPT, &address, &secret])
            .output()
            .unwrap()
    })
    .await
    .unwrap();

    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let told: HashMap<String, String> = serde_json::from_slice(&output.stdout).unwrap();
    let expected = [
        ("broken", "INVALID_ARGUMENT INVALID_REQUEST"),
        ("utf8", "INVALID_ARGUMENT INVALID_REQUEST"),
        ("deep", "INVALID_ARGUMENT INVALID_REQUEST"),
        ("unknown", "UNIMPLEMENTED METHOD_UNKNOWN"),
        ("two", "UNAUTHENTICATED TOKEN_MALFORMED"),
        ("none", "UNAUTHENTICATED TOKEN_MISSING"),
    ];
    for (case, answer) in expected {
        assert_eq!(told[case], answer, "{case}");
    }
}

async fn broken(_: http::Request<Body>) -> Result<http::Response<Body>, Infallible> {
    panic!("on purpose")
}

#[tokio::test]
async fn a_call_that_panics_is_internal_and_says_so_to_its_caller() {
    let app = TestApp::configured(|config| {
        config.auth.bootstrap_token = Some(Secret("a-token-of-the-first-call".to_owned()));
    })
    .await;
    let request = http::Request::post("/userservice.v1.UserService/GetProfile")
        .header("authorization", "Bearer a-token-of-the-first-call")
        .header("content-type", "application/grpc")
        .body(Body::empty())
        .unwrap();

    let response = CallGuard::new(app.api.clone(), app.app.callers.clone(), app.app.deadlines)
        .layer(service_fn(broken))
        .oneshot(request)
        .await
        .unwrap();

    let told = fault(Err::<(), _>(
        Status::from_header_map(response.headers()).unwrap(),
    ));
    assert_eq!(
        (told.code, told.reason.as_str()),
        (Code::Internal, "INTERNAL")
    );
    assert!(response.headers().contains_key("x-request-id"));
}
