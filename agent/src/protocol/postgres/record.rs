//! RowDescription: what a result's columns are, and how it is written into the record.

use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};

use super::frame::{Fault, Reader, put_cstr, write};

/// One column of a result (PostgreSQL, "Message Formats": RowDescription).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: Box<[u8]>,
    /// The table that it is a column of; 0 for an expression.
    pub table: u32,
    /// Its number there; 0 for an expression.
    pub number: i16,
    /// Its type's OID.
    pub type_oid: u32,
    /// Its type's size; negative for a variable one.
    pub type_size: i16,
    /// Its type's modifier.
    pub type_mod: i32,
    /// 0 text, 1 binary.
    pub format: i16,
}

/// The most columns of a result: more than any server has (1664).
const MOST: usize = 2048;

/// Reads a RowDescription's body.
///
/// # Errors
/// When it is none.
pub fn fields(body: &[u8]) -> Result<Arc<[Field]>, Fault> {
    let mut r = Reader::new(body);
    let n = r.count()?;
    if n > MOST {
        return Err(Fault::Fields);
    }
    let mut fields = Vec::with_capacity(n);
    for _ in 0..n {
        fields.push(Field {
            name: r.cstr()?.into(),
            table: r.u32()?,
            number: r.i16()?,
            type_oid: r.u32()?,
            type_size: r.i16()?,
            type_mod: r.i32()?,
            format: r.i16()?,
        });
    }
    r.end()?;
    Ok(fields.into())
}

/// Appends a RowDescription; `format` says the format of each column.
pub fn describe(fields: &[Field], format: impl Fn(usize) -> i16, out: &mut BytesMut) {
    write(out, b'T', |out| {
        out.put_u16(u16::try_from(fields.len()).unwrap_or(u16::MAX));
        for (at, field) in fields.iter().enumerate() {
            put_cstr(out, &field.name);
            out.put_u32(field.table);
            out.put_i16(field.number);
            out.put_u32(field.type_oid);
            out.put_i16(field.type_size);
            out.put_i32(field.type_mod);
            out.put_i16(format(at));
        }
    });
}

/// Reads a ParameterDescription's body, or the types in a Parse.
///
/// # Errors
/// When it is none.
pub fn parameter_types(body: &[u8]) -> Result<Arc<[u32]>, Fault> {
    let mut r = Reader::new(body);
    // The count is unsigned: 65,535 parameters are allowed.
    let n = usize::from(r.i16()?.cast_unsigned());
    let types = (0..n).map(|_| r.u32()).collect::<Result<_, _>>()?;
    r.end()?;
    Ok(types)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::postgres::frame::message;

    #[test]
    fn a_description_comes_back_as_it_was() {
        let field = Field {
            name: Box::from(&b"ssn"[..]),
            table: 16400,
            number: 4,
            type_oid: 25,
            type_size: -1,
            type_mod: -1,
            format: 0,
        };
        let mut bytes = BytesMut::new();
        describe(
            &[field.clone(), field.clone()],
            |at| i16::from(at == 1),
            &mut bytes,
        );
        let read = fields(message(&bytes, 1000).unwrap().unwrap().body).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!((&read[0], read[1].format), (&field, 1));
        for n in 0..bytes.len() - 5 {
            assert!(fields(&bytes[5..5 + n]).is_err(), "cut at {n}");
        }
    }
}
