//! How far an operation reaches: `context.access`.

/// What an operation may do, at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// It changes nothing that anybody else sees.
    #[default]
    Read,
    /// It changes what it names, or keeps others from changing it.
    Write,
    /// It destroys or administers: what there is, who may do what, how a server runs, files. Or it cannot be told.
    Admin,
}

impl Access {
    /// The word in `context.access`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}
