//! Query parameters, and pages by limit and offset.

use std::collections::HashMap;

use serde_json::{Value, json};
use url::form_urlencoded;

use crate::{
    error::{Error, Fault, Result},
    model::{page, text},
    rest::call::Call,
};

/// The parameters that every list and every bulk change takes.
const COMMON: [&str; 3] = ["limit", "offset", "page_token"];

/// The parameters of a query, each given once.
pub struct Params<'a>(HashMap<&'a str, &'a str>);

impl<'a> Params<'a> {
    /// Takes the parameters of these names, and those of pages.
    ///
    /// # Errors
    /// INVALID_REQUEST for any other, for a filter that is misspelt must not find everyone.
    pub fn read(call: &'a Call, names: &[&str]) -> Result<Self> {
        let mut params = HashMap::new();
        for (name, value) in &call.query {
            if !names.contains(&name.as_str()) && !COMMON.contains(&name.as_str()) {
                return Err(Error::invalid(text::cut(name, 64), Fault::Unknown, "is no parameter here"));
            }
            if params.insert(name.as_str(), value.as_str()).is_some() {
                return Err(Error::invalid(name, Fault::Format, "stands twice"));
            }
        }
        Ok(Self(params))
    }

    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).copied()
    }

    /// A whole number that is not negative.
    pub fn number(&self, name: &str) -> Result<Option<i64>> {
        let Some(given) = self.get(name) else { return Ok(None) };
        let digits = Some(given).filter(|given| given.bytes().all(|byte| byte.is_ascii_digit()));
        let fault = || Error::invalid(name, Fault::Format, "must be a whole number that is not negative");
        digits.and_then(|digits| digits.parse().ok()).map(Some).ok_or_else(fault)
    }

    /// 1 or 0.
    pub fn flag(&self, name: &str) -> Result<bool> {
        match self.get(name) {
            None | Some("0") => Ok(false),
            Some("1") => Ok(true),
            Some(_) => Err(Error::invalid(name, Fault::Format, "must be 0 or 1")),
        }
    }
}

/// Which page is asked for.
#[derive(Debug)]
pub struct Page {
    pub limit: i32,
    pub offset: i64,
    /// Goes on where the page before ended; the offset is then told, not counted.
    pub token: String,
}

impl Page {
    /// Reads limit and offset; a limit above the most is cut to it where `is_cut`.
    pub fn read(params: &Params, is_cut: bool) -> Result<Self> {
        let limit = match params.number("limit")? {
            None => page::DEFAULT_SIZE,
            Some(0) => return Err(Error::invalid("limit", Fault::Range, "must be at least 1")),
            Some(limit) if limit > page::MAX_SIZE && !is_cut => {
                return Err(Error::invalid("limit", Fault::Range, "must be at most 1000"));
            }
            Some(limit) => limit.min(page::MAX_SIZE),
        };
        let token = params.get("page_token").unwrap_or_default().to_owned();
        let offset = params.number("offset")?.unwrap_or(0);
        if offset > page::MAX_SKIP && token.is_empty() {
            return Err(Error::invalid("offset", Fault::Range, "must be at most 100000; follow next instead"));
        }
        Ok(Self { limit: limit as i32, offset, token })
    }

    /// Rows that the service passes over.
    pub fn skip(&self) -> i32 {
        match self.token.as_str() {
            "" => self.offset as i32,
            _ => 0,
        }
    }

    /// The path of the page after, where there is one.
    pub fn next(&self, call: &Call, taken: usize, token: &str) -> Value {
        match token {
            "" => Value::Null,
            token => self.link(call, self.offset.saturating_add(taken as i64), token),
        }
    }

    /// The path of the page before.
    pub fn previous(&self, call: &Call) -> Value {
        match (self.offset, (self.offset - i64::from(self.limit)).max(0)) {
            // Far down there is no way by number.
            (0, _) => Value::Null,
            (_, before) if before > page::MAX_SKIP => Value::Null,
            (_, before) => self.link(call, before, ""),
        }
    }

    fn link(&self, call: &Call, offset: i64, token: &str) -> Value {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let others = call.query.iter().filter(|(name, _)| !COMMON.contains(&name.as_str()));
        query.extend_pairs(others);
        query.append_pair("limit", &self.limit.to_string());
        query.append_pair("offset", &offset.to_string());
        if !token.is_empty() {
            query.append_pair("page_token", token);
        }
        json!(format!("{}?{}", call.path, query.finish()))
    }
}
