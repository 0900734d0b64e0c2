//! The table of results.

use std::time::Duration;

use crate::client::Outcome;

/// Who did the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Service,
    /// The service at a rate that it can bear.
    Paced,
    Pgbench,
    /// The same rows by COPY.
    Copy,
    Floor,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Service => "service",
            Side::Paced => "service, paced",
            Side::Pgbench => "pgbench",
            Side::Copy => "COPY",
            Side::Floor => "fixed reply",
        }
    }
}

/// CPU time of each party.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    pub server: Duration,
    pub postgres: Duration,
    pub client: Duration,
}

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub scenario: String,
    pub side: Side,
    pub in_flight: usize,
    pub outcome: Outcome,
    pub cpu: Cpu,
    /// Statements that Postgres ran meanwhile; `None` where it does not count them.
    pub statements: Option<i64>,
}

impl Run {
    /// Requests a second.
    pub(crate) fn rate(&self) -> f64 {
        self.outcome.requests as f64 / self.outcome.seconds.max(1e-9)
    }
}

/// Of all rounds of a scenario and side, the one with the middle rate.
fn middle<'a>(runs: &'a [Run], scenario: &str, side: Side) -> Option<&'a Run> {
    let mut found: Vec<&Run> = runs
        .iter()
        .filter(|run| run.scenario == scenario && run.side == side)
        .collect();
    found.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
    found.get(found.len() / 2).copied()
}

/// Prints all runs as one table.
pub(crate) fn print(runs: &[Run]) {
    println!(
        "\n| scenario | side | in flight | requests/s | p50 ms | p99 ms | p99.9 ms | server µs | Postgres µs | client µs \
         | statements | errors | of Postgres | of fixed reply |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    let mut names: Vec<&str> = Vec::new();
    for run in runs {
        if !names.contains(&run.scenario.as_str()) {
            names.push(&run.scenario);
        }
    }
    for name in names {
        for side in [
            Side::Service,
            Side::Paced,
            Side::Pgbench,
            Side::Copy,
            Side::Floor,
        ] {
            if let Some(run) = middle(runs, name, side) {
                let postgres = middle(runs, name, Side::Pgbench).or(middle(runs, name, Side::Copy));
                println!("{}", line(run, postgres, middle(runs, name, Side::Floor)));
            }
        }
    }
    let failed = runs.iter().filter(|run| run.outcome.errors > 0);
    for run in failed {
        let why = run.outcome.first_error.as_deref().unwrap_or_default();
        println!(
            "{} ({}): {} errors, the first: {why}",
            run.scenario,
            run.side.name(),
            run.outcome.errors
        );
    }
}

fn line(run: &Run, postgres: Option<&Run>, floor: Option<&Run>) -> String {
    let requests = run.outcome.requests.max(1) as f64;
    let each = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e6 / requests);
    // One stream of an import has no latency.
    let [p50, p99, p999] = run.outcome.latency.map(|micros| match micros {
        0 => String::new(),
        micros => format!("{:.2}", micros as f64 / 1000.0),
    });
    let share = |other: Option<&Run>| match other {
        Some(other) if run.side == Side::Service => {
            format!("{:.0} %", 100.0 * run.rate() / other.rate())
        }
        _ => String::new(),
    };
    let statements = run
        .statements
        .map(|count| format!("{:.2}", count as f64 / requests))
        .unwrap_or_default();
    let cells = [
        run.scenario.clone(),
        run.side.name().to_owned(),
        run.in_flight.to_string(),
        format!("{:.0}", run.rate()),
        p50,
        p99,
        p999,
        each(run.cpu.server),
        each(run.cpu.postgres),
        each(run.cpu.client),
        statements,
        run.outcome.errors.to_string(),
        share(postgres),
        share(floor),
    ];
    format!("| {} |", cells.join(" | "))
}
