//! minapp's names and numbers in filters, orders and changes, as the service has them.

use serde_json::{Map, Value};

use super::with_country;
use crate::{
    error::{Error, Fault, Reason, Result},
    model::{
        field::{FieldType, Fields, ItemType, MAX_SAFE_INTEGER},
        text,
    },
    wire::canonical::Json,
};

/// minapp's names that differ from the service's.
const NAMES: [(&str, &str); 8] = [
    ("avatar", "avatar_url"),
    ("id", "user_id"),
    ("_username", "username"),
    ("_email", "email"),
    ("_phone", "phone"),
    ("_email_verified", "email_verified"),
    ("_phone_verified", "phone_verified"),
    ("_group", "group_ids"),
];

/// Reads minapp's language with the definitions at hand.
pub struct Language<'a> {
    pub fields: &'a Fields,
    pub country_code: &'a str,
}

impl Language<'_> {
    /// The filter of a `where`.
    ///
    /// # Errors
    /// INVALID_REQUEST for what is no JSON object, FILTER_INVALID for a name that is none of minapp's.
    pub fn filter(&self, given: &str) -> Result<Map<String, Value>> {
        let json = Json::parse(given.as_bytes()).map_err(|_| Error::invalid("where", Fault::Format, "is no JSON"))?;
        self.conditions(json.into_object("where")?)
    }

    fn conditions(&self, given: Map<String, Value>) -> Result<Map<String, Value>> {
        let mut filter = Map::new();
        for (key, value) in given {
            let (key, value) = match (key.as_str(), value) {
                ("$and" | "$or", Value::Array(items)) => {
                    let items = items.into_iter().map(|item| self.inner(item));
                    (key, Value::Array(items.collect::<Result<_>>()?))
                }
                ("$not", value) => (key, self.inner(value)?),
                (operator, value) if operator.starts_with('$') => (key, value),
                (name, value) => (our_path(name)?, self.operand(name, value)?),
            };
            filter.insert(key, value);
        }
        Ok(filter)
    }

    fn inner(&self, value: Value) -> Result<Value> {
        match value {
            Value::Object(inner) => Ok(Value::Object(self.conditions(inner)?)),
            other => Ok(other),
        }
    }

    fn operand(&self, name: &str, value: Value) -> Result<Value> {
        match name {
            "_phone" => Ok(self.phones(value)),
            name => self.value(name, value),
        }
    }

    /// Phones in operands that are compared as a whole, with their country.
    fn phones(&self, value: Value) -> Value {
        match value {
            Value::String(phone) => Value::String(with_country(&phone, self.country_code)),
            Value::Array(items) => items.into_iter().map(|item| self.phones(item)).collect(),
            Value::Object(operators) => {
                let operators = operators.into_iter().map(|(operator, operand)| {
                    let is_whole = matches!(operator.as_str(), "$eq" | "$ne" | "$in" | "$nin");
                    let operand = if is_whole { self.phones(operand) } else { operand };
                    (operator, operand)
                });
                Value::Object(operators.collect())
            }
            other => other,
        }
    }

    /// The order of an `order_by`.
    ///
    /// # Errors
    /// ORDER_BY_UNSUPPORTED for a name that is none of minapp's.
    pub fn order(given: &str) -> Result<String> {
        let keys = given.split(',').map(str::trim).map(|key| {
            let (sign, name) = key.strip_prefix('-').map_or(("", key), |name| ("-", name));
            let unsupported = |_| {
                Error::new(Reason::OrderByUnsupported).with_violation("order_by", Fault::Unknown, text::cut(name, 64))
            };
            Ok(format!("{sign}{}", our_path(name).map_err(unsupported)?))
        });
        Ok(keys.collect::<Result<Vec<_>>>()?.join(","))
    }

    /// A change of custom fields.
    ///
    /// # Errors
    /// INVALID_REQUEST for text where a whole number belongs.
    pub fn change(&self, given: Map<String, Value>) -> Result<Map<String, Value>> {
        let entries = given.into_iter().map(|(name, value)| match (name.as_str(), value) {
            ("$set", Value::Object(inner)) => Ok((name, Value::Object(self.change(inner)?))),
            (_, value) => {
                let value = self.value(&name, value)?;
                Ok((name, value))
            }
        });
        entries.collect()
    }

    /// A value with its numbers as the service takes them: those of an integer field whole at any size, all others as
    /// doubles. The service takes digits for an integer too, and minapp does not.
    fn value(&self, name: &str, value: Value) -> Result<Value> {
        let base = name.split('.').next().unwrap_or_default();
        let field_type = self.fields.get(base).map(|field| field.field_type);
        match field_type {
            Some(FieldType::Integer | FieldType::Array(ItemType::Integer)) if has_text(&value) => {
                Err(Error::invalid(text::cut(name, 64), Fault::Type, "must be a number, not text"))
            }
            Some(FieldType::Integer | FieldType::Array(ItemType::Integer)) | None => Ok(value),
            Some(_) => Ok(doubles(value)),
        }
    }
}

fn has_text(value: &Value) -> bool {
    match value {
        Value::String(_) => true,
        Value::Array(items) => items.iter().any(has_text),
        Value::Object(entries) => entries.values().any(has_text),
        _ => false,
    }
}

fn doubles(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_i64() {
            Some(whole) if whole.unsigned_abs() <= MAX_SAFE_INTEGER as u64 => Value::Number(number),
            _ => number.as_f64().map_or(Value::Null, Value::from),
        },
        Value::Array(items) => items.into_iter().map(doubles).collect(),
        Value::Object(entries) => entries.into_iter().map(|(key, value)| (key, doubles(value))).collect(),
        other => other,
    }
}

/// The service's name of a field, with what follows it.
fn our_path(given: &str) -> Result<String> {
    let (base, rest) = match given.split_once('.') {
        Some((base, rest)) => (base, format!(".{rest}")),
        None => (given, String::new()),
    };
    let known = NAMES.iter().find(|(theirs, _)| *theirs == base);
    let is_hidden = known.is_none() && (base.starts_with('_') || NAMES.iter().any(|(_, ours)| *ours == base));
    if is_hidden {
        let path = format!("where.{}", text::cut(given, 64));
        return Err(Error::new(Reason::FilterInvalid).with_violation(path, Fault::Unknown, "is no field"));
    }
    Ok(format!("{}{rest}", known.map_or(base, |(_, ours)| ours)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(given: &str) -> Result<Value> {
        let fields = Fields::new([], Vec::new());
        let language = Language { fields: &fields, country_code: "86" };
        language.filter(given).map(Value::Object)
    }

    #[test]
    fn names_are_minapps_own() {
        let read = read(r#"{"$or": [{"_group": {"$in": [258]}}, {"avatar": "x", "id": 5}], "test": "t"}"#).unwrap();
        let expected =
            json!({ "$or": [{ "group_ids": { "$in": [258] } }, { "avatar_url": "x", "user_id": 5 }], "test": "t" });
        assert_eq!(read, expected);
        for name in ["group_ids", "user_id", "avatar_url", "email", "_no_such"] {
            assert!(self::read(&format!(r#"{{"{name}": 1}}"#)).is_err(), "{name}");
        }
    }

    #[test]
    fn phones_get_their_country_where_they_are_whole() {
        let read =
            read(r#"{"$and": [{"_phone": "138"}, {"_phone": {"$in": ["138", "+49"], "$contains": "38"}}]}"#).unwrap();
        let expected =
            json!({ "$and": [{ "phone": "+86138" }, { "phone": { "$in": ["+86138", "+49"], "$contains": "38" } }] });
        assert_eq!(read, expected);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in ["", "{", "[1]", "\"x\"", "null", r#"{"a": 1, "a": 2}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn orders_are_translated() {
        assert_eq!(Language::order("-created_at,id").unwrap(), "-created_at,user_id");
        assert!(Language::order("user_id").is_err());
    }
}
