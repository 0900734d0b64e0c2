//! Page tokens of lists: where a page begins, and the token of the next one.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::{
    clock::Clock,
    error::Result,
    model::{keys::Keys, page},
};

/// Makes and checks the page tokens of a deployment.
#[derive(Clone)]
pub struct PageTokens {
    keys: Keys,
    clock: Clock,
    lifetime: TimeDelta,
}

/// The page tokens of one query: a token of another query isn't valid for it.
pub struct QueryTokens {
    keys: Keys,
    query: String,
    lifetime: TimeDelta,
    now: DateTime<Utc>,
}

impl PageTokens {
    /// Tokens that are signed with these keys and can be used for `lifetime`.
    pub fn new(keys: Keys, clock: Clock, lifetime: TimeDelta) -> Self {
        Self {
            keys,
            clock,
            lifetime,
        }
    }

    /// The tokens of a query, at this moment.
    pub fn of(&self, query: String) -> QueryTokens {
        QueryTokens {
            keys: self.keys.clone(),
            query,
            lifetime: self.lifetime,
            now: self.clock.now(),
        }
    }
}

impl QueryTokens {
    /// The values of the last row of the page before; `None` for the first page, whose token is
    /// empty.
    ///
    /// # Errors
    /// PAGE_TOKEN_INVALID, PAGE_TOKEN_MISMATCH or PAGE_TOKEN_EXPIRED.
    pub fn read(&self, token: &str) -> Result<Option<Vec<Value>>> {
        if token.is_empty() {
            return Ok(None);
        }
        page::read(&self.keys, &self.query, token, self.lifetime, self.now).map(Some)
    }

    /// The ID of the last row of the page before, in a list in the order of IDs.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_id(&self, token: &str) -> Result<Option<i64>> {
        Ok(self
            .read(token)?
            .and_then(|last| last.first().and_then(Value::as_i64)))
    }

    /// The token of the page after the row with these values.
    pub fn write(&self, last: Vec<Value>) -> String {
        page::write(&self.keys, &self.query, last, self.now)
    }

    /// The token of the page after the row with this ID; empty if there are no more rows.
    pub fn write_id(&self, last: Option<i64>) -> String {
        last.map(|last| self.write(vec![last.into()]))
            .unwrap_or_default()
    }
}
