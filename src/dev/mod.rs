//! Development tooling, behind the feature `dev`: the command `dev` with its demo data and
//! generated seed data, and a Postgres server of its own, which the tests and benches start too.
//! Production is built without it.

pub mod copy;
pub mod demo_data;
pub mod postgres;
pub(crate) mod run;
pub mod seed_data;
