//! What things are: plain values with their rules, and no I/O.

pub mod account;
pub mod account_change;
pub mod app_name;
pub mod bulk;
pub mod code;
pub mod cursor;
pub mod delivery;
pub mod document;
pub mod field;
pub mod filter;
pub mod keys;
pub mod order;
pub mod page;
pub mod password;
pub mod password_hash;
pub mod password_strength;
pub mod profile;
pub mod rate_limit;
pub mod scope;
pub mod text;
pub mod token;
pub mod update;
pub mod user;
pub mod username;
