//! Lists of profiles: one statement a page, whose cost does not grow with its depth.

use std::ops::ControlFlow;

use chrono::{DateTime, Utc};
use diesel::{QueryResult, sql_types::BigInt};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::TryStreamExt;
use serde_json::Value;

use crate::{
    model::{
        field::{Field, FieldType, Index},
        filter::Filter,
        order::{Key, OrderKey},
        profile::Profile,
    },
    store::{
        filter::{self, AccessPath},
        profiles::{COLUMNS, COLUMNS_WITHOUT_DOCUMENT, Row},
        sql::Sql,
    },
};

/// What is listed.
pub struct Selection {
    pub filter: Filter,
    pub order: Vec<OrderKey>,
    /// Values of the last row of the page before.
    pub after: Option<Vec<Value>>,
    pub skip: i64,
    pub limit: i64,
    /// Whether anybody looks at the custom fields; else they are as if there were none.
    pub with_document: bool,
}

/// The table whose index gives the order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SortSource {
    Users,
    /// `field_values`, where users have a value of the field.
    Values,
}

impl SortSource {
    /// The name that the statements give it.
    fn alias(self) -> &'static str {
        match self {
            SortSource::Users => "u",
            SortSource::Values => "d",
        }
    }
}

/// What is done with the profiles of a page, each as it comes; those after a break are passed over.
pub trait RowSink: FnMut(Profile) -> ControlFlow<()> + Send {}

impl<T: FnMut(Profile) -> ControlFlow<()> + Send> RowSink for T {}

/// Gives the profiles of a page, in order, to `take`; never all of them are in memory.
pub async fn list(
    conn: &mut AsyncPgConnection,
    selection: &Selection,
    take: &mut impl RowSink,
) -> QueryResult<()> {
    let driver = filter::index_value(&selection.filter);
    let page = match (driver, by_value(&selection.order)) {
        // By the index of a value, whose rows come in the order of time: the first page of a rare
        // value and of a common one are both there at once. The planner must not see the value, for
        // it would take each plan for a little cheaper than the one that it keeps, and so plan
        // every page again.
        (Some((field_id, value)), _) if is_by_time(&selection.order) => {
            let from = Sql::new(
                "field_values d join users u on u.user_id = d.user_id where d.field_id = (select ",
            )
            .bind(field_id)
            .push("::bigint) and d.value = (select ")
            .bind(value)
            .push("::bytea)");
            page(
                selection,
                from,
                AccessPath::No,
                SortSource::Values,
                &selection.order,
            )
        }
        (None, Some(field)) => return list_by_value(conn, selection, field, take).await,
        _ => page(
            selection,
            Sql::new("users u where true"),
            AccessPath::ByIndex,
            SortSource::Users,
            &selection.order,
        ),
    };
    stream_rows(conn, page, take).await.map(drop)
}

/// Gives the rows of a statement; tells how many there were, and whether more are wanted.
async fn stream_rows(
    conn: &mut AsyncPgConnection,
    page: Sql<Row>,
    take: &mut impl RowSink,
) -> QueryResult<(i64, ControlFlow<()>)> {
    let mut rows = page.load_stream::<Profile>(conn).await?;
    let (mut count, mut wanted) = (0, ControlFlow::Continue(()));
    while let Some(profile) = rows.try_next().await? {
        count += 1;
        if wanted.is_continue() {
            wanted = take(profile);
        }
        // A long page lets other calls have their turn.
        tokio::task::consume_budget().await;
    }
    Ok((count, wanted))
}

/// A page out of `from`, in the order of that table's index.
fn page(
    selection: &Selection,
    from: Sql,
    path: AccessPath,
    source: SortSource,
    order: &[OrderKey],
) -> Sql<Row> {
    let Selection {
        filter,
        after,
        skip,
        limit,
        ..
    } = selection;
    let columns = if selection.with_document {
        COLUMNS
    } else {
        COLUMNS_WITHOUT_DOCUMENT
    };
    let mut statement = Sql::<Row>::new("select ")
        .push(columns)
        .push(" from ")
        .append(from);
    // Filters have very many forms; only the simplest are worth keeping prepared.
    let is_simple = match filter {
        Filter::All(parts) => matches!(parts[..], [] | [Filter::Is(..)]),
        Filter::Is(..) => true,
        Filter::Any(_) | Filter::Not(_) => false,
    };
    let is_by_own_value =
        is_simple && source == SortSource::Values && filter::index_value(filter).is_some();
    let predicate = filter::predicate(filter, path);
    statement = if is_by_own_value {
        // Every user in the index matches. The planner estimates one in two hundred, and must not
        // choose another access path.
        statement
            .push(" and case when ")
            .append(predicate)
            .push(" then true else false end")
    } else {
        statement.push(" and ").append(predicate)
    };
    if let Some(after) = after {
        statement = statement
            .push(" and ")
            .append(seek_predicate(order, after, source));
    }
    statement = statement.push(" order by ");
    for (index, OrderKey { key, descending }) in order.iter().enumerate() {
        let direction = match (is_never_null(key, source), descending) {
            (true, false) => "",
            (true, true) => " desc",
            (false, false) => " nulls last",
            (false, true) => " desc nulls last",
        };
        statement = statement
            .push(if index == 0 { "" } else { ", " })
            .append(expression(key, source))
            .push(direction);
    }
    // For any values: all users in the order of an index, or those of one value of an index.
    let has_one_plan = is_by_own_value || is_simple && filter.required().is_empty();
    statement = match limit_text(*limit).filter(|_| has_one_plan) {
        Some(text) => statement.push(text),
        None => statement.push(" limit ").bind(*limit),
    };
    if *skip > 0 {
        statement = statement.push(" offset ").bind(*skip);
    }
    // The same is said of orders by several keys, and of places by number.
    let is_common = is_simple && *skip == 0 && order[1..].iter().all(is_tie_break);
    if is_common {
        statement
    } else {
        statement.one_off()
    }
}

/// Whether a key only parts rows that are equal in those before it.
fn is_tie_break(key: &OrderKey) -> bool {
    matches!(key.key, Key::CreatedAt | Key::UserId)
}

/// A limit of usual page sizes, with the row that tells of more, as it is in the statement. A bound
/// one is unknown to the planner, which then assumes a tenth of all rows and plans each execution
/// again.
fn limit_text(limit: i64) -> Option<&'static str> {
    match limit {
        21 => Some(" limit 21"),
        51 => Some(" limit 51"),
        101 => Some(" limit 101"),
        _ => None,
    }
}

/// The order of an indexed field: first who has a value, as the index has them, then who has none,
/// by time.
async fn list_by_value(
    conn: &mut AsyncPgConnection,
    selection: &Selection,
    field: &Field,
    take: &mut impl RowSink,
) -> QueryResult<()> {
    let with_value =
        Sql::new("field_values d join users u on u.user_id = d.user_id where d.field_id = ")
            .bind(field.field_id);
    let place = selection.after.as_deref();
    let (given, wanted) = match place {
        Some([Value::Null, ..]) => (0, ControlFlow::Continue(())),
        _ => {
            stream_rows(
                conn,
                page(
                    selection,
                    with_value.clone(),
                    AccessPath::No,
                    SortSource::Values,
                    &selection.order,
                ),
                take,
            )
            .await?
        }
    };
    let left = selection.limit - given;
    if left <= 0 || wanted.is_break() {
        return Ok(());
    }
    let passed = match (selection.skip, given) {
        (0, _) => 0,
        (_, 1..) => selection.skip,
        _ => {
            let statement = Sql::<BigInt>::new("select count(*) from ")
                .append(with_value)
                .push(" and ");
            statement
                .append(filter::predicate(&selection.filter, AccessPath::No))
                .one_off()
                .get_result(conn)
                .await?
        }
    };
    let without_value = Selection {
        filter: selection.filter.clone(),
        order: selection.order[1..].to_vec(),
        after: match place {
            Some([Value::Null, rest @ ..]) => Some(rest.to_vec()),
            _ => None,
        },
        skip: (selection.skip - passed).max(0),
        limit: left,
        with_document: selection.with_document,
    };
    let name = field.name.as_str();
    let from = Sql::new("users u where (u.custom_fields -> ")
        .bind(name)
        .push(" is null or u.custom_fields -> ");
    let from = from.bind(name).push(" = 'null')");
    stream_rows(
        conn,
        page(
            &without_value,
            from,
            AccessPath::No,
            SortSource::Users,
            &without_value.order,
        ),
        take,
    )
    .await
    .map(drop)
}

/// Whether the order is that of `created_at`, as the index of a value has it.
fn is_by_time(order: &[OrderKey]) -> bool {
    let keys: Vec<&Key> = order.iter().map(|order| &order.key).collect();
    keys == [&Key::CreatedAt, &Key::UserId] && order[0].descending == order[1].descending
}

/// The field by whose index an order is: its value, then the time, all in one direction.
fn by_value(order: &[OrderKey]) -> Option<&Field> {
    let [first, rest @ ..] = order else {
        return None;
    };
    let Key::Custom(field) = &first.key else {
        return None;
    };
    let is_one_way = rest.iter().all(|key| key.descending == first.descending);
    (field.index == Index::Ready && is_by_time(rest) && is_one_way).then_some(field)
}

/// How many profiles match.
pub async fn count(conn: &mut AsyncPgConnection, filter: &Filter) -> QueryResult<i64> {
    let statement = Sql::<BigInt>::new("select count(*) from users u where ");
    statement
        .append(filter::predicate(filter, AccessPath::ByIndex))
        .one_off()
        .get_result(conn)
        .await
}

/// The values of a row by which a page token finds its place again.
pub fn place(keys: &[OrderKey], profile: &Profile) -> Vec<Value> {
    let time = |time: DateTime<Utc>| Value::from(time.timestamp_micros());
    keys.iter()
        .map(|OrderKey { key, .. }| match key {
            Key::UserId => Value::from(profile.user_id),
            Key::Nickname => Value::from(profile.nickname.clone()),
            Key::AvatarUrl => Value::from(profile.avatar_url.clone()),
            Key::Openid => Value::from(profile.openid.clone()),
            Key::Unionid => Value::from(profile.unionid.clone()),
            Key::IsAuthorized => Value::from(profile.is_authorized),
            Key::CreatedAt => time(profile.created_at),
            Key::UpdatedAt => time(profile.updated_at),
            Key::Custom(field) => profile.custom_fields.field(&field.name),
        })
        .collect()
}

/// A value that comes out of an index is there.
fn is_never_null(key: &Key, source: SortSource) -> bool {
    match key {
        Key::UserId | Key::IsAuthorized | Key::CreatedAt | Key::UpdatedAt => true,
        Key::Custom(_) => source == SortSource::Values,
        Key::Nickname | Key::AvatarUrl | Key::Openid | Key::Unionid => false,
    }
}

/// The SQL of a key.
fn expression(key: &Key, source: SortSource) -> Sql {
    match key {
        Key::UserId => Sql::new(source.alias()).push(".user_id"),
        Key::Nickname => Sql::new("u.nickname"),
        Key::AvatarUrl => Sql::new("u.avatar_url"),
        Key::Openid => Sql::new("u.openid"),
        Key::Unionid => Sql::new("u.unionid"),
        Key::IsAuthorized => Sql::new("u.is_authorized"),
        Key::CreatedAt => Sql::new(source.alias()).push(".created_at"),
        Key::UpdatedAt => Sql::new("u.updated_at"),
        Key::Custom(_) if source == SortSource::Values => Sql::new("d.value"),
        Key::Custom(field) => {
            let text = Sql::new("(u.custom_fields ->> ")
                .bind(field.name.as_str())
                .push(")");
            match field.field_type {
                FieldType::Integer => text.push("::numeric"),
                // Two texts may stand for one double.
                FieldType::Number => text.push("::float8"),
                FieldType::Boolean => text.push("::boolean"),
                _ => text.push(" collate \"C\""),
            }
        }
    }
}

/// A value of a page token as its key compares it.
fn operand(key: &Key, value: &Value, source: SortSource) -> Sql {
    let text = || {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let time =
        || DateTime::from_timestamp_micros(value.as_i64().unwrap_or_default()).unwrap_or_default();
    match key {
        Key::UserId => Sql::default().bind(value.as_i64().unwrap_or_default()),
        Key::CreatedAt | Key::UpdatedAt => Sql::default().bind(time()),
        Key::IsAuthorized => Sql::default().bind(value.as_bool().unwrap_or_default()),
        Key::Nickname | Key::AvatarUrl | Key::Openid | Key::Unionid => Sql::default().bind(text()),
        Key::Custom(field) if source == SortSource::Values => {
            Sql::default().bind(field.field_type.sort_key(value).unwrap_or_default())
        }
        Key::Custom(field) => match field.field_type {
            FieldType::Integer => Sql::default().bind(text()).push("::text::numeric"),
            FieldType::Number => Sql::default().bind(text()).push("::text::float8"),
            FieldType::Boolean => Sql::default().bind(value.as_bool().unwrap_or_default()),
            _ => Sql::default().bind(text()),
        },
    }
}

/// The rows beyond a place. Where no key can be null and all go one way it is one comparison of
/// rows, which an index serves; else it is written out key by key.
fn seek_predicate(keys: &[OrderKey], after: &[Value], source: SortSource) -> Sql {
    let descending = keys[0].descending;
    if keys
        .iter()
        .all(|key| is_never_null(&key.key, source) && key.descending == descending)
    {
        let mut sides = [Sql::new("("), Sql::new("(")];
        for (index, (key, value)) in keys.iter().zip(after).enumerate() {
            let [left, right] = sides;
            let comma = if index == 0 { "" } else { ", " };
            sides = [
                left.push(comma).append(expression(&key.key, source)),
                right.push(comma).append(operand(&key.key, value, source)),
            ];
        }
        let [left, right] = sides;
        return left
            .push(if descending { ") < " } else { ") > " })
            .append(right)
            .push(")");
    }
    let mut whole = Sql::new("(false");
    for last in 0..keys.len() {
        if after[last].is_null() {
            continue; // nothing is beyond null
        }
        whole = whole.push(" or (");
        for (key, value) in keys.iter().zip(after).take(last) {
            whole = if value.is_null() {
                whole
                    .append(expression(&key.key, source))
                    .push(" is null and ")
            } else {
                whole
                    .append(expression(&key.key, source))
                    .push(" = ")
                    .append(operand(&key.key, value, source))
                    .push(" and ")
            };
        }
        let OrderKey { key, descending } = &keys[last];
        whole = whole
            .push("(")
            .append(expression(key, source))
            .push(if *descending { " < " } else { " > " })
            .append(operand(key, &after[last], source));
        if !is_never_null(key, source) {
            whole = whole
                .push(" or ")
                .append(expression(key, source))
                .push(" is null");
        }
        whole = whole.push("))");
    }
    whole.push(")")
}

#[cfg(test)]
mod tests {
    use diesel::{pg::Pg, query_builder::QueryFragment};
    use serde_json::json;

    use super::*;
    use crate::model::{field::Fields, filter, order};

    #[test]
    fn only_the_texts_of_which_there_are_few_are_kept_prepared() {
        let fields = Fields::new(Vec::new(), Vec::new());
        let is_kept = |filter: Value, order_by: &str, skip: i64| {
            let filter = filter.as_object().unwrap().clone();
            let selection = Selection {
                filter: filter::parse(filter, &fields).unwrap(),
                order: order::parse(order_by, &fields).unwrap(),
                after: None,
                skip,
                limit: 21,
                with_document: true,
            };
            let from = Sql::new("users u where true");
            let statement = page(
                &selection,
                from,
                AccessPath::ByIndex,
                SortSource::Users,
                &selection.order,
            );
            statement.is_safe_to_cache_prepared(&Pg).unwrap()
        };
        let times =
            |count: usize| json!({ "created_at": { "$in": vec!["2024-01-01T00:00:00Z"; count] } });

        assert!(is_kept(json!({}), "", 0));
        assert!(is_kept(
            json!({ "nickname": { "$contains": "王" } }),
            "-created_at",
            0
        ));
        assert!(is_kept(
            json!({ "user_id": { "$in": [1, 2, 3] } }),
            "nickname",
            0
        ));
        assert!(!is_kept(times(3), "", 0), "its text is as long as its list");
        assert!(!is_kept(json!({ "nickname": "a", "gender": 1 }), "", 0));
        assert!(!is_kept(json!({}), "nickname,openid", 0));
        assert!(!is_kept(json!({}), "", 20));
    }
}
