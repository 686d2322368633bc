//! What a type's values are made of: the built-in types by their OIDs, all others as they were looked up.

use super::{Type, Types};

/// How deep types are followed into one another.
const DEPTH_MAX: usize = 16;
/// How many types are followed for one column: composites of composites grow fast.
const NODES_MAX: usize = 2048;

/// A type, resolved down to what has no parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Its OID, 0 where it is not known.
    pub(super) oid: u32,
    /// Its modifier, -1 without.
    pub(super) modifier: i32,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Both formats are the text.
    Text,
    /// text with a length, which is counted in characters.
    Varchar,
    Bpchar,
    /// `"char"`
    Char,
    Name,
    Xml,
    Json,
    /// Version byte 1 before the text in binary.
    Jsonb,
    Jsonpath,
    Bool,
    Int2,
    Int4,
    Int8,
    /// Four bytes without sign. In text it can be a name (regclass and the like).
    Oid,
    Float4,
    Float8,
    Numeric,
    Money,
    Bytea,
    Uuid,
    Date,
    Time,
    TimeTz,
    /// With and without time zone.
    Timestamp,
    Interval,
    Inet,
    Cidr,
    /// Of so many bytes.
    Macaddr(usize),
    Bit,
    Varbit,
    TsVector,
    TsQuery,
    Geometric(Shape),
    Array {
        element: Box<Node>,
        delimiter: u8,
    },
    /// `None` where the fields are not known, as of `record`.
    Composite(Option<Box<[Node]>>),
    Range(Box<Node>),
    /// Of a range.
    Multirange(Box<Node>),
    Hstore,
    Enum,
    /// Of no interest, like pg_lsn: nothing can be found in it.
    Plain,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Point,
    Line,
    Lseg,
    Box,
    Path,
    Polygon,
    Circle,
}

impl Node {
    pub(super) const UNKNOWN: Self = Self {
        oid: 0,
        modifier: -1,
        kind: Kind::Unknown,
    };

    /// A type by its OID and modifier.
    pub(super) fn resolve(oid: u32, modifier: i32, types: &dyn Types) -> Self {
        Resolver {
            types,
            left: NODES_MAX,
        }
        .node(oid, modifier, 0)
    }

    /// Whether no value of the type can hold what detectors find.
    pub(super) fn is_plain(&self, ip: bool) -> bool {
        match &self.kind {
            Kind::Bool
            | Kind::Int2
            | Kind::Int4
            | Kind::Float4
            | Kind::Money
            | Kind::Uuid
            | Kind::Date
            | Kind::Time
            | Kind::TimeTz
            | Kind::Timestamp
            | Kind::Interval
            | Kind::Macaddr(_)
            | Kind::Bit
            | Kind::Varbit
            | Kind::Char
            | Kind::Geometric(_)
            | Kind::Plain => true,
            Kind::Oid => matches!(self.oid, OID | XID | CID),
            Kind::Inet | Kind::Cidr => !ip,
            Kind::Array { element: inner, .. } | Kind::Range(inner) | Kind::Multirange(inner) => {
                inner.is_plain(ip)
            }
            Kind::Composite(Some(fields)) => fields.iter().all(|f| f.is_plain(ip)),
            _ => false,
        }
    }
}

const OID: u32 = 26;
const XID: u32 = 28;
const CID: u32 = 29;

struct Resolver<'a> {
    types: &'a dyn Types,
    left: usize,
}

impl Resolver<'_> {
    fn node(&mut self, oid: u32, modifier: i32, depth: usize) -> Node {
        let kind = if depth >= DEPTH_MAX || self.left == 0 {
            Kind::Unknown
        } else {
            self.left -= 1;
            self.kind(oid, depth)
        };
        // A domain's values have its base type's modifier.
        if let Kind::Unknown = kind
            && depth < DEPTH_MAX
            && let Some(Type::Domain { base, modifier }) = self.types.get(oid)
        {
            return self.node(base, modifier, depth + 1);
        }
        let mut node = Node { oid, modifier, kind };
        if let Kind::Array { element, .. } = &mut node.kind {
            element.modifier = modifier;
        }
        node
    }

    fn inner(&mut self, oid: u32, depth: usize) -> Box<Node> {
        Box::new(self.node(oid, -1, depth + 1))
    }

    fn kind(&mut self, oid: u32, depth: usize) -> Kind {
        if let Some(kind) = scalar(oid) {
            return kind;
        }
        if let Some((_, element)) = ARRAYS.iter().find(|(array, _)| *array == oid) {
            let delimiter = if *element == 603 { b';' } else { b',' };
            let element = self.inner(*element, depth);
            return Kind::Array { element, delimiter };
        }
        if let Some((_, subtype)) = RANGES.iter().find(|(range, _)| *range == oid) {
            return Kind::Range(self.inner(*subtype, depth));
        }
        if let Some((_, range)) = MULTIRANGES.iter().find(|(multi, _)| *multi == oid) {
            return Kind::Multirange(self.inner(*range, depth));
        }
        match self.types.get(oid) {
            Some(Type::Text) => Kind::Text,
            Some(Type::Enum) => Kind::Enum,
            Some(Type::Array { element, delimiter }) => Kind::Array {
                element: self.inner(element, depth),
                delimiter,
            },
            Some(Type::Composite { fields }) => {
                let fields = fields
                    .iter()
                    .map(|(oid, modifier)| self.node(*oid, *modifier, depth + 1));
                Kind::Composite(Some(fields.collect()))
            }
            Some(Type::Range { subtype }) => Kind::Range(self.inner(subtype, depth)),
            Some(Type::Multirange { range }) => Kind::Multirange(self.inner(range, depth)),
            Some(Type::Hstore) => Kind::Hstore,
            Some(Type::Domain { .. } | Type::Other) | None => Kind::Unknown,
        }
    }
}

/// The built-in types without parts (PostgreSQL's `pg_type.dat`).
fn scalar(oid: u32) -> Option<Kind> {
    Some(match oid {
        16 => Kind::Bool,
        // The statistics' own types hold column values.
        17 | 3361 | 3402 | 5017 | 4600 | 4601 => Kind::Bytea,
        18 => Kind::Char,
        19 => Kind::Name,
        20 | 5069 => Kind::Int8,
        21 => Kind::Int2,
        23 => Kind::Int4,
        25 | 194 | 705 | 1033 | 1790 | 2275 => Kind::Text,
        OID | XID | CID | 24 | 2202 | 2203 | 2204 | 2205 | 2206 | 3734 | 3769 | 4089 | 4096 | 4191 => {
            Kind::Oid
        }
        // int2vector, oidvector, tid, void, pg_lsn.
        22 | 30 | 27 | 2278 | 3220 => Kind::Plain,
        114 => Kind::Json,
        142 => Kind::Xml,
        600 => Kind::Geometric(Shape::Point),
        601 => Kind::Geometric(Shape::Lseg),
        602 => Kind::Geometric(Shape::Path),
        603 => Kind::Geometric(Shape::Box),
        604 => Kind::Geometric(Shape::Polygon),
        628 => Kind::Geometric(Shape::Line),
        650 => Kind::Cidr,
        700 => Kind::Float4,
        701 => Kind::Float8,
        718 => Kind::Geometric(Shape::Circle),
        774 => Kind::Macaddr(8),
        790 => Kind::Money,
        829 => Kind::Macaddr(6),
        869 => Kind::Inet,
        1042 => Kind::Bpchar,
        1043 => Kind::Varchar,
        1082 => Kind::Date,
        1083 => Kind::Time,
        1114 | 1184 => Kind::Timestamp,
        1186 => Kind::Interval,
        1266 => Kind::TimeTz,
        1560 => Kind::Bit,
        1562 => Kind::Varbit,
        1700 => Kind::Numeric,
        2249 => Kind::Composite(None),
        2950 => Kind::Uuid,
        3614 => Kind::TsVector,
        3615 => Kind::TsQuery,
        3802 => Kind::Jsonb,
        4072 => Kind::Jsonpath,
        _ => return None,
    })
}

/// Arrays and their elements. `anyarray` (as in `pg_stats`) has its elements' type in each binary value.
#[rustfmt::skip]
const ARRAYS: &[(u32, u32)] = &[
    (1000, 16), (1001, 17), (1002, 18), (1003, 19), (1016, 20), (1005, 21), (1006, 22), (1007, 23),
    (1008, 24), (1009, 25), (1028, 26), (1010, 27), (1011, 28), (1012, 29), (1013, 30), (199, 114),
    (143, 142), (1017, 600), (1018, 601), (1019, 602), (1020, 603), (1027, 604), (629, 628), (651, 650),
    (1021, 700), (1022, 701), (719, 718), (775, 774), (791, 790), (1040, 829), (1041, 869), (1034, 1033),
    (1014, 1042), (1015, 1043), (1182, 1082), (1183, 1083), (1115, 1114), (1185, 1184), (1187, 1186),
    (1270, 1266), (1561, 1560), (1563, 1562), (1231, 1700), (2201, 1790), (2207, 2202), (2208, 2203),
    (2209, 2204), (2210, 2205), (2211, 2206), (2287, 2249), (1263, 2275), (2277, 25), (2951, 2950),
    (2949, 2970), (3221, 3220), (3643, 3614), (3645, 3615), (3735, 3734), (3770, 3769), (3807, 3802),
    (4073, 4072), (3905, 3904), (3907, 3906), (3909, 3908), (3911, 3910), (3913, 3912), (3927, 3926),
    (6150, 4451), (6151, 4532), (6152, 4533), (6153, 4534), (6155, 4535), (6157, 4536), (4090, 4089),
    (4097, 4096), (4192, 4191), (271, 5069), (5039, 5038),
];

/// Ranges and their bounds.
#[rustfmt::skip]
const RANGES: &[(u32, u32)] = &[
    (3904, 23), (3906, 1700), (3908, 1114), (3910, 1184), (3912, 1082), (3926, 20),
];

/// Multiranges and their ranges.
#[rustfmt::skip]
const MULTIRANGES: &[(u32, u32)] = &[
    (4451, 3904), (4532, 3906), (4533, 3908), (4534, 3910), (4535, 3912), (4536, 3926),
];
