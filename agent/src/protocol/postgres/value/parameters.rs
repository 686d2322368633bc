//! Parameters of a Bind, for the record.

use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};

use super::{
    Format, Treatment, Types,
    engine::{Engine, Outcome},
    kind::Node,
    render,
};
use crate::{
    mask::{Counts, MaskRules},
    model::ClassSet,
    protocol::postgres::frame::{self, Fault, Reader},
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

impl std::fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scope")
            .field("classes", &self.classes)
            .finish_non_exhaustive()
    }
}

/// Masks parameters: each stays valid for its type. Of a type that is not known, text is read as text and binary
/// as bytes; masked as a whole it becomes NULL.
#[must_use]
pub fn parameters(
    scope: Scope<'_>,
    treatment: Treatment,
    parameters: &[Parameter<'_>],
    counts: &mut Counts,
) -> Vec<Option<Vec<u8>>> {
    let mut engine = Engine::new(scope.rules.clone(), scope.classes);
    let masked = parameters
        .iter()
        .map(|parameter| {
            let value = parameter.value?;
            let node = Node::resolve(parameter.type_oid, -1, scope.types);
            let mut out = Vec::new();
            match engine.value(&node, parameter.format, treatment, value, &mut out) {
                Outcome::Same => Some(value.to_vec()),
                Outcome::Changed => Some(out),
                Outcome::Null => None,
            }
        })
        .collect();
    counts.merge(&engine.counts);
    masked
}

/// Appends a Bind message, with type and length, whose body is `body` with its parameters masked; `type_oids` are
/// the parameters' types as far as they are known.
///
/// # Errors
/// [`Fault::Fields`] when the body is no Bind, nothing is appended then.
pub fn bind(
    scope: Scope<'_>,
    treatment: Treatment,
    body: &[u8],
    type_oids: &[u32],
    counts: &mut Counts,
    out: &mut BytesMut,
) -> Result<(), Fault> {
    let (before, values, after) = read(body, type_oids)?;
    let masked = parameters(scope, treatment, &values, counts);
    frame::write(out, b'B', |out| {
        out.put_slice(before);
        for value in &masked {
            frame::put_value(out, value.as_deref());
        }
        out.put_slice(after);
    });
    Ok(())
}

/// What people are shown of a Bind's parameters: masked, and as PostgreSQL writes them in text.
///
/// # Errors
/// [`Fault::Fields`] when the body is no Bind.
pub fn show(scope: Scope<'_>, treatment: Treatment, body: &[u8], type_oids: &[u32]) -> Result<String, Fault> {
    let (_, values, _) = read(body, type_oids)?;
    let masked = parameters(scope, treatment, &values, &mut Counts::default());
    let mut shown = String::new();
    for (n, (value, parameter)) in masked.iter().zip(&values).enumerate() {
        if n > 0 {
            shown.push('\n');
        }
        let node = Node::resolve(parameter.type_oid, -1, scope.types);
        let text = match value {
            None => "NULL".into(),
            Some(value) => render::text(&node.kind, parameter.format, value)
                .map_or_else(|| format!("{} bytes", value.len()), |text| format!("{text:?}")),
        };
        shown.push_str(&format!("${} = {text}", n + 1));
    }
    Ok(shown)
}

/// A Bind's body: what is before its parameters, they, and what is after them.
type Parts<'a> = (&'a [u8], Vec<Parameter<'a>>, &'a [u8]);

fn read<'a>(body: &'a [u8], type_oids: &[u32]) -> Result<Parts<'a>, Fault> {
    let mut reader = Reader::new(body);
    reader.cstr()?;
    reader.cstr()?;
    let formats = formats(&mut reader)?;
    let count = reader.count()?;
    if formats.len() > 1 && formats.len() != count {
        return Err(Fault::Fields);
    }
    let before = &body[..body.len() - reader.rest().len()];
    let mut values = Vec::new();
    for n in 0..count {
        values.push(Parameter {
            type_oid: type_oids.get(n).copied().unwrap_or(0),
            // One for all, or none: text.
            format: formats
                .get(n)
                .or(formats.first())
                .copied()
                .unwrap_or(Format::Text),
            value: reader.value()?,
        });
    }
    let after = reader.rest();
    self::formats(&mut reader)?;
    reader.end()?;
    Ok((before, values, after))
}

fn formats(reader: &mut Reader<'_>) -> Result<Vec<Format>, Fault> {
    (0..reader.count()?)
        .map(|_| Format::from_code(reader.i16()?).ok_or(Fault::Fields))
        .collect()
}
