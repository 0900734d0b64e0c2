use super::Gateway;
use axum::Router;
pub fn routes() -> Router<Gateway> {
    Router::new()
}
