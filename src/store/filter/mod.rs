//! Filters as SQL over `users u`. Names of fields and all values are bound; only text of this file
//! is SQL.

mod column;
mod document;

use crate::{
    model::{
        field::Index,
        filter::{Filter, Order, Subject, Test},
    },
    store::sql::Sql,
};

/// How a condition on an indexed field finds its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccessPath {
    /// By the field's index, beside the test of the document.
    ByIndex,
    /// Not at all: the statement comes by another way already.
    No,
}

/// The condition under which a row of `users u` passes.
pub(crate) fn predicate(filter: &Filter, path: AccessPath) -> Sql {
    match filter {
        Filter::All(parts) => joined(parts, " and ", "true", path),
        // An index serves no part of an OR this way, and a distributed Postgres can't send such a
        // subquery to its nodes.
        Filter::Any(parts) => joined(
            parts,
            " or ",
            "false",
            if parts.len() == 1 {
                path
            } else {
                AccessPath::No
            },
        ),
        // Null is not true either, so that a negation never gives a third answer.
        Filter::Not(inside) => Sql::new("(")
            .append(predicate(inside, AccessPath::No))
            .push(") is not true"),
        Filter::Is(subject, test) => match subject {
            Subject::Column(column) => column::test(*column, test),
            Subject::Custom(field) => document::test_field(field, test, path),
            Subject::Inside(field, steps) => document::test_inside(field, steps, test),
        },
    }
}

fn joined(parts: &[Filter], by: &'static str, of_none: &'static str, path: AccessPath) -> Sql {
    if parts.is_empty() {
        return Sql::new(of_none);
    }
    let mut whole = Sql::new("(");
    for (index, part) in parts.iter().enumerate() {
        whole = whole
            .push(if index == 0 { "" } else { by })
            .append(predicate(part, path));
    }
    whole.push(")")
}

/// The rows of an index that hold a value which every match of the filter holds: `(field_id,
/// value)`. They come in the order of `created_at`, so that a rare value is found at once, and the
/// newest of a common one too.
pub(crate) fn index_value(filter: &Filter) -> Option<(i64, Vec<u8>)> {
    filter.required().into_iter().find_map(|(subject, test)| {
        let Subject::Custom(field) = subject else {
            return None;
        };
        if field.index != Index::Ready {
            return None;
        }
        let operand = match test {
            Test::Equals(operand) => operand,
            Test::HoldsAll(operands) => operands.first()?,
            Test::In(operands) if operands.len() == 1 => &operands[0],
            _ => return None,
        };
        Some((field.field_id, document::index_key(field, operand)?))
    })
}

/// SQL's sign for an order.
fn sign(order: Order) -> &'static str {
    match order {
        Order::Less => " < ",
        Order::LessOrEqual => " <= ",
        Order::Greater => " > ",
        Order::GreaterOrEqual => " >= ",
    }
}

/// The bound of a period that decides an order: what is before a second ends before it begins, and
/// so on.
fn bound(
    order: Order,
    period: crate::model::filter::Period,
) -> (&'static str, chrono::DateTime<chrono::Utc>) {
    match order {
        Order::Less => (" < ", period.start),
        Order::LessOrEqual => (" < ", period.end),
        Order::Greater => (" >= ", period.end),
        Order::GreaterOrEqual => (" >= ", period.start),
    }
}
