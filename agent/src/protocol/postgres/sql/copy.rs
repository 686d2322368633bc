//! COPY, its ends and its options.

use super::Name;

/// What is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A relation, or some columns of it.
    Relation {
        /// Its name as written.
        name: Name,
        /// The columns in their order; empty for all that are not generated.
        columns: Vec<Box<str>>,
    },
    /// A query; its tree is the statement's `CopyStmt.query`.
    Query,
}

/// Where from or where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The connection.
    Connection,
    /// A file of the server.
    File,
    /// A program that the server runs.
    Program,
}

/// The format of what is copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// PostgreSQL's own text format.
    #[default]
    Text,
    /// CSV.
    Csv,
    /// Binary.
    Binary,
}

/// Whether the first line names the columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Header {
    /// It does not.
    #[default]
    No,
    /// It does.
    Yes,
    /// It does, and must match (COPY FROM only).
    Match,
}

/// Columns that an option is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Columns {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// Those.
    Some(Vec<Box<str>>),
}

/// A COPY statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// What is copied.
    pub source: Source,
    /// COPY FROM.
    pub from: bool,
    /// The other end.
    pub endpoint: Endpoint,
    /// The format.
    pub format: Format,
    /// The byte between columns (text, csv).
    pub delimiter: u8,
    /// What stands for NULL (text, csv).
    pub null: Box<str>,
    /// Whether there is a header line.
    pub header: Header,
    /// The quote (csv).
    pub quote: u8,
    /// What comes before a quote inside a quoted value (csv).
    pub escape: u8,
    /// The encoding of the data, when it is not the session's.
    pub encoding: Option<Box<str>>,
    /// Columns that are always quoted (csv, COPY TO).
    pub force_quote: Columns,
    /// Whether every option was understood; if not, the data cannot be taken apart.
    pub understood: bool,
}
