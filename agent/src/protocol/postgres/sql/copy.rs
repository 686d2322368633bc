//! COPY, its ends and its options.

use pg_query::{
    NodeEnum as K,
    protobuf::{self as pb, Node},
};

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

/// A COPY statement with its options, as PostgreSQL's `ProcessCopyOptions` reads them.
pub(super) fn copy_of(s: &pb::CopyStmt) -> Copy {
    let source = match &s.relation {
        Some(relation) => Source::Relation {
            name: Name::new(Some(&relation.schemaname), &relation.relname),
            columns: texts(&s.attlist).unwrap_or_default(),
        },
        None => Source::Query,
    };
    let mut options = Options::default();
    for option in &s.options {
        let understood = match &option.node {
            Some(K::DefElem(option)) => options.take(&option.defname, option.arg.as_deref()),
            _ => None,
        };
        options.understood &= understood.is_some();
    }
    let csv = options.format == Some(Format::Csv);
    let quote = options.quote.unwrap_or(b'"');
    Copy {
        source,
        from: s.is_from,
        endpoint: match (s.is_program, s.filename.is_empty()) {
            (true, _) => Endpoint::Program,
            (false, false) => Endpoint::File,
            (false, true) => Endpoint::Connection,
        },
        format: options.format.unwrap_or_default(),
        delimiter: options.delimiter.unwrap_or(if csv { b',' } else { b'\t' }),
        null: options.null.unwrap_or(if csv { "".into() } else { "\\N".into() }),
        header: options.header.unwrap_or_default(),
        quote,
        escape: options.escape.unwrap_or(quote),
        encoding: options.encoding,
        force_quote: options.force_quote.unwrap_or_default(),
        understood: options.understood,
    }
}

struct Options {
    format: Option<Format>,
    delimiter: Option<u8>,
    null: Option<Box<str>>,
    header: Option<Header>,
    quote: Option<u8>,
    escape: Option<u8>,
    encoding: Option<Box<str>>,
    force_quote: Option<Columns>,
    understood: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            format: None,
            delimiter: None,
            null: None,
            header: None,
            quote: None,
            escape: None,
            encoding: None,
            force_quote: None,
            understood: true,
        }
    }
}

/// Sets what may be set only once; `None` if it was.
fn once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    if slot.is_some() {
        return None;
    }
    *slot = Some(value);
    Some(())
}

impl Options {
    /// `None` for an option that is not understood, or given twice.
    fn take(&mut self, name: &str, arg: Option<&Node>) -> Option<()> {
        match name {
            "format" => {
                let format = match &*text(arg)? {
                    "text" => Format::Text,
                    "csv" => Format::Csv,
                    "binary" => Format::Binary,
                    _ => return None,
                };
                once(&mut self.format, format)
            }
            "delimiter" => once(&mut self.delimiter, byte(arg)?),
            "null" => once(&mut self.null, text(arg)?),
            "header" => once(&mut self.header, header(arg)?),
            "quote" => once(&mut self.quote, byte(arg)?),
            "escape" => once(&mut self.escape, byte(arg)?),
            "encoding" => once(&mut self.encoding, text(arg)?),
            "force_quote" => once(&mut self.force_quote, columns(arg)?),
            // These change what COPY FROM takes, not how it is written.
            "freeze" | "default" | "force_not_null" | "force_null" | "on_error" | "log_verbosity"
            | "reject_limit" => Some(()),
            _ => None,
        }
    }
}

/// An option's value as PostgreSQL's `defGetString` reads it.
fn text(arg: Option<&Node>) -> Option<Box<str>> {
    match arg?.node.as_ref()? {
        K::String(s) => Some(s.sval.as_str().into()),
        K::Integer(i) => Some(i.ival.to_string().into()),
        K::Float(f) => Some(f.fval.as_str().into()),
        K::Boolean(b) => Some(b.boolval.to_string().into()),
        K::List(list) => {
            let parts = texts(&list.items)?;
            Some(parts.join(".").into())
        }
        K::TypeName(name) => Some(texts(&name.names)?.join(".").into()),
        K::AStar(_) => Some("*".into()),
        _ => None,
    }
}

fn byte(arg: Option<&Node>) -> Option<u8> {
    match text(arg)?.as_bytes() {
        [byte] => Some(*byte),
        _ => None,
    }
}

fn header(arg: Option<&Node>) -> Option<Header> {
    let Some(arg) = arg else {
        return Some(Header::Yes);
    };
    let value = text(Some(arg))?.to_ascii_lowercase();
    match value.as_str() {
        "true" | "on" | "1" => Some(Header::Yes),
        "false" | "off" | "0" => Some(Header::No),
        "match" => Some(Header::Match),
        _ => None,
    }
}

fn columns(arg: Option<&Node>) -> Option<Columns> {
    match arg?.node.as_ref()? {
        K::AStar(_) => Some(Columns::All),
        K::List(list) => Some(Columns::Some(texts(&list.items)?)),
        _ => None,
    }
}

fn texts(nodes: &[Node]) -> Option<Vec<Box<str>>> {
    nodes
        .iter()
        .map(|n| match &n.node {
            Some(K::String(s)) => Some(s.sval.as_str().into()),
            _ => None,
        })
        .collect()
}
