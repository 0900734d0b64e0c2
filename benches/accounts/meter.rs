//! What calls cost the service and Postgres.

use std::time::{Duration, Instant};

use crate::common::{cpu, database::Counter};

/// Reads the CPU times of both, and the statements.
pub(crate) struct Meter {
    service: u32,
    postgres: Option<u32>,
    counter: Counter,
}

/// What it showed at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    at: Instant,
    service: Duration,
    postgres: Duration,
    statements: Option<i64>,
}

/// What one call cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub rate: f64,
    /// CPU time in microseconds.
    pub service: f64,
    pub postgres: f64,
    pub statements: Option<f64>,
}

impl Meter {
    pub(crate) fn new(service: u32, postgres: Option<u32>, counter: Counter) -> Self {
        Self {
            service,
            postgres,
            counter,
        }
    }

    pub(crate) async fn read(&mut self) -> Reading {
        // The counting is a statement too.
        let statements = self.counter.count().await.map(|count| count + 1);
        let postgres = self.postgres.map_or(Duration::ZERO, cpu::cpu_of_family);
        Reading {
            at: Instant::now(),
            service: cpu::cpu(self.service),
            postgres,
            statements,
        }
    }

    /// What one of so many calls has cost since then.
    pub(crate) async fn since(&mut self, before: Reading, calls: usize) -> Cost {
        let took = before.at.elapsed().as_secs_f64();
        let postgres = self.postgres.map_or(Duration::ZERO, cpu::cpu_of_family);
        let service = cpu::cpu(self.service);
        let statements = self.counter.count().await;
        let each = |value: f64| value / calls.max(1) as f64;
        let micros = |time: Duration| each(time.as_secs_f64() * 1e6);
        Cost {
            rate: calls as f64 / took,
            service: micros(service.saturating_sub(before.service)),
            postgres: micros(postgres.saturating_sub(before.postgres)),
            statements: statements
                .zip(before.statements)
                .map(|(after, before)| each((after - before) as f64)),
        }
    }
}
