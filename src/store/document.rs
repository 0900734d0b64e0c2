//! Documents in `jsonb` columns, whichever client reads them.

use std::{error::Error, io::Write};

use diesel::{
    deserialize::{self, FromSql},
    pg::{Pg, PgValue},
    serialize::{self, IsNull, Output, ToSql},
    sql_types::Jsonb,
};
use tokio_postgres::types::{self, Type};

use crate::model::document::Document;

/// The first byte of the binary form, which is followed by the text.
const VERSION: u8 = 1;

fn read(bytes: &[u8]) -> Result<Document, Box<dyn Error + Send + Sync>> {
    let [VERSION, text @ ..] = bytes else {
        return Err("no jsonb of version 1".into());
    };
    Ok(Document::of_text(str::from_utf8(text)?.to_owned()))
}

impl FromSql<Jsonb, Pg> for Document {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        read(value.as_bytes())
    }
}

impl ToSql<Jsonb, Pg> for Document {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(&[VERSION])?;
        out.write_all(self.as_str().as_bytes())?;
        Ok(IsNull::No)
    }
}

impl<'a> types::FromSql<'a> for Document {
    fn from_sql(_: &Type, bytes: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        read(bytes)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::JSONB
    }
}
