//! Parameters of a Bind, for the record.

use std::sync::Arc;

use bytes::BytesMut;

use super::{Format, Treatment, Types};
use crate::{
    mask::{Counts, MaskRules},
    model::ClassSet,
    protocol::postgres::frame::Fault,
};

/// A parameter's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// Its type, 0 when it is not known.
    pub type_oid: u32,
    /// How it is written.
    pub format: Format,
    /// Its bytes, `None` for NULL.
    pub value: Option<&'a [u8]>,
}

/// What parameters are masked by.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The rules.
    pub rules: &'a Arc<MaskRules>,
    /// The classes that policy does not reveal.
    pub classes: ClassSet,
    /// Types beyond the built-in ones.
    pub types: &'a dyn Types,
}

/// Masks parameters: each stays valid for its type. Of a type that is not known, text is read as text and binary
/// as bytes.
#[must_use]
pub fn parameters(
    _scope: Scope<'_>,
    _treatment: Treatment,
    parameters: &[Parameter<'_>],
    _counts: &mut Counts,
) -> Vec<Option<Vec<u8>>> {
    parameters.iter().map(|_| None).collect()
}

/// Appends a Bind message, with type and length, whose body is `body` with its parameters masked; `type_oids` are
/// the parameters' types as far as they are known.
///
/// # Errors
/// [`Fault::Fields`] when the body is no Bind.
pub fn bind(
    _scope: Scope<'_>,
    _treatment: Treatment,
    _body: &[u8],
    _type_oids: &[u32],
    _counts: &mut Counts,
    _out: &mut BytesMut,
) -> Result<(), Fault> {
    Err(Fault::Fields)
}
