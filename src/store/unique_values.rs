//! Table `unique_values`: every value that only one user may hold.

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

/// Claims values for a user; gives the kinds that the user holds afterwards. The others are taken.
pub async fn claim(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    claims: &[(String, String)],
) -> QueryResult<Vec<String>> {
    let (kinds, values): (Vec<String>, Vec<String>) = claims.iter().cloned().unzip();
    let statement = Sql::<Text>::new("insert into unique_values (kind, value, user_id) select kind, value, ")
        .bind(user_id)
        .push(" from unnest(")
        .bind(kinds)
        .push("::text[], ")
        .bind(values)
        .push("::text[]) as given (kind, value) order by kind, value on conflict do nothing returning kind");
    statement.load(conn).await
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
