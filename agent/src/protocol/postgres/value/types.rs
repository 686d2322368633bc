//! Types beyond the built-in ones.

/// What a type beyond the built-in ones is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// Text with another comparison, as citext: both formats are the text itself.
    Text,
    /// An enum.
    Enum,
    /// A domain.
    Domain {
        /// The type it is over.
        base: u32,
        /// That type's modifier, -1 without.
        modifier: i32,
    },
    /// An array.
    Array {
        /// Its elements' type.
        element: u32,
        /// What stands between elements in text, mostly a comma.
        delimiter: u8,
    },
    /// A composite.
    Composite {
        /// Its fields' types and modifiers, in order, without dropped ones.
        fields: Vec<(u32, i32)>,
    },
    /// A range.
    Range {
        /// Its bounds' type.
        subtype: u32,
    },
    /// A multirange.
    Multirange {
        /// Its ranges' type.
        range: u32,
    },
    /// The extension's type `hstore`.
    Hstore,
    /// None of these.
    Other,
}

/// Where types beyond the built-in ones are looked up.
pub trait Types {
    /// A type by its OID; `None` when it is not known.
    fn get(&self, oid: u32) -> Option<Type>;
}

/// Only the built-in types.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn;

impl Types for BuiltIn {
    fn get(&self, _oid: u32) -> Option<Type> {
        None
    }
}
