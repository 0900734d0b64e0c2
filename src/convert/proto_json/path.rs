//! The path of a value in a request. Its text is built only for an error: building one for every
//! item of a large list took longer than reading the list.

use std::fmt;

use crate::model::text;

/// The longest part of a name that an error includes, in characters.
const MAX_NAME: usize = 64;

/// The path of a value, as steps from its parent.
#[derive(Clone, Copy)]
pub enum Path<'a> {
    /// A path that is given as text; empty for the request itself.
    Text(&'a str),
    /// The entry of an object.
    Key(&'a Path<'a>, &'a str),
    /// The item of a list.
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Text(path) => f.write_str(path),
            Path::Key(Path::Text(""), key) => f.write_str(&text::cut(key, MAX_NAME)),
            Path::Key(parent, key) => write!(f, "{parent}.{}", text::cut(key, MAX_NAME)),
            Path::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

impl From<Path<'_>> for String {
    fn from(path: Path<'_>) -> Self {
        path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_spelled_as_in_errors() {
        let (request, long) = (Path::Text(""), "x".repeat(100));
        let list = Path::Key(&request, "list");
        let item = Path::Item(&list, 3);

        assert_eq!(Path::Key(&item, "name").to_string(), "list[3].name");
        assert!(Path::Key(&request, &long).to_string().chars().count() <= MAX_NAME + 1);
    }
}
