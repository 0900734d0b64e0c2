//! What may be done: the rules, and every transaction.

pub mod accounts;
pub mod backfill;
pub mod batch_loader;
pub mod bulk;
pub mod caller;
pub mod codes;
pub mod db;
pub mod deliveries;
pub mod fields;
pub mod hash_kinds;
pub mod housekeeping;
pub mod idempotency;
pub mod listener;
pub mod names;
pub mod page_tokens;
pub mod passwords;
pub mod profiles;
pub mod rate_limiter;
pub mod reservations;
pub mod stored_bytes;
pub mod texts;
pub mod tokens;
mod user_turns;
pub mod users;
