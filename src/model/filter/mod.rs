//! The filter language: what a filter means, read once into a typed tree.
//!
//! A tree holds few kinds of tests: `$ne`, `$nin`, `$range` and their like are said with others. A
//! negation is true exactly where its inside is not, so that what is missing or null never makes a
//! third answer.

mod guard;
mod holders;
mod limits;
mod operand;
mod query;
mod read;
mod subject;

pub use guard::find_match_all;
pub use holders::UniqueKey;
pub use limits::check_cost;
pub use operand::Period;
pub use query::{custom_names, names_account, query_hash};
pub use read::{names, parse};
pub use subject::{Column, Subject};

use serde_json::Value;

/// A condition on profiles.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// Every one holds; an empty list holds for everybody.
    All(Vec<Filter>),
    /// At least one holds.
    Any(Vec<Filter>),
    /// It does not hold.
    Not(Box<Filter>),
    /// A test of one value.
    Is(Subject, Test),
}

/// What a value is tested for. None but `Null` matches a value that is null or missing.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// Null or missing.
    Null,
    /// Stored, null included.
    Exists,
    /// The same, or for an array some element the same.
    Equals(Operand),
    /// Exactly this list.
    EqualsList(Vec<Operand>),
    /// In this order to the operand, and of its type.
    Ordered(Order, Operand),
    /// One of these, or for an array some element one of these.
    In(Vec<Operand>),
    /// An array that holds each of these.
    HoldsAll(Vec<Operand>),
    /// A text with this inside.
    Contains(String),
    /// The same, whatever the case.
    ContainsFolded(String),
    /// A text with this at its beginning.
    StartsWith(String),
    /// An object with this key.
    HasKey(String),
}

/// How a value compares to an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What a value is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// JSON as the field stores it.
    Json(Value),
    /// A moment, or a whole second.
    Time(Period),
}

impl Filter {
    /// The other way round.
    pub fn negated(self) -> Self {
        Filter::Not(Box::new(self))
    }

    /// Tests that every match passes; the listing chooses an access path from them.
    pub fn required(&self) -> Vec<(&Subject, &Test)> {
        match self {
            Filter::All(parts) => parts.iter().flat_map(Filter::required).collect(),
            Filter::Any(parts) if parts.len() == 1 => parts[0].required(),
            Filter::Is(subject, test) => vec![(subject, test)],
            Filter::Any(_) | Filter::Not(_) => Vec::new(),
        }
    }
}
