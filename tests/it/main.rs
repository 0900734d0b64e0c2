//! The one integration binary: every test goes through the door, with a real client and a database of its own.
#![expect(clippy::disallowed_types, reason = "tests are a client, and look at statuses")]

mod support;

mod bad_input;
mod bulk_update_fields;
mod cli;
mod delivery;
mod doors;
mod errors;
mod fields;
mod get_profile;
mod health;
mod import_users;
mod layering;
mod list_profiles;
mod oracle;
mod rest;
mod schema;
mod seeds_fresns;
mod seeds_lancens;
mod seeds_minapp;
mod smtp;
mod tokens;
mod update_profile;
mod users;
