//! Waiting for what another replica or the database does in its own time, and tells no one.

use std::time::Duration;

/// How long a test waits before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until there is something, and gives it. Each look asks the other side and awaits its
/// answer, which sets the pace: what is in this process, or tells by itself, is awaited there and
/// not looked for.
pub async fn eventually<T>(awaited: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("{awaited}: not within {PATIENCE:?}"))
}
