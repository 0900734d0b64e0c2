//! Tests of built-in fields.
//!
//! A list or a bulk update finds the holders of unique values before ([`Filter::by_holders`]): the
//! test of the column itself is for rows that are found already.
//!
//! [`Filter::by_holders`]: crate::model::filter::Filter::by_holders

use serde_json::Value;

use super::{bound, sign};
use crate::{
    model::filter::{Column, Operand, Order, Test},
    store::sql::{Bind, Sql},
};

/// The SQL of a column. Those of the account are looked up by the user's id.
fn expression(column: Column) -> &'static str {
    match column {
        Column::UserId => "u.user_id",
        Column::Nickname => "u.nickname",
        Column::AvatarUrl => "u.avatar_url",
        Column::Gender => "u.gender",
        Column::Country => "u.country",
        Column::Province => "u.province",
        Column::City => "u.city",
        Column::Language => "u.language",
        Column::Openid => "u.openid",
        Column::Unionid => "u.unionid",
        Column::IsAuthorized => "u.is_authorized",
        Column::GroupIds => "u.group_ids",
        Column::CreatedAt => "u.created_at",
        Column::UpdatedAt => "u.updated_at",
        Column::Username => "(select a.username_key from accounts a where a.user_id = u.user_id)",
        Column::Email => "(select a.email_key from accounts a where a.user_id = u.user_id)",
        Column::Phone => "(select a.phone from accounts a where a.user_id = u.user_id)",
        Column::EmailVerified => {
            "(select a.email_verified from accounts a where a.user_id = u.user_id)"
        }
        Column::PhoneVerified => {
            "(select a.phone_verified from accounts a where a.user_id = u.user_id)"
        }
        Column::LastLoginAt => {
            "(select a.last_login_at from accounts a where a.user_id = u.user_id)"
        }
    }
}

fn scalar(operand: &Operand) -> Bind {
    match operand {
        Operand::Json(Value::Bool(flag)) => (*flag).into(),
        Operand::Json(Value::Number(number)) => number.as_i64().unwrap_or_default().into(),
        Operand::Json(value) => value.as_str().unwrap_or_default().into(),
        Operand::Time(period) => period.start.into(),
    }
}

fn integers(operands: &[Operand]) -> Vec<i64> {
    operands
        .iter()
        .map(|operand| match operand {
            Operand::Json(value) => value.as_i64().unwrap_or_default(),
            Operand::Time(_) => 0,
        })
        .collect()
}

fn texts(operands: &[Operand]) -> Vec<String> {
    operands
        .iter()
        .map(|operand| match operand {
            Operand::Json(value) => value.as_str().unwrap_or_default().to_owned(),
            Operand::Time(_) => String::new(),
        })
        .collect()
}

/// The condition that a column passes a test.
pub(super) fn test(column: Column, test: &Test) -> Sql {
    let value = || Sql::new(expression(column));
    match test {
        Test::Null => value().push(" is null"),
        Test::Exists | Test::HasKey(_) => Sql::new("false"),
        Test::Equals(operand) => equals(column, operand),
        Test::EqualsList(operands) => value().push(" = ").bind(integers(operands)),
        Test::Ordered(order, operand) => ordered(column, *order, operand),
        Test::In(operands) => among(column, operands),
        Test::HoldsAll(operands) if operands.is_empty() => Sql::new("false"),
        Test::HoldsAll(operands) => value().push(" @> ").bind(integers(operands)),
        Test::Contains(pattern) => ngrams(column, pattern)
            .append(contains(value(), pattern))
            .push(")"),
        Test::ContainsFolded(pattern) => ngrams(column, pattern)
            .append(contains_folded(value(), pattern))
            .push(")"),
        Test::StartsWith(pattern) => ngrams(column, pattern)
            .append(starts_with(value(), pattern))
            .push(")"),
    }
}

fn equals(column: Column, operand: &Operand) -> Sql {
    let value = Sql::new(expression(column));
    match (column, operand) {
        (_, Operand::Time(period)) => within(value, period.start, period.end),
        (Column::GroupIds, operand) => value
            .push(" @> ")
            .bind(integers(std::slice::from_ref(operand))),
        (Column::Gender, operand) => value.push(" = ").bind(scalar(operand)).push("::smallint"),
        (_, operand) => value.push(" = ").bind(scalar(operand)),
    }
}

fn within(
    value: Sql,
    start: chrono::DateTime<chrono::Utc>,
    end: chrono::DateTime<chrono::Utc>,
) -> Sql {
    Sql::new("(")
        .append(value.clone())
        .push(" >= ")
        .bind(start)
        .push(" and ")
        .append(value)
        .push(" < ")
        .bind(end)
        .push(")")
}

fn ordered(column: Column, order: Order, operand: &Operand) -> Sql {
    let value = Sql::new(expression(column));
    match operand {
        Operand::Time(period) => {
            let (sign, bound) = bound(order, *period);
            value.push(sign).bind(bound)
        }
        Operand::Json(_) => value.push(sign(order)).bind(scalar(operand)),
    }
}

fn among(column: Column, operands: &[Operand]) -> Sql {
    let value = Sql::new(expression(column));
    match column {
        Column::UserId | Column::Gender => value.push(" = any(").bind(integers(operands)).push(")"),
        Column::GroupIds => value.push(" && ").bind(integers(operands)),
        Column::IsAuthorized | Column::EmailVerified | Column::PhoneVerified => {
            let flags = operands
                .iter()
                .map(|operand| *operand == Operand::Json(Value::Bool(true)));
            value
                .push(" = any(")
                .bind(flags.collect::<Vec<bool>>())
                .push(")")
        }
        Column::CreatedAt | Column::UpdatedAt | Column::LastLoginAt => {
            let mut whole = Sql::new("(false");
            for operand in operands {
                whole = whole.push(" or ").append(equals(column, operand));
            }
            // As many texts as there are numbers of operands.
            whole.push(")").one_off()
        }
        _ => value.push(" = any(").bind(texts(operands)).push(")"),
    }
}

/// For the nickname, which has an index over its pieces, the pieces that a match must have.
fn ngrams(column: Column, pattern: &str) -> Sql {
    match column {
        Column::Nickname => {
            Sql::new("(text_pieces(fold_case(u.nickname)) @> pattern_pieces(fold_case(")
                .bind(pattern)
                .push(")) and ")
        }
        _ => Sql::new("("),
    }
}

/// A text with this inside.
pub(super) fn contains(text: Sql, pattern: &str) -> Sql {
    Sql::new("strpos(")
        .append(text)
        .push(", ")
        .bind(pattern)
        .push(") > 0")
}

/// A text with this inside, whatever the case.
pub(super) fn contains_folded(text: Sql, pattern: &str) -> Sql {
    Sql::new("strpos(fold_case(")
        .append(text)
        .push("), fold_case(")
        .bind(pattern)
        .push(")) > 0")
}

/// A text with this at its beginning.
pub(super) fn starts_with(text: Sql, pattern: &str) -> Sql {
    Sql::new("starts_with(")
        .append(text)
        .push(", ")
        .bind(pattern)
        .push(")")
}
