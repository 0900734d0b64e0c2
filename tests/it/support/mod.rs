//! What tests stand on: a service over a database of its own, typed clients, and ways to look at errors.

mod account;
mod app;
mod client;
pub mod database;
mod fault;
pub mod folder;
mod post;
pub mod rest;
pub mod smtp;
pub mod texts;

pub use account::{Asks, given, member, named, wrong};
pub use app::{TestApp, start_time};
pub use client::{Client, json, person};
pub use database::{TestDatabase, server_url};
pub use fault::{Fault, fault};
