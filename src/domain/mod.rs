//! What may be done: the rules, and every transaction.

pub mod accounts;
pub mod bulk;
pub mod caller;
pub mod claims;
pub mod codes;
pub mod db;
pub mod deliveries;
pub mod field_work;
pub mod fields;
pub mod gather;
pub mod hash_kinds;
pub mod housekeeping;
pub mod limits;
pub mod listener;
pub mod names;
pub mod once;
pub mod passwords;
pub mod profiles;
pub mod stored_bytes;
pub mod texts;
pub mod tokens;
mod user_turns;
pub mod users;
