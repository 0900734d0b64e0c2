//! The request of a unary call, read whole before the call takes an in-flight permit: a caller that
//! opens streams and sends nothing, or sends slowly, uses up only its own limits.

use bytes::{BufMut, Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use tonic::body::Body;

use crate::{
    call_guard::AuthenticatedCall,
    decompress::{Encoding, decompress},
    error::{Error, FieldError, Reason, Result},
};

/// The largest message, in bytes: tonic's own default.
pub(super) const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// The bytes in front of a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// The first byte of a message that is compressed.
const COMPRESSED: u8 = 1;

/// Reads the body of a unary call, and gives it back as one that is there already.
///
/// # Errors
/// MESSAGE_TOO_LARGE; RATE_LIMITED and OVERLOADED where there is no memory for it; INVALID_REQUEST
/// where it ends early.
pub(super) async fn read(
    mut body: Body,
    encoding: Option<Encoding>,
    call_permits: &mut AuthenticatedCall,
) -> Result<Body> {
    let max = call_permits.max_body(MAX_MESSAGE) + PREFIX;
    let mut whole = Bytes::new();
    let mut pieces = BytesMut::new();
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else {
            break;
        };
        let Ok(data) = frame.map_err(broken)?.into_data() else {
            continue;
        };
        if whole.len() + pieces.len() + data.len() > max {
            return Err(Error::new(Reason::MessageTooLarge));
        }
        call_permits.permit.reserve(data.len())?;
        if whole.is_empty() && pieces.is_empty() {
            // Nearly every message comes in one piece, which is not copied.
            whole = data;
        } else {
            pieces.extend_from_slice(&std::mem::take(&mut whole));
            pieces.extend_from_slice(&data);
        }
    }
    let whole = if pieces.is_empty() {
        whole
    } else {
        pieces.freeze()
    };
    match (encoding, whole.first()) {
        (Some(encoding), Some(&COMPRESSED)) => {
            let message = decompress(
                encoding,
                whole.get(PREFIX..).unwrap_or_default(),
                max - PREFIX,
            )?;
            call_permits.permit.reserve(message.len())?;
            Ok(Body::new(Full::new(plain(&message))))
        }
        _ => Ok(Body::new(Full::new(whole))),
    }
}

/// The message with a prefix that says that it isn't compressed.
fn plain(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    // At most 4 MiB.
    framed.put_u32(message.len() as u32);
    framed.put_slice(message);
    framed.freeze()
}

fn broken(error: tonic::Status) -> Error {
    Error::invalid(
        "",
        FieldError::Format,
        "ended before the whole message was received",
    )
    .with_source(error)
}
