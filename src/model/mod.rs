//! What things are: plain values with their rules, and no I/O.

pub mod account;
pub mod change;
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
