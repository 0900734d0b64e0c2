//! The texts of the statements that connections send.

use diesel::{
    connection::DebugQuery,
    sql_types::{BigInt, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use tokio_postgres::{Client, SimpleQueryMessage};
use user_service::store::sql::Sql;

use super::{TestDatabase, eventually};

/// The text of a statement, without its values.
pub fn text_of(query: &dyn DebugQuery) -> String {
    let shown = query.to_string();
    shown
        .split(" -- binds: ")
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// What was sent to a database, by whatever way; `None` where the server does not write it down.
pub async fn sent_to(database: &TestDatabase) -> Option<Vec<String>> {
    let mut conn = database.connect().await;
    conn.batch_execute("create extension pg_stat_statements")
        .await
        .ok()?;
    let statement = Sql::<Text>::new(
        "select s.query from pg_stat_statements s join pg_database d on d.oid = s.dbid \
         where d.datname = current_database()",
    );
    statement.load(&mut conn).await.ok()
}

/// Name and text of what is prepared on a connection.
pub async fn prepared(client: &Client) -> Vec<(String, String)> {
    const STATEMENT: &str =
        "select name, statement from pg_prepared_statements where statement like '%$%'";
    let answer = client.simple_query(STATEMENT).await.unwrap();
    let rows = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((row.get(0)?.to_owned(), row.get(1)?.to_owned())),
        _ => None,
    });
    rows.collect()
}

/// Statements of others on this database that wait for a lock.
async fn waiting(conn: &mut AsyncPgConnection) -> i64 {
    let statement = Sql::<BigInt>::new(
        "select count(*) from pg_stat_activity \
         where datname = current_database() and state = 'active' and wait_event_type = 'Lock'",
    );
    statement.get_result(conn).await.unwrap()
}

/// Waits until so many of them do.
pub async fn until_waiting(conn: &mut AsyncPgConnection, count: i64) {
    eventually("statements that wait", async || {
        (waiting(conn).await == count).then_some(())
    })
    .await;
}
