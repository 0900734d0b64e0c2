//! The connections of all ports that callers share: their number, their peers, and which one is
//! closed first.
//!
//! A connection is first in its handshake, then unauthenticated, and authenticated after its first
//! call with a valid token or certificate. An authenticated connection is never displaced: clients
//! without a token only displace each other. The oldest connection of the address with the most
//! connections is displaced first.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::Limits;
use crate::telemetry::metrics;

/// Rejected public calls after which a connection is closed.
const MAX_REFUSALS: u32 = 32;

/// Why the service closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A newer connection displaced it.
    Displaced,
    /// The client sent no data in time.
    FirstByte,
    /// The TLS handshake failed or took too long.
    Handshake,
    /// The HTTP/2 preface, or the first bytes of an HTTP/1.1 request, took too long.
    Preface,
    /// No stream for too long.
    Idle,
    /// The maximum age is reached.
    Age,
    /// The client doesn't read.
    Unread,
    /// The client doesn't acknowledge PINGs.
    Ping,
    /// Too many rejected calls.
    Abuse,
}

impl Cause {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Cause::Displaced => "displaced",
            Cause::FirstByte => "first_byte",
            Cause::Handshake => "handshake",
            Cause::Preface => "preface",
            Cause::Idle => "idle",
            Cause::Age => "age",
            Cause::Unread => "unread",
            Cause::Ping => "ping",
            Cause::Abuse => "abuse",
        }
    }
}

/// Calls that need no token, and therefore have their own limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicCall {
    /// `Health/Watch`.
    Watch,
    /// `Health/Check` and similar calls.
    Check,
    /// Reflection.
    Reflection,
}

impl PublicCall {
    const ALL: [Self; 3] = [Self::Watch, Self::Check, Self::Reflection];

    fn as_str(self) -> &'static str {
        match self {
            PublicCall::Watch => "watch",
            PublicCall::Check => "check",
            PublicCall::Reflection => "reflection",
        }
    }

    /// The limits in total and per connection.
    fn limits(self, limits: &Limits) -> (usize, usize) {
        match self {
            PublicCall::Watch => (limits.watches, limits.watches_per_connection),
            PublicCall::Check => (limits.checks, limits.checks_per_connection),
            PublicCall::Reflection => (limits.reflections, limits.reflections_per_connection),
        }
    }
}

/// No connection can be added: all are authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The connections of all ports that share it.
#[derive(Clone)]
pub struct ConnectionTable(Arc<Inner>);

struct Inner {
    limits: Limits,
    state: Mutex<State>,
    /// One permit per open socket. A displaced connection is no longer in the table, but its
    /// descriptor may still be open.
    sockets: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    next: u64,
    all: Group,
    peers: HashMap<IpAddr, Group>,
    links: HashMap<u64, Arc<Link>>,
}

/// Connections, by stage. Ids increase with time.
#[derive(Default)]
struct Group {
    handshakes: BTreeSet<u64>,
    unauthenticated: BTreeSet<u64>,
    authenticated: BTreeSet<u64>,
    calls: [usize; PublicCall::ALL.len()],
}

/// The limits of one group.
struct Bounds {
    connections: usize,
    unauthenticated: usize,
    handshakes: usize,
}

impl Group {
    fn of_stage(&self, stage: Stage) -> &BTreeSet<u64> {
        match stage {
            Stage::Handshake => &self.handshakes,
            Stage::Unauthenticated => &self.unauthenticated,
            Stage::Authenticated => &self.authenticated,
        }
    }

    fn stage(&mut self, stage: Stage) -> &mut BTreeSet<u64> {
        match stage {
            Stage::Handshake => &mut self.handshakes,
            Stage::Unauthenticated => &mut self.unauthenticated,
            Stage::Authenticated => &mut self.authenticated,
        }
    }

    fn is_unused(&self) -> bool {
        let stages = [&self.handshakes, &self.unauthenticated, &self.authenticated];
        stages.iter().all(|stage| stage.is_empty()) && self.calls.iter().all(|calls| *calls == 0)
    }

    /// The stage in which a connection must be displaced for a new one, if any.
    fn gives_way(&self, bounds: &Bounds) -> Result<Option<Stage>, Full> {
        let unauthenticated = self.handshakes.len() + self.unauthenticated.len();
        let is_full = unauthenticated >= bounds.unauthenticated
            || unauthenticated + self.authenticated.len() >= bounds.connections;
        if self.handshakes.len() >= bounds.handshakes || (is_full && !self.handshakes.is_empty()) {
            Ok(Some(Stage::Handshake))
        } else if is_full && !self.unauthenticated.is_empty() {
            Ok(Some(Stage::Unauthenticated))
        } else if is_full {
            Err(Full)
        } else {
            Ok(None)
        }
    }
}

/// The stage of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Handshake,
    Unauthenticated,
    Authenticated,
}

/// Connections and public calls, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Connections in their handshake, unauthenticated, and authenticated.
    pub connections: [usize; 3],
    /// Watches, checks and reflection streams.
    pub calls: [usize; 3],
}

impl ConnectionTable {
    /// An empty table.
    pub fn new(limits: Limits) -> Self {
        let sockets = Arc::new(Semaphore::new(limits.connections));
        Self(Arc::new(Inner {
            limits,
            state: Mutex::default(),
            sockets,
        }))
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }

    /// Exports its counts as metrics while it exists.
    pub fn show(&self) {
        let table = Arc::downgrade(&self.0);
        metrics::watch_connections(move || {
            let counts = ConnectionTable(table.upgrade()?).counts();
            let [handshake, unauthenticated, authenticated] = counts.connections;
            let states = [
                ("handshake", handshake),
                ("unauthenticated", unauthenticated),
                ("authenticated", authenticated),
            ];
            Some((
                states,
                PublicCall::ALL.map(|call| (call.as_str(), counts.calls[call as usize])),
            ))
        });
    }

    /// The current number of connections and public calls.
    pub fn counts(&self) -> Counts {
        let state = self.lock();
        let Group {
            handshakes,
            unauthenticated,
            authenticated,
            calls,
        } = &state.all;
        Counts {
            connections: [handshakes.len(), unauthenticated.len(), authenticated.len()],
            calls: *calls,
        }
    }

    /// Adds a connection in its handshake. If a limit is reached, the oldest connection is closed
    /// to make room for it.
    ///
    /// # Errors
    /// Every connection is authenticated, in total or of this peer.
    pub(super) fn admit(&self, address: IpAddr) -> Result<Entry, Full> {
        let limits = self.limits();
        let peer = network(address);
        let of_peer = Bounds {
            connections: limits.connections_per_peer,
            unauthenticated: limits.unauthenticated_per_peer,
            handshakes: limits.handshakes_per_peer,
        };
        let of_all = Bounds {
            connections: limits.connections,
            unauthenticated: limits.unauthenticated,
            handshakes: limits.handshakes,
        };
        let mut state = self.lock();
        while let Some(stage) = state
            .peers
            .get(&peer)
            .map_or(Ok(None), |group| group.gives_way(&of_peer))?
        {
            state.displace(stage, Some(peer));
        }
        while let Some(stage) = state.all.gives_way(&of_all)? {
            state.displace(stage, None);
        }
        state.next += 1;
        let id = state.next;
        let link = Arc::new(Link {
            id,
            peer,
            table: self.clone(),
            is_authenticated: AtomicBool::new(false),
            refusals: AtomicU32::new(0),
            held: AtomicUsize::new(0),
            calls: Default::default(),
            closing: Notify::new(),
            cause: OnceLock::new(),
        });
        state.put(id, peer, Stage::Handshake);
        state.links.insert(id, Arc::clone(&link));
        Ok(Entry(link))
    }

    /// Waits until the number of open sockets is below the limit; a displaced connection closes its
    /// socket at once.
    pub(super) async fn socket(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.0.sockets)
            .acquire_owned()
            .await
            .expect("valid: never closed")
    }
}

impl State {
    fn put(&mut self, id: u64, peer: IpAddr, stage: Stage) {
        self.all.stage(stage).insert(id);
        self.peers.entry(peer).or_default().stage(stage).insert(id);
    }

    /// Removes a connection from its stage. Returns whether it was in one.
    fn take(&mut self, id: u64, peer: IpAddr) -> bool {
        for stage in [
            Stage::Handshake,
            Stage::Unauthenticated,
            Stage::Authenticated,
        ] {
            if self.all.stage(stage).remove(&id) {
                if let Some(group) = self.peers.get_mut(&peer) {
                    group.stage(stage).remove(&id);
                }
                return true;
            }
        }
        false
    }

    /// Closes the oldest connection of a stage: that of this peer, or that of the peer with the
    /// most. So many connections from a few addresses don't affect other peers.
    fn displace(&mut self, stage: Stage, peer: Option<IpAddr>) {
        let group = match peer {
            Some(peer) => self.peers.get(&peer),
            None => self
                .peers
                .values()
                .max_by_key(|group| group.of_stage(stage).len()),
        };
        let id = group.and_then(|group| group.of_stage(stage).first().copied());
        if let Some(link) = id.and_then(|id| self.links.remove(&id)) {
            self.take(link.id, link.peer);
            self.forget_unused(link.peer);
            link.close(Cause::Displaced);
        }
    }

    fn forget_unused(&mut self, peer: IpAddr) {
        if self.peers.get(&peer).is_some_and(Group::is_unused) {
            self.peers.remove(&peer);
        }
    }
}

/// A connection's entry in the table. Drop removes it.
pub(super) struct Entry(Arc<Link>);

impl std::ops::Deref for Entry {
    type Target = Arc<Link>;

    fn deref(&self) -> &Arc<Link> {
        &self.0
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut state = self.0.table.lock();
        state.links.remove(&self.0.id);
        state.take(self.0.id, self.0.peer);
        state.forget_unused(self.0.peer);
    }
}

/// One connection, from the view of its calls.
pub(super) struct Link {
    id: u64,
    peer: IpAddr,
    table: ConnectionTable,
    is_authenticated: AtomicBool,
    refusals: AtomicU32,
    /// Calls that may continue past the maximum age of the connection.
    held: AtomicUsize,
    calls: [AtomicUsize; PublicCall::ALL.len()],
    closing: Notify,
    cause: OnceLock<Cause>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Link").field(&self.id).finish()
    }
}

impl Link {
    /// Its handshake is complete.
    pub(super) fn established(&self) {
        self.advance(Stage::Unauthenticated);
    }

    /// A call on it had a valid token, or its certificate identifies a service.
    pub(super) fn authenticated(&self) {
        if !self.is_authenticated.load(Ordering::Relaxed)
            && !self.is_authenticated.swap(true, Ordering::Relaxed)
        {
            self.advance(Stage::Authenticated);
        }
    }

    fn advance(&self, stage: Stage) {
        let mut state = self.table.lock();
        let is_known = state.take(self.id, self.peer);
        // A displaced connection stays displaced.
        if is_known {
            let stage = if self.is_authenticated.load(Ordering::Relaxed) {
                Stage::Authenticated
            } else {
                stage
            };
            state.put(self.id, self.peer, stage);
        }
    }

    /// Requests the connection's task to close it; the first cause counts.
    pub(super) fn close(&self, cause: Cause) {
        if self.cause.set(cause).is_ok() {
            self.closing.notify_one();
        }
    }

    /// Waits until the connection must close.
    pub(super) async fn closed(&self) -> Cause {
        loop {
            if let Some(cause) = self.cause.get() {
                return *cause;
            }
            self.closing.notified().await;
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed) > 0
    }

    pub(super) fn hold(self: &Arc<Self>) -> Hold {
        self.held.fetch_add(1, Ordering::Relaxed);
        Hold(Arc::clone(self))
    }

    /// Adds a public call, if the limits permit it. Too many refusals close the connection.
    pub(super) fn public_call(self: &Arc<Self>, call: PublicCall) -> Option<PublicPermit> {
        let (most, most_of_connection) = call.limits(self.table.limits());
        let place = call as usize;
        let is_taken = {
            let mut guard = self.table.lock();
            let state = &mut *guard;
            let group = state.peers.entry(self.peer).or_default();
            let own = &self.calls[place];
            let is_free = group.calls[place] < most.div_ceil(4)
                && own.load(Ordering::Relaxed) < most_of_connection
                && state.all.calls[place] < most;
            if is_free {
                own.fetch_add(1, Ordering::Relaxed);
                group.calls[place] += 1;
                state.all.calls[place] += 1;
            }
            state.forget_unused(self.peer);
            is_free
        };
        if !is_taken {
            metrics::public_call_refused(call.as_str());
            if self.refusals.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_REFUSALS {
                self.close(Cause::Abuse);
            }
            return None;
        }
        Some(PublicPermit {
            link: Arc::clone(self),
            call,
        })
    }
}

/// A public call in flight. Drop ends it.
#[derive(Debug)]
pub struct PublicPermit {
    link: Arc<Link>,
    call: PublicCall,
}

impl Drop for PublicPermit {
    fn drop(&mut self) {
        let (peer, place) = (self.link.peer, self.call as usize);
        self.link.calls[place].fetch_sub(1, Ordering::Relaxed);
        let mut state = self.link.table.lock();
        state.all.calls[place] -= 1;
        if let Some(group) = state.peers.get_mut(&peer) {
            group.calls[place] -= 1;
        }
        state.forget_unused(peer);
    }
}

/// Lets a call continue past the maximum age of its connection. Drop ends that.
#[derive(Debug)]
pub struct Hold(Arc<Link>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What counts as one peer: an IPv4 address, or a /64 network, because one IPv6 client has a whole
/// one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(change: impl FnOnce(&mut Limits)) -> ConnectionTable {
        let mut limits = Limits::default();
        change(&mut limits);
        ConnectionTable::new(limits)
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn is_closed(entry: &Entry) -> bool {
        entry.cause.get() == Some(&Cause::Displaced)
    }

    #[test]
    fn p63_the_oldest_handshake_of_a_peer_gives_way() {
        let table = table(|limits| limits.handshakes_per_peer = 2);
        let other = table.admit(address(1)).unwrap();
        let entries = [(); 3].map(|()| table.admit(address(2)).unwrap());

        assert_eq!(entries.each_ref().map(is_closed), [true, false, false]);
        assert!(!is_closed(&other));
        assert_eq!(table.counts().connections, [3, 0, 0]);
    }

    #[test]
    fn p63_a_crowd_from_one_address_gives_way_before_a_lone_client() {
        let table = table(|limits| limits.handshakes = 3);
        let lone = table.admit(address(1)).unwrap();
        let crowd = [(); 5].map(|()| table.admit(address(2)).unwrap());

        assert!(!is_closed(&lone));
        assert_eq!(
            crowd.each_ref().map(is_closed),
            [true, true, true, false, false]
        );
    }

    #[test]
    fn p63_clients_without_a_token_never_displace_authenticated_ones() {
        let table = table(|limits| {
            limits.connections = 3;
            limits.unauthenticated = 2;
        });
        let trusted = table.admit(address(1)).unwrap();
        trusted.authenticated();
        let strangers = [(); 4].map(|()| {
            let stranger = table.admit(address(2)).unwrap();
            stranger.established();
            stranger
        });

        assert!(!is_closed(&trusted));
        assert_eq!(
            strangers.each_ref().map(is_closed),
            [true, true, false, false]
        );
        strangers[2].authenticated();
        strangers[3].authenticated();
        assert!(table.admit(address(3)).is_err());
        drop(trusted);
        assert!(table.admit(address(3)).is_ok());
    }

    #[test]
    fn p63_a_displaced_connection_cannot_come_back() {
        let table = table(|limits| limits.handshakes = 1);
        let old = table.admit(address(1)).unwrap();
        let new = table.admit(address(1)).unwrap();
        old.established();
        old.authenticated();

        assert_eq!(table.counts().connections, [1, 0, 0]);
        drop((old, new));
        assert_eq!(table.counts().connections, [0, 0, 0]);
        assert!(table.lock().peers.is_empty());
    }

    #[test]
    fn p63_public_calls_are_limited_and_refusals_close_the_connection() {
        let table = table(|limits| {
            limits.watches = 12;
            limits.watches_per_connection = 2;
        });
        let (first, second) = (
            table.admit(address(1)).unwrap(),
            table.admit(address(1)).unwrap(),
        );
        let held = [
            first.public_call(PublicCall::Watch),
            first.public_call(PublicCall::Watch),
        ];
        assert!(held.iter().all(Option::is_some));
        assert!(
            first.public_call(PublicCall::Watch).is_none(),
            "the connection has its share"
        );
        let third = second.public_call(PublicCall::Watch);
        assert!(
            third.is_some() && second.public_call(PublicCall::Watch).is_none(),
            "the peer has its share"
        );
        assert!(first.public_call(PublicCall::Check).is_some());
        for _ in 0..MAX_REFUSALS {
            assert!(first.public_call(PublicCall::Watch).is_none());
        }

        assert_eq!(first.cause.get(), Some(&Cause::Abuse));
        drop((held, third));
        assert_eq!(table.counts().calls, [0; 3]);
        assert!(second.public_call(PublicCall::Watch).is_some());
    }

    #[test]
    fn p63_an_ipv6_network_is_one_peer() {
        let same = ["2001:db8::1", "2001:db8::ffff:1"].map(|text| network(text.parse().unwrap()));
        assert_eq!(same[0], same[1]);
        assert_ne!(same[0], network("2001:db8:0:1::1".parse().unwrap()));
        assert_eq!(network("::ffff:10.0.0.1".parse().unwrap()), address(1));
    }
}
