//! The schema as a whole: migrating it, and what is known of it.

use std::{fmt, path::Path, time::Duration};

use anyhow::{Context, anyhow, ensure};
use diesel::{
    migration::{Migration, MigrationSource},
    pg::Pg,
    sql_types::{Bool, Nullable, Text},
};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::store::{connector::Connector, distribution, pooler, sql::Sql};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");
/// The advisory lock of `migrate`; an arbitrary number that nothing else uses.
const LOCK: i64 = 7_305_114_202;
const POLL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(300);

/// A connection of its own, beside the pool. It trusts the machine's own roots, and those in `ca`
/// where it is given.
///
/// # Errors
/// A database that cannot be reached.
pub async fn connect(url: &str, ca: Option<&Path>) -> anyhow::Result<AsyncPgConnection> {
    Connector::new(ca)?
        .establish(url)
        .await
        .map_err(|error| anyhow!("cannot reach the database: {error}"))
}

/// Runs what is pending and gives its names; others who migrate at the same time wait for each
/// other.
///
/// # Errors
/// As [`migrate_and_distribute`].
///
/// # Panics
/// On a runtime with one thread alone.
pub async fn migrate(url: &str, ca: Option<&Path>) -> anyhow::Result<Vec<String>> {
    Ok(migrate_and_distribute(url, ca, false).await?.names)
}

/// What a migration did.
pub struct Migrated {
    /// The migrations that ran.
    pub names: Vec<String>,
    /// A sentence for each step of the distribution; `None` for a database that isn't distributed.
    pub distributed: Option<Vec<String>>,
}

/// Runs what is pending. Then distributes the tables, if `distribute` or if others of them are
/// distributed: a table of a later version belongs beside them.
///
/// # Errors
/// A migration that fails; it leaves nothing behind, the ones before it stay. What
/// [`distribution::distribute`] rejects.
///
/// # Panics
/// On a runtime with one thread alone.
pub async fn migrate_and_distribute(
    url: &str,
    ca: Option<&Path>,
    distribute: bool,
) -> anyhow::Result<Migrated> {
    let mut conn = locked(url, ca).await?;
    if distribute {
        distribution::check(&mut conn).await?;
    }
    let mut harness = AsyncMigrationHarness::new(conn);
    let ran = harness
        .run_pending_migrations(MIGRATIONS)
        .map_err(|error| anyhow!("a migration failed: {error}"))?;
    let names = ran.iter().map(ToString::to_string).collect();
    // It has the lock.
    let mut conn = harness.into_inner();
    let distributed = if distribute || distribution::is_distributed(&mut conn).await? {
        Some(distribution::distribute(&mut conn).await?)
    } else {
        None
    };
    Ok(Migrated { names, distributed })
}

/// Takes every migration back, and all data with them.
///
/// # Errors
/// A migration that cannot be reverted.
///
/// # Panics
/// On a runtime with one thread alone.
pub async fn revert(url: &str, ca: Option<&Path>) -> anyhow::Result<()> {
    let mut harness = AsyncMigrationHarness::new(locked(url, ca).await?);
    harness
        .revert_all_migrations(MIGRATIONS)
        .map_err(|error| anyhow!("a migration cannot be reverted: {error}"))?;
    Ok(())
}

/// Whether a database's schema is compatible with this binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaCompatibility {
    /// It is this binary's, or a later one that is marked as safe for it.
    Fits,
    /// So many of this binary's migrations have not run.
    Older { missing: usize },
    /// These have run, and are not known to be safe for it.
    Newer { unknown: Vec<String> },
    /// It can't be used, whatever the schema is: the URL leads to a pooler that shares connections.
    Shared,
}

/// Compares the schema with this binary's.
///
/// # Errors
/// The database's.
pub async fn compatibility(conn: &mut AsyncPgConnection) -> anyhow::Result<SchemaCompatibility> {
    let own = names()?;
    let applied = applied(conn).await?;
    let missing = own.iter().filter(|name| !applied.contains(name)).count();
    if missing > 0 {
        return Ok(SchemaCompatibility::Older { missing });
    }
    let newest = own.iter().max().expect("valid: there are migrations");
    let safe = safe_for(conn, newest).await?;
    let unknown: Vec<String> = applied
        .into_iter()
        .filter(|name| !own.contains(name) && !safe.contains(name))
        .collect();
    Ok(if unknown.is_empty() {
        SchemaCompatibility::Fits
    } else {
        SchemaCompatibility::Newer { unknown }
    })
}

impl fmt::Display for SchemaCompatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SchemaCompatibility::Fits => {
                write!(f, "the database has a schema that this binary knows")
            }
            SchemaCompatibility::Older { missing } => {
                write!(
                    f,
                    "the database is missing {missing} migrations: run `user-service migrate`"
                )
            }
            SchemaCompatibility::Newer { unknown } => {
                write!(
                    f,
                    "the database has migrations that aren't marked safe for this binary: {unknown:?}"
                )
            }
            SchemaCompatibility::Shared => write!(
                f,
                "database.url leads to a connection pooler in transaction or statement mode, through which prepared \
                 statements fail: use a pooler in session mode (PgBouncer: pool_mode = session), or none"
            ),
        }
    }
}

/// What [`set_mark`] left, if anything.
pub async fn mark(conn: &mut AsyncPgConnection) -> anyhow::Result<Option<String>> {
    if !has_table(conn).await? {
        return Ok(None);
    }
    let statement = Sql::<Nullable<Text>>::new(
        "select obj_description('__diesel_schema_migrations'::regclass)",
    );
    Ok(statement.get_result(conn).await?)
}

/// Leaves a mark on the schema by which `dev` and the tests know their own databases.
pub async fn set_mark(conn: &mut AsyncPgConnection, mark: DevMarker) -> anyhow::Result<()> {
    let statement =
        Sql::<()>::new("select set_config('user_service.mark', ").bind(mark.to_string());
    statement.push(", false)").execute(conn).await?;
    conn.batch_execute(MARK).await?;
    Ok(())
}

/// Writes the mark that lies in the setting `user_service.mark`: a comment takes no bound value.
pub const MARK: &str = "do $$ begin
    execute format('comment on table __diesel_schema_migrations is %L', current_setting('user_service.mark'));
end $$";

/// How far `dev` has come with a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DevMarker {
    /// It made the tables.
    Migrated,
    /// They contain the demo data, and this many generated users.
    Filled { users: u64 },
}

const MIGRATED: &str = "user-service dev";
const FILLED: &str = "user-service dev, filled";

impl DevMarker {
    /// The mark that [`mark`] read, where it is one.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix(FILLED) {
            None => (text == MIGRATED).then_some(DevMarker::Migrated),
            Some("") => Some(DevMarker::Filled { users: 0 }),
            Some(more) => Some(DevMarker::Filled {
                users: more.strip_prefix(", generated users: ")?.parse().ok()?,
            }),
        }
    }
}

impl std::fmt::Display for DevMarker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DevMarker::Migrated => f.write_str(MIGRATED),
            DevMarker::Filled { users: 0 } => f.write_str(FILLED),
            DevMarker::Filled { users } => write!(f, "{FILLED}, generated users: {users}"),
        }
    }
}

/// Whether the database holds no table of anybody's. What an extension brought is not counted.
pub async fn is_empty(conn: &mut AsyncPgConnection) -> anyhow::Result<bool> {
    let statement = Sql::<Bool>::new(
        "select not exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname <> 'information_schema' \
         and not starts_with(n.nspname, 'pg_') and not exists (select from pg_depend d \
         where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'))",
    );
    Ok(statement.get_result(conn).await?)
}

/// Whether the database was ever migrated.
async fn has_table(conn: &mut AsyncPgConnection) -> anyhow::Result<bool> {
    Ok(
        Sql::<Bool>::new("select to_regclass('__diesel_schema_migrations') is not null")
            .get_result(conn)
            .await?,
    )
}

async fn applied(conn: &mut AsyncPgConnection) -> anyhow::Result<Vec<String>> {
    if !has_table(conn).await? {
        return Ok(Vec::new());
    }
    let statement =
        Sql::<Text>::new("select version::text from __diesel_schema_migrations order by version");
    Ok(statement.load(conn).await?)
}

/// Migrations that are marked as safe for a binary whose newest is this.
async fn safe_for(conn: &mut AsyncPgConnection, newest: &str) -> anyhow::Result<Vec<String>> {
    let statement = Sql::<Text>::new("select version from safe_migrations where oldest_binary <= ")
        .bind(newest);
    Ok(statement.load(conn).await?)
}

fn names() -> anyhow::Result<Vec<String>> {
    let own: Vec<Box<dyn Migration<Pg>>> = MIGRATIONS
        .migrations()
        .map_err(|error| anyhow!("the embedded migrations cannot be read: {error}"))?;
    Ok(own
        .iter()
        .map(|migration| migration.name().version().to_string())
        .collect())
}

/// Polled, for a waiting lock would deadlock with CREATE INDEX CONCURRENTLY of its holder.
async fn locked(url: &str, ca: Option<&Path>) -> anyhow::Result<AsyncPgConnection> {
    let mut conn = connect(url, ca).await?;
    // The lock would be another session's.
    ensure!(
        !pooler::is_shared(&Connector::new(ca)?, url).await?,
        SchemaCompatibility::Shared
    );
    let take = async {
        loop {
            let statement = Sql::<Bool>::new("select pg_try_advisory_lock(")
                .bind(LOCK)
                .push(")");
            if statement.get_result(&mut conn).await? {
                return anyhow::Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, take)
        .await
        .context("another process migrates for more than five minutes")??;
    // The lock goes with the connection.
    Ok(conn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_they_are_written() {
        for mark in [
            DevMarker::Migrated,
            DevMarker::Filled { users: 0 },
            DevMarker::Filled { users: 1_000_000 },
        ] {
            assert_eq!(DevMarker::parse(&mark.to_string()), Some(mark));
        }
        assert_eq!(DevMarker::parse("another comment"), None);
    }
}
