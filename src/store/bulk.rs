//! Statements that change the custom fields and groups of many users at once.

use chrono::{DateTime, Utc};
use diesel::{
    QueryResult,
    sql_types::{BigInt, Bool, Jsonb, Nullable, Text, Timestamptz},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};

use crate::{
    model::{document::Document, filter::Filter, profile::GroupChange, update::Change},
    store::{
        filter::{self, AccessPath},
        profiles::{Rejected, changed_groups},
        sql::Sql,
    },
};

/// What becomes of each profile.
pub struct NewValues<'a> {
    pub changes: &'a [Change],
    pub groups: &'a GroupChange,
}

impl NewValues<'_> {
    /// The document after the change, or its failure as a JSON string.
    fn document(&self) -> Sql {
        Sql::new("change_document(u.custom_fields, ")
            .bind(Change::list(self.changes))
            .push(")")
    }
}

/// The users that match, in order of their id, with the time of their last change.
pub async fn pick(
    conn: &mut AsyncPgConnection,
    filter: &Filter,
    after: Option<i64>,
    skip: i64,
    limit: i64,
) -> QueryResult<Vec<(i64, DateTime<Utc>)>> {
    let mut statement =
        Sql::<(BigInt, Timestamptz)>::new("select u.user_id, u.updated_at from users u where ")
            .append(filter::predicate(filter, AccessPath::ByIndex));
    if let Some(after) = after {
        statement = statement.push(" and u.user_id > ").bind(after);
    }
    statement = statement.push(" order by u.user_id limit ").bind(limit);
    if skip > 0 {
        statement = statement.push(" offset ").bind(skip);
    }
    statement.one_off().load(conn).await
}

/// A profile after its change.
pub type Changed = (i64, DateTime<Utc>, Document);

/// Changes the documents and groups of these users, where they still match; gives those that were
/// changed. `with_documents` says whether anyone asks for the documents themselves.
///
/// One profile that cannot be changed rejects the whole statement; then it runs again over the
/// others alone.
pub async fn update(
    conn: &mut AsyncPgConnection,
    user_ids: &[i64],
    filter: &Filter,
    values: &NewValues<'_>,
    now: DateTime<Utc>,
    with_documents: bool,
) -> QueryResult<Vec<Changed>> {
    let NewValues { changes, groups } = values;
    let statement = |only_possible: bool| {
        let mut statement = Sql::<(BigInt, Timestamptz, Jsonb)>::new(
            "update users u set version = u.version + 1, updated_at = ",
        )
        .bind(now);
        if !changes.is_empty() {
            statement = statement
                .push(", custom_fields = ")
                .append(values.document());
        }
        if !groups.is_empty() {
            statement = statement
                .push(", group_ids = ")
                .append(changed_groups(groups));
        }
        statement = statement
            .push(" where u.user_id = any(")
            .bind(user_ids.to_vec())
            .push(") and ")
            .append(filter::predicate(filter, AccessPath::No));
        if only_possible && !changes.is_empty() {
            statement = statement
                .push(" and jsonb_typeof(")
                .append(values.document())
                .push(") = 'object'");
        }
        if only_possible && !groups.is_empty() {
            statement = statement
                .push(" and ")
                .append(changed_groups(groups))
                .push(" is not null");
        }
        let returned = if with_documents {
            "u.custom_fields"
        } else {
            "'{}'::jsonb"
        };
        statement
            .push(" returning u.user_id, u.created_at, ")
            .push(returned)
            .one_off()
    };
    scan_by_id(conn).await?;
    // A savepoint, so that an error of one row doesn't abort the transaction.
    let whole = conn
        .transaction(async |conn| statement(false).load(conn).await)
        .await;
    match whole {
        Err(error) if Rejected::of(&error).is_some() => statement(true).load(conn).await,
        done => done,
    }
}

/// Has the statements of this transaction reach users through their primary key alone: it gives
/// them, and so locks them, in order of their id, and two bulk changes of the same users wait for
/// each other. In order of the place that their rows happen to have, they would meet in deadlocks.
async fn scan_by_id(conn: &mut AsyncPgConnection) -> QueryResult<usize> {
    Sql::<()>::new("select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)")
        .execute(conn)
        .await
}

/// Why a profile of a bulk update is not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BulkRejection {
    /// The user would have more groups than are allowed.
    TooManyGroups,
    /// The document cannot be changed, as `REASON:field`.
    Document(String),
}

/// Of these users, who were not changed, those who still match, and why; `None` for a profile that
/// can be changed by now.
pub async fn find_refusals(
    conn: &mut AsyncPgConnection,
    user_ids: Vec<i64>,
    filter: &Filter,
    values: &NewValues<'_>,
) -> QueryResult<Vec<(i64, Option<BulkRejection>)>> {
    let statement = Sql::<(BigInt, Bool, Nullable<Text>)>::new(
        "select n.user_id, n.groups is null, case jsonb_typeof(n.made) when 'string' then n.made #>> '{}' end from \
         (select u.user_id, ",
    );
    let statement = statement
        .append(changed_groups(values.groups))
        .push(" as groups, ")
        .append(values.document())
        .push(" as made from users u where u.user_id = any(")
        .bind(user_ids)
        .push(") and ")
        .append(filter::predicate(filter, AccessPath::No))
        .push(") n");
    let found: Vec<(i64, bool, Option<String>)> = statement.one_off().load(conn).await?;
    // An invalid request goes before an operator that cannot be applied.
    let rejection = |(user_id, has_too_many, document): (i64, bool, Option<String>)| {
        let groups = has_too_many.then_some(BulkRejection::TooManyGroups);
        (user_id, groups.or(document.map(BulkRejection::Document)))
    };
    Ok(found.into_iter().map(rejection).collect())
}

/// Frees the unique values of these kinds that these users hold, but for the pairs that are kept.
pub async fn free_unique(
    conn: &mut AsyncPgConnection,
    user_ids: Vec<i64>,
    kinds: Vec<String>,
    kept: &[(String, String)],
) -> QueryResult<usize> {
    let (kept_kinds, kept_values): (Vec<String>, Vec<String>) = kept.iter().cloned().unzip();
    Sql::<()>::new("delete from unique_values v where v.user_id = any(")
        .bind(user_ids)
        .push(") and v.kind = any(")
        .bind(kinds)
        .push(") and (v.kind, v.value) not in (select * from unnest(")
        .bind(kept_kinds)
        .push("::text[], ")
        .bind(kept_values)
        .push("::text[]))")
        .execute(conn)
        .await
}
