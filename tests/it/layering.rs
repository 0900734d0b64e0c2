use std::{fs, path::Path};

/// What each module may name of ours, besides itself.
const MAY_USE: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("error", &["model"]),
    ("model", &["error", "domain::keys"]),
    ("telemetry", &["config", "error", "model::limit"]),
    ("store", &["model", "error", "tls", "telemetry::statement"]),
    ("tls", &[]),
    ("auth", &["domain::caller", "domain::tokens", "model", "error", "clock", "tls", "telemetry::metrics"]),
    ("mail", &["store", "domain::db", "model", "error", "clock", "tls"]),
    ("domain", &["store", "model", "error", "clock", "telemetry::metrics", "telemetry::statement"]),
    ("wire", &["model", "error", "domain", "store::users"]),
    ("api", &["wire", "auth::authenticator", "domain", "model", "error", "clock", "store::profiles", "store::listing"]),
    ("door", &["api", "domain", "model", "error", "telemetry::call"]),
    ("grpc", &["telemetry::call", "door", "auth::incoming", "api", "wire", "domain", "model", "error"]),
    ("rest", &["telemetry", "door", "auth::incoming", "auth::tls", "api", "wire", "domain", "model", "error"]),
];

#[test]
fn modules_name_only_what_lies_below_them() {
    let mut faults = Vec::new();
    for (module, allowed) in MAY_USE {
        let root = Path::new("src").join(module);
        let files = if root.is_dir() { files(&root) } else { vec![root.with_extension("rs")] };
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            // Generated code and unit tests stand outside of the layers.
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            let mut in_block = false;
            for (number, line) in text.lines().enumerate() {
                in_block = (in_block || line == "use crate::{") && line != "};";
                for used in named(line, in_block) {
                    let fits = used.starts_with(module) || allowed.iter().any(|allowed| used.starts_with(allowed));
                    if !fits {
                        faults.push(format!("{}:{} names {used}", file.display(), number + 1));
                    }
                }
            }
        }
    }
    assert_eq!(faults, Vec::<String>::new());
}

/// Where a secret meets what a caller shows.
const COMPARES: &[&str] =
    &["src/domain/accounts/proofs.rs", "src/model/password.rs", "src/model/password_hash.rs", "src/auth/bootstrap.rs"];

#[test]
fn p38_secrets_are_compared_in_constant_time() {
    for file in COMPARES {
        assert!(fs::read_to_string(file).unwrap().contains(".ct_eq("), "{file} compares otherwise");
    }
    let mut faults = Vec::new();
    for file in files(Path::new("src")) {
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in text.split("#[cfg(test)]").next().unwrap_or_default().lines().enumerate() {
            let is_compare = line.contains("==") || line.contains("!=");
            if is_compare && ["digits", "expose", "nonce"].iter().any(|name| line.contains(name)) {
                faults.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
            }
        }
    }
    assert_eq!(faults, Vec::<String>::new());
}

/// Paths after `crate::` in a line, and the first steps inside a `use crate::{` block.
fn named(line: &str, in_block: bool) -> Vec<String> {
    let paths = line
        .split("crate::")
        .skip(1)
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect::<String>());
    let inside = line.strip_prefix("    ").filter(|rest| in_block && !rest.starts_with([' ', '}']));
    let first = inside.map(|rest| rest.trim_end_matches(',').trim_end_matches("::{").to_owned());
    paths.filter(|path| !path.is_empty()).chain(first).collect()
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
