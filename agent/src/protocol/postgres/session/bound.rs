//! What a Bind says.

use super::super::frame::{Fault, Reader};

/// What a Bind names.
#[derive(Debug)]
pub struct Bound<'a> {
    pub(super) portal: &'a [u8],
    pub(super) statement: &'a [u8],
    pub(super) formats: Box<[i16]>,
}

/// Reads a Bind's body.
///
/// # Errors
/// When it is none.
pub fn bound(body: &[u8]) -> Result<Bound<'_>, Fault> {
    let mut r = Reader::new(body);
    let (portal, statement) = (r.cstr()?, r.cstr()?);
    let formats = r.i16()?.cast_unsigned();
    r.take(usize::from(formats) * 2)?;
    for _ in 0..r.i16()?.cast_unsigned() {
        r.value()?;
    }
    let results = r.i16()?.cast_unsigned();
    let formats = (0..results).map(|_| r.i16()).collect::<Result<Box<_>, _>>()?;
    r.end()?;
    if formats.iter().any(|f| !matches!(f, 0 | 1)) {
        return Err(Fault::Fields);
    }
    Ok(Bound {
        portal,
        statement,
        formats,
    })
}

/// Whether a Bind's body has parameters.
pub(super) fn has_parameters(body: &[u8]) -> bool {
    let mut r = Reader::new(body);
    let mut count = || {
        r.cstr()?;
        r.cstr()?;
        let formats = r.i16()?.cast_unsigned();
        r.take(usize::from(formats) * 2)?;
        r.i16()
    };
    count().is_ok_and(|n| n != 0)
}
