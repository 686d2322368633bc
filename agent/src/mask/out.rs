//! Where masked text goes.

/// Either a vector, or nowhere until something changes.
pub(super) enum Out<'a> {
    Direct(&'a mut Vec<u8>),
    /// As long as all is the same as in the input, only how far it is.
    Lazy {
        input: &'a [u8],
        same: usize,
        out: Option<Vec<u8>>,
    },
}

impl Out<'_> {
    /// The next bytes, as they came in.
    pub(super) fn same(&mut self, bytes: &[u8]) {
        match self {
            Self::Direct(out) => out.extend_from_slice(bytes),
            Self::Lazy { out: Some(out), .. } => out.extend_from_slice(bytes),
            Self::Lazy { same, .. } => *same += bytes.len(),
        }
    }
    /// Bytes in the place of others.
    pub(super) fn changed(&mut self, bytes: &[u8]) {
        match self {
            Self::Direct(out) => out.extend_from_slice(bytes),
            Self::Lazy { out: Some(out), .. } => out.extend_from_slice(bytes),
            Self::Lazy { input, same, out } => {
                let mut copy = Vec::with_capacity(input.len() + 64);
                copy.extend_from_slice(&input[..(*same).min(input.len())]);
                copy.extend_from_slice(bytes);
                *out = Some(copy);
            }
        }
    }
}
