//! Table `text_messages`: how many text messages were queued on each day.

use chrono::{DateTime, Utc};
use diesel::{OptionalExtension, QueryResult, sql_types::BigInt};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::store::sql::Sql;

/// Counts one more text message on a day; false where that would be more than `cap`. The day is
/// locked until the transaction ends.
pub(crate) async fn count(
    conn: &mut AsyncPgConnection,
    day: DateTime<Utc>,
    cap: i64,
) -> QueryResult<bool> {
    let statement =
        Sql::<BigInt>::new("insert into text_messages (day, queued) values (").bind(day);
    let statement = statement
        .push(", 1) on conflict (day) do update set queued = text_messages.queued + 1 where text_messages.queued < ");
    let counted: Option<i64> = statement
        .bind(cap)
        .push(" returning queued")
        .get_result(conn)
        .await
        .optional()?;
    Ok(counted.is_some())
}

/// Removes the days before `before`.
pub(crate) async fn purge(
    conn: &mut AsyncPgConnection,
    before: DateTime<Utc>,
) -> QueryResult<usize> {
    Sql::<()>::new("delete from text_messages where day < ")
        .bind(before)
        .execute(conn)
        .await
}
