//! Which phone numbers the deployment sends text messages to, and how many messages.

use std::sync::Arc;

use chrono::{DateTime, Days, NaiveTime, TimeDelta, Utc};
use diesel_async::AsyncPgConnection;

use crate::{error::Result, store::text_messages};

/// The limits on text messages, which cost money.
#[derive(Clone, Debug)]
pub struct TextLimits {
    /// Country codes without a plus sign; if empty, any.
    allowed: Arc<[String]>,
    /// The maximum number of text messages per day; `None` for no limit.
    daily_cap: Option<i64>,
}

impl TextLimits {
    /// Limits with these country codes and this daily cap.
    pub fn new(allowed: &[String], daily_cap: Option<i64>) -> Self {
        Self {
            allowed: allowed.into(),
            daily_cap,
        }
    }

    /// Whether the deployment sends text messages to this number.
    pub fn allows(&self, number: &str) -> bool {
        let digits = number.trim_start_matches('+');
        self.allowed.is_empty()
            || self
                .allowed
                .iter()
                .any(|code| digits.starts_with(code.as_str()))
    }

    /// Counts a text message. Returns the retry delay if the daily cap is reached. The count is
    /// part of the transaction that queues the message, and locks the day's row until that
    /// transaction ends.
    ///
    /// # Errors
    /// The database's.
    pub async fn count(
        &self,
        conn: &mut AsyncPgConnection,
        now: DateTime<Utc>,
    ) -> Result<Option<TimeDelta>> {
        let Some(cap) = self.daily_cap else {
            return Ok(None);
        };
        let day = now.date_naive().and_time(NaiveTime::MIN).and_utc();
        if text_messages::count(conn, day, cap).await? {
            return Ok(None);
        }
        let next = day.checked_add_days(Days::new(1)).unwrap_or(now);
        Ok(Some(next - now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_allowed_by_their_country_code() {
        let any = TextLimits::new(&[], None);
        let some = TextLimits::new(&["86".to_owned(), "1".to_owned()], None);
        assert!(any.allows("+4915112345678"));
        assert!(
            some.allows("+8613800138000")
                && some.allows("+12025550123")
                && !some.allows("+4915112345678")
        );
    }
}
