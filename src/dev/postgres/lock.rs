//! The lock by which one process at a time has a data folder.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::Path;

use anyhow::Context;

use super::account;

const FILE: &str = "lock";

/// The right to use a data folder, until dropped; the system takes it back from a killed process.
#[derive(Debug)]
pub struct FolderLock {
    file: File,
}

/// Takes the lock of a data folder, and makes the folder where it is absent.
///
/// Gives `None` where another process has it; [`lock_holder`] tells which.
pub fn lock(folder: &Path) -> anyhow::Result<Option<FolderLock>> {
    account::make_folder(folder)?;
    let path = folder.join(FILE);
    let cannot_lock = || format!("cannot lock {}", path.display());
    // Not truncated on opening: until the lock is ours, the text is another's.
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(cannot_lock)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error).with_context(cannot_lock),
    }
    file.set_len(0).with_context(cannot_lock)?;
    writeln!(file, "{}", std::process::id()).with_context(cannot_lock)?;
    Ok(Some(FolderLock { file }))
}

/// The process that wrote its number into the lock of a folder last: the holder, where [`lock`]
/// gave `None`.
pub fn lock_holder(folder: &Path) -> Option<u32> {
    std::fs::read_to_string(folder.join(FILE))
        .ok()?
        .trim()
        .parse()
        .ok()
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Emptied, so that no reader sees the id of a process that has ended; the lock itself goes
        // with the file.
        super::process::forget_error("cannot empty the lock file", self.file.set_len(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_is_held_once_and_free_after_drop() {
        let folder = std::env::temp_dir().join(format!("user-service-lock-{}", std::process::id()));

        let first = lock(&folder).unwrap();
        let second = lock(&folder).unwrap();
        let holder = lock_holder(&folder);
        drop(first);
        let third = lock(&folder).unwrap();

        assert!(second.is_none());
        assert_eq!(holder, Some(std::process::id()));
        assert!(third.is_some());
        drop(third);
        assert_eq!(lock_holder(&folder), None);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
