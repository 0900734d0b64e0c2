//! Load on the whole service at a million users: service, Postgres and client are processes of
//! their own, measured by turns with pgbench and with a server that gives one fixed reply. See
//! `benches/README.md`.

#[path = "../common/mod.rs"]
mod common;

mod client;
mod data;
mod import;
mod pgbench;
mod process;
mod report;
mod scenario;
mod server;

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use user_service::{dev::postgres, threads};

use client::{Job, Load, Outcome};
use common::{
    cpu,
    database::{self, Counter},
    folder::Folder,
    memory,
};
use import::{Copy, Import};
use process::Worker;
use report::{Cpu, Run, Side};
use scenario::{Data, Requests, Scenario};

/// Of the rate that was reached without a pause, what the paced run asks for.
const PACE: f64 = 0.6;
/// Users to import for each second that a run lasts.
const IMPORTED: u64 = 8000;

/// Measures the service under load.
#[derive(Debug, Parser)]
struct Arguments {
    /// Scenarios whose names hold one of these.
    scenarios: Vec<String>,
    /// Every scenario.
    #[arg(long)]
    all: bool,
    /// Users in the database.
    #[arg(long, default_value_t = 1_000_000)]
    users: u64,
    /// How often everything is measured, by turns.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each run lasts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Keeps the data here for the next time.
    #[arg(long)]
    folder: Option<PathBuf>,
    #[arg(long, hide = true)]
    role: Option<Role>,
    #[arg(long, hide = true, default_value = "")]
    url: String,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    Client,
    Service,
    Floor,
}

/// The binary's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
    };
    match arguments.role {
        Some(Role::Client) => client::run(),
        Some(Role::Service) => threads::runtime()?.block_on(server::run(&arguments.url)),
        Some(Role::Floor) => runtime()?.block_on(server::run_floor()),
        None => measure(&arguments, &runtime()?),
    }
}

fn measure(arguments: &Arguments, runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
    let is_wanted = |scenario: &Scenario| {
        arguments.all
            || arguments
                .scenarios
                .iter()
                .any(|part| scenario.name.contains(part.as_str()))
    };
    let nothing = Data {
        first_id: 0,
        last_id: 0,
        level_field: 0,
    };
    if !scenario::all(&nothing).iter().any(is_wanted) {
        println!("name scenarios, or --all; there are:");
        scenario::all(&nothing)
            .iter()
            .for_each(|scenario| println!("  {}", scenario.name));
        return Ok(());
    }
    let folder = Folder::open(arguments.folder.clone(), "load")?;
    // A database that someone has made for this, for example a distributed one.
    let (postgres, url) = match std::env::var("DATABASE_URL") {
        Ok(url) => (None, url),
        Err(_) => {
            let postgres = database::start(&folder.path)?;
            let url = postgres.url(database::DATABASE);
            (Some(postgres), url)
        }
    };
    let data = runtime.block_on(data::fill(&url, arguments.users))?;
    let wanted: Vec<Scenario> = scenario::all(&data).into_iter().filter(is_wanted).collect();
    let pgbench = postgres
        .as_ref()
        .and_then(|postgres| pgbench::find(postgres.bin_dir()));
    if pgbench.is_none() {
        println!("no pgbench, or not a Postgres of our own: what Postgres does alone is left out");
    }
    let counter = runtime.block_on(Counter::new(&url))?;
    let mut bench = Bench {
        time: Duration::from_secs(arguments.seconds),
        client: Worker::start(&["--role", "client"], Stdio::inherit())?,
        // Its log is written as in production, and read by no one.
        services: vec![Server::start(
            &["--role", "service", "--url", &url],
            Stdio::null(),
        )?],
        floor: Server::start(&["--role", "floor"], Stdio::inherit())?,
        runtime,
        postgres,
        counter,
        url,
        data,
        pgbench,
        folder,
    };
    let mut runs = Vec::new();
    for round in 1..=arguments.rounds {
        for scenario in &wanted {
            eprintln!("round {round}: {}", scenario.name);
            bench.turn(scenario, &mut runs)?;
        }
    }
    report::print(&runs);
    bench.print_memory();
    Ok(())
}

/// A server in a process of its own.
struct Server {
    worker: Worker,
    started: server::Started,
}

impl Server {
    fn start(arguments: &[&str], stderr: Stdio) -> anyhow::Result<Self> {
        let mut worker = Worker::start(arguments, stderr)?;
        let started = serde_json::from_str(&worker.hear()?)?;
        Ok(Self { worker, started })
    }
}

/// Everything that takes part. The fields are dropped in this order.
struct Bench<'a> {
    client: Worker,
    /// The service, and a second replica where a scenario has asked for it.
    services: Vec<Server>,
    floor: Server,
    counter: Counter,
    url: String,
    /// Absent where `DATABASE_URL` names one.
    postgres: Option<postgres::Server>,
    folder: Folder,
    pgbench: Option<PathBuf>,
    data: Data,
    time: Duration,
    runtime: &'a tokio::runtime::Runtime,
}

impl Bench<'_> {
    /// Measures every side of a scenario once.
    fn turn(&mut self, scenario: &Scenario, runs: &mut Vec<Run>) -> anyhow::Result<()> {
        if matches!(scenario.requests, Requests::Import) {
            return self.import(scenario, runs);
        }
        while self.services.len() < scenario.replicas {
            let arguments = ["--role", "service", "--url", &self.url];
            self.services
                .push(Server::start(&arguments, Stdio::null())?);
        }
        let flat_out = self.call(scenario, Side::Service, Load::Closed(scenario.in_flight))?;
        let pace = Load::Fixed((flat_out.rate() * PACE).max(1.0));
        runs.push(flat_out);
        runs.push(self.call(scenario, Side::Paced, pace)?);
        runs.extend(self.drive_postgres(scenario)?);
        if scenario.floor {
            runs.push(self.call(scenario, Side::Floor, Load::Closed(scenario.in_flight))?);
        }
        Ok(())
    }

    fn call(&mut self, scenario: &Scenario, side: Side, load: Load) -> anyhow::Result<Run> {
        let servers = match side {
            Side::Floor => std::slice::from_ref(&self.floor),
            _ => &self.services[..scenario.replicas],
        };
        let address = |server: &Server| {
            if scenario.requests.is_rest() {
                server.started.rest
            } else {
                server.started.address
            }
        };
        let pids: Vec<u32> = servers.iter().map(|server| server.worker.pid()).collect();
        let client = self.client.pid();
        let job = Job {
            scenario: scenario.name.clone(),
            addresses: servers.iter().map(address).collect(),
            token: servers[0].started.token.clone(),
            data: self.data.clone(),
            load,
            warm_up: self.time / 4,
            time: self.time,
        };
        self.client.tell(&serde_json::to_string(&job)?)?;
        self.client.hear().context("the client is not ready")?;
        let statements = self.runtime.block_on(self.counter.count());
        let before = self.cpu(&pids, cpu::cpu(client));
        self.client.tell("go")?;
        let outcome: Outcome = serde_json::from_str(&self.client.hear()?)?;
        let after = self.cpu(&pids, cpu::cpu(client));
        Ok(self.run_of(
            scenario,
            side,
            scenario.in_flight,
            outcome,
            (before, after),
            statements,
        ))
    }

    /// The same by pgbench, where there is one.
    fn drive_postgres(&mut self, scenario: &Scenario) -> anyhow::Result<Option<Run>> {
        let (Some(program), Some(script)) = (&self.pgbench, &scenario.script) else {
            return Ok(None);
        };
        let Some(postgres) = &self.postgres else {
            return Ok(None);
        };
        let own = std::process::id();
        let database = (postgres.port(), database::DATABASE);
        let statements = self.runtime.block_on(self.counter.count());
        let before = self.cpu(&[], cpu::cpu_of_ended(own));
        let outcome = pgbench::run(
            program,
            database,
            &self.data,
            script,
            self.time,
            &self.folder.path,
        )?;
        let after = self.cpu(&[], cpu::cpu_of_ended(own));
        Ok(Some(self.run_of(
            scenario,
            Side::Pgbench,
            script.clients,
            outcome,
            (before, after),
            statements,
        )))
    }

    /// ImportUsers and COPY, each of as many users; this process is their client.
    fn import(&mut self, scenario: &Scenario, runs: &mut Vec<Run>) -> anyhow::Result<()> {
        let size = self.data.users();
        let count = (self.time.as_secs() * IMPORTED).min(size);
        let (pid, own) = (self.services[0].worker.pid(), std::process::id());
        let (address, token) = (
            self.services[0].started.address,
            self.services[0].started.token.clone(),
        );
        let runtime = self.runtime;

        let import = runtime.block_on(Import::new(&self.url, size, count, address, &token))?;
        let statements = runtime.block_on(self.counter.count());
        let before = self.cpu(&[pid], cpu::cpu(own));
        let outcome = runtime.block_on(import.run())?;
        let after = self.cpu(&[pid], cpu::cpu(own));
        runs.push(self.run_of(
            scenario,
            Side::Service,
            1,
            outcome,
            (before, after),
            statements,
        ));
        runtime.block_on(import::remove(&self.url, self.data.last_id))?;

        let copy = runtime.block_on(Copy::new(&self.url, size, count))?;
        let statements = runtime.block_on(self.counter.count());
        let before = self.cpu(&[], cpu::cpu(own));
        let outcome = runtime.block_on(copy.run())?;
        let after = self.cpu(&[], cpu::cpu(own));
        runs.push(self.run_of(
            scenario,
            Side::Copy,
            1,
            outcome,
            (before, after),
            statements,
        ));
        runtime.block_on(import::remove(&self.url, self.data.last_id))
    }

    /// `None` where it is not ours.
    fn postgres_pid(&self) -> Option<u32> {
        self.postgres.as_ref().and_then(postgres::Server::pid)
    }

    fn cpu(&self, servers: &[u32], client: Duration) -> Cpu {
        let postgres = self
            .postgres_pid()
            .map_or(Duration::ZERO, cpu::cpu_of_family);
        Cpu {
            server: servers.iter().map(|pid| cpu::cpu(*pid)).sum(),
            postgres,
            client,
        }
    }

    fn run_of(
        &mut self,
        scenario: &Scenario,
        side: Side,
        in_flight: usize,
        outcome: Outcome,
        (before, after): (Cpu, Cpu),
        statements: Option<i64>,
    ) -> Run {
        let cpu = Cpu {
            server: after.server.saturating_sub(before.server),
            postgres: after.postgres.saturating_sub(before.postgres),
            client: after.client.saturating_sub(before.client),
        };
        // The counting is a statement too.
        let statements = statements
            .zip(self.runtime.block_on(self.counter.count()))
            .map(|(before, after)| after - before - 1);
        Run {
            scenario: scenario.name.clone(),
            side,
            in_flight,
            outcome,
            cpu,
            statements,
        }
    }

    fn print_memory(&self) {
        let (service, client) = (
            memory::memory(self.services[0].worker.pid()),
            memory::memory(self.client.pid()),
        );
        let postgres = self.postgres_pid().map_or(0, memory::memory_of_family);
        println!(
            "\nmemory of the service {} MiB, at most {} MiB",
            service.now, service.highest
        );
        println!(
            "memory of the client {} MiB, at most {} MiB",
            client.now, client.highest
        );
        println!("memory of Postgres {postgres} MiB, what its processes share counted once");
    }
}
