use std::{fs, path::Path};

/// What each module may name of ours, besides itself.
const MAY_USE: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("error", &["model"]),
    ("model", &["error", "domain::keys"]),
    ("store", &["model", "error"]),
    ("domain", &["store", "model", "error", "clock"]),
    ("wire", &["model", "error", "domain", "store::users"]),
    ("api", &["wire", "domain", "model", "error", "clock", "store::profiles::place", "store::sql"]),
    ("door", &["api", "domain", "model", "error"]),
    ("grpc", &["door", "api", "wire", "domain", "model", "error"]),
    ("rest", &["door", "api", "wire", "domain", "model", "error"]),
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
            for (number, line) in text.lines().enumerate() {
                for used in named(line) {
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

/// Paths after `crate::` in a line, and the first steps inside a `use crate::{` block.
fn named(line: &str) -> Vec<String> {
    let paths = line
        .split("crate::")
        .skip(1)
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect::<String>());
    let inside = line.strip_prefix("    ").filter(|rest| !rest.starts_with([' ', '/', '}']) && line.ends_with(','));
    let first = inside
        .map(|rest| rest.trim_end_matches(',').replace("::{", "::"))
        .filter(|path| MODULES.iter().any(|module| path.starts_with(&format!("{module}::")) || path == module));
    paths.filter(|path| !path.is_empty()).chain(first).collect()
}

const MODULES: &[&str] = &[
    "api", "app", "cli", "clock", "config", "domain", "door", "error", "grpc", "model", "postgres", "rest", "server",
    "store", "wire",
];

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
