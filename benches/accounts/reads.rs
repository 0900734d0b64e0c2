//! Reading while others hash.

use std::time::Duration;

use user_service::convert::pb::{self, get_profile_request::Key};

use crate::{
    Bench,
    callers::{Until, Waits, closed, paced},
    logins, people,
    report::{Aim, Row},
    service::Client,
};

/// Reads a second.
const RATE: f64 = 500.0;
const ROUNDS: usize = 3;
const TIME: Duration = Duration::from_secs(4);
/// Callers who need a hash each.
const FLOOD: usize = 64;
/// How long the flood runs before reading begins, and after it has ended.
const MARGIN: Duration = Duration::from_secs(1);

/// Waits of GetProfile in peace and under a flood of passwords, by turns.
pub(crate) async fn compare(bench: &mut Bench) -> anyhow::Result<()> {
    let (mut quiet, mut flooded, mut hashed) = (Waits::default(), Waits::default(), 0);
    read(&bench.client, MARGIN).await?;
    for _ in 0..ROUNDS {
        quiet.append(read(&bench.client, TIME).await?);
        let flood = tokio::spawn(flood(bench.client.clone()));
        tokio::time::sleep(MARGIN).await;
        flooded.append(read(&bench.client, TIME).await?);
        hashed += flood.await??;
    }
    let [p50, p99] = [0.5, 0.99].map(|share| (quiet.quantile(share), flooded.quantile(share)));
    let of = |(quiet, _): (f64, f64)| format!("{quiet:.2} ms");
    bench.table.add(Row::new(
        format!("GetProfile at {RATE} /s, quiet, p50"),
        of(p50),
    ));
    bench.table.add(Row::new(
        format!("GetProfile at {RATE} /s, quiet, p99"),
        of(p99),
    ));
    let rate = hashed as f64 / (ROUNDS as f64 * (TIME + 2 * MARGIN).as_secs_f64());
    let under = format!("while {FLOOD} callers hash ({rate:.0} /s)");
    let row = |name: &str, (quiet, flooded): (f64, f64)| {
        Row::new(format!("{under}, {name}"), format!("{flooded:.2} ms"))
            .beside("quiet", flooded / quiet)
    };
    bench.table.add(row("p50", p50));
    bench.table.add(row("p99", p99).with_aim(Aim::AtMost(2.0)));
    Ok(())
}

async fn read(client: &Client, time: Duration) -> anyhow::Result<Waits> {
    let client = client.clone();
    paced(RATE, time, move |number| {
        let (mut client, (user_id, _)) = (client.clone(), people::with_password(number));
        async move {
            client
                .users
                .get_profile(pb::GetProfileRequest {
                    key: Some(Key::UserId(user_id)),
                    read_mask: None,
                })
                .await?;
            Ok(())
        }
    })
    .await
}

/// Logins, and new passwords that a service sets, half of each; gives how many.
async fn flood(client: Client) -> anyhow::Result<usize> {
    let ask = move |number: usize| {
        let client = client.clone();
        async move {
            match number % 2 {
                0 => logins::fail(&client, people::with_password(number).1).await,
                _ => set_password(&client, number).await,
            }
        }
    };
    Ok(closed(FLOOD, Until::Time(TIME + 2 * MARGIN), ask)
        .await?
        .len())
}

async fn set_password(client: &Client, number: usize) -> anyhow::Result<()> {
    let (user_id, _) = people::without_password(number);
    let new_password = format!("amber-harbour-{number}");
    client
        .users
        .clone()
        .update_account(pb::UpdateAccountRequest {
            user_id,
            new_password,
            ..Default::default()
        })
        .await?;
    Ok(())
}
