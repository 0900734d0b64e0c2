//! The one integration binary: every test is a real client of a service with a database of its own.
#![expect(
    clippy::disallowed_types,
    reason = "tests are a client, and look at statuses"
)]
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![expect(unreachable_pub, reason = "one binary: its modules have no outside")]

mod support;

mod abandoned_calls;
mod auth;
mod backfill;
mod bad_input;
mod batch_get_profiles;
mod batch_loader;
mod bulk_update_fields;
mod cli;
mod codes;
mod compression;
mod config;
mod confirm_email_change;
mod confirm_phone_change;
mod connections;
mod crashes;
mod deadlines;
mod delete_user;
mod delivery;
mod errors;
mod fairness;
mod field_definitions;
mod fields;
mod figures;
mod fresns;
mod fresns_edit;
mod get_profile;
mod groups;
mod health;
mod housekeeping;
mod import_users;
mod lancens;
mod languages;
mod layering;
mod link_connection;
mod list_profiles;
mod minapp;
mod minapp_account;
mod names;
mod notices;
mod operations;
mod oracle;
mod outage;
mod outbox;
mod overload;
mod passwords;
mod plans;
mod pooler;
mod postgres_tls;
mod request_ids;
mod rest;
mod restarts;
mod schema;
mod seed_data;
mod send_code;
mod smtp;
mod statements;
mod takeover;
mod telemetry;
mod terms;
mod tokens;
mod transports;
mod update_account;
mod update_profile;
mod users;
mod verify_password;
