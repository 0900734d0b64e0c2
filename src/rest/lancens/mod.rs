use super::{Gateway, error::Refusal};
use axum::{Router, response::Response};
pub fn routes() -> Router<Gateway> {
    Router::new()
}
pub fn refuse(_: &Refusal) -> Response {
    todo!()
}
