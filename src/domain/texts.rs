//! To whom the deployment sends text messages, and how many.

use std::sync::Arc;

use chrono::{DateTime, Days, NaiveTime, TimeDelta, Utc};
use diesel_async::AsyncPgConnection;

use crate::{error::Result, store::text_messages};

/// What a deployment decides about text messages, which cost money.
#[derive(Clone, Debug)]
pub struct TextLimits {
    /// Country codes without a plus sign; any, where there is none.
    allowed: Arc<[String]>,
    /// Most text messages a day; `None` for no limit.
    daily_cap: Option<i64>,
}

impl TextLimits {
    /// Limits with these country codes and this daily cap.
    pub fn new(allowed: &[String], daily_cap: Option<i64>) -> Self {
        Self { allowed: allowed.into(), daily_cap }
    }

    /// Whether the deployment sends text messages to this number.
    pub fn allows(&self, number: &str) -> bool {
        let digits = number.trim_start_matches('+');
        self.allowed.is_empty() || self.allowed.iter().any(|code| digits.starts_with(code.as_str()))
    }

    /// Counts a text message; gives how long to wait where the cap of the day is reached. It is counted in the transaction
    /// that queues it, and locks the day until that ends.
    ///
    /// # Errors
    /// The database's.
    pub async fn count(&self, conn: &mut AsyncPgConnection, now: DateTime<Utc>) -> Result<Option<TimeDelta>> {
        let Some(cap) = self.daily_cap else { return Ok(None) };
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
        assert!(some.allows("+8613800138000") && some.allows("+12025550123") && !some.allows("+4915112345678"));
    }
}
