//! Strangers without a token, and what good clients notice of them.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use hdrhistogram::Histogram;
use http_body_util::BodyExt;
use hyper::client::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls};

use crate::{
    client::{Call, Callers, request},
    common::memory,
    frames::{PREFACE, RawHttp2},
    service::{Options, Service},
};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
/// Calls a second of the good client.
const RATE: f64 = 300.0;
/// Between two looks at `/livez`, and between two new good clients.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest that anything of a good client's may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may live where a client ignores its GOAWAY.
const SHORT_AGE: [(&str, &str); 2] = [
    ("LIMITS__AGE_SECONDS", "2"),
    ("LIMITS__AGE_GRACE_SECONDS", "2"),
];

/// What strangers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attack {
    /// 108 000 watches, over one connection as long as it is let.
    Watches,
    /// 10 000 responses that no one reads.
    Unread,
    /// So many silent sockets at a TLS port, again and again.
    Silent(usize),
    /// Half a preface, and headers that do not end, a thousand of each.
    Halves,
    /// A hundred connections that ignore their GOAWAY, of a service whose connections live for 4 s.
    Deaf,
    /// 200 idle sockets where there are 200 file descriptors.
    Descriptors,
}

/// Runs all attacks, each against a service of its own, and prints a table.
pub(crate) async fn run(
    url: &str,
    calls: &Arc<Vec<Call>>,
    time: Duration,
    binary: &Path,
    folder: &Path,
) -> anyhow::Result<()> {
    println!("\n## Strangers: {}\n", binary.display());
    println!(
        "| attack | GetProfile p99 quiet, under attack (ratio), failed | new client p99 quiet, under attack, failed | \
         /livez at most | memory at most | connections of the attack that are left |"
    );
    println!("|---|---|---|---|---|---|");
    let all = [
        Attack::Watches,
        Attack::Unread,
        Attack::Silent(300),
        Attack::Silent(1100),
        Attack::Halves,
        Attack::Deaf,
        Attack::Descriptors,
    ];
    for attack in all {
        if let Err(error) = one(attack, url, calls, time, binary, folder).await {
            println!("| {attack:?} | cannot be measured: {error:#} | | | | |");
        }
    }
    Ok(())
}

async fn one(
    attack: Attack,
    url: &str,
    calls: &Arc<Vec<Call>>,
    time: Duration,
    binary: &Path,
    folder: &Path,
) -> anyhow::Result<()> {
    let mut options = Options {
        binary: Some(binary),
        ..Options::default()
    };
    let trust = if let Attack::Silent(_) = attack {
        Some(certificate(folder)?)
    } else {
        None
    };
    options.tls = trust.as_ref().map(|_| folder);
    match attack {
        Attack::Deaf => options.variables = &SHORT_AGE,
        Attack::Descriptors => options.descriptors = Some(200),
        _ => {}
    }
    let service = Service::start_with(url, &options).await?;
    let target = Target {
        address: service.address,
        trust,
    };
    let callers = match target.trust {
        None => Some(Callers::connect(service.address, 4).await?),
        Some(_) => None,
    };
    let quiet = measure(&target, callers.as_ref(), calls, time).await?;
    let is_over = Arc::new(AtomicBool::new(false));
    let attacking = tokio::spawn(strangers(attack, service.address, Arc::clone(&is_over)));
    let livez = tokio::spawn(follow(service.operations, Arc::clone(&is_over)));
    let under = measure(
        &target,
        callers.as_ref(),
        calls,
        time.max(Duration::from_secs(6)),
    )
    .await;
    is_over.store(true, Ordering::Relaxed);
    let left = attacking.await?;
    let livez = livez.await?;
    let under = under?;
    let calls = match (&quiet.calls, &under.calls) {
        (Some(quiet), Some(under)) => {
            format!(
                "{:.1}, {:.1} ms ({:.1}), {}",
                quiet.0,
                under.0,
                under.0 / quiet.0,
                under.1
            )
        }
        _ => "over the new clients".to_owned(),
    };
    println!(
        "| {attack:?} | {calls} | {:.1}, {:.1} ms, {} | {} | {} MiB | {left} |",
        quiet.clients.0,
        under.clients.0,
        under.clients.1,
        livez.map_or("none".to_owned(), |longest| format!(
            "{:.1} ms",
            longest.as_secs_f64() * 1000.0
        )),
        memory::memory(service.pid()).highest,
    );
    Ok(())
}

/// A p99 in milliseconds, and how many failed.
type Latency = (f64, u64);

struct Measured {
    /// Of calls over connections that are kept.
    calls: Option<Latency>,
    /// Of clients that connect, call once, and leave.
    clients: Latency,
}

async fn measure(
    target: &Target,
    callers: Option<&Callers>,
    calls: &Arc<Vec<Call>>,
    time: Duration,
) -> anyhow::Result<Measured> {
    let kept = async {
        match callers {
            Some(callers) => callers.open(calls, RATE, time).await.map(Some),
            None => Ok(None),
        }
    };
    let (kept, clients) = tokio::join!(kept, new_clients(target, &calls[0], time));
    let latency = |notes: crate::client::Notes| (notes.latency()[1], notes.refused.len());
    Ok(Measured {
        calls: kept?.map(latency),
        clients: clients?,
    })
}

/// Where good clients connect to, and by which certificate.
struct Target {
    address: SocketAddr,
    trust: Option<Arc<rustls::ClientConfig>>,
}

async fn new_clients(target: &Target, call: &Call, time: Duration) -> anyhow::Result<Latency> {
    let mut latencies = Histogram::<u64>::new_with_bounds(1, 120_000_000, 3)?;
    let (began, mut failed) = (Instant::now(), 0);
    while began.elapsed() < time {
        let sent = Instant::now();
        let done = timeout(PATIENCE, new_client(target, call.clone())).await;
        latencies.saturating_record(sent.elapsed().as_micros().max(1) as u64);
        failed += u64::from(!matches!(done, Ok(Ok(()))));
        tokio::time::sleep(PAUSE).await;
    }
    Ok((latencies.value_at_quantile(0.99) as f64 / 1000.0, failed))
}

async fn new_client(target: &Target, call: Call) -> anyhow::Result<()> {
    let stream = TcpStream::connect(target.address).await?;
    stream.set_nodelay(true)?;
    match &target.trust {
        Some(config) => {
            let connector = TlsConnector::from(Arc::clone(config));
            exchange(
                connector.connect("localhost".try_into()?, stream).await?,
                target.address,
                call,
            )
            .await
        }
        None => exchange(stream, target.address, call).await,
    }
}

async fn exchange<T>(stream: T, address: SocketAddr, call: Call) -> anyhow::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request(address, call)?).await?;
    let has_message = !response.into_body().collect().await?.to_bytes().is_empty();
    driver.abort();
    has_message.then_some(()).context("no profile")
}

/// Looks at `/livez` until it is over: the longest that it took; `None` where it did not respond.
async fn follow(operations: SocketAddr, is_over: Arc<AtomicBool>) -> Option<Duration> {
    let mut longest = Duration::ZERO;
    while !is_over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let look = async {
            let mut stream = TcpStream::connect(operations).await.ok()?;
            let head = "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
            stream.write_all(head.as_bytes()).await.ok()?;
            let mut response = String::new();
            stream.read_to_string(&mut response).await.ok()?;
            response.starts_with("HTTP/1.1 200 ").then_some(())
        };
        timeout(PATIENCE, look).await.ok()??;
        longest = longest.max(began.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    Some(longest)
}

/// Attacks until it is over; gives how many of its connections are still open then.
async fn strangers(attack: Attack, address: SocketAddr, is_over: Arc<AtomicBool>) -> usize {
    match attack {
        Attack::Watches => flood(address, WATCH, 108_000, None, &is_over).await,
        Attack::Unread => flood(address, CHECK, 10_000, Some(0), &is_over).await,
        Attack::Silent(count) => sockets(address, count, &[b""], &is_over).await,
        Attack::Halves => {
            let unfinished = [PREFACE, &crate::frames::headers(1, CHECK, 0)].concat();
            sockets(address, 2000, &[&PREFACE[..12], &unfinished], &is_over).await
        }
        Attack::Deaf => {
            let watch = [
                PREFACE,
                &crate::frames::headers(1, WATCH, 4),
                &crate::frames::frame(crate::frames::DATA, 1, 1, &[0; 5]),
            ]
            .concat();
            sockets(address, 100, &[&watch], &is_over).await
        }
        Attack::Descriptors => sockets(address, 200, &[b""], &is_over).await,
    }
}

/// So many calls as fast as they go, over one connection, and over the next when that is closed.
async fn flood(
    address: SocketAddr,
    path: &str,
    count: u32,
    window: Option<u32>,
    is_over: &AtomicBool,
) -> usize {
    let (mut left, mut open) = (count, Vec::new());
    while left > 0 && !is_over.load(Ordering::Relaxed) {
        let Ok(Ok(stream)) = timeout(PATIENCE, TcpStream::connect(address)).await else {
            continue;
        };
        let mut raw = RawHttp2 {
            stream,
            has_acks: false,
        };
        raw.send(PREFACE).await;
        if let Some(window) = window {
            raw.set(4, window).await;
        }
        let mut number = 0;
        while left > 0 && !is_over.load(Ordering::Relaxed) {
            let bytes = [
                crate::frames::headers(2 * number + 1, path, 4),
                crate::frames::frame(crate::frames::DATA, 1, 2 * number + 1, &[0; 5]),
            ]
            .concat();
            // No one reads what comes back, until nothing more can be sent.
            if !matches!(
                timeout(PAUSE * 4, raw.stream.write_all(&bytes)).await,
                Ok(Ok(()))
            ) {
                break;
            }
            (number, left) = (number + 1, left - 1);
        }
        open.push(raw.stream);
    }
    while !is_over.load(Ordering::Relaxed) {
        tokio::time::sleep(PAUSE).await;
    }
    count_open(&mut open).await
}

/// So many sockets that each send one of these beginnings and nothing more; closed ones are
/// replaced.
async fn sockets(
    address: SocketAddr,
    count: usize,
    beginnings: &[&[u8]],
    is_over: &AtomicBool,
) -> usize {
    let mut open: Vec<TcpStream> = Vec::new();
    let mut is_first = true;
    while !is_over.load(Ordering::Relaxed) {
        let mut opening = JoinSet::new();
        for place in open.len()..count {
            let beginning = beginnings[place % beginnings.len()].to_vec();
            opening.spawn(async move {
                let mut stream = timeout(PATIENCE, TcpStream::connect(address))
                    .await
                    .ok()?
                    .ok()?;
                stream.write_all(&beginning).await.ok()?;
                Some(stream)
            });
        }
        // The first ones are to be there before the rest goes on.
        while let Some(opened) = opening.join_next().await {
            open.extend(opened.ok().flatten());
        }
        if std::mem::take(&mut is_first) {
            tokio::time::sleep(PAUSE).await;
        }
        tokio::time::sleep(PAUSE * 4).await;
        if !is_over.load(Ordering::Relaxed) {
            retain_open(&mut open);
        }
    }
    count_open(&mut open).await
}

/// How many connections the service has not closed.
async fn count_open(open: &mut Vec<TcpStream>) -> usize {
    retain_open(open);
    open.len()
}

fn retain_open(open: &mut Vec<TcpStream>) {
    open.retain(|stream| {
        let mut bytes = [0; 4096];
        loop {
            match stream.try_read(&mut bytes) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
    });
}

/// Writes a certificate for the service; gives what trusts it.
fn certificate(folder: &Path) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let key = rcgen::KeyPair::generate()?;
    let certificate =
        rcgen::CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
    std::fs::write(folder.join("cert.pem"), certificate.pem())?;
    std::fs::write(folder.join("key.pem"), key.serialize_pem())?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
