//! The clock of a connection: when it is idle, too old, or not read.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{
    Limits,
    socket::Outflow,
    table::{Cause, Link},
};

/// Time between two looks at a connection.
const TICK: Duration = Duration::from_secs(1);

/// The looks at a connection, from now on.
pub(super) fn ticks() -> Interval {
    let mut ticks = interval_at(Instant::now() + TICK, TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// What a look at a connection found.
pub(super) enum Finding {
    Fine,
    /// It should take no more calls and end when those in flight have.
    Leave,
    /// It ends now.
    Close(Cause),
}

/// Looks after one connection.
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
        Self { limits, link, outflow, opened, idle_since: None, leaving: None, is_overdue: false }
    }

    /// The connection has been told to end.
    pub(super) fn leaves(&mut self, cause: Cause) {
        self.leaving.get_or_insert((Instant::now(), cause));
    }

    /// Whether only a long call keeps the connection open, so that it may begin no other.
    pub(super) fn is_overdue(&self) -> bool {
        self.is_overdue
    }

    /// Looks at the connection, which has so many streams.
    pub(super) fn look(&mut self, now: Instant, streams: usize) -> Finding {
        if self.outflow.blocked_for(now) >= self.limits.unread() {
            return Finding::Close(Cause::Unread);
        }
        if let Some((since, cause)) = self.leaving {
            self.is_overdue = now.duration_since(since) >= self.limits.age_grace();
            return if self.is_overdue && !self.link.is_held() { Finding::Close(cause) } else { Finding::Fine };
        }
        if streams > 0 {
            self.idle_since = None;
        }
        let is_idle = streams == 0 && now.duration_since(*self.idle_since.get_or_insert(now)) >= self.limits.idle();
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
