//! Plain English: comments, messages and documents use the field's standard terms, which a support
//! engineer would search for. Each entry is a phrase of our own past and the term to use instead.

use std::{fs, path::Path};

/// A phrase that is found as whole words, without regard to case, and what to write instead.
const AVOID: &[(&str, &str)] = &[
    ("a crowd of", "generated users"),
    ("and its kin", "similar"),
    ("anew", "again"),
    ("are told", "report, return, notify"),
    ("at fault", "invalid"),
    ("burnt", "consumed"),
    ("door", "transport"),
    ("doors", "transports"),
    ("dressed", "rendered"),
    ("fault", "violation, error"),
    ("faults", "violations, errors"),
    ("for ever", "permanently"),
    ("given back", "refunded, released"),
    ("gives back", "refunds, releases"),
    ("is away", "is unavailable"),
    ("is gone", "is unreachable, closed, deleted"),
    ("is told", "is reported, is notified"),
    ("is voided", "is invalidated"),
    ("just now", "recently"),
    ("lately", "recently"),
    ("made-up", "generated"),
    ("must be given", "is required"),
    ("near name", "similar name"),
    ("near names", "similar names"),
    ("nobody", "no one"),
    ("refuse", "reject"),
    ("refused", "rejected"),
    ("refuses", "rejects"),
    ("refusal", "rejection"),
    ("somebody", "someone, the caller"),
    ("stands in it", "is in it"),
    ("stands once", "is stored once"),
    ("stands twice", "is specified more than once"),
    ("surface", "API flavor"),
    ("the one before", "the previous one"),
    ("use_up", "consume"),
    ("voided", "invalidated"),
    ("whoever", "any caller, anyone who"),
];

/// Lines that may keep a phrase: part of the path, and part of the line.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("", "connection refused"),
    ("", "connections.refused"),
    ("", "connections_refused"),
    ("", "public_calls.refused"),
    ("", "public_calls_refused"),
    ("README.md", "benches/faults"),
    // The name of a bench.
    ("deploy/README.md", "faults"),
    // Not the word, but a value.
    ("src/domain/accounts/login.rs", "nobody/{key}"),
    ("src/notify/transport/mime.rs", "\"nobody\""),
    ("src/dev/postgres/account.rs", "nobody"),
];

/// The part of a line that a person reads: in code, the comment or else the string literals.
fn prose(path: &Path, line: &str) -> String {
    if path.extension().is_none_or(|extension| extension != "rs") {
        return without_code(line);
    }
    if let Some(comment) = line.trim_start().strip_prefix("//") {
        return without_code(comment);
    }
    // The odd parts between quotes are inside of them; an escaped quote only splits a literal in
    // two.
    line.replace("\\\"", " ")
        .split('"')
        .skip(1)
        .step_by(2)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Without the names in backticks, which are API or code.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

fn contains_words(text: &str, phrase: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(phrase).any(|(start, _)| {
        !text[..start].ends_with(is_word) && !text[start + phrase.len()..].starts_with(is_word)
    })
}

fn files(path: &Path, found: &mut Vec<std::path::PathBuf>) {
    if path.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        entries.iter().for_each(|entry| files(entry, found));
    } else if path.extension().is_some_and(|name| {
        ["rs", "md", "proto", "toml", "yaml", "tpl"]
            .iter()
            .any(|e| name == *e)
    }) {
        found.push(path.to_owned());
    }
}

#[test]
fn texts_use_the_standard_terms() {
    let mut found = Vec::new();
    [
        "src",
        "proto",
        "deploy",
        "docs",
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    ]
    .iter()
    .for_each(|root| files(Path::new(root), &mut found));
    assert!(found.len() > 200, "only {} files were read", found.len());
    let mut wrong = Vec::new();
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.display().to_string();
        for (number, line) in text.lines().enumerate() {
            let lower = line.to_lowercase();
            if EXCEPTIONS
                .iter()
                .any(|(file, kept)| name.contains(file) && lower.contains(kept))
            {
                continue;
            }
            let prose = prose(&path, &lower);
            wrong.extend(
                AVOID
                    .iter()
                    .filter(|(phrase, _)| contains_words(&prose, phrase))
                    .map(|(phrase, term)| {
                        format!("{name}:{}: \"{phrase}\"; write: {term}", number + 1)
                    }),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn prose_is_comments_and_string_literals() {
    let rust = Path::new("a.rs");
    assert_eq!(
        prose(rust, "    /// Reads `fault` of it."),
        "/ Reads   of it."
    );
    assert_eq!(
        prose(rust, r#"let fault = "a \"b\" c"; call(fault, "d");"#),
        "a  b  c d"
    );
    assert_eq!(
        prose(Path::new("a.md"), "a `door` is closed"),
        "a   is closed"
    );
    assert!(contains_words("the door.", "door") && !contains_words("indoors", "door"));
}
