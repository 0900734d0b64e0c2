//! What may be done: the rules, and every transaction.

pub mod bulk;
pub mod caller;
pub mod db;
pub mod field_work;
pub mod fields;
pub mod keys;
pub mod listener;
pub mod once;
pub mod passwords;
pub mod profiles;
pub mod tokens;
pub mod users;
