//! Where things are kept: one file a table, functions over a connection that return what the
//! database said.

pub mod accounts;
pub(crate) mod backfill;
pub mod batched_reads;
pub mod bulk;
pub mod codes;
pub(crate) mod connection_driver;
pub mod connector;
pub mod distribution;
mod document;
pub(crate) mod error;
pub mod fields;
pub(crate) mod filter;
pub(crate) mod hash_kinds;
pub(crate) mod idempotency;
pub(crate) mod known_clients;
pub mod listing;
pub mod outbox;
pub mod pooler;
pub mod profiles;
pub mod rate_limits;
pub(crate) mod reserved_values;
pub mod schema;
pub mod sql;
pub(crate) mod text_messages;
pub mod tokens;
pub mod unique_values;
pub(crate) mod users;
