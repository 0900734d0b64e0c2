//! Statements that Diesel's own words cannot say, put together from fixed pieces of text and bound
//! values.
//!
//! The text is `&'static str` alone, so nothing of a caller can get into it. A statement is
//! prepared and kept for its connection under its text unless it is [`Sql::one_off`].

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::{
    pg::Pg,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    result::QueryResult,
    sql_types::{
        Array, BigInt, Bool, Bytea, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid,
    },
};
use serde_json::Value;

use crate::model::document::Document;

/// So many rows or keys at most are written out in a statement, more are bound as one list for each
/// column. A distributed Postgres knows the nodes of few: it sends the statement only there, and
/// needs no copy of the list on each node.
pub const FEW_ROWS: usize = 8;

/// A bound value.
#[derive(Clone, Debug)]
pub enum Bind {
    Bool(bool),
    SmallInt(i16),
    Integer(i32),
    BigInt(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    Json(Option<Value>),
    Time(Option<DateTime<Utc>>),
    Uuid(uuid::Uuid),
    BigInts(Vec<i64>),
    OptionalBigInts(Vec<Option<i64>>),
    Texts(Vec<String>),
    OptionalTexts(Vec<Option<String>>),
    BytesList(Vec<Vec<u8>>),
    Jsons(Vec<Value>),
    Document(Document),
    Documents(Vec<Document>),
    Uuids(Vec<uuid::Uuid>),
    Times(Vec<DateTime<Utc>>),
    OptionalTimes(Vec<Option<DateTime<Utc>>>),
    SmallInts(Vec<i16>),
    Bools(Vec<bool>),
}

macro_rules! binds {
    ($($given:ty => $bind:expr;)*) => { $(impl From<$given> for Bind { fn from(given: $given) -> Self { ($bind)(given) } })* };
}

binds! {
    bool => Bind::Bool;
    i16 => Bind::SmallInt;
    i32 => Bind::Integer;
    i64 => |given| Bind::BigInt(Some(given));
    Option<i64> => Bind::BigInt;
    String => |given| Bind::Text(Some(given));
    &str => |given: &str| Bind::Text(Some(given.to_owned()));
    Option<String> => Bind::Text;
    Vec<u8> => |given| Bind::Bytes(Some(given));
    Option<Vec<u8>> => Bind::Bytes;
    Value => |given| Bind::Json(Some(given));
    Option<Value> => Bind::Json;
    DateTime<Utc> => |given| Bind::Time(Some(given));
    Option<DateTime<Utc>> => Bind::Time;
    uuid::Uuid => Bind::Uuid;
    Vec<i64> => Bind::BigInts;
    Vec<Option<i64>> => Bind::OptionalBigInts;
    Vec<String> => Bind::Texts;
    Vec<Option<String>> => Bind::OptionalTexts;
    Vec<Vec<u8>> => Bind::BytesList;
    Vec<Value> => Bind::Jsons;
    Document => Bind::Document;
    Vec<Document> => Bind::Documents;
    Vec<uuid::Uuid> => Bind::Uuids;
    Vec<DateTime<Utc>> => Bind::Times;
    Vec<Option<DateTime<Utc>>> => Bind::OptionalTimes;
    Vec<i16> => Bind::SmallInts;
    Vec<bool> => Bind::Bools;
}

#[derive(Clone, Debug)]
enum Piece {
    Text(&'static str),
    Bind(Bind),
}

/// A statement whose rows have the SQL type `ST`.
#[derive(Clone, Debug)]
pub struct Sql<ST = ()> {
    pieces: Vec<Piece>,
    one_off: bool,
    rows: PhantomData<fn() -> ST>,
}

impl<ST> Default for Sql<ST> {
    fn default() -> Self {
        Self {
            pieces: Vec::new(),
            one_off: false,
            rows: PhantomData,
        }
    }
}

impl<ST> Sql<ST> {
    /// Begins with this text.
    pub fn new(text: &'static str) -> Self {
        Self::default().push(text)
    }

    /// Goes on with this text.
    pub fn push(mut self, text: &'static str) -> Self {
        self.pieces.push(Piece::Text(text));
        self
    }

    /// Goes on with a bound value.
    pub fn bind(mut self, value: impl Into<Bind>) -> Self {
        self.pieces.push(Piece::Bind(value.into()));
        self
    }

    /// Goes on with another's pieces.
    pub fn append<Other>(mut self, other: Sql<Other>) -> Self {
        self.pieces.extend(other.pieces);
        self.one_off |= other.one_off;
        self
    }

    /// Goes on with the rows of an INSERT, `values (…), (…)`. For [few rows](FEW_ROWS) alone, since
    /// each number of them is another text.
    pub fn values(mut self, rows: impl IntoIterator<Item = Vec<Bind>>) -> Self {
        let mut before = "values (";
        for row in rows {
            for value in row {
                self = self.push(before).bind(value);
                before = ", ";
            }
            before = "), (";
        }
        self.push(")")
    }

    /// Not to be kept prepared: its text is one of very many.
    pub fn one_off(mut self) -> Self {
        self.one_off = true;
        self
    }
}

impl<ST> QueryId for Sql<ST> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<ST> Query for Sql<ST> {
    type SqlType = ST;
}

impl<ST> QueryFragment<Pg> for Sql<ST> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        if self.one_off {
            out.unsafe_to_cache_prepared();
        }
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_sql(text),
                Piece::Bind(bind) => match bind {
                    Bind::Bool(value) => out.push_bind_param::<Bool, _>(value)?,
                    Bind::SmallInt(value) => out.push_bind_param::<SmallInt, _>(value)?,
                    Bind::Integer(value) => out.push_bind_param::<Integer, _>(value)?,
                    Bind::BigInt(value) => out.push_bind_param::<Nullable<BigInt>, _>(value)?,
                    Bind::Text(value) => out.push_bind_param::<Nullable<Text>, _>(value)?,
                    Bind::Bytes(value) => out.push_bind_param::<Nullable<Bytea>, _>(value)?,
                    Bind::Json(value) => out.push_bind_param::<Nullable<Jsonb>, _>(value)?,
                    Bind::Time(value) => out.push_bind_param::<Nullable<Timestamptz>, _>(value)?,
                    Bind::Uuid(value) => out.push_bind_param::<Uuid, _>(value)?,
                    Bind::BigInts(value) => out.push_bind_param::<Array<BigInt>, _>(value)?,
                    Bind::OptionalBigInts(value) => {
                        out.push_bind_param::<Array<Nullable<BigInt>>, _>(value)?
                    }
                    Bind::Texts(value) => out.push_bind_param::<Array<Text>, _>(value)?,
                    Bind::OptionalTexts(value) => {
                        out.push_bind_param::<Array<Nullable<Text>>, _>(value)?
                    }
                    Bind::BytesList(value) => out.push_bind_param::<Array<Bytea>, _>(value)?,
                    Bind::Jsons(value) => out.push_bind_param::<Array<Jsonb>, _>(value)?,
                    Bind::Document(value) => out.push_bind_param::<Jsonb, _>(value)?,
                    Bind::Documents(value) => out.push_bind_param::<Array<Jsonb>, _>(value)?,
                    Bind::Uuids(value) => out.push_bind_param::<Array<Uuid>, _>(value)?,
                    Bind::Times(value) => out.push_bind_param::<Array<Timestamptz>, _>(value)?,
                    Bind::OptionalTimes(value) => {
                        out.push_bind_param::<Array<Nullable<Timestamptz>>, _>(value)?
                    }
                    Bind::SmallInts(value) => out.push_bind_param::<Array<SmallInt>, _>(value)?,
                    Bind::Bools(value) => out.push_bind_param::<Array<Bool>, _>(value)?,
                },
            }
        }
        Ok(())
    }
}
