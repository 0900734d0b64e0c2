//! How many bytes of messages fit into one response.

use prost::Message;

/// The maximum number of bytes of the profiles in one response.
const RESPONSE_BYTES: usize = 3 * 1024 * 1024;
/// The number of bytes of the index of the next key.
const NEXT_KEY_BYTES: usize = 3;

/// What is left of the size of a response. The first message always fits, so that every response
/// makes progress.
pub struct ResponseBudget {
    left: usize,
    is_empty: bool,
}

impl ResponseBudget {
    /// The budget of a list, beside whose messages nothing counts.
    pub fn for_list() -> Self {
        Self {
            left: RESPONSE_BYTES,
            is_empty: true,
        }
    }

    /// The budget of a batch, whose response also has the index of the next key.
    pub fn for_batch() -> Self {
        Self {
            left: RESPONSE_BYTES - NEXT_KEY_BYTES,
            is_empty: true,
        }
    }

    /// Adds a message; false if it doesn't fit.
    pub fn add(&mut self, message: &impl Message) -> bool {
        self.take(message.encoded_len())
    }

    /// Adds a message as an element of a list with a field number below 16; false if it doesn't
    /// fit.
    pub fn add_framed(&mut self, message: &impl Message) -> bool {
        let size = message.encoded_len();
        self.take(1 + prost::length_delimiter_len(size) + size)
    }

    fn take(&mut self, bytes: usize) -> bool {
        let is_first = std::mem::replace(&mut self.is_empty, false);
        let left = self.left.checked_sub(bytes);
        self.left = left.unwrap_or_default();
        is_first || left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::pb;

    fn profile(bytes: usize) -> pb::Profile {
        pb::Profile {
            nickname: "n".repeat(bytes),
            ..Default::default()
        }
    }

    #[test]
    fn the_first_message_always_fits_and_nothing_after_one_that_is_too_large() {
        let mut budget = ResponseBudget::for_list();

        assert!(budget.add(&profile(RESPONSE_BYTES)));
        assert!(!budget.add(&profile(1)));
    }

    #[test]
    fn a_framed_message_counts_its_frame() {
        let small = profile(10);
        let rest = |left| ResponseBudget {
            left,
            is_empty: false,
        };

        assert!(rest(small.encoded_len()).add(&small));
        assert!(!rest(small.encoded_len() + 1).add_framed(&small));
        assert!(
            rest(small.encoded_len() + 2).add_framed(&small),
            "a tag and a length of one byte each"
        );
    }
}
