//! What may be done: the rules, and every transaction.

pub mod caller;
pub mod db;
pub mod fields;
pub mod keys;
pub mod once;
pub mod passwords;
pub mod profiles;
pub mod tokens;
pub mod users;
