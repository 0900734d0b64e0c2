//! The profiles and login accounts of an application's users, over gRPC and REST, on Postgres.
//!
//! A call comes in through a transport, `grpc` or `rest` (or the command line, `cli`), and meets
//! the same [`api`]: one function for each RPC, which asks `wire` to read the message, `domain` to
//! do the work, and `wire` again to write the reply. `domain` holds the rules and every
//! transaction; `store` holds the statements, one file a table; `model` holds what things are, with
//! no I/O at all. `call_guard` asks what every transport asks of every call, and `auth` tells who
//! is calling, before a message is read. What a write causes to be sent lies in the outbox, which
//! `mail` drains. `config` reads the settings, `app` puts the parts together, and `server` runs
//! them on the `threads` of the process; `health`, `operations` and `telemetry` are what operators
//! see of it. `net` accepts, limits and closes the connections of the ports. Time and chance come
//! from `clock`, `tls` says whom we trust, and `dev` holds the development tooling.
//!
//! The feature `dev` compiles that tooling; it is on unless `--no-default-features` builds without
//! it, as for the image.
//!
//! An [`error::Error`] is a fact with a stable reason; only the two transports turn it into a
//! status of their transport.

pub mod api;
pub mod app;
pub mod auth;
pub mod call_guard;
pub mod caller_limits;
pub mod cli;
pub mod clock;
pub mod config;
pub mod convert;
pub mod decompress;
#[cfg(feature = "dev")]
pub mod dev;
pub mod domain;
pub mod error;
pub mod grpc;
pub mod health;
pub mod model;
pub mod net;
pub mod notify;
pub mod operations;
pub mod rest;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod threads;
pub mod tls;
