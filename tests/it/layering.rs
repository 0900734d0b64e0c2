//! Module boundaries that visibility can't express: which module may name which.

use std::{collections::BTreeSet, fs, path::Path};

/// What each module may name of ours, besides itself.
const MAY_USE: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("error", &[]),
    ("model", &["error"]),
    ("telemetry", &["config", "error", "model::rate_limit"]),
    ("store", &["model", "error", "tls", "telemetry::statement"]),
    ("tls", &[]),
    (
        "auth",
        &[
            "domain::caller",
            "domain::tokens",
            "model",
            "error",
            "clock",
            "tls",
            "telemetry::metrics",
        ],
    ),
    (
        "notify",
        &[
            "store",
            "domain::db",
            "model",
            "error",
            "clock",
            "tls",
            "telemetry::call",
        ],
    ),
    (
        "domain",
        &[
            "store",
            "model",
            "error",
            "clock",
            "telemetry::metrics",
            "telemetry::statement",
        ],
    ),
    ("threads", &[]),
    ("decompress", &["error"]),
    (
        "caller_limits",
        &["domain::caller", "model::token", "error"],
    ),
    ("convert", &["model", "error", "threads"]),
    (
        "api",
        &[
            "convert",
            "auth::authenticator",
            "domain",
            "model",
            "error",
            "clock",
        ],
    ),
    (
        "net",
        &["auth::tls", "domain::caller", "telemetry::metrics"],
    ),
    (
        "call_guard",
        &["api", "caller_limits", "domain", "error", "telemetry::call"],
    ),
    (
        "grpc",
        &[
            "telemetry::call",
            "threads",
            "config",
            "decompress",
            "call_guard",
            "net",
            "api",
            "convert",
            "domain",
            "error",
        ],
    ),
    (
        "rest",
        &[
            "telemetry",
            "decompress",
            "call_guard",
            "caller_limits",
            "net",
            "auth::tls",
            "api",
            "convert",
            "domain",
            "model",
            "error",
        ],
    ),
];

#[test]
fn modules_name_only_what_lies_below_them() {
    let (mut faults, mut needed) = (Vec::new(), BTreeSet::new());
    for (module, allowed) in MAY_USE {
        let root = Path::new("src").join(module);
        let files = if root.is_dir() {
            files(&root)
        } else {
            vec![root.with_extension("rs")]
        };
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let mut in_block = false;
            for (number, line) in without_tests(&text).lines().enumerate() {
                in_block = (in_block || line == "use crate::{") && line != "};";
                for used in named(line, in_block) {
                    match allowed.iter().find(|allowed| lies_in(&used, allowed)) {
                        Some(allowed) => drop(needed.insert((*module, *allowed))),
                        None if lies_in(&used, module) => {}
                        None => {
                            faults.push(format!("{}:{} names {used}", file.display(), number + 1))
                        }
                    }
                }
            }
        }
    }
    let allowed = MAY_USE
        .iter()
        .flat_map(|(module, allowed)| allowed.iter().map(|allowed| (*module, *allowed)));
    faults.extend(
        allowed
            .filter(|pair| !needed.contains(pair))
            .map(|(module, used)| format!("{module} needs no {used}")),
    );
    assert_eq!(faults, Vec::<String>::new());
}

fn lies_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The text without the unit tests at its end, which stand outside of the layers.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default()
}

#[test]
fn what_a_line_names_is_known() {
    assert_eq!(
        named("use crate::{api::Api, error::{Error, Result}};", false),
        ["api::Api", "error::Error", "error::Result"]
    );
    assert_eq!(
        named("    let now = crate::clock::now(crate::model::x);", false),
        ["clock::now", "model::x"]
    );
    assert_eq!(named("    model::{", true), ["model"]);
    assert_eq!(
        named("    domain::{caller::Caller, db::Db},", true),
        ["domain::caller::Caller", "domain::db::Db"]
    );
    assert_eq!(named("        page::Page,", true), [""; 0]);
    assert!(
        !lies_in("stored::x", "store") && lies_in("store::x", "store") && lies_in("store", "store")
    );
}

/// Where a secret meets what a caller shows.
const COMPARES: &[&str] = &[
    "src/domain/accounts/proofs.rs",
    "src/model/password.rs",
    "src/model/password_hash/mod.rs",
    "src/auth/bootstrap.rs",
];

#[test]
fn p38_secrets_are_compared_in_constant_time() {
    for file in COMPARES {
        assert!(
            fs::read_to_string(file).unwrap().contains(".ct_eq("),
            "{file} compares otherwise"
        );
    }
    let mut faults = Vec::new();
    for file in files(Path::new("src")) {
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in without_tests(&text).lines().enumerate() {
            let is_compare = line.contains("==") || line.contains("!=");
            if is_compare
                && ["digits", "expose", "nonce"]
                    .iter()
                    .any(|name| line.contains(name))
            {
                faults.push(format!(
                    "{}:{}: {}",
                    file.display(),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    assert_eq!(faults, Vec::<String>::new());
}

/// Paths after `crate::` in a line, those in braces each by itself, and the first steps inside a
/// `use crate::{` block.
fn named(line: &str, in_block: bool) -> Vec<String> {
    if let Some(inside) = line
        .split_once("crate::{")
        .map(|(_, inside)| inside)
        .filter(|inside| !inside.is_empty())
    {
        return spread("", inside.trim_end_matches(';').trim_end_matches('}'));
    }
    let paths = line.split("crate::").skip(1).map(|rest| {
        rest.chars()
            .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':'))
            .collect::<String>()
    });
    let inside = line
        .strip_prefix("    ")
        .filter(|rest| in_block && !rest.starts_with([' ', '}']));
    let first = inside
        .into_iter()
        .flat_map(|rest| match rest.strip_suffix("::{") {
            Some(module) => vec![module.to_owned()],
            None => spread("", rest.trim_end_matches(',')),
        });
    paths.filter(|path| !path.is_empty()).chain(first).collect()
}

/// The paths of a list whose parts may be lists in braces themselves, one level deep.
fn spread(before: &str, list: &str) -> Vec<String> {
    let (mut paths, mut rest) = (Vec::new(), list.trim());
    while !rest.is_empty() {
        let end = rest.find([',', '{']).unwrap_or(rest.len());
        let (head, tail) = rest.split_at(end);
        if let Some(inside) = tail.strip_prefix('{') {
            let (inside, after) = inside.split_once('}').unwrap_or((inside, ""));
            paths.extend(spread(&format!("{before}{}", head.trim()), inside));
            rest = after.trim_start_matches([',', ' ']);
        } else {
            paths.push(format!("{before}{}", head.trim()));
            rest = tail.trim_start_matches([',', ' ']);
        }
    }
    paths
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
