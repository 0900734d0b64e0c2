//! minapp's names and numbers in filters, orders and changes, as the service has them.

use serde_json::{Map, Value};

use super::{names::our_path, with_country};
use crate::{
    convert::proto_json::JsonValue,
    error::{Error, FieldError, Reason, Result},
    model::{
        field::{FieldType, Fields, ItemType, MAX_SAFE_INTEGER},
        text,
    },
};

/// Reads minapp's language with the definitions at hand.
pub(super) struct Language<'a> {
    pub fields: &'a Fields,
    pub country_code: &'a str,
}

impl Language<'_> {
    /// The filter of a `where`; empty if there is no condition.
    ///
    /// # Errors
    /// INVALID_REQUEST for what is no JSON object, FILTER_INVALID for a name that is none of
    /// minapp's.
    pub(super) fn filter(&self, given: Option<&str>) -> Result<Map<String, Value>> {
        let Some(given) = given else {
            return Ok(Map::new());
        };
        let json = JsonValue::parse(given.as_bytes())
            .map_err(|_| Error::invalid("where", FieldError::Format, "is not valid JSON"))?;
        match json {
            // Clients send these if they build a query without a condition.
            JsonValue::Bool(false) => Ok(Map::new()),
            JsonValue::List(items) if items.is_empty() => Ok(Map::new()),
            json => self.conditions(json.into_object("where")?),
        }
    }

    fn conditions(&self, given: Map<String, Value>) -> Result<Map<String, Value>> {
        let mut filter = Map::new();
        for (key, value) in given {
            let (key, value) = match (key.as_str(), value) {
                // A combination of no queries.
                ("$and", Value::Array(items)) if items.is_empty() => continue,
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
            name => self.value("where.", name, value),
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
                    let operand = if is_whole {
                        self.phones(operand)
                    } else {
                        operand
                    };
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
    pub(super) fn order(given: &str) -> Result<String> {
        let keys = given.split(',').map(str::trim).map(|key| {
            let (sign, name) = key.strip_prefix('-').map_or(("", key), |name| ("-", name));
            let unsupported = |_| {
                Error::new(Reason::OrderByUnsupported).with_violation(
                    "order_by",
                    FieldError::Unknown,
                    text::cut(name, 64),
                )
            };
            Ok(format!("{sign}{}", our_path(name).map_err(unsupported)?))
        });
        Ok(keys.collect::<Result<Vec<_>>>()?.join(","))
    }

    /// A change of custom fields. A field whose value is `{"$unset": …}` joins those of `$unset`.
    ///
    /// # Errors
    /// INVALID_REQUEST for text where a whole number belongs, and for a whole number that would be
    /// rounded.
    pub(super) fn change(&self, given: JsonValue) -> Result<Map<String, Value>> {
        self.check_long("", &given)?;
        let (mut change, mut unset) = (Map::new(), Map::new());
        for (name, value) in given.into_object("")? {
            match (name.as_str(), value) {
                ("$set", Value::Object(inner)) => {
                    let inner = self.values("$set.", inner, &mut unset)?;
                    change.insert(name, Value::Object(inner));
                }
                ("$unset", Value::Object(names)) => unset.extend(names),
                (_, value) => {
                    change.extend(self.values("", Map::from_iter([(name, value)]), &mut unset)?)
                }
            }
        }
        if !unset.is_empty() {
            change.insert("$unset".to_owned(), Value::Object(unset));
        }
        Ok(change)
    }

    /// Rejects what would be rounded before [`Self::value`] sees it: a whole number beyond 64 bits
    /// inside an object.
    fn check_long(&self, under: &str, given: &JsonValue) -> Result<()> {
        let JsonValue::Object(entries) = given else {
            return Ok(());
        };
        entries
            .iter()
            .try_for_each(|(name, value)| match name.as_str() {
                "$set" => self.check_long("$set.", value),
                name if self.is_free(name) && has_long(value) => Err(rounded(under, name)),
                _ => Ok(()),
            })
    }

    /// Whether no type tells the integers of a field from its other numbers.
    fn is_free(&self, name: &str) -> bool {
        let base = name.split('.').next().unwrap_or_default();
        let field_type = self.fields.get(base).map(|field| field.field_type);
        matches!(
            field_type,
            Some(
                FieldType::Object
                    | FieldType::Array(ItemType::Object)
                    | FieldType::Geojson
                    | FieldType::File
            )
        )
    }

    /// New values and operators, without `$unset`.
    fn values(
        &self,
        under: &str,
        given: Map<String, Value>,
        unset: &mut Map<String, Value>,
    ) -> Result<Map<String, Value>> {
        let mut values = Map::new();
        for (name, value) in given {
            match value {
                Value::Object(operators)
                    if operators.len() == 1 && operators.contains_key("$unset") =>
                {
                    unset.insert(name, Value::Null);
                }
                value => {
                    let value = self.value(under, &name, value)?;
                    values.insert(name, value);
                }
            }
        }
        Ok(values)
    }

    /// A value with its numbers as the service takes them: those of an integer field whole at any
    /// size, all others as doubles. The service takes digits for an integer too, and minapp does
    /// not. Inside an object, a whole number that no double represents is rejected.
    fn value(&self, under: &str, name: &str, value: Value) -> Result<Value> {
        let base = name.split('.').next().unwrap_or_default();
        match self.fields.get(base).map(|field| field.field_type) {
            Some(FieldType::Integer | FieldType::Array(ItemType::Integer)) if has_text(&value) => {
                Err(Error::invalid(
                    path(under, name),
                    FieldError::Type,
                    "must be a number, not text",
                ))
            }
            Some(FieldType::Integer | FieldType::Array(ItemType::Integer)) | None => Ok(value),
            Some(_) if self.is_free(name) && is_rounded(&value) => Err(rounded(under, name)),
            Some(_) => Ok(doubles(value)),
        }
    }
}

fn path(under: &str, name: &str) -> String {
    format!("{under}{}", text::cut(name, 64))
}

fn rounded(under: &str, name: &str) -> Error {
    let why = "must not contain an integer beyond 2^53 that a double would round";
    Error::invalid(path(under, name), FieldError::Range, why)
}

fn has_long(json: &JsonValue) -> bool {
    match json {
        JsonValue::Integer(whole) => {
            i64::try_from(*whole).is_err() && u64::try_from(*whole).is_err()
        }
        JsonValue::List(items) => items.iter().any(has_long),
        JsonValue::Object(entries) => entries.iter().any(|(_, value)| has_long(value)),
        _ => false,
    }
}

/// Whether a whole number in it has no double of the same value.
fn is_rounded(value: &Value) -> bool {
    match value {
        Value::Number(number) => match (number.as_i128(), number.as_f64()) {
            (Some(whole), Some(double)) => double as i128 != whole,
            _ => false,
        },
        Value::Array(items) => items.iter().any(is_rounded),
        Value::Object(entries) => entries.values().any(is_rounded),
        _ => false,
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
        Value::Object(entries) => entries
            .into_iter()
            .map(|(key, value)| (key, doubles(value)))
            .collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::field::{Field, Index};

    fn read(given: &str) -> Result<Value> {
        let fields = Fields::new([], Vec::new());
        let language = Language {
            fields: &fields,
            country_code: "86",
        };
        language.filter(Some(given)).map(Value::Object)
    }

    fn field(name: &str, field_type: FieldType) -> Field {
        Field {
            field_id: 1,
            name: name.to_owned(),
            field_type,
            description: String::new(),
            default_value: None,
            required: false,
            unique: false,
            index: Index::None,
            user_writable: false,
            created_at: chrono::DateTime::UNIX_EPOCH,
            version: 1,
        }
    }

    fn change(given: Value) -> Result<Value> {
        let fields = Fields::new(
            [
                field("level", FieldType::Integer),
                field("stats", FieldType::Object),
            ],
            Vec::new(),
        );
        let language = Language {
            fields: &fields,
            country_code: "86",
        };
        language
            .change(JsonValue::parse(given.to_string().as_bytes())?)
            .map(Value::Object)
    }

    #[test]
    fn a_query_without_conditions_is_empty() {
        for none in ["{}", "[]", "false", r#"{"$and": []}"#, " [] "] {
            assert_eq!(read(none).unwrap(), json!({}), "{none}");
        }
        assert_eq!(
            read(r#"{"$and": [], "level": 3}"#).unwrap(),
            json!({ "level": 3 })
        );
        // The service rejects these in a bulk change: they may have lost a condition.
        for part in [r#"{"$and": [{}]}"#, r#"{"$or": [{"$and": []}]}"#] {
            assert_ne!(read(part).unwrap(), json!({}), "{part}");
        }
    }

    #[test]
    fn unset_stands_beside_or_inside_a_field() {
        for given in [
            json!({ "level": { "$unset": "" }, "stats": { "n": 1 } }),
            json!({ "stats": { "n": 1 }, "$unset": { "level": null } }),
        ] {
            let expected = json!({ "stats": { "n": 1 }, "$unset": { "level": null } });
            assert_eq!(change(given.clone()).unwrap(), expected, "{given}");
        }
        assert_eq!(
            change(json!({ "$set": { "level": { "$unset": "" } }, "$unset": {} })).unwrap(),
            json!({ "$set": {}, "$unset": { "level": null } })
        );
        assert_eq!(
            change(json!({ "$set": {}, "$unset": {} })).unwrap(),
            json!({ "$set": {} })
        );
    }

    #[test]
    fn integers_inside_objects_are_never_rounded() {
        for (kept, shown) in [
            (
                json!({ "stats": { "n": 9_007_199_254_740_991_i64 } }),
                json!({ "stats": { "n": 9_007_199_254_740_991_i64 } }),
            ),
            (
                json!({ "stats": { "n": [9_007_199_254_740_994_i64] } }),
                json!({ "stats": { "n": [9_007_199_254_740_994.0] } }),
            ),
            (
                json!({ "stats": { "n": 1.5e300 } }),
                json!({ "stats": { "n": 1.5e300 } }),
            ),
            (
                json!({ "level": 9_007_199_254_740_993_i64 }),
                json!({ "level": 9_007_199_254_740_993_i64 }),
            ),
        ] {
            assert_eq!(change(kept).unwrap(), shown);
        }
        for rounded in [
            json!({ "stats": { "n": 9_007_199_254_740_993_i64 } }),
            json!({ "stats": { "n": [{ "m": -9_007_199_254_740_993_i64 }] } }),
            json!({ "stats": { "$update": { "n": 9_223_372_036_854_775_807_i64 } } }),
            json!({ "$set": { "stats.n": { "$incr_by": 18_446_744_073_709_551_615_u64 } } }),
        ] {
            let error = change(rounded.clone()).unwrap_err();
            assert_eq!(error.violations()[0].error, FieldError::Range, "{rounded}");
        }
        let fields = Fields::new(
            [
                field("stats", FieldType::Object),
                field("score", FieldType::Number),
            ],
            Vec::new(),
        );
        let language = Language {
            fields: &fields,
            country_code: "86",
        };
        let change = |text: &str| language.change(JsonValue::parse(text.as_bytes()).unwrap());
        for long in [
            r#"{"stats": {"n": 18446744073709551617}}"#,
            r#"{"$set": {"stats.n": {"$incr_by": 1e1}, "stats": [-18446744073709551617]}}"#,
        ] {
            assert_eq!(
                change(long).unwrap_err().violations()[0].error,
                FieldError::Range,
                "{long}"
            );
        }
        assert!(change(r#"{"stats": {"n": 1e20}, "score": 18446744073709551617}"#).is_ok());
    }

    #[test]
    fn names_are_minapps_own() {
        let read =
            read(r#"{"$or": [{"_group": {"$in": [258]}}, {"avatar": "x", "id": 5}], "test": "t"}"#)
                .unwrap();
        let expected = json!({ "$or": [{ "group_ids": { "$in": [258] } }, { "avatar_url": "x", "user_id": 5 }], "test": "t" });
        assert_eq!(read, expected);
        for name in ["group_ids", "user_id", "avatar_url", "email", "_no_such"] {
            assert!(
                self::read(&format!(r#"{{"{name}": 1}}"#)).is_err(),
                "{name}"
            );
        }
    }

    #[test]
    fn phones_get_their_country_where_they_are_whole() {
        let read =
            read(r#"{"$and": [{"_phone": "138"}, {"_phone": {"$in": ["138", "+49"], "$contains": "38"}}]}"#).unwrap();
        let expected = json!({ "$and": [{ "phone": "+86138" }, { "phone": { "$in": ["+86138", "+49"], "$contains": "38" } }] });
        assert_eq!(read, expected);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in [
            "",
            "{",
            "[1]",
            "[{}]",
            "true",
            "\"x\"",
            "null",
            r#"{"a": 1, "a": 2}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn orders_are_translated() {
        assert_eq!(
            Language::order("-created_at,id").unwrap(),
            "-created_at,user_id"
        );
        assert!(Language::order("user_id").is_err());
    }
}
