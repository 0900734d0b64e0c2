//! Query parameters, and pages by limit and offset.

use std::{borrow::Cow, collections::HashMap};

use serde_json::{Value, json};
use url::form_urlencoded;

use crate::{
    error::{Error, FieldError, Result},
    model::{page, text},
    rest::call::Call,
};

/// The parameters that every list and every bulk change takes.
const COMMON: [&str; 3] = ["limit", "offset", "page_token"];

/// The parameters that hold several values: joined by commas, repeated, or as `name[]` and
/// `name[0]`, as HTTP libraries write an array.
const LISTS: [&str; 4] = ["order_by", "keys", "expand", "group__in"];

/// The parameters of a query. Each is given once, except those of [`LISTS`].
pub(super) struct Params<'a>(HashMap<&'a str, Cow<'a, str>>);

impl<'a> Params<'a> {
    /// Takes the parameters of these names, and those of pages.
    ///
    /// # Errors
    /// INVALID_REQUEST for any other, because a misspelled filter must not match everyone.
    pub(super) fn read(call: &'a Call, names: &[&str]) -> Result<Self> {
        Self::of(&call.query, names)
    }

    fn of(query: &'a [(String, String)], names: &[&str]) -> Result<Self> {
        let mut params: HashMap<&str, Cow<'_, str>> = HashMap::new();
        for (given, value) in query {
            let name = given
                .split_once('[')
                .filter(|_| given.ends_with(']'))
                .map_or(given.as_str(), |(name, _)| name);
            let is_list = LISTS.contains(&name);
            if !names.contains(&name) && !COMMON.contains(&name) {
                return Err(Error::invalid(
                    text::cut(given, 64),
                    FieldError::Unknown,
                    "unknown parameter",
                ));
            }
            if name != given && !is_list {
                return Err(Error::invalid(
                    name,
                    FieldError::Format,
                    "must be one value, not an array or an object",
                ));
            }
            match params.get_mut(name) {
                None => drop(params.insert(name, value.into())),
                Some(values) if is_list => *values = format!("{values},{value}").into(),
                Some(_) => {
                    return Err(Error::invalid(
                        name,
                        FieldError::Format,
                        "is specified more than once",
                    ));
                }
            }
        }
        Ok(Self(params))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Cow::as_ref)
    }

    /// A whole number that is not negative.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>> {
        let Some(given) = self.get(name) else {
            return Ok(None);
        };
        let digits = Some(given).filter(|given| given.bytes().all(|byte| byte.is_ascii_digit()));
        let error = || Error::invalid(name, FieldError::Format, "must be a non-negative integer");
        digits
            .and_then(|digits| digits.parse().ok())
            .map(Some)
            .ok_or_else(error)
    }

    /// 1 or true; 0, false or nothing.
    pub(super) fn flag(&self, name: &str) -> Result<bool> {
        match self.get(name) {
            None | Some("0" | "false" | "") => Ok(false),
            Some("1" | "true") => Ok(true),
            Some(_) => Err(Error::invalid(
                name,
                FieldError::Format,
                "must be 0, 1, true or false",
            )),
        }
    }

    /// A number that some clients send as an empty text if they have none.
    fn number_or_nothing(&self, name: &str) -> Result<Option<i64>> {
        if self.get(name) == Some("") {
            Ok(None)
        } else {
            self.number(name)
        }
    }
}

/// Which page is asked for.
#[derive(Debug)]
pub(super) struct Page {
    pub limit: i32,
    pub offset: i64,
    /// Goes on where the page before ended; the offset is then told, not counted.
    pub token: String,
}

impl Page {
    /// Reads limit and offset; a limit above the most is cut to it where `is_cut`. A limit of 0 is
    /// an empty page.
    pub(super) fn read(params: &Params, is_cut: bool) -> Result<Self> {
        let limit = match params.number_or_nothing("limit")? {
            None => page::DEFAULT_SIZE,
            Some(limit) if limit > page::MAX_SIZE && !is_cut => {
                return Err(Error::invalid(
                    "limit",
                    FieldError::Range,
                    "must be at most 1000",
                ));
            }
            Some(limit) => limit.min(page::MAX_SIZE),
        };
        let token = params.get("page_token").unwrap_or_default().to_owned();
        let offset = params.number_or_nothing("offset")?.unwrap_or(0);
        if offset > page::MAX_SKIP && token.is_empty() {
            return Err(Error::invalid(
                "offset",
                FieldError::Range,
                "must be at most 100000; use next for deeper pages",
            ));
        }
        Ok(Self {
            limit: limit as i32,
            offset,
            token,
        })
    }

    /// Rows that the service passes over.
    pub(super) fn skip(&self) -> i32 {
        match self.token.as_str() {
            "" => self.offset as i32,
            _ => 0,
        }
    }

    /// The path of the page after, where there is one.
    pub(super) fn next(&self, call: &Call, taken: usize, token: &str) -> Value {
        match token {
            _ if self.limit == 0 => Value::Null,
            "" => Value::Null,
            token => self.link(call, self.offset.saturating_add(taken as i64), token),
        }
    }

    /// The path of the page before.
    pub(super) fn previous(&self, call: &Call) -> Value {
        match (self.offset, (self.offset - i64::from(self.limit)).max(0)) {
            // Far down there is no way by number.
            (0, _) => Value::Null,
            _ if self.limit == 0 => Value::Null,
            (_, before) if before > page::MAX_SKIP => Value::Null,
            (_, before) => self.link(call, before, ""),
        }
    }

    fn link(&self, call: &Call, offset: i64, token: &str) -> Value {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let others = call
            .query
            .iter()
            .filter(|(name, _)| !COMMON.contains(&name.as_str()));
        query.extend_pairs(others);
        query.append_pair("limit", &self.limit.to_string());
        query.append_pair("offset", &offset.to_string());
        if !token.is_empty() {
            query.append_pair("page_token", token);
        }
        json!(format!("{}?{}", call.path, query.finish()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::query;

    fn read(given: &str) -> Result<(i32, String)> {
        let query = query::parse(given).unwrap();
        let params = Params::of(&query, &["where", "order_by", "keys"])?;
        Ok((
            Page::read(&params, true)?.limit,
            params.get("order_by").unwrap_or_default().to_owned(),
        ))
    }

    #[test]
    fn arrays_are_read_as_libraries_write_them() {
        for given in [
            "order_by=-level,id",
            "order_by=-level&order_by=id",
            "order_by[]=-level&order_by[]=id",
            "order_by%5B0%5D=-level&order_by%5B1%5D=id",
        ] {
            assert_eq!(read(given).unwrap().1, "-level,id", "{given}");
        }
        for bad in [
            "where[]=%7B%7D",
            "where[level]=3",
            "limit[]=3",
            "where=%7B%7D&where=%7B%7D",
            "wehre=%7B%7D",
            "[]=1",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_limit_may_be_zero_or_empty() {
        for (given, limit) in [
            ("limit=0", 0),
            ("limit=", 20),
            ("limit=&offset=", 20),
            ("limit=5000", 1000),
        ] {
            assert_eq!(read(given).unwrap().0, limit, "{given}");
        }
        for bad in ["limit=-1", "limit=x", "limit=null", "offset=1.5"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
