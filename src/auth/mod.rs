//! How a token, or a certificate, is turned into a [`Caller`](crate::domain::caller::Caller).
//!
//! There are three kinds of tokens: opaque ones, which the database knows (`domain::tokens`),
//! signed ones ([`jwt`], by keys from [`jwks`]), and the one of [`bootstrap`]. What a look-up finds
//! is kept for a while by [`cache`]. [`tls`] tells a service by its certificate.

pub mod authenticator;
pub mod bootstrap;
pub mod cache;
mod jwk;
pub mod jwks;
pub mod jwt;
#[cfg(test)]
mod testing;
pub mod tls;

pub use crate::domain::caller::Grant;
