//! What tests stand on: a service over a database of its own, typed clients, and ways to look at
//! errors.

mod account;
mod app;
pub mod certificates;
mod client;
pub mod collector;
pub mod database;
mod eventually;
mod fault;
pub mod folder;
pub mod frames;
pub mod gate;
pub mod indexes;
pub mod issuer;
pub mod load;
pub mod pooler;
pub mod post;
pub mod postgres;
pub mod rest;
pub mod serve;
pub mod smtp;
pub mod statements;
pub mod texts;

pub use account::{Asks, cheap_hash, given, member, named, patiently, wrong};
pub use app::{TestApp, start_time};
pub use client::{Client, json, person};
pub use database::{TestDatabase, server_url};
pub use eventually::eventually;
pub use fault::fault;
