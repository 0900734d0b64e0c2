//! Client certificates: which service they identify, and which are rejected.

use std::{net::SocketAddr, time::Duration};

use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use user_service::{
    auth::tls::{CertificateService, Tls},
    config::Config,
    convert::pb,
    model::{scope::Scope, token::Subject},
};

use crate::support::{
    Client, TestApp,
    certificates::{Authority, Leaf},
    fault,
    folder::Folder,
};

const BILLING: &str = "spiffe://test/billing";

/// TLS with a certificate for `localhost`, in files of the folder.
fn tls(folder: &Folder, ca: &Authority) -> Tls {
    let leaf = ca.issue("localhost");
    Tls {
        cert: folder.write("cert.pem", &leaf.cert),
        key: folder.write("key.pem", &leaf.key),
        client_ca: Some(folder.write("ca.pem", &ca.pem())),
        client_required: false,
        services: vec![CertificateService {
            san: BILLING.to_owned(),
            service: "billing".to_owned(),
            scopes: vec!["profiles.read".to_owned()],
        }],
    }
}

async fn app(folder: &Folder, ca: &Authority) -> TestApp {
    let tls = tls(folder, ca);
    TestApp::configured(|config: &mut Config| {
        config.grpc.tls = Some(tls.clone());
        config.rest.tls = Some(tls);
    })
    .await
}

fn channel(address: SocketAddr, ca: &Authority, shown: Option<&Leaf>) -> Channel {
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca.pem()))
        .domain_name("localhost");
    if let Some(leaf) = shown {
        tls = tls.identity(Identity::from_pem(&leaf.cert, &leaf.key));
    }
    Endpoint::from_shared(format!("https://{address}"))
        .unwrap()
        .tls_config(tls)
        .unwrap()
        .connect_lazy()
}

async fn list(client: &mut Client) -> Result<(), tonic::Status> {
    client
        .users
        .list_profiles(pb::ListProfilesRequest::default())
        .await
        .map(drop)
}

#[tokio::test]
async fn p52_a_certificate_is_a_services_identity_with_the_scopes_of_the_configuration() {
    let (folder, ca) = (Folder::new(), Authority::new());
    let app = app(&folder, &ca).await;
    let mut billing = Client::over(channel(app.address(), &ca, Some(&ca.issue(BILLING))), None);
    let mut stranger = Client::over(
        channel(app.address(), &ca, Some(&ca.issue("spiffe://test/other"))),
        None,
    );
    let mut nobody = Client::over(channel(app.address(), &ca, None), None);
    let mut forger = Client::over(
        channel(app.address(), &ca, Some(&Authority::new().issue(BILLING))),
        None,
    );

    list(&mut billing).await.unwrap();
    let deleted = fault(
        billing
            .admin
            .delete_user(pb::DeleteUserRequest {
                user_id: 1,
                ..Default::default()
            })
            .await,
    );

    assert_eq!(
        (deleted.code, deleted.reason.as_str()),
        (Code::PermissionDenied, "SCOPE_MISSING")
    );
    assert_eq!(fault(list(&mut stranger).await).reason, "TOKEN_MISSING");
    assert_eq!(fault(list(&mut nobody).await).reason, "TOKEN_MISSING");
    assert!(list(&mut forger).await.is_err());
    let mut health = HealthClient::new(channel(app.address(), &ca, None));
    health.check(HealthCheckRequest::default()).await.unwrap();
}

#[tokio::test]
async fn p52_a_token_that_is_shown_decides() {
    let (folder, ca) = (Folder::new(), Authority::new());
    let app = app(&folder, &ca).await;
    let subject = Subject::Service("a".to_owned());
    let (_, secret) = app
        .api
        .tokens()
        .issue(&subject, &[Scope::UsersDelete], chrono::TimeDelta::days(1))
        .await
        .unwrap();
    let channel = channel(app.address(), &ca, Some(&ca.issue(BILLING)));
    let mut with_token = Client::over(channel.clone(), Some(&secret));
    let mut with_bad_token = Client::over(channel, Some("us_bad"));

    let deleted = fault(
        with_token
            .admin
            .delete_user(pb::DeleteUserRequest {
                user_id: 1,
                ..Default::default()
            })
            .await,
    );

    assert_eq!(deleted.reason, "USER_NOT_FOUND");
    assert_eq!(fault(list(&mut with_token).await).reason, "SCOPE_MISSING");
    assert_eq!(
        fault(list(&mut with_bad_token).await).reason,
        "TOKEN_INVALID"
    );
}

#[tokio::test]
async fn p52_a_port_with_tls_speaks_nothing_else() {
    let (folder, ca) = (Folder::new(), Authority::new());
    let app = app(&folder, &ca).await;
    let mut plain = app.service().await;
    assert!(list(&mut plain).await.is_err());
}

/// Calls the REST port over TLS with these headers, to `/v1/profiles`, or with another method than
/// GET to `/v1/users`; gives status and body.
async fn browse(
    app: &TestApp,
    ca: &Authority,
    shown: Option<&Leaf>,
    method: &str,
    headers: &[(&str, &str)],
    body: &'static str,
) -> (u16, String) {
    use http_body_util::{BodyExt, Full};
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};
    use rustls::pki_types::{PrivateKeyDer, pem::PemObject};

    let mut roots = rustls::RootCertStore::empty();
    user_service::tls::add(&mut roots, ca.pem().as_bytes()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(user_service::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match shown {
        Some(leaf) => {
            let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
            let chain = user_service::tls::certificates(leaf.cert.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_only()
        .enable_http1()
        .build();
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let path = if method == "GET" {
        "/v1/profiles"
    } else {
        "/v1/users"
    };
    let mut request = http::Request::builder()
        .method(method)
        .uri(format!("https://localhost:{}{path}", app.rest().port()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let reply = client
        .request(request.body(Full::<bytes::Bytes>::from(body)).unwrap())
        .await
        .unwrap();
    let status = reply.status().as_u16();
    (
        status,
        String::from_utf8_lossy(&reply.into_body().collect().await.unwrap().to_bytes())
            .into_owned(),
    )
}

#[tokio::test]
async fn p52_a_certificate_does_not_count_for_pages_of_other_sites() {
    const JSON: (&str, &str) = ("content-type", "application/json");
    let (folder, ca) = (Folder::new(), Authority::new());
    let mut tls = tls(&folder, &ca);
    tls.services[0].scopes = vec!["users.create".to_owned()];
    let app = TestApp::configured(|config: &mut Config| {
        config.rest.tls = Some(tls);
        config.rest.cors_origins = vec!["https://app.example.com".to_owned(), "*".to_owned()];
    })
    .await;
    let leaf = ca.issue(BILLING);
    let post = async |headers: &[(&str, &str)]| {
        browse(&app, &ca, Some(&leaf), "POST", headers, "{}").await
    };

    for fine in [
        &[JSON][..],
        &[JSON, ("sec-fetch-site", "same-origin")],
        &[
            JSON,
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://app.example.com"),
        ],
    ] {
        let (status, body) = post(fine).await;
        assert_eq!(status, 200, "{fine:?}: {body}");
    }
    for other in [
        &[JSON, ("sec-fetch-site", "cross-site")][..],
        &[JSON, ("sec-fetch-site", "same-site")],
        &[JSON, ("origin", "https://other.example.com")],
        &[("content-type", "text/plain"), ("origin", "null")],
    ] {
        let (status, body) = post(other).await;
        assert_eq!(
            (status, body.contains("TOKEN_MISSING")),
            (401, true),
            "{other:?}: {body}"
        );
    }
    for form in [
        &[("content-type", "text/plain")][..],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[],
    ] {
        let (status, body) = post(form).await;
        assert_eq!(
            (status, body.contains("INVALID_REQUEST")),
            (415, true),
            "{form:?}: {body}"
        );
    }
    let secret = app.issue_service(&[Scope::UsersCreate]).await;
    let bearer = format!("Bearer {secret}");
    let (status, body) =
        post(&[("authorization", &bearer), ("sec-fetch-site", "cross-site")]).await;
    assert_eq!(status, 200, "a page knows its token: {body}");
}

#[tokio::test]
async fn p52_the_rest_port_takes_certificates_too() {
    let (folder, ca) = (Folder::new(), Authority::new());
    let app = app(&folder, &ca).await;
    let ask = async |shown: Option<Leaf>| browse(&app, &ca, shown.as_ref(), "GET", &[], "").await;

    let (status, body) = ask(Some(ca.issue(BILLING))).await;
    assert_eq!(status, 200, "{body}");
    let (status, body) = ask(None).await;
    assert_eq!(
        (status, body.contains("TOKEN_MISSING")),
        (401, true),
        "{body}"
    );
}

#[tokio::test]
async fn p52_replaced_files_are_taken_without_a_restart_and_bad_ones_are_not() {
    let (folder, ca, next) = (Folder::new(), Authority::new(), Authority::new());
    let app = app(&folder, &ca).await;
    let answers = async |ca: &Authority| {
        let mut health = HealthClient::new(channel(app.address(), ca, None));
        health.check(HealthCheckRequest::default()).await.is_ok()
    };
    assert!(answers(&ca).await);

    folder.write("key.pem", "no key");
    let leaf = next.issue("localhost");
    folder.write("cert.pem", &leaf.cert);
    assert!(answers(&ca).await);
    folder.write("key.pem", &leaf.key);
    let taken = async {
        while !answers(&next).await {
            assert!(
                answers(&ca).await || answers(&next).await,
                "it always answers by one of them"
            );
        }
    };
    tokio::time::timeout(Duration::from_secs(30), taken)
        .await
        .unwrap();

    assert!(!answers(&ca).await);
}

#[tokio::test]
async fn p61_reflection_is_there_where_it_is_wanted() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest,
    };

    let has_reflection = async |wanted: bool| {
        let app = TestApp::configured(|config| config.grpc.reflection = wanted).await;
        let channel = Endpoint::from_shared(format!("http://{}", app.address()))
            .unwrap()
            .connect_lazy();
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = ServerReflectionClient::new(channel);
        match client
            .server_reflection_info(tokio_stream::once(request))
            .await
        {
            Ok(reply) => reply.into_inner().message().await.map(drop),
            Err(status) => Err(status),
        }
    };

    has_reflection(true).await.unwrap();
    assert_eq!(
        has_reflection(false).await.unwrap_err().code(),
        Code::Unimplemented
    );
}
