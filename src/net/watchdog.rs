//! The timer of a connection: closes it when it is idle, too old, or its client doesn't read.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{
    Limits,
    socket::Outflow,
    table::{Cause, Link},
};

/// Time between two checks of a connection.
const TICK: Duration = Duration::from_secs(1);

/// The checks of a connection, from now on.
pub(super) fn ticks() -> Interval {
    let mut ticks = interval_at(Instant::now() + TICK, TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The result of a check.
pub(super) enum Finding {
    Fine,
    /// Accept no more calls, and end after those in flight.
    Leave,
    /// End now.
    Close(Cause),
}

/// Monitors one connection.
pub(super) struct Watchdog<'a> {
    limits: &'a Limits,
    link: &'a Link,
    outflow: Arc<Outflow>,
    opened: Instant,
    idle_since: Option<Instant>,
    leaving: Option<(Instant, Cause)>,
    is_overdue: bool,
}

impl<'a> Watchdog<'a> {
    pub(super) fn new(limits: &'a Limits, link: &'a Link, outflow: Arc<Outflow>) -> Self {
        let opened = Instant::now();
        Self {
            limits,
            link,
            outflow,
            opened,
            idle_since: None,
            leaving: None,
            is_overdue: false,
        }
    }

    /// The connection has been requested to end.
    pub(super) fn leaves(&mut self, cause: Cause) {
        self.leaving.get_or_insert((Instant::now(), cause));
    }

    /// Whether only a long call keeps the connection open, so that it may start no other.
    pub(super) fn is_overdue(&self) -> bool {
        self.is_overdue
    }

    /// Checks the connection, which has this many streams.
    pub(super) fn look(&mut self, now: Instant, streams: usize) -> Finding {
        if self.outflow.blocked_for(now) >= self.limits.unread() {
            return Finding::Close(Cause::Unread);
        }
        if let Some((since, cause)) = self.leaving {
            self.is_overdue = now.duration_since(since) >= self.limits.age_grace();
            return if self.is_overdue && !self.link.is_held() {
                Finding::Close(cause)
            } else {
                Finding::Fine
            };
        }
        if streams > 0 {
            self.idle_since = None;
        }
        let is_idle = streams == 0
            && now.duration_since(*self.idle_since.get_or_insert(now)) >= self.limits.idle();
        let cause = if now.duration_since(self.opened) >= self.limits.age() {
            Cause::Age
        } else if is_idle {
            Cause::Idle
        } else {
            return Finding::Fine;
        };
        self.leaving = Some((now, cause));
        Finding::Leave
    }
}
