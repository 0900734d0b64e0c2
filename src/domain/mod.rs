//! What may be done: the rules, and every transaction.

pub(crate) mod accounts;
pub mod authorization;
pub(crate) mod backfill;
pub(crate) mod batch_loader;
pub(crate) mod bulk;
pub mod caller;
pub mod codes;
pub mod db;
pub(crate) mod deliveries;
pub mod fields;
pub(crate) mod hash_kinds;
pub(crate) mod housekeeping;
pub(crate) mod idempotency;
pub(crate) mod listener;
pub(crate) mod names;
pub(crate) mod page_tokens;
pub(crate) mod passwords;
pub(crate) mod profiles;
pub(crate) mod rate_limiter;
pub(crate) mod reservations;
mod stored_bytes;
pub(crate) mod texts;
pub mod tokens;
mod user_turns;
pub(crate) mod users;
