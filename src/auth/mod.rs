//! How a token, or a certificate, is turned into a [`Caller`].
//!
//! There are three kinds of tokens: opaque ones, which the database knows (`domain::tokens`), signed ones ([`jwt`], by
//! keys from [`jwks`]), and the one of [`bootstrap`]. What a look-up finds is kept for a while by [`cache`]. [`tls`] and
//! [`incoming`] tell a service by its certificate.

pub mod bootstrap;
pub mod cache;
pub mod incoming;
mod jwk;
pub mod jwks;
pub mod jwt;
#[cfg(test)]
mod testing;
pub mod tls;

use chrono::{DateTime, Utc};

use crate::domain::caller::Caller;

/// What a good token is worth.
#[derive(Clone, Debug)]
pub struct Grant {
    pub caller: Caller,
    /// When the token was made; a signed one that does not say so counts as old as can be.
    pub issued_at: DateTime<Utc>,
    /// From this moment on it counts no more; a leeway is in it.
    pub expires_at: DateTime<Utc>,
}
