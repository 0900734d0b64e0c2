//! The one integration binary: every test goes through the door, with a real client and a database of its own.
#![expect(clippy::disallowed_types, reason = "tests are a client, and look at statuses")]

mod support;

mod auth;
mod bulk_update_fields;
mod cli;
mod codes;
mod config;
mod confirm_email_change;
mod delivery;
mod errors;
mod fields;
mod fresns_edit;
mod gathered;
mod get_profile;
mod health;
mod import_users;
mod layering;
mod link_connection;
mod list_profiles;
mod minapp_account;
mod notices;
mod operations;
mod oracle;
mod outbox;
mod passwords;
mod postgres_tls;
mod rest;
mod schema;
mod send_code;
mod smtp;
mod takeover;
mod telemetry;
mod tokens;
mod update_account;
mod update_profile;
mod users;
mod verify_password;
