//! Overload and faults of the whole service: what callers see, and how soon it is over. See
//! `benches/README.md`.

mod attacks;
mod client;
#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "the other benches ask for more")]
mod common;
mod database;
#[path = "../../tests/it/support/frames.rs"]
#[expect(dead_code, reason = "the tests ask for more")]
#[expect(clippy::unwrap_used, reason = "the tests' own helper")]
mod frames;
mod service;
mod sink;

use std::{
    fmt::Write as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use tokio::task::JoinSet;
use user_service::convert::pb::{self, get_profile_request::Key};

use common::{folder::Folder, memory};

use client::{Call, Callers, Made, Notes};
use database::Postgres;
use service::Service;

/// Calls that a process takes at once.
const ROOM: usize = 512;
/// Of what it can serve, how much more is offered.
const OVERLOAD: f64 = 5.0;
const CONNECTIONS: usize = 16;
/// Callers who write while the database fails.
const WRITERS: usize = 8;
/// Between two looks at health under overload.
const LOOK: Duration = Duration::from_millis(50);
/// How long all is well before a fault, and after it.
const CALM: Duration = Duration::from_secs(2);

/// Measures overload and faults.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure; everything where none is named.
    parts: Vec<Part>,
    /// Users in the database.
    #[arg(long, default_value_t = 20_000)]
    users: u64,
    /// How long each run lasts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=20))]
    seconds: u64,
    /// Another build of the service, for `strangers` alone.
    #[arg(long, default_value = service::BINARY)]
    binary: PathBuf,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// From the start until it serves, and memory without and with load.
    Start,
    /// More calls than it takes.
    Overload,
    /// What traces and metrics cost.
    Telemetry,
    /// Postgres restarts, crashes, halts.
    Database,
    /// The primary dies, and its standby is promoted.
    Failover,
    /// Clients without a token take what they can.
    Strangers,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let is_wanted = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    let folder = Folder::open(None, "faults")?;
    let postgres = Postgres::start(&folder.path.join("primary"))?;
    let url = postgres.url();
    database::fill(&url, arguments.users).await?;
    let mut bench = Bench {
        postgres,
        folder,
        time: Duration::from_secs(arguments.seconds),
    };
    if is_wanted(Part::Start) {
        bench.start().await?;
    }
    if is_wanted(Part::Overload) {
        bench
            .overload("UpdateProfile", &bench.updates().await?)
            .await?;
        bench.overload("ListProfiles, 20 newest", &list()).await?;
    }
    if is_wanted(Part::Telemetry) {
        bench.telemetry().await?;
    }
    if is_wanted(Part::Database) {
        for fault in [FieldError::Fast, FieldError::Immediate, FieldError::Halt] {
            bench.database(fault).await?;
        }
    }
    if is_wanted(Part::Failover) {
        bench.failover().await?;
    }
    if is_wanted(Part::Strangers) {
        let (url, calls) = (bench.postgres.url(), bench.gets().await?);
        attacks::run(
            &url,
            &calls,
            bench.time,
            &arguments.binary,
            &bench.folder.path,
        )
        .await?;
    }
    Ok(())
}

/// What happens to the database.
#[derive(Clone, Copy, Debug)]
enum FieldError {
    Fast,
    Immediate,
    Halt,
}

struct Bench {
    postgres: Postgres,
    folder: Folder,
    time: Duration,
}

type Calls = Arc<Vec<Call>>;

fn list() -> Calls {
    let request = pb::ListProfilesRequest {
        page_size: 20,
        ..Default::default()
    };
    Arc::new(vec![Call::new(
        "/userservice.v1.UserService/ListProfiles",
        &request,
    )])
}

impl Bench {
    /// Ids of the crowd, which follow those of the examples; users of an earlier part may come
    /// behind.
    async fn ids(&self) -> anyhow::Result<std::ops::Range<i64>> {
        let mut conn = self.postgres.connect().await?;
        let first = database::count(
            &mut conn,
            "select min(user_id) from users where user_id > 70695404",
        )
        .await?;
        Ok(first..1 + database::count(&mut conn, "select max(user_id) from users").await?)
    }

    async fn gets(&self) -> anyhow::Result<Calls> {
        let get = |user_id| {
            let request = pb::GetProfileRequest {
                key: Some(Key::UserId(user_id)),
                read_mask: None,
            };
            Call::new("/userservice.v1.UserService/GetProfile", &request)
        };
        Ok(Arc::new(self.ids().await?.map(get).collect()))
    }

    async fn updates(&self) -> anyhow::Result<Calls> {
        let update = |user_id| {
            let profile = pb::Profile {
                city: "广州".to_owned(),
                ..Default::default()
            };
            let update_mask = Some(prost_types::FieldMask {
                paths: vec!["city".to_owned()],
            });
            let request = pb::UpdateProfileRequest {
                user_id,
                profile: Some(profile),
                update_mask,
                ..Default::default()
            };
            Call::new("/userservice.v1.UserService/UpdateProfile", &request)
        };
        Ok(Arc::new(self.ids().await?.map(update).collect()))
    }

    async fn start(&self) -> anyhow::Result<()> {
        println!("\n## Start and memory\n");
        let mut starts = Vec::new();
        for _ in 0..5 {
            starts.push(Service::start(&self.postgres.url(), None).await?.start);
        }
        starts.sort();
        println!(
            "start until ready: median {:.1?}, at most {:.1?}",
            starts[2], starts[4]
        );
        let service = Service::start(&self.postgres.url(), None).await?;
        tokio::time::sleep(CALM).await;
        println!("memory, idle: {} MiB", memory::memory(service.pid()).now);
        let callers = Callers::connect(service.address, CONNECTIONS).await?;
        for (name, calls) in [
            ("GetProfile", self.gets().await?),
            ("UpdateProfile", self.updates().await?),
            ("ListProfiles", list()),
        ] {
            for in_flight in [32, ROOM] {
                let notes = callers.closed(&calls, in_flight, self.time).await?;
                println!("{name}, {in_flight} in flight: {}", told(&notes));
            }
        }
        let memory = memory::memory(service.pid());
        println!(
            "memory after this load: {} MiB, at most {} MiB",
            memory.now, memory.highest
        );
        let mut conn = self.postgres.connect().await?;
        let open = "select count(*) from pg_stat_activity where backend_type = 'client backend' \
                    and pid <> pg_backend_pid()";
        println!(
            "connections of the replica: {}",
            database::count(&mut conn, open).await?
        );
        Ok(())
    }

    async fn overload(&self, name: &str, calls: &Calls) -> anyhow::Result<()> {
        println!("\n## Overload by {name}\n");
        let service = Service::start(&self.postgres.url(), None).await?;
        let callers = Callers::connect(service.address, CONNECTIONS).await?;
        let full = callers.closed(calls, ROOM, self.time).await?;
        let before = memory::memory(service.pid());
        println!(
            "{ROOM} in flight: {}; memory at most {} MiB",
            told(&full),
            before.highest
        );
        let is_over = Arc::new(AtomicBool::new(false));
        let health = tokio::spawn(follow_health(
            Callers::connect(service.address, 1).await?,
            is_over.clone(),
        ));
        let rate = full.rate() * OVERLOAD;
        let over = callers.open(calls, rate, self.time).await?;
        is_over.store(true, Ordering::Relaxed);
        let (looks, longest) = health.await??;
        let after = memory::memory(service.pid());
        let offered = (over.served.len() + over.refused.len()) as f64 / over.took.as_secs_f64();
        println!(
            "{offered:.0} /s offered ({:.1} times): {}",
            offered / full.rate(),
            told(&over)
        );
        println!(
            "p99 of served calls: {:.2} times that at {ROOM} in flight",
            over.latency()[1] / full.latency()[1]
        );
        println!(
            "memory at most {} MiB; health answered {looks} times, within {longest:.1?}",
            after.highest
        );
        Ok(())
    }

    async fn telemetry(&self) -> anyhow::Result<()> {
        println!("\n## Telemetry\n");
        let collector = sink::start().await?;
        let url = self.postgres.url();
        let sides = [("off", None), ("on", Some(collector))];
        let calls = self.gets().await?;
        let mut services = Vec::new();
        for (name, collector) in sides {
            let service = Service::start(&url, collector).await?;
            let callers = Callers::connect(service.address, CONNECTIONS).await?;
            callers.closed(&calls, 32, Duration::from_secs(1)).await?;
            services.push((name, service, callers));
        }
        // By turns, for what slows the machine slows both.
        for _ in 0..2 {
            for (name, _, callers) in &services {
                println!(
                    "{name}, GetProfile, 32 in flight: {}",
                    told(&callers.closed(&calls, 32, self.time).await?)
                );
            }
            for (name, _, callers) in &services {
                println!(
                    "{name}, GetProfile, 2000 a second: {}",
                    told(&callers.open(&calls, 2000.0, self.time).await?)
                );
            }
        }
        Ok(())
    }

    async fn database(&mut self, fault: FieldError) -> anyhow::Result<()> {
        println!("\n## Postgres: {fault:?}\n");
        let service = Service::start(&self.postgres.url(), None).await?;
        let writers = Writers::start(service.address).await?;
        tokio::time::sleep(CALM).await;
        let began = Instant::now();
        match fault {
            FieldError::Fast => self.postgres.stop()?,
            FieldError::Immediate => self.postgres.stop_by("QUIT")?,
            FieldError::Halt => self.postgres.halt(Duration::from_secs(3)).await?,
        }
        if !matches!(fault, FieldError::Halt) {
            self.postgres.start_again()?;
        }
        let back = Instant::now();
        tokio::time::sleep(CALM * 2).await;
        let made = writers.stop().await?;
        println!("Postgres away for {:.1?}", back - began);
        report(&made, began, back)?;
        check_kept(&made, &self.postgres).await
    }

    async fn failover(&mut self) -> anyhow::Result<()> {
        println!("\n## Failover\n");
        let standby = self
            .postgres
            .standby(&self.folder.path.join("standby"))
            .await?;
        let service = Service::start(&self.postgres.url_with(&standby), None).await?;
        let writers = Writers::start(service.address).await?;
        tokio::time::sleep(CALM).await;
        let killed = Instant::now();
        self.postgres.stop_by("KILL")?;
        standby.promote().await?;
        let promoted = Instant::now();
        tokio::time::sleep(CALM * 2).await;
        let made = writers.stop().await?;
        println!(
            "killed, and the standby promoted after {:.1?}",
            promoted - killed
        );
        report(&made, killed, promoted)?;
        check_kept(&made, &standby).await?;
        drop((service, standby));
        // Once more, so that what it had of the machine's shared memory is not left behind.
        self.postgres.start_again()
    }
}

/// Callers who make users.
struct Writers {
    is_over: Arc<AtomicBool>,
    tasks: JoinSet<Vec<Made>>,
}

impl Writers {
    async fn start(address: std::net::SocketAddr) -> anyhow::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let tasks = Callers::connect(address, WRITERS)
            .await?
            .make_users(WRITERS, &is_over);
        Ok(Self { is_over, tasks })
    }

    /// Lets them end; all their calls, in order of time.
    async fn stop(mut self) -> anyhow::Result<Vec<Made>> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        while let Some(made) = self.tasks.join_next().await {
            all.extend(made?);
        }
        all.sort_by_key(|made| made.at);
        Ok(all)
    }
}

/// Tells what callers saw of a fault, which began and ended at these times.
fn report(made: &[Made], began: Instant, back: Instant) -> anyhow::Result<()> {
    let good = || made.iter().filter(|made| made.outcome.is_ok());
    let first = good()
        .find(|made| made.at > back)
        .context("no write succeeds again")?;
    let last = good()
        .rfind(|made| made.at < began)
        .context("no write succeeded before")?;
    println!(
        "writes go through again {:.1?} after Postgres is back",
        first.at - back
    );
    println!(
        "without a write that goes through: {:.1?}",
        first.at - last.at
    );
    let mut failures: std::collections::BTreeMap<Option<u32>, (u64, bool)> = Default::default();
    for failure in made.iter().filter_map(|made| made.outcome.err()) {
        let (count, all_say) = failures.entry(failure.0).or_insert((0, true));
        *count += 1;
        *all_say &= failure.1;
    }
    println!(
        "{} writes acknowledged{}",
        good().count(),
        told_failures(&failures)
    );
    Ok(())
}

/// Every user whose making was acknowledged must be there.
async fn check_kept(made: &[Made], postgres: &Postgres) -> anyhow::Result<()> {
    use diesel::sql_types::{Array, BigInt};
    use diesel_async::RunQueryDsl;

    let ids: Vec<i64> = made.iter().filter_map(|made| made.outcome.ok()).collect();
    let statement = diesel::select(
        diesel::dsl::sql::<BigInt>("(select count(*) from users where user_id = any(")
            .bind::<Array<BigInt>, _>(&ids)
            .sql("))"),
    );
    let found: i64 = statement.get_result(&mut postgres.connect().await?).await?;
    let lost = ids.len() as i64 - found;
    println!("acknowledged writes that are lost: {lost}");
    ensure!(lost == 0, "acknowledged writes are lost");
    Ok(())
}

/// Asks health until it is over: how often it said SERVING, and the longest that it took.
async fn follow_health(
    callers: Callers,
    is_over: Arc<AtomicBool>,
) -> anyhow::Result<(u64, Duration)> {
    let (mut looks, mut longest) = (0, Duration::ZERO);
    while !is_over.load(Ordering::Relaxed) {
        let began = Instant::now();
        ensure!(callers.is_serving().await?, "health was lost");
        longest = longest.max(began.elapsed());
        looks += 1;
        tokio::time::sleep(LOOK).await;
    }
    Ok((looks, longest))
}

fn told(notes: &Notes) -> String {
    let [p50, p99] = notes.latency();
    let mut text = format!(
        "{:.0} /s served, p50 {p50:.1} ms, p99 {p99:.1} ms",
        notes.rate()
    );
    if !notes.refused.is_empty() {
        let [p50, p99] =
            [0.5, 0.99].map(|share| notes.refused.value_at_quantile(share) as f64 / 1000.0);
        write!(
            text,
            "; others answered at p50 {p50:.1} ms, p99 {p99:.1} ms"
        )
        .expect("valid: a string takes all");
    }
    text + &told_failures(&notes.failures)
}

fn told_failures(failures: &std::collections::BTreeMap<Option<u32>, (u64, bool)>) -> String {
    let mut text = String::new();
    for (code, (count, all_say)) in failures {
        let code = code.map_or("no answer".to_owned(), |code| format!("code {code}"));
        let retry = if *all_say {
            "all with RetryInfo"
        } else {
            "not all with RetryInfo"
        };
        write!(text, "; {count} with {code}, {retry}").expect("valid: a string takes all");
    }
    text
}
