//! `user-service`: the one binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    user_service::cli::run()
}
