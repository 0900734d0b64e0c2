//! The same work by Postgres alone, driven by pgbench.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;

use crate::{client::Outcome, scenario::Data};

/// A script for pgbench.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub clients: usize,
    pub text: String,
}

/// What the service reads of a profile.
const COLUMNS: &str = "u.user_id, u.nickname, u.avatar_url, u.gender, u.country, u.province, u.city, u.language, \
    u.openid, u.unionid, u.is_authorized, u.group_ids, u.custom_fields, u.created_at, u.updated_at, u.version";
const ORDER: &str = "order by u.created_at desc, u.user_id desc limit 21";
const CHANCE: &str = "\\set id random(:first, :last)\n";
/// The highest id that there can be.
const LAST: i64 = (1 << 53) - 1;

fn script(text: String) -> Script {
    Script {
        clients: 8,
        text: format!("{text};\n"),
    }
}

pub(crate) fn get(clients: usize) -> Script {
    Script {
        clients,
        ..script(format!(
            "{CHANCE}select {COLUMNS} from users u where u.user_id = :id"
        ))
    }
}

/// One of these users.
pub(crate) fn get_among((first, last): (i64, i64)) -> Script {
    script(format!(
        "\\set id random({first}, {last})\nselect {COLUMNS} from users u where u.user_id = :id"
    ))
}

pub(crate) fn newest() -> Script {
    script(format!("select {COLUMNS} from users u where true {ORDER}"))
}

/// A page somewhere in the five years.
pub(crate) fn keyset(_: &Data) -> Script {
    script(format!(
        "\\set age random(1, 150000000)\nselect {COLUMNS} from users u where (u.created_at, u.user_id) < \
         (now() - make_interval(secs => :age), {LAST}) {ORDER}"
    ))
}

pub(crate) fn indexed(field_id: i64, level: i64) -> Script {
    script(format!(
        "select {COLUMNS} from field_values d join users u on u.user_id = d.user_id where d.field_id = {field_id} \
         and d.value = '\\x8{level:015x}'::bytea and case when (u.custom_fields -> 'level') = any(array['{level}'::jsonb]) then true else false end \
         order by d.created_at desc, d.user_id desc limit 21"
    ))
}

pub(crate) fn nickname(pattern: &str) -> Script {
    script(format!(
        "select {COLUMNS} from users u where (text_pieces(fold_case(u.nickname)) @> pattern_pieces(fold_case('{pattern}')) \
         and strpos(u.nickname, '{pattern}') > 0) {ORDER}"
    ))
}

pub(crate) fn group(group: i64) -> Script {
    script(format!(
        "select {COLUMNS} from users u where u.group_ids @> '{{{group}}}' {ORDER}"
    ))
}

pub(crate) fn count(condition: &str) -> Script {
    Script {
        clients: 2,
        ..script(format!("select count(*) from users u where {condition}"))
    }
}

const MORE_SCORE: &str =
    "jsonb_set(custom_fields, '{score}', to_jsonb((custom_fields ->> 'score')::numeric + 1))";
const MORE_LEVEL: &str =
    "jsonb_set(custom_fields, '{level}', to_jsonb((custom_fields ->> 'level')::bigint + 1))";

pub(crate) fn update() -> Script {
    script(format!(
        "{CHANCE}update users u set version = version + 1, updated_at = now(), custom_fields = {MORE_SCORE} \
         where u.user_id = :id returning {COLUMNS}"
    ))
}

/// By hand in one statement: the document and its row in the index.
fn with_index(field_id: i64, which: &str) -> String {
    format!(
        "{CHANCE}with changed as (update users set version = version + 1, updated_at = now(), \
         custom_fields = {MORE_LEVEL} where {which} returning user_id, created_at, custom_fields), \
         gone as (delete from field_values f using changed c where f.user_id = c.user_id and f.field_id = {field_id}) \
         insert into field_values select {field_id}, int8send((custom_fields ->> 'level')::bigint # (1::bigint << 63)), \
         created_at, user_id from changed"
    )
}

pub(crate) fn update_indexed(field_id: i64) -> Script {
    script(with_index(field_id, "user_id = :id"))
}

/// By hand: the lock on which all writers of a user wait, the old name freed, the new one claimed,
/// and both told.
pub(crate) fn rename() -> Script {
    script(format!(
        "{CHANCE}\\set turn random(1, 1000000000)\nbegin;\n\
         select user_id from users where user_id = :id for update;\n\
         delete from unique_values where user_id = :id and kind = 'username';\n\
         insert into unique_values (kind, value, user_id) values ('username', 'bench.' || :turn || '.' || :id, :id) \
         on conflict do nothing;\n\
         update accounts set version = version + 1, username = 'bench.' || :turn || '.' || :id, \
         username_key = 'bench.' || :turn || '.' || :id where user_id = :id returning *;\ncommit"
    ))
}

const THOUSAND: &str =
    "user_id in (select user_id from users where user_id >= :id order by user_id limit 1000)";

pub(crate) fn bulk() -> Script {
    let text = format!(
        "{CHANCE}update users set version = version + 1, updated_at = now(), custom_fields = {MORE_SCORE} \
         where {THOUSAND} returning user_id"
    );
    Script {
        clients: 1,
        ..script(text)
    }
}

pub(crate) fn bulk_indexed(field_id: i64) -> Script {
    Script {
        clients: 1,
        ..script(with_index(field_id, THOUSAND))
    }
}

/// The pgbench of these binaries, else the machine's.
pub(crate) fn find(bin_dir: &Path) -> Option<PathBuf> {
    let places = [bin_dir.join("pgbench"), PathBuf::from("/usr/bin/pgbench")];
    places.into_iter().find(|place| {
        Command::new(place)
            .arg("--version")
            .output()
            .is_ok_and(|run| run.status.success())
    })
}

/// Runs a script; `folder` takes its files meanwhile.
pub(crate) fn run(
    program: &Path,
    (port, database): (u16, &str),
    data: &Data,
    script: &Script,
    time: Duration,
    folder: &Path,
) -> anyhow::Result<Outcome> {
    let (file, log) = (folder.join("script.sql"), folder.join("transactions"));
    fs::write(&file, &script.text)?;
    let ran = Command::new(program)
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-U",
            "postgres",
            "-n",
            "-M",
            "prepared",
        ])
        .args([
            "-c",
            &script.clients.to_string(),
            "-j",
            "1",
            "-T",
            &time.as_secs().max(1).to_string(),
            "-l",
        ])
        .args([
            "-D",
            &format!("first={}", data.first_id),
            "-D",
            &format!("last={}", data.last_id),
        ])
        .arg(format!("--log-prefix={}", log.display()))
        .arg("-f")
        .arg(&file)
        .arg(database)
        .output()
        .context("pgbench cannot be run")?;
    if !ran.status.success() {
        bail!("pgbench: {}", String::from_utf8_lossy(&ran.stderr));
    }
    let mut latencies = Histogram::<u64>::new_with_bounds(1, 120_000_000, 3)?;
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if !path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("transactions"))
        {
            continue;
        }
        for line in fs::read_to_string(&path)?.lines() {
            let latency: Option<u64> = line
                .split(' ')
                .nth(2)
                .and_then(|column| column.parse().ok());
            latencies.saturating_record(
                latency
                    .context("a line of pgbench without a latency")?
                    .max(1),
            );
        }
        fs::remove_file(&path)?;
    }
    let said = String::from_utf8_lossy(&ran.stdout);
    let rate = said.lines().find_map(|line| {
        line.strip_prefix("tps = ")?
            .split(' ')
            .next()?
            .parse::<f64>()
            .ok()
    });
    let (requests, rate) = (latencies.len(), rate.context("pgbench tells no rate")?);
    let latency = [0.5, 0.99, 0.999].map(|share| latencies.value_at_quantile(share));
    Ok(Outcome {
        requests,
        seconds: requests as f64 / rate,
        latency,
        ..Outcome::default()
    })
}
