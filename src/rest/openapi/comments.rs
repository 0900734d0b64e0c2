//! The contract's own comments.

use prost_types::FileDescriptorProto;

/// The comment before a declaration, unwrapped: lines of a paragraph become one.
pub(super) fn comment(file: &FileDescriptorProto, path: &[i32]) -> String {
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    let mut found = locations.filter(|location| location.path == path);
    let told = found.next().map(|location| location.leading_comments());
    unwrap(told.unwrap_or_default())
}

fn unwrap(comment: &str) -> String {
    let paragraphs = comment.split("\n\n").map(|paragraph| {
        let lines = paragraph
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty());
        lines.collect::<Vec<_>>().join(" ")
    });
    paragraphs
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join("\n\n")
}

/// The sentence that a comment opens with, without its stop.
pub(super) fn first_sentence(comment: &str) -> &str {
    let first = comment.split("\n\n").next().unwrap_or_default();
    first
        .split_once(". ")
        .map_or(first, |(sentence, _)| sentence)
        .trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_unwrapped() {
        assert_eq!(unwrap(" One\n line.\n\n Two.\n"), "One line.\n\nTwo.");
        assert_eq!(
            first_sentence("BatchLoader one. And more.\n\nTwo."),
            "BatchLoader one"
        );
    }
}
