//! A Postgres of a bench's own, which keeps what it is told and counts its statements.

use std::path::Path;

use diesel::sql_types::BigInt;
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use user_service::{
    dev::postgres,
    store::{schema, sql::Sql},
};

pub(crate) const DATABASE: &str = "postgres";

/// Settings of a server that keeps what it is told, as in production, and counts its statements.
const SETTINGS: &[(&str, &str)] = &[
    ("shared_buffers", "1GB"),
    ("max_wal_size", "4GB"),
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("shared_preload_libraries", "pg_stat_statements"),
];

/// Starts Postgres; one without pg_stat_statements does not count.
pub(crate) fn start(folder: &Path) -> anyhow::Result<postgres::Server> {
    let (plain, counting) = (&SETTINGS[..SETTINGS.len() - 1], SETTINGS);
    let start = |extra| postgres::Server::start(&postgres::Settings { folder, extra });
    let mut server = start(counting).or_else(|error| {
        eprintln!("statements are not counted: {error:#}");
        start(plain)
    })?;
    server.stop_at_exit()?;
    Ok(server)
}

/// Counts statements; `None` where the server cannot.
pub(crate) struct Counter(Option<AsyncPgConnection>);

impl Counter {
    pub(crate) async fn new(url: &str) -> anyhow::Result<Self> {
        let mut conn = schema::connect(url, None).await?;
        let made = conn
            .batch_execute("create extension if not exists pg_stat_statements")
            .await;
        let mut counter = Self(made.is_ok().then_some(conn));
        if counter.count().await.is_none() {
            counter.0 = None;
        }
        Ok(counter)
    }

    pub(crate) async fn count(&mut self) -> Option<i64> {
        let statement =
            Sql::<BigInt>::new("select coalesce(sum(calls), 0)::bigint from pg_stat_statements");
        statement.get_result(self.0.as_mut()?).await.ok()
    }
}
