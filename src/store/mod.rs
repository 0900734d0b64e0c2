//! Where things are kept: one file a table, functions over a connection that return what the database said.

pub mod accounts;
pub mod backfill;
pub mod batched_reads;
pub mod bulk;
pub mod codes;
pub mod connection_driver;
pub mod connector;
pub mod distribution;
mod document;
pub mod error;
pub mod fields;
pub mod filter;
pub mod hash_kinds;
pub mod idempotency;
pub mod known_clients;
pub mod listing;
pub mod outbox;
pub mod pooler;
pub mod profiles;
pub mod rate_limits;
pub mod reserved_values;
pub mod schema;
pub mod sql;
pub mod text_messages;
pub mod tokens;
pub mod unique_values;
pub mod users;
