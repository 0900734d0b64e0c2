//! The client, in a process of its own: HTTP/2 by hyper, requests that were encoded before,
//! latencies in a histogram.

use std::{
    io::{BufRead, Write},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use bytes::{Bytes, BytesMut};
use hdrhistogram::Histogram;
use http::{HeaderMap, HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use prost::Message;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use user_service::convert::pb;

use crate::{
    common::http2,
    scenario::{self, Data, Requests, frame},
};

/// Most connections of a run.
const CONNECTIONS: usize = 8;
/// How long answers are waited for after the last request.
const PATIENCE: Duration = Duration::from_secs(15);
/// Profiles of a page on the way to the deep ones.
const STRIDE: i32 = 1000;

/// What the client is told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub scenario: String,
    /// Of each service, among which the callers are spread.
    pub addresses: Vec<SocketAddr>,
    pub token: String,
    pub data: Data,
    pub load: Load,
    pub warm_up: Duration,
    pub time: Duration,
}

/// How requests follow each other.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Load {
    /// Each of so many callers sends the next when it has its answer.
    Closed(usize),
    /// So many a second whatever the answers do; a latency counts from when its request was due,
    /// not from when it was sent, so that a stall is seen by all whom it kept waiting.
    Fixed(f64),
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub requests: u64,
    pub errors: u64,
    pub first_error: Option<String>,
    pub seconds: f64,
    /// Microseconds at 50, 99 and 99.9 per cent.
    pub latency: [u64; 3],
}

/// Takes jobs from stdin, a line each. Warms up, says that it is ready, waits for a line, measures,
/// prints the outcome.
pub(crate) fn run() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut lines = std::io::stdin().lock().lines();
    let mut tokens = Vec::new();
    while let Some(line) = lines.next() {
        let job: Job = serde_json::from_str(&line?)?;
        let all = scenario::all(&job.data);
        let scenario = all
            .iter()
            .find(|known| known.name == job.scenario)
            .context("no such scenario")?;
        let callers = runtime.block_on(Callers::connect(
            &job,
            scenario.in_flight,
            &scenario.requests,
        ))?;
        if matches!(scenario.requests, Requests::Deep(_)) && tokens.is_empty() {
            tokens = runtime.block_on(walk(&callers))?;
        }
        let bodies = Arc::new(scenario.requests.bodies(&job.data, &tokens));
        if bodies.is_empty() {
            bail!("there are too few users for {}", job.scenario);
        }
        runtime.block_on(callers.closed(&bodies, scenario.in_flight, job.warm_up))?;
        say("ready")?;
        lines.next().context("stdin ended")??;
        let outcome = match job.load {
            Load::Closed(in_flight) => {
                runtime.block_on(callers.closed(&bodies, in_flight, job.time))
            }
            Load::Fixed(rate) => runtime.block_on(callers.fixed(&bodies, rate, job.time)),
        };
        say(&serde_json::to_string(&outcome?)?)?;
    }
    Ok(())
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}

/// The tokens of all pages of a thousand.
async fn walk(callers: &Callers) -> anyhow::Result<Vec<String>> {
    let mut tokens: Vec<String> = Vec::new();
    loop {
        let request = pb::ListProfilesRequest {
            page_size: STRIDE,
            page_token: tokens.last().cloned().unwrap_or_default(),
            read_mask: Some(prost_types::FieldMask {
                paths: vec!["user_id".to_owned()],
            }),
            ..Default::default()
        };
        let answer = callers.call(0, frame(&request)).await?;
        let page = pb::ListProfilesResponse::decode(answer.get(5..).context("an empty answer")?)?;
        if page.next_page_token.is_empty() {
            return Ok(tokens);
        }
        tokens.push(page.next_page_token);
    }
}

#[derive(Clone)]
struct Callers {
    senders: Vec<SendRequest<Full<Bytes>>>,
    /// Of the RPC; for REST each request has its own.
    uri: Uri,
    is_rest: bool,
    headers: HeaderMap,
}

/// Latencies and errors so far.
struct Notes {
    latencies: Histogram<u64>,
    errors: u64,
    first_error: Option<String>,
}

impl Notes {
    fn new() -> Self {
        let latencies = Histogram::new_with_bounds(1, 120_000_000, 3).expect("valid: fixed bounds");
        Self {
            latencies,
            errors: 0,
            first_error: None,
        }
    }

    fn add(&mut self, answer: anyhow::Result<Bytes>, latency: Duration) {
        self.latencies
            .saturating_record(latency.as_micros().max(1) as u64);
        if let Err(error) = answer {
            self.errors += 1;
            self.first_error.get_or_insert_with(|| format!("{error:#}"));
        }
    }

    fn outcome(self, took: Duration) -> Outcome {
        let latency = [0.5, 0.99, 0.999].map(|share| self.latencies.value_at_quantile(share));
        let (requests, seconds) = (self.latencies.len(), took.as_secs_f64());
        Outcome {
            requests,
            errors: self.errors,
            first_error: self.first_error,
            seconds,
            latency,
        }
    }
}

impl Callers {
    async fn connect(job: &Job, in_flight: usize, requests: &Requests) -> anyhow::Result<Self> {
        let connections = in_flight
            .clamp(1, CONNECTIONS)
            .div_ceil(job.addresses.len());
        let mut senders = Vec::new();
        for address in &job.addresses {
            senders.extend(http2::connect(*address, connections).await?);
        }
        let is_rest = requests.is_rest();
        let mut headers = HeaderMap::new();
        if !is_rest {
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/grpc"),
            );
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        headers.insert(
            header::AUTHORIZATION,
            format!("Bearer {}", job.token).parse()?,
        );
        Ok(Self {
            senders,
            uri: format!("http://service{}", requests.path()).parse()?,
            is_rest,
            headers,
        })
    }

    async fn call(&self, number: usize, body: Bytes) -> anyhow::Result<Bytes> {
        let mut request = if self.is_rest {
            let path = std::str::from_utf8(&body)?;
            Request::get(format!("http://service{path}")).body(Full::default())?
        } else {
            Request::post(self.uri.clone()).body(Full::new(body))?
        };
        *request.headers_mut() = self.headers.clone();
        let mut sender = self.senders[number % self.senders.len()].clone();
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        if self.is_rest && !response.status().is_success() {
            return Err(anyhow!("status {}", response.status()));
        }
        let status = |headers: &HeaderMap| headers.get("grpc-status").cloned();
        let mut found = status(response.headers());
        let mut body = response.into_body();
        let mut answer = BytesMut::new();
        while let Some(frame) = body.frame().await {
            match frame?.into_data() {
                Ok(data) => answer.extend_from_slice(&data),
                Err(frame) => found = frame.trailers_ref().and_then(status).or(found),
            }
        }
        match found {
            _ if self.is_rest => Ok(answer.freeze()),
            Some(code) if code == "0" => Ok(answer.freeze()),
            code => Err(anyhow!("status {code:?}")),
        }
    }

    async fn closed(
        &self,
        bodies: &Arc<Vec<Bytes>>,
        in_flight: usize,
        time: Duration,
    ) -> anyhow::Result<Outcome> {
        let next = Arc::new(AtomicUsize::new(0));
        let begin = Instant::now();
        let mut tasks = JoinSet::new();
        for number in 0..in_flight {
            let (callers, bodies, next) = (self.clone(), Arc::clone(bodies), Arc::clone(&next));
            tasks.spawn(async move {
                let mut notes = Notes::new();
                while begin.elapsed() < time {
                    let body = bodies[next.fetch_add(1, Ordering::Relaxed) % bodies.len()].clone();
                    let sent = Instant::now();
                    let answer = callers.call(number, body).await;
                    notes.add(answer, sent.elapsed());
                }
                notes
            });
        }
        let mut whole = Notes::new();
        while let Some(notes) = tasks.join_next().await {
            let notes = notes?;
            whole.latencies.add(&notes.latencies)?;
            whole.errors += notes.errors;
            whole.first_error = whole.first_error.or(notes.first_error);
        }
        Ok(whole.outcome(begin.elapsed()))
    }

    async fn fixed(
        &self,
        bodies: &Arc<Vec<Bytes>>,
        rate: f64,
        time: Duration,
    ) -> anyhow::Result<Outcome> {
        let notes = Arc::new(Mutex::new(Notes::new()));
        let begin = Instant::now();
        let mut tasks = JoinSet::new();
        let mut sent = 0;
        while begin.elapsed() < time {
            let due = (begin.elapsed().as_secs_f64() * rate) as usize;
            while sent < due {
                let (callers, notes, body) = (
                    self.clone(),
                    Arc::clone(&notes),
                    bodies[sent % bodies.len()].clone(),
                );
                let (number, at) = (
                    sent,
                    begin + Duration::from_secs_f64((sent + 1) as f64 / rate),
                );
                tasks.spawn(async move {
                    let answer = callers.call(number, body).await;
                    notes
                        .lock()
                        .expect("valid: no one panics")
                        .add(answer, at.elapsed());
                });
                sent += 1;
            }
            while tasks.try_join_next().is_some() {}
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let took = begin.elapsed();
        let drained = async { while tasks.join_next().await.is_some() {} };
        let all_came = tokio::time::timeout(PATIENCE, drained).await.is_ok();
        let left = tasks.len() as u64;
        drop(tasks);
        let mut notes = std::mem::replace(
            &mut *notes.lock().expect("valid: no one panics"),
            Notes::new(),
        );
        if !all_came {
            notes.errors += left;
            notes
                .first_error
                .get_or_insert_with(|| "no answer at the end".to_owned());
        }
        Ok(notes.outcome(took))
    }
}
