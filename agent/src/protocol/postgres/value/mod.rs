//! Typed values: masked so that they stay valid for their type, in both formats, wherever they stand.
//!
//! A value is treated in one of two ways ([`Treatment`]). Under `Scan` detectors look for values of the data classes
//! that policy does not reveal, in what the value says rather than in how it is written: the elements of arrays,
//! composites and hstores are unquoted first, bytea is decoded, numbers are read as digits. Under `Mask` all of it is
//! replaced, by one that its type can hold:
//!
//! | type | in its place |
//! | --- | --- |
//! | text, varchar(n), char(n), name, xml, citext, cstring | the class's replacement in ASCII, cut to n; char(n) padded; `"char"`: `*` |
//! | json, jsonb | a JSON string with it; `null` under strategy `null` |
//! | bytea | the replacement's bytes, in hex or escape form as it was |
//! | int2, int4, int8, oid, float4, float8, numeric, money | 0; under strategy `hash` a keyed number in range |
//! | bool | false |
//! | uuid | zeros; under strategy `hash` a keyed one (version 8) |
//! | date, timestamp, timestamptz | 1970-01-01 00:00, in both formats |
//! | time, timetz, interval | 0 |
//! | inet, cidr, macaddr, macaddr8 | zeros |
//! | bit(n), varbit | zeros, as many as n or as there were |
//! | tsvector, tsquery | an empty one |
//! | point, line, lseg, box, path, polygon, circle | zeros |
//! | arrays | the same shape, each element masked; NULL elements stay |
//! | composites, records | each field masked |
//! | hstore | one pair, its key the replacement, its value NULL |
//! | enums, ranges, multiranges, jsonpath, types not known | NULL |
//!
//! Under strategy `null` it is NULL for every type but JSON.
//!
//! Where `Scan` finds something inside of a value, text, JSON, XML and bytea keep what is around it; numbers,
//! addresses, tsvectors and tsqueries are replaced as a whole, as under `Mask` of the class found; enums, ranges
//! and unknown binary values become NULL.
//!
//! Text is taken to be in an encoding in which a byte below 0x80 is that ASCII character, as in UTF-8, LATIN and EUC.
//!
//! Bias: a value that is not what its type says is read as text, or as bytes, rather than passed. Nothing is found
//! that is written in another way than as itself (base64, reversed, computed): that is for lineage to know.

mod array;
mod bytea;
mod composite;
mod copy;
mod engine;
mod hstore;
mod kind;
mod moment;
mod number;
mod parameters;
mod range;
mod render;
mod row;
mod scalar;
mod search;
pub mod show;
#[cfg(test)]
mod tests;
mod types;

pub use copy::{CopyMasker, CopyOptions, CopySyntax};
pub use parameters::{Parameter, Scope, bind, parameters, show};
pub use row::RowMasker;
pub use types::{BuiltIn, Type, Types};

use crate::model::ClassId;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As text, format code 0.
    Text,
    /// As its type's binary representation, format code 1.
    Binary,
}

impl Format {
    /// From a format code; `None` where there is no such format.
    #[must_use]
    pub fn from_code(code: i16) -> Option<Self> {
        match code {
            0 => Some(Self::Text),
            1 => Some(Self::Binary),
            _ => None,
        }
    }
}

/// What to do with a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Mask what detectors find in them.
    Scan,
    /// Mask them as a whole, as a value of the class.
    Mask(ClassId),
}

/// A column of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its type.
    pub type_oid: u32,
    /// Its type's modifier (`atttypmod`), -1 without.
    pub type_mod: i32,
    /// How its values are written.
    pub format: Format,
    /// What to do with them.
    pub treatment: Treatment,
}
