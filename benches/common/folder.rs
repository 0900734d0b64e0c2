//! A bench's folder.

use std::path::PathBuf;

/// A folder that goes with the run, unless someone named it.
pub(crate) struct Folder {
    pub path: PathBuf,
    is_kept: bool,
}

impl Folder {
    /// The one that was named, else a new one of the bench's.
    pub(crate) fn open(named: Option<PathBuf>, bench: &str) -> std::io::Result<Self> {
        let is_kept = named.is_some();
        let own =
            || std::env::temp_dir().join(format!("user-service-{bench}-{}", std::process::id()));
        let path = named.unwrap_or_else(own);
        std::fs::create_dir_all(&path)?;
        Ok(Self { path, is_kept })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_kept
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("{} cannot be removed: {error}", self.path.display());
        }
    }
}
