//! Types of made-up columns.

use super::super::value::{Type, Types};

/// Types of columns: text, numbers, dates, JSON, bytea, arrays, ranges, and those that [`Made`] makes up.
pub(super) const OIDS: [u32; 27] = [
    25, 1043, 18, 19, 23, 20, 21, 700, 701, 1700, 16, 17, 114, 3802, 1082, 1114, 1184, 2950, 869, 1009, 1007,
    3908, 90_001, 90_002, 90_003, 90_004, 90_005,
];

/// An enum, a domain over itself, an array of a composite that holds the array, a range, hstore.
pub(super) struct Made;

impl Types for Made {
    fn get(&self, oid: u32) -> Option<Type> {
        Some(match oid {
            90_001 => Type::Domain {
                base: 90_001,
                modifier: -1,
            },
            90_002 => Type::Array {
                element: 90_003,
                delimiter: b',',
            },
            90_003 => Type::Composite {
                fields: vec![(25, -1), (90_002, -1), (23, -1)],
            },
            90_004 => Type::Range { subtype: 25 },
            90_005 => Type::Hstore,
            _ => return None,
        })
    }
}
