//! VerifyPassword: what its time tells, and how many there are in a second.
#![expect(
    clippy::disallowed_types,
    reason = "a wrong password is an answer here"
)]

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;
use argon2::{Algorithm, Argon2, Params, Version};
use tonic::Code;
use user_service::convert::pb::{self, verify_password_request::Key};

use crate::{
    Bench,
    callers::{Until, Waits, closed},
    people::{self, PASSWORD},
    report::{Aim, Row},
    service::Client,
};

/// Calls of each kind whose times are compared.
const COMPARED: usize = 200;
/// Callers who log in at once.
const CALLERS: usize = 16;
const ROUNDS: usize = 3;
const TIME: Duration = Duration::from_secs(3);

/// Logs in with the right password.
pub(crate) async fn log_in(client: &Client, number: usize) -> anyhow::Result<()> {
    let (_, name) = people::with_password(number);
    client
        .admin
        .clone()
        .verify_password(request(name, PASSWORD))
        .await?;
    Ok(())
}

/// Tries a password that is not the user's; anything but that answer is an error.
pub(crate) async fn fail(client: &Client, name: String) -> anyhow::Result<()> {
    match client
        .admin
        .clone()
        .verify_password(request(name, "not this one"))
        .await
    {
        Err(status) if status.code() == Code::InvalidArgument => Ok(()),
        Err(status) => Err(status.into()),
        Ok(_) => bail!("a wrong password is right"),
    }
}

fn request(name: String, password: &str) -> pb::VerifyPasswordRequest {
    // One client may be wrong only a hundred times an hour.
    let client = format!("bench {name}");
    pb::VerifyPasswordRequest {
        key: Some(Key::Username(name)),
        password: password.to_owned(),
        wallet: false,
        client,
    }
}

/// Compares the times of the answers that must not differ: one call of each kind after the other,
/// each round beginning with the next kind, each with a user of its own, since an account takes
/// five tries.
pub(crate) async fn compare_times(bench: &mut Bench) -> anyhow::Result<()> {
    type Name = fn(usize) -> String;
    let kinds: [(&str, Name); 5] = [
        ("wrong password", |number| people::with_password(number).1),
        ("user without password", |number| {
            people::without_password(number).1
        }),
        ("unknown user", people::nobody),
        ("wrong password, fast bcrypt", people::with_fast_hash),
        ("wrong password, slow bcrypt", people::with_slow_hash),
    ];
    let mut waits: [Waits; 5] = std::array::from_fn(|_| Waits::default());
    for number in 0..COMPARED {
        for turn in 0..kinds.len() {
            let kind = (number + turn) % kinds.len();
            let sent = Instant::now();
            fail(&bench.client, kinds[kind].1(number)).await?;
            waits[kind].add(sent.elapsed());
        }
    }
    let first = waits[0].quantile(0.5);
    for ((name, _), waits) in kinds.iter().zip(&waits) {
        let median = waits.quantile(0.5);
        let row = Row::new(
            format!("VerifyPassword, {name}"),
            format!("median {median:.2} ms"),
        );
        let row = row.beside(kinds[0].0, median / first);
        bench.table.add(if *name == kinds[0].0 {
            row
        } else {
            row.with_aim(Aim::Within(0.05))
        });
    }
    Ok(())
}

/// Logins a second beside what argon2 does alone, on one core and on all, by turns.
pub(crate) async fn count(bench: &mut Bench) -> anyhow::Result<()> {
    let cores = thread::available_parallelism()?.get();
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let before = bench.meter.read().await;
        let client = bench.client.clone();
        let ask = move |number| {
            let client = client.clone();
            async move { log_in(&client, number).await }
        };
        let waits = closed(CALLERS, Until::Time(TIME), ask).await?;
        let cost = bench.meter.since(before, waits.len()).await;
        let half = tokio::task::spawn_blocking(move || hashes(cores.div_ceil(2), TIME)).await?;
        let all = tokio::task::spawn_blocking(move || hashes(cores, TIME)).await?;
        rounds.push((cost, half, all));
    }
    rounds.sort_by(|a, b| (a.0.rate / a.1).total_cmp(&(b.0.rate / b.1)));
    let (cost, half, all) = rounds[ROUNDS / 2];
    let row = Row::new(
        format!("VerifyPassword, {CALLERS} callers"),
        format!("{:.1} /s", cost.rate),
    );
    let row = row.beside("bare argon2 on half the cores", cost.rate / half);
    bench.table.add(row.with_cost(cost));
    bench.table.add(
        Row::new("bare argon2, half the cores", format!("{half:.1} /s"))
            .beside("bare argon2 on all cores", half / all),
    );
    Ok(())
}

/// How many hashes this many threads make in a second.
fn hashes(threads: usize, time: Duration) -> f64 {
    let begin = Instant::now();
    let hash = || {
        let params = Params::new(19_456, 2, 1, Some(32)).expect("valid: those of the service");
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut count = 0;
        while begin.elapsed() < time {
            argon2
                .hash_password_into(PASSWORD.as_bytes(), b"salt of the test", &mut [0; 32])
                .expect("there is memory");
            count += 1;
        }
        count
    };
    let made: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(hash)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("valid: it does not panic"))
            .sum()
    });
    made as f64 / begin.elapsed().as_secs_f64()
}
