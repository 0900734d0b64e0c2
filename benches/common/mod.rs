//! What more than one bench needs.

pub mod cpu;
pub mod database;
pub mod folder;
pub mod http2;
pub mod memory;
