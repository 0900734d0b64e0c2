//! The client: HTTP/2 by hyper, which neither retries nor waits, and what its calls came to.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::{BufMut, Bytes, BytesMut};
use hdrhistogram::Histogram;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use prost::Message;
use tokio::task::JoinSet;
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
};
use user_service::convert::pb;

use crate::{common::http2, service::TOKEN};

/// After a failure, before the caller tries again.
const BREATH: Duration = Duration::from_millis(5);
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// A call as it goes over the wire.
#[derive(Clone)]
pub(crate) struct Call {
    pub path: &'static str,
    pub body: Bytes,
}

impl Call {
    pub(crate) fn new(path: &'static str, message: &impl Message) -> Self {
        let size = message.encoded_len();
        let mut body = BytesMut::with_capacity(5 + size);
        body.put_u8(0);
        body.put_u32(size as u32);
        message.encode(&mut body).expect("valid: there is room");
        Self {
            path,
            body: body.freeze(),
        }
    }
}

/// A call as a request with the token.
pub(crate) fn request(address: SocketAddr, call: Call) -> http::Result<Request<Full<Bytes>>> {
    Request::post(format!("http://{address}{}", call.path))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
        .body(Full::new(call.body))
}

/// The answer to a call.
pub(crate) struct Answer {
    /// gRPC's number; 0 is OK.
    pub code: u32,
    /// Whether an error says when to come again.
    pub has_retry: bool,
    pub message: Bytes,
}

/// Connections, over which calls go by turns.
#[derive(Clone)]
pub(crate) struct Callers {
    senders: Vec<SendRequest<Full<Bytes>>>,
    address: SocketAddr,
    next: Arc<AtomicUsize>,
}

impl Callers {
    pub(crate) async fn connect(address: SocketAddr, connections: usize) -> anyhow::Result<Self> {
        let senders = http2::connect(address, connections).await?;
        Ok(Self {
            senders,
            address,
            next: Arc::default(),
        })
    }

    pub(crate) async fn call(&self, call: Call) -> anyhow::Result<Answer> {
        let request = request(self.address, call)?;
        let mut sender =
            self.senders[self.next.fetch_add(1, Ordering::Relaxed) % self.senders.len()].clone();
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let mut headers = response.headers().clone();
        let whole = response.into_body().collect().await?;
        headers.extend(whole.trailers().cloned().unwrap_or_default());
        // Behind the frame's head; an error has no message.
        let message = whole.to_bytes();
        let message = message.slice(message.len().min(5)..);
        Ok(Answer {
            code: text(&headers, "grpc-status")
                .and_then(|code| code.parse().ok())
                .context("no status")?,
            has_retry: has_retry(&headers),
            message,
        })
    }

    /// What the health service says of the whole process.
    pub(crate) async fn is_serving(&self) -> anyhow::Result<bool> {
        let answer = self
            .call(Call::new(
                HEALTH,
                &HealthCheckRequest {
                    service: String::new(),
                },
            ))
            .await?;
        Ok(HealthCheckResponse::decode(answer.message)?.status() == ServingStatus::Serving)
    }

    /// So many callers, each of which sends the next when it has its answer.
    pub(crate) async fn closed(
        &self,
        calls: &Arc<Vec<Call>>,
        callers: usize,
        time: Duration,
    ) -> anyhow::Result<Notes> {
        let notes = Arc::new(Mutex::new(Notes::new()));
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for number in 0..callers {
            let (own, calls, notes) = (self.clone(), calls.clone(), notes.clone());
            tasks.spawn(async move {
                let mut turn = number;
                while began.elapsed() < time {
                    let sent = Instant::now();
                    let answer = own.call(calls[turn % calls.len()].clone()).await;
                    notes
                        .lock()
                        .expect("valid: no one panics")
                        .add(answer, sent);
                    turn += callers;
                }
            });
        }
        while tasks.join_next().await.is_some() {}
        Ok(taken(&notes, began.elapsed()))
    }

    /// So many calls a second whatever comes of them; a latency counts from when its call was due.
    pub(crate) async fn open(
        &self,
        calls: &Arc<Vec<Call>>,
        rate: f64,
        time: Duration,
    ) -> anyhow::Result<Notes> {
        let notes = Arc::new(Mutex::new(Notes::new()));
        let began = Instant::now();
        let (mut tasks, mut sent) = (JoinSet::new(), 0);
        while began.elapsed() < time {
            let due = (began.elapsed().as_secs_f64() * rate) as usize;
            while sent < due {
                let (own, call, notes) = (
                    self.clone(),
                    calls[sent % calls.len()].clone(),
                    notes.clone(),
                );
                let at = began + Duration::from_secs_f64((sent + 1) as f64 / rate);
                tasks.spawn(async move {
                    let answer = own.call(call).await;
                    notes.lock().expect("valid: no one panics").add(answer, at);
                });
                sent += 1;
            }
            while tasks.try_join_next().is_some() {}
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let took = began.elapsed();
        while tasks.join_next().await.is_some() {}
        Ok(taken(&notes, took))
    }

    /// Callers who make users until they are told to stop; gives what each call came to, in order
    /// of time.
    pub(crate) fn make_users(
        &self,
        callers: usize,
        is_over: &Arc<AtomicBool>,
    ) -> JoinSet<Vec<Made>> {
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (own, is_over) = (self.clone(), is_over.clone());
            tasks.spawn(async move {
                let mut made = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let call = Call::new("/userservice.v1.UserAdminService/CreateUser", &person());
                    let outcome = own.call(call).await;
                    let outcome = outcome.map_or(Err((None, false)), |answer| match answer.code {
                        0 => {
                            let created =
                                pb::CreateUserResponse::decode(answer.message).unwrap_or_default();
                            Ok(created.profile.unwrap_or_default().user_id)
                        }
                        code => Err((Some(code), answer.has_retry)),
                    });
                    if outcome.is_err() {
                        tokio::time::sleep(BREATH).await;
                    }
                    made.push(Made {
                        at: Instant::now(),
                        outcome,
                    });
                }
                made
            });
        }
        tasks
    }
}

fn person() -> pb::CreateUserRequest {
    let profile = pb::Profile {
        nickname: "FieldError".to_owned(),
        ..Default::default()
    };
    pb::CreateUserRequest {
        profile: Some(profile),
        ..Default::default()
    }
}

/// What came of a call that makes a user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub at: Instant,
    /// The user's id; or the code, where there was an answer, and whether it says when to come
    /// again.
    pub outcome: Result<i64, (Option<u32>, bool)>,
}

fn taken(notes: &Mutex<Notes>, took: Duration) -> Notes {
    let mut notes = notes.lock().expect("valid: no one panics");
    Notes {
        took,
        ..std::mem::replace(&mut *notes, Notes::new())
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn has_retry(headers: &HeaderMap) -> bool {
    let details = text(headers, "grpc-status-details-bin");
    let details =
        details.and_then(|details| STANDARD_NO_PAD.decode(details.trim_end_matches('=')).ok());
    details.is_some_and(|details| {
        details
            .windows(20)
            .any(|part| part == b"google.rpc.RetryInfo")
    })
}

/// Latencies by what the calls came to.
pub(crate) struct Notes {
    pub served: Histogram<u64>,
    pub refused: Histogram<u64>,
    /// How often each code came, `None` where there was no answer; and whether all of them said
    /// when to come again.
    pub failures: BTreeMap<Option<u32>, (u64, bool)>,
    pub took: Duration,
}

impl Notes {
    fn new() -> Self {
        let latencies =
            || Histogram::new_with_bounds(1, 120_000_000, 3).expect("valid: fixed bounds");
        Self {
            served: latencies(),
            refused: latencies(),
            failures: BTreeMap::new(),
            took: Duration::ZERO,
        }
    }

    fn add(&mut self, answer: anyhow::Result<Answer>, since: Instant) {
        let latency = since.elapsed().as_micros().max(1) as u64;
        let (code, has_retry) = answer.map_or((None, false), |answer| {
            (Some(answer.code), answer.has_retry)
        });
        if code == Some(0) {
            self.served.saturating_record(latency);
            return;
        }
        self.refused.saturating_record(latency);
        let (count, all_say) = self.failures.entry(code).or_insert((0, true));
        *count += 1;
        *all_say &= has_retry;
    }

    /// Served calls a second.
    pub(crate) fn rate(&self) -> f64 {
        self.served.len() as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// p50 and p99 of served calls, in milliseconds.
    pub(crate) fn latency(&self) -> [f64; 2] {
        [0.5, 0.99].map(|share| self.served.value_at_quantile(share) as f64 / 1000.0)
    }
}
