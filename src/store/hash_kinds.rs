//! Table `hash_kinds`: the kinds of password hashes that were ever written.

use diesel::{QueryResult, sql_types::Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::store::sql::Sql;

/// All kinds, in no order.
pub(crate) async fn list(conn: &mut AsyncPgConnection) -> QueryResult<Vec<String>> {
    Sql::<Text>::new("select kind from hash_kinds")
        .load(conn)
        .await
}

/// Adds a kind, if it is missing.
pub(crate) async fn insert_if_missing(
    conn: &mut AsyncPgConnection,
    kind: &str,
) -> QueryResult<usize> {
    Sql::<()>::new("insert into hash_kinds (kind) values (")
        .bind(kind)
        .push(") on conflict do nothing")
        .execute(conn)
        .await
}
