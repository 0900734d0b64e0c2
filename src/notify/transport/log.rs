//! Text messages on stderr, for development: the one place where an address and a code are shown.

use std::io::{self, Write};

use crate::notify::{Message, SendError, Text};

/// Prints one line with number and text.
///
/// # Errors
/// One that may pass, where stderr is closed.
pub fn print(text: &Message<Text>) -> Result<(), SendError> {
    let Text(words) = &text.content;
    writeln!(io::stderr(), "text message to {}: {words}", text.recipient)
        .map_err(|error| SendError::retry(format!("stderr: {}", error.kind())))
}
