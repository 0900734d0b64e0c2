//! `user-service user import`: users from lines of JSON, in batches, each line once however often
//! it is tried.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::output::Output;
use crate::{
    api::{Api, Batch, MAX_LINE},
    convert::{json_lines, pb, proto_json},
    domain::caller::Caller,
    error::{Error, FieldError, Kind, Result},
};

/// How often a batch is retried while the database is unavailable.
const TRIES: u32 = 60;
const WAIT: Duration = Duration::from_secs(1);

type User = pb::CreateUserRequest;

/// Imports a file and reports every line that failed.
pub(super) async fn run(file: &Path, api: &Api, output: &Output) -> anyhow::Result<ExitCode> {
    let (mut lines, progress) = open(file, *output)?;
    let (mut created, mut failed, mut index, mut line_number) = (0, 0, 0, 0);
    let mut has_text = false;
    loop {
        let batch = next_batch(&mut lines, (&mut line_number, &mut has_text), &progress)
            .context("cannot read the file")?;
        if batch.is_empty() {
            break;
        }
        let told = send(api, index, batch).await?;
        index = told.next_index;
        created += told.created;
        failed += told.failed;
        for failure in &told.failures {
            progress.suspend(|| report(*output, failure.index + 1, failure));
        }
        progress.set_message(format!("{created} imported, {failed} failed"));
    }
    progress.finish_and_clear();
    let told = output.line(
        &format!("{created} users imported, {failed} failed"),
        &json!({ "created": created, "failed": failed, "nextIndex": index }),
    );
    match failed {
        0 => Ok(told.map(|()| ExitCode::SUCCESS)?),
        // It counts even if the sentence is not read.
        _ => Ok(ExitCode::FAILURE),
    }
}

fn open(file: &Path, output: Output) -> anyhow::Result<(Box<dyn BufRead>, ProgressBar)> {
    if file == Path::new("-") {
        return Ok((
            Box::new(BufReader::new(std::io::stdin())),
            ProgressBar::hidden(),
        ));
    }
    let cannot_open = || format!("cannot open {}", file.display());
    let opened = File::open(file).with_context(cannot_open)?;
    let size = opened.metadata().with_context(cannot_open)?.len();
    let progress = if output.is_json() {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(size)
    };
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {eta} {msg}")?;
    Ok((Box::new(BufReader::new(opened)), progress.with_style(style)))
}

fn next_batch(
    lines: &mut impl BufRead,
    (line_number, has_text): (&mut u64, &mut bool),
    progress: &ProgressBar,
) -> anyhow::Result<Batch> {
    let mut batch = Batch::default();
    let mut line = Vec::new();
    while !batch.is_full() {
        line.clear();
        // One byte more tells whether the line is at its end.
        let read = lines
            .by_ref()
            .take(MAX_LINE as u64 + 1)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        progress.inc(read as u64);
        *line_number += 1;
        if line.trim_ascii().is_empty() {
            batch.skip_line();
            continue;
        }
        if !std::mem::replace(has_text, true) {
            line = json_lines::first_line(&line)
                .map_err(|why| anyhow!("the file {why}"))?
                .to_owned();
        }
        if read > MAX_LINE && line.last() != Some(&b'\n') {
            progress.inc(lines.skip_until(b'\n')? as u64);
            batch.push(
                Err(Error::invalid(
                    "",
                    FieldError::Length,
                    "must be at most 1 MiB",
                )),
                0,
            );
            continue;
        }
        batch.push(parse(&line, *line_number), line.len());
    }
    Ok(batch)
}

/// Reads a line. Its request id comes from its place and its text, so that a file that is imported
/// again within a day makes no user twice.
fn parse(line: &[u8], number: u64) -> Result<User> {
    let text = std::str::from_utf8(line)
        .map_err(|_| Error::invalid("", FieldError::Format, "is not valid UTF-8"))?;
    let mut user: User = proto_json::from_json(text.trim())?;
    if user.request_id.is_empty() {
        let digest = Sha256::new()
            .chain_update(number.to_be_bytes())
            .chain_update(line.trim_ascii())
            .finalize();
        let bytes: [u8; 16] = digest[..16]
            .try_into()
            .expect("valid: a digest has 32 bytes");
        user.request_id = uuid::Builder::from_custom_bytes(bytes)
            .into_uuid()
            .to_string();
    }
    Ok(user)
}

/// Sends a batch, with retries while the database is unavailable: request ids keep committed users
/// from being created twice.
async fn send(api: &Api, index: i64, batch: Batch) -> anyhow::Result<pb::ImportUsersResponse> {
    let caller = Caller::operator();
    let mut tries = 0;
    loop {
        match api.import_batch(&caller, index, batch.clone()).await {
            Err(error)
                if matches!(error.kind(), Kind::Unavailable | Kind::Aborted) && tries < TRIES =>
            {
                tries += 1;
                tracing::warn!(
                    tries,
                    reason = error.reason().as_str(),
                    "the database is unavailable; retrying the import batch"
                );
                tokio::time::sleep(WAIT).await;
            }
            told => return Ok(told?),
        }
    }
}

fn report(output: Output, line: i64, failure: &pb::ImportFailure) {
    let pb::ImportFailure {
        reason,
        field,
        message,
        ..
    } = failure;
    output.complain(
        &format!("line {line}: {reason}: {message}"),
        &json!({ "line": line, "reason": reason, "field": field, "message": message }),
    );
}
