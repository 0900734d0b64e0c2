//! Budgets in sliding windows.

use chrono::{DateTime, TimeDelta, Utc};

/// How often something may happen within a span that ends now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The name that errors tell.
    pub name: &'static str,
    pub limit: usize,
    pub span: TimeDelta,
}

/// 60 s between two codes of one user, channel and purpose, by default.
pub const SEND_COOLDOWN: Window = Window {
    name: "code_send_cooldown",
    limit: 1,
    span: TimeDelta::seconds(60),
};
/// Six codes per hour for a user, by default.
pub const SEND_USER_HOUR: Window = Window {
    name: "code_send_user_hour",
    limit: 6,
    span: TimeDelta::hours(1),
};
/// Twenty codes per day for a user, by default.
pub const SEND_USER_DAY: Window = Window {
    name: "code_send_user_day",
    limit: 20,
    span: TimeDelta::days(1),
};
/// Three BIND codes per hour for an address, over all callers, by default.
pub const SEND_ADDRESS_HOUR: Window = Window {
    name: "code_send_address_hour",
    limit: 3,
    span: TimeDelta::hours(1),
};
/// Ten wrong codes per day for a user and purpose, by default.
pub const CODE_WRONG_DAY: Window = Window {
    name: "code_wrong_day",
    limit: 10,
    span: TimeDelta::days(1),
};
/// Five wrong passwords in 15 minutes, by default.
pub const PASSWORD_WRONG: Window = Window {
    name: "password_wrong",
    limit: 5,
    span: TimeDelta::minutes(15),
};

/// What a deployment permits with verification codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeLimits {
    /// How long a code can be used.
    pub lifetime: TimeDelta,
    /// Attempts per code.
    pub attempts: i32,
    /// Between two codes of one user, channel and purpose.
    pub cooldown: Window,
    /// Codes sent per user.
    pub user: [Window; 2],
    /// BIND codes per address, over all callers.
    pub address: Window,
    /// Wrong codes per user and purpose.
    pub wrong: Window,
}

/// How many wrong passwords a deployment permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordLimits {
    /// For an account and secret; with VerifyPassword, for each client.
    pub wrong: Window,
    /// For an account over all clients of VerifyPassword.
    pub account: Window,
    /// For one client of VerifyPassword over all accounts.
    pub client: Window,
    /// How many clients are remembered that logged in to an account.
    pub known_clients: i64,
    /// How long they are remembered after their last login.
    pub known_for: TimeDelta,
}

impl PasswordLimits {
    /// Limits of these sizes: `wrong` in `span`, and per hour for an account and for a client.
    pub fn new(wrong: usize, span: TimeDelta, account: usize, client: usize) -> Self {
        let hourly = |limit| Window {
            limit,
            span: TimeDelta::hours(1),
            ..PASSWORD_WRONG
        };
        Self {
            wrong: Window {
                limit: wrong,
                span,
                ..PASSWORD_WRONG
            },
            account: hourly(account),
            client: hourly(client),
            known_clients: 20,
            known_for: TimeDelta::days(90),
        }
    }
}

/// Five notices per hour for a user, by default.
pub const NOTICE_HOUR: Window = Window {
    name: "notice_hour",
    limit: 5,
    span: TimeDelta::hours(1),
};
/// Twenty notices per day for a user, by default.
pub const NOTICE_DAY: Window = Window {
    name: "notice_day",
    limit: 20,
    span: TimeDelta::days(1),
};
/// The name of the deployment's daily cap of text messages.
pub const TEXT_MESSAGE_DAY: &str = "text_message_day";

/// Every limit that turns calls away, but for the deployment's own.
pub const ALL: &[Window] = &[
    SEND_COOLDOWN,
    SEND_USER_HOUR,
    SEND_USER_DAY,
    SEND_ADDRESS_HOUR,
    CODE_WRONG_DAY,
    PASSWORD_WRONG,
];

impl Window {
    /// This window with another limit.
    pub const fn with_limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// How long until it may happen again; zero where it may now. `hits` are the times so far,
    /// oldest first.
    pub fn wait(&self, hits: &[DateTime<Utc>], now: DateTime<Utc>) -> TimeDelta {
        let within = hits.iter().filter(|hit| **hit > now - self.span).count();
        if within < self.limit {
            return TimeDelta::zero();
        }
        // It may happen again when the last `limit` hits are one less.
        hits[hits.len() - self.limit] + self.span - now
    }

    /// How often it may still happen.
    pub fn left(&self, hits: &[DateTime<Utc>], now: DateTime<Utc>) -> usize {
        self.limit
            .saturating_sub(hits.iter().filter(|hit| **hit > now - self.span).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_slide() {
        let window = Window {
            name: "test",
            limit: 2,
            span: TimeDelta::seconds(60),
        };
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        assert_eq!(window.wait(&[at(0)], at(1)), TimeDelta::zero());
        assert_eq!(
            window.wait(&[at(0), at(30)], at(40)),
            TimeDelta::seconds(20)
        );
        assert_eq!(window.wait(&[at(0), at(30)], at(60)), TimeDelta::zero());
        assert_eq!(window.left(&[at(0), at(30)], at(60)), 1);
    }
}
