use super::{Gateway, error::Refusal};
use axum::{Router, http::HeaderMap, response::Response};
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    A,
}
impl Language {
    pub fn of(_: &HeaderMap) -> Self {
        Self::A
    }
}
pub fn routes() -> Router<Gateway> {
    Router::new()
}
pub fn refuse(_: &Refusal, _: Language) -> Response {
    todo!()
}
