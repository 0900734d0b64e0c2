//! Tests of custom fields, on the document itself. For an indexed field a lookup in its index is
//! added to the test: it narrows, the document decides.

use chrono::{DateTime, Datelike, Utc};
use serde_json::Value;

use super::{
    AccessPath, bound,
    column::{contains, contains_folded, starts_with},
    sign,
};
use crate::{
    model::{
        field::{Field, FieldType, Index, ItemType, date_text},
        filter::{Operand, Order, Period, Test},
    },
    store::sql::Sql,
};

/// A value in the document, as JSON and as text.
struct Place {
    json: Sql,
    text: Sql,
    /// Its declared type; inside an object there is none, so that each test looks at the type
    /// first.
    kind: Option<FieldType>,
}

/// The condition that a custom field passes a test.
pub(super) fn test_field(field: &Field, given: &Test, path: AccessPath) -> Sql {
    let at = |operator: &'static str| {
        Sql::new("(u.custom_fields ")
            .push(operator)
            .bind(field.name.as_str())
            .push(")")
    };
    let place = Place {
        json: at("-> "),
        text: at("->> "),
        kind: Some(field.field_type),
    };
    let decided = match given {
        Test::Exists => at("? "),
        given => test(&place, given),
    };
    match narrowed(field, given).filter(|_| path == AccessPath::ByIndex) {
        Some(path) => Sql::new("(")
            .append(path)
            .push(" and ")
            .append(decided)
            .push(")"),
        None => decided,
    }
}

/// The condition that a place inside an object passes a test.
pub(super) fn test_inside(field: &Field, steps: &[String], given: &Test) -> Sql {
    let path: Vec<String> = std::iter::once(field.name.clone())
        .chain(steps.iter().cloned())
        .collect();
    let at = |operator: &'static str| {
        Sql::new("(u.custom_fields ")
            .push(operator)
            .bind(path.clone())
            .push(")")
    };
    test(
        &Place {
            json: at("#> "),
            text: at("#>> "),
            kind: None,
        },
        given,
    )
}

fn test(place: &Place, test: &Test) -> Sql {
    let json = || place.json.clone();
    match test {
        Test::Null => Sql::new("(")
            .append(json())
            .push(" is null or ")
            .append(json())
            .push(" = 'null')"),
        Test::Exists => json().push(" is not null"),
        Test::Equals(operand) => any_of(place, std::slice::from_ref(operand)),
        Test::EqualsList(operands) => equals_list(place, operands),
        Test::Ordered(order, operand) => ordered(place, *order, operand),
        Test::In(operands) => any_of(place, operands),
        Test::HoldsAll(operands) => holds_all(place, operands),
        Test::Contains(pattern) => is_text(place, contains(place.text.clone(), pattern)),
        Test::ContainsFolded(pattern) => {
            is_text(place, contains_folded(place.text.clone(), pattern))
        }
        Test::StartsWith(pattern) => is_text(place, starts_with(place.text.clone(), pattern)),
        Test::HasKey(key) => of_type(place, "object", json().push(" ? ").bind(key.as_str())),
    }
}

/// Guards a condition by the value's type.
fn of_type(place: &Place, name: &'static str, condition: Sql) -> Sql {
    let json = place.json.clone();
    Sql::new("(jsonb_typeof")
        .append(json)
        .push(" = ")
        .bind(name)
        .push(" and ")
        .append(condition)
        .push(")")
}

fn is_text(place: &Place, condition: Sql) -> Sql {
    match place.kind {
        Some(_) => condition,
        None => of_type(place, "string", condition),
    }
}

fn json_of(operands: &[Operand]) -> Vec<Value> {
    let json = operands.iter().map(|operand| match operand {
        Operand::Json(value) => value.clone(),
        Operand::Time(period) => Value::String(date_text(period.start)),
    });
    json.collect()
}

fn periods(operands: &[Operand]) -> Vec<Period> {
    let periods = operands.iter().filter_map(|operand| match operand {
        Operand::Time(period) => Some(*period),
        Operand::Json(_) => None,
    });
    periods.collect()
}

/// A moment as dates are kept, beside which they sort. The last of them ends in the year 10000,
/// which has a digit more.
fn edge(moment: DateTime<Utc>) -> String {
    if moment.year() > 9999 {
        "9999-12-31T23:59:60Z".to_owned()
    } else {
        date_text(moment)
    }
}

/// The text of dates has one width and sorts as the dates do.
fn within(text: Sql, period: Period) -> Sql {
    Sql::new("(")
        .append(text.clone())
        .push(" collate \"C\" >= ")
        .bind(edge(period.start))
        .push(" and ")
        .append(text)
        .push(" collate \"C\" < ")
        .bind(edge(period.end))
        .push(")")
}

fn within_any(text: &Sql, periods: &[Period]) -> Sql {
    let mut whole = Sql::new("(false");
    for period in periods {
        whole = whole.push(" or ").append(within(text.clone(), *period));
    }
    whole.push(")").one_off()
}

/// The elements of a value that may be no array, as `e.item`, some of which pass the condition.
fn some_element(place: &Place, condition: Sql) -> Sql {
    Sql::new("exists (select 1 from jsonb_array_elements(case jsonb_typeof")
        .append(place.json.clone())
        .push(" when 'array' then ")
        .append(place.json.clone())
        .push(" end) e (item) where ")
        .append(condition)
        .push(")")
}

/// The value, or some element of it where it is an array, is one of these.
fn any_of(place: &Place, operands: &[Operand]) -> Sql {
    let listed = |item: Sql| item.push(" = any(").bind(json_of(operands)).push(")");
    match place.kind {
        Some(FieldType::Date) => within_any(&place.text, &periods(operands)),
        Some(FieldType::Array(ItemType::Date)) => some_element(
            place,
            within_any(&Sql::new("(e.item #>> '{}')"), &periods(operands)),
        ),
        Some(FieldType::Array(_)) => some_element(place, listed(Sql::new("e.item"))),
        Some(FieldType::Number) => double(place)
            .push(" = any((")
            .bind(digits(operands))
            .push(")::float8[])"),
        Some(_) => listed(place.json.clone()),
        None => Sql::new("(")
            .append(listed(place.json.clone()))
            .push(" or ")
            .append(some_element(place, listed(Sql::new("e.item"))))
            .push(")"),
    }
}

/// A number that is a double, which two decimal texts may stand for: the database writes the sums,
/// and we what is set.
fn double(place: &Place) -> Sql {
    place.text.clone().push("::float8")
}

fn digits(operands: &[Operand]) -> Vec<String> {
    json_of(operands).iter().map(Value::to_string).collect()
}

fn equals_list(place: &Place, operands: &[Operand]) -> Sql {
    if place.kind != Some(FieldType::Array(ItemType::Date)) {
        return place
            .json
            .clone()
            .push(" = ")
            .bind(Value::Array(json_of(operands)));
    }
    // Whole seconds are ranges, so that the places are compared one by one.
    let mut whole = Sql::new("(jsonb_array_length")
        .append(guarded(place))
        .push(" = ")
        .bind(operands.len() as i32);
    for (index, period) in periods(operands).into_iter().enumerate() {
        let item = Sql::new("(")
            .append(place.json.clone())
            .push(" ->> ")
            .bind(index as i32)
            .push("::integer)");
        whole = whole.push(" and ").append(within(item, period));
    }
    whole.push(")").one_off()
}

/// The value where it is an array, else nothing.
fn guarded(place: &Place) -> Sql {
    Sql::new("(case jsonb_typeof")
        .append(place.json.clone())
        .push(" when 'array' then ")
        .append(place.json.clone())
        .push(" end)")
}

fn holds_all(place: &Place, operands: &[Operand]) -> Sql {
    if operands.is_empty() {
        return Sql::new("false");
    }
    let mut whole = Sql::new("(true");
    for operand in operands {
        let condition = match (place.kind, operand) {
            (Some(FieldType::Array(ItemType::Date)), Operand::Time(period)) => {
                within(Sql::new("(e.item #>> '{}')"), *period)
            }
            _ => Sql::new("e.item = ").bind(json_of(std::slice::from_ref(operand)).remove(0)),
        };
        whole = whole.push(" and ").append(some_element(place, condition));
    }
    if operands.len() == 1 {
        whole.push(")")
    } else {
        whole.push(")").one_off()
    }
}

fn ordered(place: &Place, order: Order, operand: &Operand) -> Sql {
    match operand {
        Operand::Time(period) => {
            let (sign, bound) = bound(order, *period);
            place
                .text
                .clone()
                .push(" collate \"C\"")
                .push(sign)
                .bind(edge(bound))
        }
        Operand::Json(Value::String(text)) => {
            let condition = place
                .text
                .clone()
                .push(" collate \"C\"")
                .push(sign(order))
                .bind(text.as_str());
            is_text(place, condition)
        }
        Operand::Json(number) if place.kind == Some(FieldType::Number) => double(place)
            .push(sign(order))
            .bind(number.to_string())
            .push("::text::float8"),
        Operand::Json(number) => of_type(
            place,
            "number",
            place.json.clone().push(sign(order)).bind(number.clone()),
        ),
    }
}

/// The value as the index of the field holds it; `None` for what it does not hold in one row.
pub(super) fn index_key(field: &Field, operand: &Operand) -> Option<Vec<u8>> {
    let kind = match field.field_type {
        FieldType::Array(item) => item.as_field(),
        kind => kind,
    };
    match operand {
        Operand::Json(value) => kind.sort_key(value),
        // A whole second is many values.
        Operand::Time(period)
            if period.end - period.start == chrono::TimeDelta::microseconds(1) =>
        {
            kind.sort_key(&Value::String(date_text(period.start)))
        }
        Operand::Time(_) => None,
    }
}

/// The users whom the field's index holds for a test; `None` where it has no index or the test is
/// none of a value.
fn narrowed(field: &Field, test: &Test) -> Option<Sql> {
    if field.index != Index::Ready {
        return None;
    }
    let rows = Sql::new("u.user_id in (select f.user_id from field_values f where f.field_id = ")
        .bind(field.field_id);
    let keys = |operands: &[Operand]| -> Option<Vec<Vec<u8>>> {
        operands
            .iter()
            .map(|operand| index_key(field, operand))
            .collect()
    };
    let rows = match test {
        Test::Equals(operand) => rows
            .push(" and f.value = ")
            .bind(index_key(field, operand)?),
        Test::In(operands) => rows
            .push(" and f.value = any(")
            .bind(keys(operands)?)
            .push(")"),
        Test::HoldsAll(operands) => rows
            .push(" and f.value = ")
            .bind(index_key(field, operands.first()?)?),
        Test::Ordered(order, Operand::Json(value)) => rows
            .push(" and f.value")
            .push(sign(*order))
            .bind(field.field_type.sort_key(value)?),
        Test::Ordered(order, Operand::Time(period)) => {
            let (sign, bound) = bound(*order, *period);
            rows.push(" and f.value")
                .push(sign)
                .bind(field.field_type.sort_key(&Value::String(edge(bound)))?)
        }
        _ => return None,
    };
    Some(rows.push(")"))
}
