//! Table `unique_values`: every value that only one user may hold.

use std::collections::{HashMap, HashSet};

use diesel::{
    OptionalExtension, QueryResult,
    sql_types::{BigInt, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::store::sql::{FEW_ROWS, Sql};

/// Who holds the value.
pub async fn find(
    conn: &mut AsyncPgConnection,
    kind: &str,
    value: &str,
) -> QueryResult<Option<i64>> {
    let statement =
        Sql::<BigInt>::new("select user_id from unique_values where kind = ").bind(kind);
    statement
        .push(" and value = ")
        .bind(value)
        .get_result(conn)
        .await
        .optional()
}

/// Of these kinds and values, those that a user holds, each with its holder.
pub async fn find_held(
    conn: &mut AsyncPgConnection,
    kinds: Vec<String>,
    values: Vec<String>,
) -> QueryResult<HashMap<(String, String), i64>> {
    if kinds.is_empty() {
        return Ok(HashMap::new());
    }
    let statement = Sql::<(Text, Text, BigInt)>::new("select r.kind, r.value, r.user_id from ");
    let statement = statement.append(of_pairs("unique_values r", kinds, values));
    let held: Vec<(String, String, i64)> = statement.load(conn).await?;
    Ok(held
        .into_iter()
        .map(|(kind, value, user_id)| ((kind, value), user_id))
        .collect())
}

/// The rows of a table, named `r`, with these kinds and values. Of few pairs it may give more: each
/// kind with each value.
pub(super) fn of_pairs(table: &'static str, kinds: Vec<String>, values: Vec<String>) -> Sql {
    if values.len() <= FEW_ROWS {
        let statement = Sql::new(table)
            .push(" where r.kind = any(")
            .bind(kinds)
            .push(") and r.value = any(");
        return statement.bind(values).push(")");
    }
    let statement = Sql::new("unnest(")
        .bind(kinds)
        .push(", ")
        .bind(values)
        .push(") as given (kind, value) join ");
    statement
        .push(table)
        .push(" on r.kind = given.kind collate \"C\" and r.value = given.value collate \"C\"")
}

/// Reserves values that were free a moment ago, each for its user.
///
/// # Errors
/// A unique violation where others took one meanwhile.
pub async fn insert(
    conn: &mut AsyncPgConnection,
    reservations: &[(i64, &str, &str)],
) -> QueryResult<usize> {
    if reservations.is_empty() {
        return Ok(0);
    }
    Sql::<()>::new(INSERT)
        .append(rows(reservations))
        .execute(conn)
        .await
}

const INSERT: &str = "insert into unique_values (kind, value, user_id) ";

/// In one order, so that two who claim the same wait for each other and meet in no deadlock.
fn rows(reservations: &[(i64, &str, &str)]) -> Sql {
    let mut reservations = reservations.to_vec();
    reservations.sort_unstable_by_key(|(_, kind, value)| (*kind, *value));
    if reservations.len() <= FEW_ROWS {
        let row = |(user_id, kind, value): (i64, &str, &str)| {
            vec![kind.into(), value.into(), user_id.into()]
        };
        return Sql::default().values(reservations.into_iter().map(row));
    }
    let mut columns = (Vec::new(), Vec::new(), Vec::new());
    for (user_id, kind, value) in reservations {
        columns.0.push(kind.to_owned());
        columns.1.push(value.to_owned());
        columns.2.push(user_id);
    }
    let statement = Sql::new("select * from unnest(")
        .bind(columns.0)
        .push(", ")
        .bind(columns.1)
        .push(", ");
    statement
        .bind(columns.2)
        .push(") as given (kind, value, user_id) order by kind, value")
}

/// Reserves values, each for its user; gives the kinds and values of those that are free and now
/// held. The others are taken.
pub async fn reserve(
    conn: &mut AsyncPgConnection,
    reservations: &[(i64, &str, &str)],
) -> QueryResult<HashSet<(String, String)>> {
    if reservations.is_empty() {
        return Ok(HashSet::new());
    }
    let statement = Sql::<(Text, Text)>::new(INSERT).append(rows(reservations));
    let held: Vec<(String, String)> = statement
        .push(" on conflict do nothing returning kind, value")
        .load(conn)
        .await?;
    Ok(held.into_iter().collect())
}

/// Frees all of the user's values of a kind. It asks every node of a distributed database: [`free`]
/// doesn't.
pub async fn free_kind(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    kind: &str,
) -> QueryResult<usize> {
    let statement = Sql::<()>::new("delete from unique_values where user_id = ").bind(user_id);
    statement
        .push(" and kind = ")
        .bind(kind)
        .execute(conn)
        .await
}

/// Frees the user's values of these kinds, each kind with its value.
pub async fn free(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    held: Vec<(String, String)>,
) -> QueryResult<usize> {
    if held.is_empty() {
        return Ok(0);
    }
    let (kinds, values): (Vec<String>, Vec<String>) = held.into_iter().unzip();
    let statement = Sql::<()>::new("delete from unique_values where user_id = ").bind(user_id);
    // A list of values by itself, by which a distributed Postgres knows the nodes.
    let statement = statement
        .push(" and kind = any(")
        .bind(kinds)
        .push(") and value = any(")
        .bind(values);
    statement.push(")").execute(conn).await
}

/// Releases one value.
pub async fn release(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    kind: &str,
    value: &str,
) -> QueryResult<usize> {
    let statement = Sql::<()>::new("delete from unique_values where kind = ")
        .bind(kind)
        .push(" and value = ");
    statement
        .bind(value)
        .push(" and user_id = ")
        .bind(user_id)
        .execute(conn)
        .await
}
