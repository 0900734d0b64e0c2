//! Bodies: read whole, within bounds of size and time.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, header},
};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::error::RestError;
use crate::{
    call_guard::AuthenticatedCall,
    convert::proto_json::JsonValue,
    decompress::{Encoding, decompress},
    error::{Error, FieldError, Reason},
};

/// Most bytes of a body.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
/// The longest that a body may take.
const MAX_TIME: Duration = Duration::from_secs(10);

/// Reads a body whole, as large as this caller may send it. A user's that is larger, but also too
/// deep or malformed, passes: what reads it says so. One that is too large is read to its end too,
/// and forgotten: who is still sending when the answer comes would meet a reset connection instead
/// of it.
///
/// # Errors
/// 413 for its size, 408 for its time, INVALID_REQUEST where it breaks off; RATE_LIMITED and
/// OVERLOADED where there is no memory for it.
pub(super) async fn read(
    mut body: Body,
    encoding: Option<Encoding>,
    call_permits: &mut AuthenticatedCall,
) -> Result<Bytes, RestError> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let end = Instant::now() + MAX_TIME;
    let (mut whole, mut size) = (Vec::new(), 0);
    loop {
        let frame = match timeout_at(end, body.frame()).await {
            Ok(frame) => frame,
            Err(_) if size > MAX_BYTES => return Err(Reason::MessageTooLarge.into()),
            Err(_) => return Err(RestError::slow_body()),
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| Error::invalid("", FieldError::Format, "breaks off"))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        size += data.len();
        if size <= MAX_BYTES {
            if let Err(error) = call_permits.permit.reserve(data.len()) {
                drop(whole);
                drain(body).await;
                return Err(error.into());
            }
            whole.extend_from_slice(data);
        } else {
            whole = Vec::new();
        }
    }
    if let (Some(encoding), 1..=MAX_BYTES) = (encoding, size) {
        whole = decompress(encoding, &whole, MAX_BYTES)?;
        size = whole.len();
        call_permits.permit.reserve(size)?;
    }
    let is_too_large = size > call_permits.max_body(MAX_BYTES);
    if size > MAX_BYTES || is_too_large && JsonValue::parse(&whole).is_ok() {
        return Err(Reason::MessageTooLarge.into());
    }
    Ok(whole.into())
}

/// The encoding of a body.
///
/// # Errors
/// 415 for one that isn't supported.
pub(super) fn encoding(headers: &HeaderMap) -> Result<Option<Encoding>, RestError> {
    let Some(value) = headers.get(header::CONTENT_ENCODING) else {
        return Ok(None);
    };
    let name = value
        .to_str()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if name == "identity" || name.is_empty() {
        return Ok(None);
    }
    Encoding::parse(&name)
        .map(Some)
        .ok_or_else(RestError::content_encoding)
}

/// Reads what is left of a body and forgets it.
pub(super) async fn drain(mut body: Body) {
    let end = Instant::now() + MAX_TIME;
    while let Ok(Some(Ok(_))) = timeout_at(end, body.frame()).await {}
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        caller_limits::{CallerLimits, Config, MAX_USER_BODY},
        domain::caller::Caller,
        model::token::Subject,
    };

    async fn read_of(subject: Subject, size: usize) -> Result<Bytes, RestError> {
        let caller = Arc::new(Caller::new(subject, Vec::new()));
        let permit = CallerLimits::new(&Config::default())
            .acquire(&caller)
            .unwrap();
        let text = format!("\"{}\"", "x".repeat(size - 2));
        read(
            Body::from(text),
            None,
            &mut AuthenticatedCall { caller, permit },
        )
        .await
    }

    #[tokio::test]
    async fn a_body_of_the_limit_is_read_and_one_more_byte_is_too_large() {
        let service = || Subject::Service("test".to_owned());
        for (subject, max) in [(service(), MAX_BYTES), (Subject::User(1), MAX_USER_BODY)] {
            assert_eq!(read_of(subject.clone(), max).await.unwrap().len(), max);
            let rest_error = read_of(subject, max + 1).await.unwrap_err();
            assert_eq!(rest_error.error.reason(), Reason::MessageTooLarge);
        }
    }
}
