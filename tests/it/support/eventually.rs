//! Waiting for what another task or another replica does in its own time.

use std::time::Duration;

/// How long a test waits before it fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks, so that they take nothing from the work that is waited for.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks until there is something, and gives it.
pub async fn eventually<T>(awaited: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("{awaited}: not within {PATIENCE:?}"))
}
