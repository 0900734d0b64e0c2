//! Table `unique_values`: every value that only one user may hold.

use std::collections::{HashMap, HashSet};

use diesel::{
    OptionalExtension, QueryResult,
    sql_types::{BigInt, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::store::sql::Sql;

/// Who holds the value.
pub async fn find(conn: &mut AsyncPgConnection, kind: &str, value: &str) -> QueryResult<Option<i64>> {
    let statement = Sql::<BigInt>::new("select user_id from unique_values where kind = ").bind(kind);
    statement.push(" and value = ").bind(value).get_result(conn).await.optional()
}

/// Of these kinds and values, those that somebody holds, each with its holder.
pub async fn find_held(
    conn: &mut AsyncPgConnection,
    kinds: Vec<String>,
    values: Vec<String>,
) -> QueryResult<HashMap<(String, String), i64>> {
    if kinds.is_empty() {
        return Ok(HashMap::new());
    }
    let statement = Sql::<(Text, Text, BigInt)>::new("select held.kind, held.value, held.user_id from unnest(");
    let statement = statement.bind(kinds).push(", ");
    let statement = statement.bind(values).push(
        ") as given (kind, value) join unique_values held on held.kind = given.kind collate \"C\" \
         and held.value = given.value collate \"C\"",
    );
    let held: Vec<(String, String, i64)> = statement.load(conn).await?;
    Ok(held.into_iter().map(|(kind, value, user_id)| ((kind, value), user_id)).collect())
}

/// Claims values that were free a moment ago, each for its user.
///
/// # Errors
/// A unique violation where others took one meanwhile.
pub async fn insert(conn: &mut AsyncPgConnection, claims: &[(i64, &str, &str)]) -> QueryResult<usize> {
    if claims.is_empty() {
        return Ok(0);
    }
    Sql::<()>::new(INSERT).append(columns(claims)).push(GIVEN).execute(conn).await
}

const INSERT: &str = "insert into unique_values (kind, value, user_id) select * from unnest(";
/// In one order, so that two who claim the same wait for each other and meet in no deadlock.
const GIVEN: &str = ") as given (kind, value, user_id) order by kind, value";

fn columns(claims: &[(i64, &str, &str)]) -> Sql {
    let mut columns = (Vec::new(), Vec::new(), Vec::new());
    for (user_id, kind, value) in claims {
        columns.0.push((*kind).to_owned());
        columns.1.push((*value).to_owned());
        columns.2.push(*user_id);
    }
    Sql::new("").bind(columns.0).push(", ").bind(columns.1).push(", ").bind(columns.2)
}

/// Claims values, each for its user; gives the kinds and values of those that are free and now held. The others are
/// taken.
pub async fn claim(
    conn: &mut AsyncPgConnection,
    claims: &[(i64, &str, &str)],
) -> QueryResult<HashSet<(String, String)>> {
    let statement = Sql::<(Text, Text)>::new(INSERT).append(columns(claims)).push(GIVEN);
    let held: Vec<(String, String)> =
        statement.push(" on conflict do nothing returning kind, value").load(conn).await?;
    Ok(held.into_iter().collect())
}

/// Frees the user's values of these kinds.
pub async fn free(conn: &mut AsyncPgConnection, user_id: i64, kinds: Vec<String>) -> QueryResult<usize> {
    let statement = Sql::<()>::new("delete from unique_values where user_id = ").bind(user_id);
    statement.push(" and kind = any(").bind(kinds).push(")").execute(conn).await
}

/// Gives back one value.
pub async fn release(conn: &mut AsyncPgConnection, user_id: i64, kind: &str, value: &str) -> QueryResult<usize> {
    let statement = Sql::<()>::new("delete from unique_values where kind = ").bind(kind).push(" and value = ");
    statement.bind(value).push(" and user_id = ").bind(user_id).execute(conn).await
}

/// How many ways to log in the user has.
pub async fn count_credentials(conn: &mut AsyncPgConnection, user_id: i64) -> QueryResult<i64> {
    let statement = Sql::<BigInt>::new("select count(*) from unique_values where user_id = ").bind(user_id);
    statement
        .push(" and kind in ('username', 'email', 'phone', 'openid', 'unionid', 'connection')")
        .get_result(conn)
        .await
}
