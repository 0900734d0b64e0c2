//! The database under load: a server of its own, and a crowd in it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use diesel::sql_types::BigInt;
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use user_service::{
    cli::{crowd, demo},
    clock::Clock,
    postgres,
    store::{
        schema::{self, Mark},
        sql::Sql,
    },
};

use crate::{scenario::Data, server};

pub const DATABASE: &str = "postgres";

/// Settings of a server that keeps what it is told, as in production, and counts its statements.
const SETTINGS: &[(&str, &str)] = &[
    ("shared_buffers", "1GB"),
    ("max_wal_size", "4GB"),
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("shared_preload_libraries", "pg_stat_statements"),
];

/// A folder that goes with the run, unless somebody named it.
pub struct Folder {
    pub path: PathBuf,
    pub is_kept: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_kept
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("{} cannot be removed: {error}", self.path.display());
        }
    }
}

/// Starts Postgres; one without pg_stat_statements does not count.
pub fn start(folder: &Path) -> anyhow::Result<postgres::Server> {
    let (plain, counting) = (&SETTINGS[..SETTINGS.len() - 1], SETTINGS);
    let start = |extra| postgres::Server::start(&postgres::Settings { folder, extra });
    let mut server = start(counting).or_else(|error| {
        eprintln!("statements are not counted: {error:#}");
        start(plain)
    })?;
    server.stop_at_exit()?;
    Ok(server)
}

/// Migrates, and makes the examples and the crowd, where they are not there yet.
pub async fn fill(url: &str, users: u64) -> anyhow::Result<Data> {
    schema::migrate(url, None).await?;
    let mut conn = schema::connect(url, None).await?;
    if schema::mark(&mut conn).await?.as_deref().and_then(Mark::parse).is_none() {
        demo::fill(&server::build(url)?.api).await?;
        schema::set_mark(&mut conn, Mark::Filled { crowd: 0 }).await?;
    }
    let begin = std::time::Instant::now();
    let told = |made| eprintln!("{made} users after {:.0} s", begin.elapsed().as_secs_f64());
    crowd::fill(url, None, users, Clock::System.now(), told).await?;
    conn.batch_execute("checkpoint").await?;
    let one = async |conn: &mut AsyncPgConnection, statement| {
        Sql::<BigInt>::new(statement).get_result::<i64>(conn).await.context(statement)
    };
    // The crowd's ids follow those of the examples, which end with this one.
    Ok(Data {
        first_id: one(&mut conn, "select min(user_id) from users where user_id > 70695404").await?,
        last_id: one(&mut conn, "select max(user_id) from users").await?,
        level_field: one(&mut conn, "select field_id from field_definitions where name = 'level'").await?,
    })
}

/// Counts statements; `None` where the server cannot.
pub struct Counter(Option<AsyncPgConnection>);

impl Counter {
    pub async fn new(url: &str) -> anyhow::Result<Self> {
        let mut conn = schema::connect(url, None).await?;
        let made = conn.batch_execute("create extension if not exists pg_stat_statements").await;
        let mut counter = Self(made.is_ok().then_some(conn));
        if counter.count().await.is_none() {
            counter.0 = None;
        }
        Ok(counter)
    }

    pub async fn count(&mut self) -> Option<i64> {
        let statement = Sql::<BigInt>::new("select coalesce(sum(calls), 0)::bigint from pg_stat_statements");
        statement.get_result(self.0.as_mut()?).await.ok()
    }
}
