//! What more than one bench needs.

pub(crate) mod cpu;
pub(crate) mod database;
pub(crate) mod folder;
pub(crate) mod http2;
pub(crate) mod memory;
