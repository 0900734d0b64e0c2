//! Codes: how many are asked for and confirmed in a second, how many mails one worker sends, and
//! how long one is under way.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Context;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor, transport::smtp::PoolConfig};
use user_service::convert::pb;

use crate::{
    Bench,
    callers::{Until, Waits, closed, paced},
    mailbox::Arrived,
    people,
    report::Row,
    service::Client,
};

const CALLERS: usize = 32;
/// Codes that are asked for as fast as they are answered.
const CODES: usize = 4000;
/// Codes a second where the time of a mail is measured, and for how long.
const RATE: f64 = 50.0;
const TIME: Duration = Duration::from_secs(8);
/// Mails that are sent by hand, and how many at once: as many as the worker sends.
const BARE_MAILS: usize = 2000;
const SENDERS: usize = 8;

pub(crate) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let update = update_profiles(bench).await?;
    let mails = send_codes(bench, update).await?;
    let bare = send_by_hand(bench).await?;
    let row = Row::new("mails through one worker", format!("{mails:.0} /s"));
    bench.table.add(row.beside(
        format!("lettre alone, {SENDERS} at once ({bare:.0} /s)"),
        mails / bare,
    ));
    confirm(bench, update).await?;
    wait_for_mails(bench).await
}

/// The write that others are compared with: one transaction of one statement.
async fn update_profiles(bench: &mut Bench) -> anyhow::Result<f64> {
    let client = bench.client.clone();
    let before = bench.meter.read().await;
    let waits = closed(CALLERS, Until::Calls(2 * CODES), move |number| {
        let mut client = client.clone();
        async move {
            let request = pb::UpdateProfileRequest {
                user_id: people::with_password(number).0,
                profile: Some(pb::Profile {
                    city: "Oslo".to_owned(),
                    ..Default::default()
                }),
                update_mask: Some(prost_types::FieldMask {
                    paths: vec!["city".to_owned()],
                }),
                ..Default::default()
            };
            client.users.update_profile(request).await?;
            Ok(())
        }
    })
    .await?;
    let cost = bench.meter.since(before, waits.len()).await;
    let row = Row::new(
        format!("UpdateProfile, {CALLERS} callers"),
        format!("{:.0} /s", cost.rate),
    );
    bench.table.add(row.with_cost(cost));
    Ok(cost.rate)
}

/// Asks for codes as fast as they are answered; gives the mails a second that the worker then
/// sends.
async fn send_codes(bench: &mut Bench, update: f64) -> anyhow::Result<f64> {
    let client = bench.client.clone();
    let before = bench.meter.read().await;
    let begin = Instant::now();
    let waits = closed(CALLERS, Until::Calls(CODES), move |number| {
        let client = client.clone();
        async move { send_code(&client, number).await }
    })
    .await?;
    let cost = bench.meter.since(before, waits.len()).await;
    let (there, since) = (bench.mailbox.len(), Instant::now());
    let mails = bench.mailbox.wait_for(CODES).await?;
    let last = mails.values().map(|mail| mail.at).max().unwrap_or(begin);
    let row = Row::new(
        format!("SendEmailCode, {CALLERS} callers"),
        format!("{:.0} /s", cost.rate),
    );
    bench.table.add(
        row.beside("UpdateProfile", cost.rate / update)
            .with_cost(cost),
    );
    // Where the worker kept up there is no rest that it could be measured by.
    let rest = CODES.saturating_sub(there);
    let (count, from) = if rest > CODES / 4 {
        (rest, since)
    } else {
        (CODES, begin)
    };
    Ok(count as f64 / last.saturating_duration_since(from).as_secs_f64())
}

async fn send_code(client: &Client, number: usize) -> anyhow::Result<()> {
    let (user_id, email) = people::mailed(number);
    client
        .users
        .clone()
        .send_email_code(pb::SendEmailCodeRequest {
            user_id,
            email,
            ..Default::default()
        })
        .await?;
    Ok(())
}

/// The same mail to the same server by lettre alone.
async fn send_by_hand(bench: &Bench) -> anyhow::Result<f64> {
    let server = bench.mailbox.address;
    let relay = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server.ip().to_string())
        .port(server.port())
        .pool_config(PoolConfig::new().max_size(SENDERS as u32))
        .build();
    let mails = bench.mailbox.wait_for(1).await?;
    let sample = Arc::new(
        mails
            .into_values()
            .next()
            .context("no mail")?
            .text
            .into_bytes(),
    );
    let from: lettre::Address = "no-reply@example.org".parse()?;
    let begin = Instant::now();
    let waits = closed(SENDERS, Until::Calls(BARE_MAILS), move |_| {
        let (relay, from, sample) = (relay.clone(), from.clone(), Arc::clone(&sample));
        async move {
            let envelope = lettre::address::Envelope::new(Some(from.clone()), vec![from])?;
            relay.send_raw(&envelope, &sample).await?;
            Ok(())
        }
    })
    .await?;
    Ok(waits.len() as f64 / begin.elapsed().as_secs_f64())
}

/// Binds the addresses with the codes that came.
async fn confirm(bench: &mut Bench, update: f64) -> anyhow::Result<()> {
    let mails = Arc::new(bench.mailbox.wait_for(CODES).await?);
    let client = bench.client.clone();
    let before = bench.meter.read().await;
    let waits = closed(CALLERS, Until::Calls(CODES), move |number| {
        let (mut client, mails) = (client.clone(), Arc::clone(&mails));
        async move {
            let (user_id, email) = people::mailed(number);
            let code = mails
                .get(&email)
                .and_then(code)
                .context("a mail without a code")?;
            let request = pb::ConfirmEmailChangeRequest {
                user_id,
                email,
                code,
                ..Default::default()
            };
            client.users.confirm_email_change(request).await?;
            Ok(())
        }
    })
    .await?;
    let cost = bench.meter.since(before, waits.len()).await;
    let row = Row::new(
        format!("ConfirmEmailChange, {CALLERS} callers"),
        format!("{:.0} /s", cost.rate),
    );
    bench.table.add(
        row.beside("UpdateProfile", cost.rate / update)
            .with_cost(cost),
    );
    Ok(())
}

/// The code stands on a line of its own.
fn code(mail: &Arrived) -> Option<String> {
    let is_code = |line: &&str| line.len() == 6 && line.bytes().all(|byte| byte.is_ascii_digit());
    mail.text
        .lines()
        .map(str::trim)
        .find(is_code)
        .map(str::to_owned)
}

/// How long a mail is under way once its call has been answered, where the worker has time.
async fn wait_for_mails(bench: &mut Bench) -> anyhow::Result<()> {
    let there = bench.mailbox.len();
    let answered: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
    let (client, noted) = (bench.client.clone(), Arc::clone(&answered));
    let calls = paced(RATE, TIME, move |number| {
        let (client, noted) = (client.clone(), Arc::clone(&noted));
        async move {
            send_code(&client, CODES + number).await?;
            let (_, email) = people::mailed(CODES + number);
            noted
                .lock()
                .expect("valid: no holder panics")
                .insert(email, Instant::now());
            Ok(())
        }
    })
    .await?;
    let mails = bench.mailbox.wait_for(there + calls.len()).await?;
    let mut under_way = Waits::default();
    for (email, at) in answered.lock().expect("valid: no holder panics").iter() {
        let mail = mails.get(email).context("a mail is missing")?;
        under_way.add(mail.at.saturating_duration_since(*at));
    }
    let median = calls.quantile(0.5);
    let row = Row::new(
        format!("SendEmailCode at {RATE} /s, p50"),
        format!("{median:.2} ms"),
    );
    bench.table.add(row);
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let wait = under_way.quantile(share);
        let row = Row::new(
            format!("from the answer to the mail, {name}"),
            format!("{wait:.2} ms"),
        );
        bench
            .table
            .add(row.beside("SendEmailCode's p50", wait / median));
    }
    Ok(())
}
