//! What things are: plain values with their rules, and no I/O.

pub mod account;
pub mod app_name;
pub mod change;
pub mod delivery;
pub mod field;
pub mod order;
pub mod page;
pub mod profile;
pub mod scope;
pub mod text;
pub mod token;
