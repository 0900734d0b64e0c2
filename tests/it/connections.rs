//! Clients that take connections, streams and time without a token: each attack in small, with low
//! limits.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::{
    Code,
    transport::{Certificate, ClientTlsConfig, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus::Serving, health_client::HealthClient,
};
use user_service::{auth::tls::Tls, convert::pb, net::Limits};

use crate::support::{
    Client, TestApp, TestDatabase,
    certificates::Authority,
    fault,
    folder::Folder,
    frames::{DATA, GOAWAY, HEADERS, PING, RST_STREAM, RawHttp2, SETTINGS},
    serve::{Serve, get},
};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

async fn app(limit: impl FnOnce(&mut Limits)) -> TestApp {
    TestApp::configured(|config| limit(&mut config.limits)).await
}

/// Waits for the other end to close a connection that sends nothing more.
async fn closed(stream: &mut TcpStream) {
    // A reset is an end too.
    let end = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
    end.expect("the connection is closed")
        .map(drop)
        .unwrap_or_default();
}

async fn connect(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    join_all((0..count).map(|_| async move { TcpStream::connect(address).await.unwrap() })).await
}

#[tokio::test]
async fn p63_the_limit_of_streams_is_announced() {
    let app = app(|limits| limits.streams_per_connection = 77).await;

    let settings = RawHttp2::connect(app.address())
        .await
        .next_of(SETTINGS)
        .await
        .unwrap();

    let announced = settings
        .payload
        .chunks(6)
        .find(|setting| setting[..2] == [0, 3])
        .unwrap();
    assert_eq!(announced[2..], 77_u32.to_be_bytes());
}

#[tokio::test]
async fn p63_watches_of_a_connection_are_limited() {
    let app = app(|limits| limits.watches_per_connection = 2).await;
    let mut health = HealthClient::new(
        Endpoint::from_shared(format!("http://{}", app.address()))
            .unwrap()
            .connect_lazy(),
    );
    let request = || HealthCheckRequest {
        service: String::new(),
    };

    let first = health.watch(request()).await.unwrap();
    let mut second = health.watch(request()).await.unwrap().into_inner();
    let refused = fault(health.watch(request()).await);
    while second.message().await.unwrap().unwrap().status() != Serving {}
    let checked = health.check(request()).await.unwrap().into_inner();
    drop(first);
    let again = crate::support::eventually("room for a watch", async || {
        health.watch(request()).await.ok()
    })
    .await;

    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::Unavailable, "OVERLOADED")
    );
    assert_eq!(refused.retry, Some(Duration::from_secs(1)));
    assert_eq!(checked.status(), Serving);
    drop(again);
}

#[tokio::test]
async fn p63_a_flood_of_watches_ends_its_connection_alone() {
    let app = app(|limits| limits.watches_per_connection = 4).await;
    let mut good = app.service().await;
    let ann = good.create_named("Ann").await.user_id;
    let mut flood = RawHttp2::connect(app.address()).await;

    for number in 0..500 {
        flood.call(2 * number + 1, WATCH).await;
    }
    let frames = timeout(PATIENCE, flood.rest())
        .await
        .expect("the flood ends");

    let goaway = frames
        .iter()
        .find(|frame| frame.kind == GOAWAY)
        .expect("a GOAWAY");
    assert_eq!(goaway.number(4), 11, "ENHANCE_YOUR_CALM");
    let mut served: Vec<u32> = frames
        .iter()
        .filter(|frame| frame.kind == DATA)
        .map(|frame| frame.stream)
        .collect();
    served.sort_unstable();
    served.dedup();
    assert_eq!(served, [1, 3, 5, 7]);
    assert_eq!(good.get(ann).await.unwrap().nickname, "Ann");
}

#[tokio::test]
async fn p63_reflection_streams_of_a_connection_are_limited() {
    let app = app(|limits| limits.reflections_per_connection = 1).await;
    let mut raw = RawHttp2::connect(app.address()).await;
    raw.begin(1, REFLECTION).await;
    raw.call(3, REFLECTION).await;

    // The first has responded with its headers alone, and is open; the second is rejected by
    // headers that end it.
    let mut ended = Vec::new();
    while ended.len() < 2 {
        let headers = timeout(PATIENCE, raw.next_of(HEADERS))
            .await
            .expect("responses")
            .unwrap();
        ended.push((headers.stream, headers.flags & 1 == 1));
    }

    ended.sort_unstable();
    assert_eq!(ended, [(1, false), (3, true)]);
}

#[tokio::test]
async fn p63_a_response_that_nobody_reads_is_given_up() {
    let app = app(|limits| limits.unread_seconds = 1).await;
    let mut raw = RawHttp2::connect(app.address()).await;
    // A window of nothing.
    raw.set(4, 0).await;
    raw.call(1, CHECK).await;

    let reset = timeout(PATIENCE, raw.next_of(RST_STREAM))
        .await
        .expect("a reset")
        .unwrap();
    // Whoever shares the connection, behind a proxy for example, is not concerned.
    raw.set(4, 65_535).await;
    raw.call(3, CHECK).await;
    let data = timeout(PATIENCE, raw.next_of(DATA))
        .await
        .expect("a response")
        .unwrap();

    assert_eq!((reset.stream, reset.number(0)), (1, 8), "CANCEL");
    assert_eq!(data.stream, 3);
}

#[tokio::test]
async fn p63_a_request_body_that_pauses_is_given_up() {
    let app = app(|limits| limits.body_seconds = 1).await;
    let mut raw = RawHttp2::connect(app.address()).await;
    raw.begin(1, CHECK).await;

    let headers = timeout(PATIENCE, raw.next_of(HEADERS))
        .await
        .expect("a response")
        .unwrap();

    assert_eq!((headers.stream, headers.flags & 1), (1, 1));
}

#[tokio::test]
async fn p63_connections_that_never_begin_are_closed() {
    let app = app(|limits| {
        limits.first_byte_seconds = 1;
        limits.handshake_seconds = 1;
        limits.head_seconds = 1;
    })
    .await;
    let begin = async |address: SocketAddr, bytes: &[u8]| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        closed(&mut stream).await;
    };

    tokio::join!(
        begin(app.address(), b""),
        begin(app.address(), b"PRI * HTTP/2.0\r\n"),
        begin(app.rest(), b""),
        begin(app.rest(), b"PRI * HTTP/2.0\r\n"),
        begin(
            app.rest(),
            b"GET /v1/profiles HTTP/1.1\r\nhost: x\r\nx-long"
        ),
    );
}

#[tokio::test]
async fn p63_headers_that_never_end_close_their_connection() {
    let app = app(|limits| limits.ping_timeout_seconds = 1).await;
    let mut raw = RawHttp2::connect(app.address()).await;
    raw.begin_headers(1, CHECK).await;
    // Inside headers nothing else may be sent, so it cannot acknowledge the PING.
    raw.has_acks = false;

    let frames = timeout(PATIENCE, raw.rest())
        .await
        .expect("the connection is closed");

    assert!(frames.iter().any(|frame| frame.kind == PING), "{frames:?}");
    assert!(
        frames.iter().all(|frame| frame.kind != HEADERS),
        "{frames:?}"
    );
}

#[tokio::test]
async fn p63_a_client_that_acknowledges_no_ping_is_closed_with_its_streams() {
    let app = app(|limits| {
        limits.ping_seconds = 1;
        limits.ping_timeout_seconds = 1;
    })
    .await;
    let mut silent = RawHttp2::connect(app.address()).await;
    silent.has_acks = false;
    silent.call(1, WATCH).await;
    let mut good = RawHttp2::connect(app.address()).await;
    good.call(1, WATCH).await;

    let served = async {
        for _ in 0..3 {
            good.next_of(PING)
                .await
                .expect("one that acknowledges them is kept");
        }
        good.call(3, CHECK).await;
        while good.next_of(DATA).await.expect("and served").stream != 3 {}
    };
    let both = async { tokio::join!(silent.rest(), served) };

    timeout(PATIENCE, both)
        .await
        .expect("the connection is closed");
}

#[tokio::test]
async fn p63_idle_connections_are_let_go() {
    let app = app(|limits| limits.idle_seconds = 1).await;
    let mut idle = RawHttp2::connect(app.address()).await;
    idle.call(1, CHECK).await;

    let frames = timeout(PATIENCE, idle.rest())
        .await
        .expect("the connection is closed");

    let goaway = frames
        .iter()
        .rfind(|frame| frame.kind == GOAWAY)
        .expect("a GOAWAY");
    assert_eq!(goaway.number(4), 0, "NO_ERROR");
}

#[tokio::test]
async fn p63_a_connection_ends_at_its_age_whether_its_client_heeds_the_goaway_or_not() {
    let app = app(|limits| {
        limits.age_seconds = 1;
        limits.age_grace_seconds = 1;
    })
    .await;
    let mut deaf = RawHttp2::connect(app.address()).await;
    deaf.call(1, WATCH).await;
    timeout(PATIENCE, deaf.next_of(GOAWAY))
        .await
        .expect("a GOAWAY")
        .unwrap();

    let end = async {
        // It goes on as if nothing had been said.
        for number in 1.. {
            deaf.call(2 * number + 1, CHECK).await;
            if deaf.next().await.is_none() {
                break;
            }
        }
    };

    timeout(PATIENCE, end)
        .await
        .expect("the connection is closed");
}

#[tokio::test]
async fn p63_an_import_outlives_the_age_of_its_connection() {
    let app = app(|limits| {
        limits.age_seconds = 1;
        limits.age_grace_seconds = 1;
    })
    .await;
    let mut client = app.service().await;
    let (users, lines) = tokio::sync::mpsc::channel(1);
    let lines = tokio_stream::wrappers::ReceiverStream::new(lines);
    let user = || pb::ImportUsersRequest {
        user: Some(crate::support::person("Ann")),
    };
    users.send(user()).await.unwrap();
    let import =
        tokio::spawn(async move { client.admin.import_users(lines).await.unwrap().into_inner() });
    // Younger than the import's, and at its end.
    let mut other = RawHttp2::connect(app.address()).await;
    other.call(1, WATCH).await;
    timeout(PATIENCE, other.rest())
        .await
        .expect("the connection is closed");

    users.send(user()).await.unwrap();
    drop(users);
    let mut told = timeout(PATIENCE, import)
        .await
        .expect("the import ends")
        .unwrap();
    let mut created = 0;
    while let Some(part) = told.message().await.unwrap() {
        created += part.created;
    }

    assert_eq!(created, 2);
}

#[tokio::test]
async fn p63_silent_sockets_give_way_to_good_clients_over_tls() {
    let (folder, ca) = (Folder::new(), Authority::new());
    let leaf = ca.issue("localhost");
    let tls = Tls {
        cert: folder.write("cert.pem", &leaf.cert),
        key: folder.write("key.pem", &leaf.key),
        ..Tls::default()
    };
    let app = TestApp::configured(|config| {
        config.grpc.tls = Some(tls.clone());
        config.rest.tls = Some(tls);
        config.limits.handshakes = 4;
        // So that nothing but a newer connection ends a silent one.
        config.limits.first_byte_seconds = 600;
    })
    .await;
    let mut silent = connect(app.address(), 20).await;
    let mut silent_rest = connect(app.rest(), 20).await;
    let config = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca.pem()))
        .domain_name("localhost");
    let endpoint = Endpoint::from_shared(format!("https://{}", app.address()))
        .unwrap()
        .tls_config(config)
        .unwrap();

    let mut health = HealthClient::new(endpoint.connect_lazy());
    let checked = timeout(
        PATIENCE,
        health.check(HealthCheckRequest {
            service: String::new(),
        }),
    )
    .await;

    checked.expect("a good client is served").unwrap();
    join_all(
        silent[..16]
            .iter_mut()
            .chain(&mut silent_rest[..16])
            .map(closed),
    )
    .await;
}

#[tokio::test]
async fn p63_strangers_displace_each_other_and_not_those_who_showed_a_token() {
    let app = app(|limits| {
        limits.connections = 4;
        limits.unauthenticated = 2;
    })
    .await;
    let mut good = app.service().await;
    let ann = good.create_named("Ann").await.user_id;
    let mut strangers = Vec::new();
    for _ in 0..6 {
        let mut stranger = RawHttp2::connect(app.address()).await;
        stranger.call(1, CHECK).await;
        timeout(PATIENCE, stranger.next_of(DATA))
            .await
            .expect("a response")
            .unwrap();
        strangers.push(stranger);
    }
    // Whoever comes new is served too, and a token makes it stay.
    let mut new = app.service().await;
    new.get(ann).await.unwrap();

    for stranger in &mut strangers[..5] {
        timeout(PATIENCE, stranger.rest())
            .await
            .expect("the connection is closed");
    }
    // Both over the connections that they had.
    for client in [&mut good, &mut new] {
        assert_eq!(client.get(ann).await.unwrap().nickname, "Ann");
    }
}

#[tokio::test]
async fn p63_the_operations_port_and_callers_are_served_with_200_descriptors_and_400_idle_sockets()
{
    let database = TestDatabase::new().await;
    let serve = Serve::start_with_descriptors(&database, 200);
    serve.wait_for(Serving).await;
    let (grpc, operations) = (serve.grpc().await, serve.operations().await);
    let idle = connect(grpc, 400).await;
    let idle_operations = connect(operations, 100).await;

    for path in ["/livez", "/readyz", "/metrics"] {
        let (status, _) = timeout(PATIENCE, get(operations, path, &[]))
            .await
            .expect("a response");
        assert_eq!(status, 200, "{path}");
    }
    let ann = serve.client().await.create_named("Ann").await;
    let (_, metrics) = get(operations, "/metrics", &[]).await;

    assert_eq!(ann.nickname, "Ann");
    let closed = metrics
        .lines()
        .filter(|line| line.starts_with("user_service_connections_closed_total{"));
    let closed = closed.map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap());
    assert!(closed.sum::<u32>() > 200, "{metrics}");
    drop((idle, idle_operations));
}

#[tokio::test]
async fn p63_one_address_has_its_share_of_connections() {
    let app = app(|limits| limits.connections_per_peer = 1).await;
    let mut good = app.service().await;
    let ann = good.create_named("Ann").await.user_id;

    let mut refused = TcpStream::connect(app.address()).await.unwrap();
    closed(&mut refused).await;
    let mut other = Client::over(
        Endpoint::from_shared(format!("http://{}", app.address()))
            .unwrap()
            .local_address(Some([127, 0, 0, 2].into()))
            .connect_lazy(),
        None,
    );

    assert_eq!(fault(other.get(ann).await).reason, "TOKEN_MISSING");
    assert_eq!(good.get(ann).await.unwrap().nickname, "Ann");
}
