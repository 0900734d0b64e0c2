//! `POST /v1/users:import`: users from lines of JSON, as long as they come.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    response::Response,
};
use http_body_util::BodyExt;

use super::{
    Gateway, body, browser, call,
    error::RestError,
    native::{json_response, must_not_be_new},
};
use crate::{
    api::{Api, Batch, MAX_LINE},
    convert::{
        json_lines, pb,
        proto_json::{self, JsonValue},
    },
    domain::caller::Caller,
    error::{Error, FieldError, Result},
    net::Peer,
    telemetry::call::Rpc,
};

/// The route, whose body is read as it comes.
pub(super) const PATH: &str = "/v1/users:import";
/// Most failures that the reply tells one by one; all of them are counted.
const MAX_FAILURES: usize = 10_000;
/// The longest between two pieces of the body.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Takes the users of a body, a line each.
pub(super) async fn serve(
    State(gateway): State<Gateway>,
    request: Request,
) -> Result<Response, RestError> {
    let (parts, stream) = request.into_parts();
    let rpc = Rpc("userservice.v1.UserAdminService", "ImportUsers");
    let call_permits = gateway.authenticate(rpc, call::bearer, &parts).await;
    let call_permits =
        call_permits.and_then(|call_permits| Ok((call_permits, gateway.guard.acquire()?)));
    let call_permits = call_permits.and_then(|call_permits| {
        must_not_be_new(&parts.headers)?;
        browser::reject_other_content_types(&parts.headers)?;
        // Lines are read as they come, and what is compressed isn't in lines.
        if body::encoding(&parts.headers)?.is_some() {
            Err(RestError::content_encoding())
        } else {
            Ok(call_permits)
        }
    });
    let (call_permits, _room) = match call_permits {
        Ok(call_permits) => call_permits,
        Err(rest_error) => {
            body::drain(stream).await;
            return Err(rest_error);
        }
    };
    // A long import outlives the age of its connection.
    let _hold = parts.extensions.get::<Peer>().map(Peer::hold);
    let (caller, mut permit) = (call_permits.caller, call_permits.permit);
    // One line, and the lines of one batch.
    permit.reserve(2 * MAX_LINE)?;
    let mut import = Import {
        api: gateway.guard.api(),
        caller,
        told: pb::ImportUsersResponse::default(),
        batch: Batch::default(),
    };
    let done = import.run(stream).await;
    // Committed batches stay committed; `nextIndex` is where a retry should resume.
    let next_index = import.told.next_index;
    done.map_err(|rest_error| RestError {
        error: rest_error.error.with_metadata("nextIndex", next_index),
        ..rest_error
    })?;
    Ok(json_response(proto_json::to_text_with_defaults(
        &import.told,
    )))
}

/// The first line with text decides whether the body has lines of JSON at all.
///
/// # Errors
/// As [`json_lines::first_line`].
fn first(line: Result<Vec<u8>>, is_first: &mut bool) -> Result<Result<Vec<u8>>> {
    match &line {
        Ok(text) if *is_first && !text.trim_ascii().is_empty() => {
            *is_first = false;
            let text = json_lines::first_line(text)
                .map_err(|why| Error::invalid("", FieldError::Format, why))?;
            Ok(Ok(text.to_owned()))
        }
        _ => Ok(line),
    }
}

struct Import<'a> {
    api: &'a Api,
    caller: Arc<Caller>,
    told: pb::ImportUsersResponse,
    batch: Batch,
}

impl Import<'_> {
    async fn run(&mut self, mut stream: Body) -> Result<(), RestError> {
        let mut lines = Lines::default();
        let mut is_first = true;
        loop {
            let frame = match tokio::time::timeout(IDLE_TIMEOUT, stream.frame()).await {
                Ok(frame) => frame,
                Err(_) => return Err(RestError::slow_body()),
            };
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|_| Error::invalid("", FieldError::Format, "breaks off"))?;
            let Some(data) = frame.data_ref() else {
                continue;
            };
            for line in lines.take(data) {
                self.push(first(line, &mut is_first)?).await?;
            }
        }
        if let Some(line) = lines.rest() {
            self.push(first(line, &mut is_first)?).await?;
        }
        self.send().await
    }

    async fn push(&mut self, line: Result<Vec<u8>>) -> Result<(), RestError> {
        match line {
            Ok(line) if line.trim_ascii().is_empty() => self.batch.skip_line(),
            Ok(line) => self.batch.push(
                JsonValue::parse(&line).and_then(|json| proto_json::read(&json)),
                line.len(),
            ),
            Err(error) => self.batch.push(Err(error), 0),
        }
        if self.batch.is_full() {
            self.send().await
        } else {
            Ok(())
        }
    }

    async fn send(&mut self) -> Result<(), RestError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        let told = self
            .api
            .import_batch(&self.caller, self.told.next_index, batch)
            .await?;
        self.told.created += told.created;
        self.told.failed += told.failed;
        self.told.next_index = told.next_index;
        let in_flight = MAX_FAILURES.saturating_sub(self.told.failures.len());
        self.told
            .failures
            .extend(told.failures.into_iter().take(in_flight));
        Ok(())
    }
}

/// Cuts pieces of a body into lines.
#[derive(Default)]
struct Lines {
    open: Vec<u8>,
    /// The open line is too long, and what it has more is forgotten.
    is_too_long: bool,
}

impl Lines {
    fn take(&mut self, data: &Bytes) -> Vec<Result<Vec<u8>>> {
        let mut whole = Vec::new();
        let mut pieces = data.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            if self.open.len() + piece.len() > MAX_LINE {
                self.is_too_long = true;
                self.open.clear();
            }
            if !self.is_too_long {
                self.open.extend_from_slice(piece);
            }
            if pieces.peek().is_some() {
                whole.push(self.rest().unwrap_or_else(|| Ok(Vec::new())));
            }
        }
        whole
    }

    /// The line that is open, where anything of it came.
    fn rest(&mut self) -> Option<Result<Vec<u8>>> {
        let line = std::mem::take(&mut self.open);
        match std::mem::take(&mut self.is_too_long) {
            true => Some(Err(Error::invalid(
                "",
                FieldError::Length,
                "must be at most 1 MiB",
            ))),
            false if line.is_empty() => None,
            false => Some(Ok(line)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<Option<String>> {
        let mut lines = Lines::default();
        let mut whole: Vec<_> = pieces
            .iter()
            .flat_map(|piece| lines.take(&Bytes::copy_from_slice(piece)))
            .collect();
        whole.extend(lines.rest());
        let text = |line: Result<Vec<u8>>| line.ok().map(|line| String::from_utf8(line).unwrap());
        whole.into_iter().map(text).collect()
    }

    #[test]
    fn lines_are_cut_wherever_the_pieces_end() {
        let expected = ["{1}", "{2}", "{3}"].map(|line| Some(line.to_owned()));
        assert_eq!(cut(&[b"{1}\n{2}\n{3}"]), expected);
        assert_eq!(cut(&[b"{1", b"}\n{2}\n", b"{3}\n"]), expected);
        assert_eq!(
            cut(&[b"{1}\n", b"\n{2}"])[1].as_deref(),
            Some(""),
            "a blank line counts"
        );
    }

    #[test]
    fn a_line_that_is_too_long_fails_alone() {
        let long = vec![b'x'; MAX_LINE];
        assert_eq!(
            cut(&[b"a\nx", &long, b"x\nb"]),
            [Some("a".to_owned()), None, Some("b".to_owned())]
        );
    }
}
