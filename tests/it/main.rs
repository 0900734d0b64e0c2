//! The one integration binary: every test goes through the door, with a real client and a database of its own.
#![expect(clippy::disallowed_types, reason = "tests are a client, and look at statuses")]

mod support;

mod bulk_update_fields;
mod cli;
mod config;
mod crowd;
mod delivery;
mod errors;
mod fields;
mod get_profile;
mod health;
mod import_users;
mod layering;
mod list_profiles;
mod oracle;
mod plans;
mod rest;
mod schema;
mod smtp;
mod statements;
mod tokens;
mod update_profile;
mod users;
