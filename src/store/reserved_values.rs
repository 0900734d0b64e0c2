//! Table `reserved_values`: values that a user released, and that only this user may take again for
//! a time.

use chrono::{DateTime, Utc};
use diesel::{
    QueryResult, Queryable,
    sql_types::{BigInt, Bool, Text, Timestamptz},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::store::{sql::Sql, unique_values::of_pairs};

/// A value that a former holder may take again.
#[derive(Clone, Queryable)]
pub(crate) struct Reserved {
    pub kind: String,
    pub value: String,
    /// The former holder.
    pub user_id: i64,
    /// Whether the former holder had verified the address.
    pub proved: bool,
    pub reserved_until: DateTime<Utc>,
}

/// How many values are reserved for a user.
pub(crate) async fn count(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    now: DateTime<Utc>,
) -> QueryResult<i64> {
    let statement =
        Sql::<BigInt>::new("select count(*) from reserved_values where user_id = ").bind(user_id);
    statement
        .push(" and reserved_until > ")
        .bind(now)
        .get_result(conn)
        .await
}

/// Reserves values that were released, each with its kind and whether it was verified.
pub(crate) async fn insert(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    released: &[(String, String, bool)],
    reserved_until: DateTime<Utc>,
) -> QueryResult<usize> {
    // Few: each user has at most one value of each kind, and the look-alikes of one name.
    let mut released = released.to_vec();
    released.sort_unstable();
    let row = |(kind, value, proved): (String, String, bool)| {
        vec![
            kind.into(),
            value.into(),
            user_id.into(),
            proved.into(),
            reserved_until.into(),
        ]
    };
    let statement = Sql::<()>::new(
        "insert into reserved_values (kind, value, user_id, proved, reserved_until) ",
    );
    statement
        .values(released.into_iter().map(row))
        .push(
            " on conflict (kind, value) do update set \
             user_id = excluded.user_id, proved = excluded.proved, reserved_until = excluded.reserved_until",
        )
        .execute(conn)
        .await
}

/// The rows of these kinds and values, those that are over included.
pub(crate) async fn find(
    conn: &mut AsyncPgConnection,
    kinds: Vec<String>,
    values: Vec<String>,
) -> QueryResult<Vec<Reserved>> {
    let statement = Sql::<(Text, Text, BigInt, Bool, Timestamptz)>::new(
        "select r.kind, r.value, r.user_id, r.proved, r.reserved_until from ",
    );
    let statement = statement.append(of_pairs("reserved_values r", kinds, values));
    statement.load(conn).await
}

/// Removes the row of a value.
pub(crate) async fn delete(
    conn: &mut AsyncPgConnection,
    kind: &str,
    value: &str,
) -> QueryResult<usize> {
    let statement = Sql::<()>::new("delete from reserved_values where kind = ").bind(kind);
    statement
        .push(" and value = ")
        .bind(value)
        .execute(conn)
        .await
}

/// Removes up to `limit` rows that are over.
pub(crate) async fn purge(
    conn: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    limit: i64,
) -> QueryResult<usize> {
    Sql::<()>::new(
        "delete from reserved_values where (kind, value) in (select kind, value from reserved_values where \
         reserved_until <= ",
    )
    .bind(now)
    .push(" limit ")
    .bind(limit)
    // One that was reserved again meanwhile is looked at again.
    .push(") and reserved_until <= ")
    .bind(now)
    .execute(conn)
    .await
}
