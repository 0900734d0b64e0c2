//! Section `[limits]` of the configuration: limits on connections, streams and time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Limits on the connections of the gRPC and REST ports together. Every value is at least 1.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections in total. The limit of file descriptors of the process can lower it.
    pub connections: usize,
    /// Connections per address; an IPv6 address counts as its /64 network.
    pub connections_per_peer: usize,
    /// Connections that haven't made a call with a valid token yet. When the limit is reached, the
    /// oldest of them is closed to make room for a new one.
    pub unauthenticated: usize,
    /// The same, per address.
    pub unauthenticated_per_peer: usize,
    /// Connections whose TLS handshake, HTTP/2 preface or first request isn't complete yet; the
    /// oldest is closed first.
    pub handshakes: usize,
    /// The same, per address.
    pub handshakes_per_peer: usize,
    /// Concurrent streams of an HTTP/2 connection, which its SETTINGS announce.
    pub streams_per_connection: u32,
    /// `Health/Watch` streams in total; one address gets a quarter of them.
    pub watches: usize,
    /// `Health/Watch` streams per connection.
    pub watches_per_connection: usize,
    /// `Health/Check` calls in flight in total; one address gets a quarter of them.
    pub checks: usize,
    /// `Health/Check` calls in flight per connection.
    pub checks_per_connection: usize,
    /// Reflection streams in total; one address gets a quarter of them.
    pub reflections: usize,
    /// Reflection streams per connection.
    pub reflections_per_connection: usize,
    /// How long a client may take to send its first byte.
    pub first_byte_seconds: u64,
    /// How long the TLS handshake may take, and then the HTTP/2 preface.
    pub handshake_seconds: u64,
    /// How long the head of an HTTP/1.1 request may take, counted from the end of the previous
    /// response.
    pub head_seconds: u64,
    /// How long an HTTP/2 request body may pause while the call waits for it.
    pub body_seconds: u64,
    /// How long a response may wait for a client that doesn't read.
    pub unread_seconds: u64,
    /// How long a connection may be without a stream.
    pub idle_seconds: u64,
    /// Time between two PINGs to an HTTP/2 client.
    pub ping_seconds: u64,
    /// How long a client may take to acknowledge a PING.
    pub ping_timeout_seconds: u64,
    /// Age at which a connection gets a GOAWAY, so that the load spreads to new replicas.
    pub age_seconds: u64,
    /// How long calls in flight may continue after that. Then the connection is closed.
    pub age_grace_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_peer: 512,
            unauthenticated: 512,
            unauthenticated_per_peer: 256,
            handshakes: 256,
            handshakes_per_peer: 128,
            streams_per_connection: 1024,
            watches: 1024,
            watches_per_connection: 16,
            checks: 1024,
            checks_per_connection: 64,
            reflections: 32,
            reflections_per_connection: 4,
            first_byte_seconds: 3,
            handshake_seconds: 5,
            head_seconds: 10,
            body_seconds: 30,
            unread_seconds: 20,
            idle_seconds: 120,
            ping_seconds: 10,
            ping_timeout_seconds: 10,
            age_seconds: 300,
            age_grace_seconds: 25,
        }
    }
}

/// The maximum of a count.
const MAX_COUNT: u64 = 1_000_000;
/// The maximum of a duration, in seconds.
const MAX_SECONDS: u64 = 86_400;

impl Limits {
    /// The configuration errors, one sentence each.
    pub fn errors(&self) -> Vec<String> {
        let counts = [
            ("connections", self.connections),
            ("connections_per_peer", self.connections_per_peer),
            ("unauthenticated", self.unauthenticated),
            ("unauthenticated_per_peer", self.unauthenticated_per_peer),
            ("handshakes", self.handshakes),
            ("handshakes_per_peer", self.handshakes_per_peer),
            (
                "streams_per_connection",
                self.streams_per_connection as usize,
            ),
            ("watches", self.watches),
            ("watches_per_connection", self.watches_per_connection),
            ("checks", self.checks),
            ("checks_per_connection", self.checks_per_connection),
            ("reflections", self.reflections),
            (
                "reflections_per_connection",
                self.reflections_per_connection,
            ),
        ];
        let times = [
            ("first_byte_seconds", self.first_byte_seconds),
            ("handshake_seconds", self.handshake_seconds),
            ("head_seconds", self.head_seconds),
            ("body_seconds", self.body_seconds),
            ("unread_seconds", self.unread_seconds),
            ("idle_seconds", self.idle_seconds),
            ("ping_seconds", self.ping_seconds),
            ("ping_timeout_seconds", self.ping_timeout_seconds),
            ("age_seconds", self.age_seconds),
            ("age_grace_seconds", self.age_grace_seconds),
        ];
        let counts = counts
            .into_iter()
            .map(|(key, count)| (key, count as u64, MAX_COUNT));
        let times = times
            .into_iter()
            .map(|(key, seconds)| (key, seconds, MAX_SECONDS));
        let outside = counts
            .chain(times)
            .filter(|(_, value, most)| !(1..=*most).contains(value));
        outside
            .map(|(key, _, most)| format!("limits.{key} must be between 1 and {most}"))
            .collect()
    }

    /// For a separate port with this many connections, whose clients never present a token.
    pub(crate) fn without_tokens(connections: usize) -> Self {
        Self {
            connections,
            connections_per_peer: connections,
            unauthenticated: connections,
            unauthenticated_per_peer: connections,
            handshakes: connections,
            handshakes_per_peer: connections,
            ..Self::default()
        }
    }

    pub(super) fn first_byte(&self) -> Duration {
        Duration::from_secs(self.first_byte_seconds)
    }

    pub(super) fn handshake(&self) -> Duration {
        Duration::from_secs(self.handshake_seconds)
    }

    pub(super) fn head(&self) -> Duration {
        Duration::from_secs(self.head_seconds)
    }

    pub(super) fn body(&self) -> Duration {
        Duration::from_secs(self.body_seconds)
    }

    pub(super) fn unread(&self) -> Duration {
        Duration::from_secs(self.unread_seconds)
    }

    pub(super) fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }

    pub(super) fn ping(&self) -> Duration {
        Duration::from_secs(self.ping_seconds)
    }

    pub(super) fn ping_timeout(&self) -> Duration {
        Duration::from_secs(self.ping_timeout_seconds)
    }

    pub(super) fn age(&self) -> Duration {
        Duration::from_secs(self.age_seconds)
    }

    pub(super) fn age_grace(&self) -> Duration {
        Duration::from_secs(self.age_grace_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_each_bound_is_checked() {
        assert_eq!(Limits::default().errors(), Vec::<String>::new());
        let wrong = Limits {
            connections: 0,
            age_seconds: MAX_SECONDS + 1,
            ..Limits::default()
        };
        assert_eq!(
            wrong.errors(),
            [
                "limits.connections must be between 1 and 1000000",
                "limits.age_seconds must be between 1 and 86400"
            ]
        );
    }
}
