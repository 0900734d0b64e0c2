//! What things are: plain values with their rules, and no I/O.

pub mod account;
pub mod app_name;
pub mod change;
pub mod delivery;
pub mod field;
pub mod filter;
pub mod order;
pub mod page;
pub mod password;
pub mod password_hash;
pub mod profile;
pub mod scope;
pub mod text;
pub mod token;
