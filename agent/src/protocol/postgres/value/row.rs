//! Rows: the body of a DataRow, column by column.

use std::sync::Arc;

use bytes::BytesMut;

use super::{Column, Types};
use crate::{
    mask::{Counts, MaskRules},
    model::ClassSet,
    protocol::postgres::frame::Fault,
};

/// Masks the rows of one result, a row at a time.
#[derive(Debug)]
pub struct RowMasker {
    columns: Vec<Column>,
    counts: Counts,
}

impl RowMasker {
    /// For rows of these columns; `classes` are those that policy does not reveal.
    #[must_use]
    pub fn new(_rules: Arc<MaskRules>, _classes: ClassSet, columns: Vec<Column>, _types: &dyn Types) -> Self {
        Self {
            columns,
            counts: Counts::default(),
        }
    }

    /// Whether no row can ever be changed: then [`Self::row`] need not be called.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.columns.is_empty()
    }

    /// Masks a DataRow's body. When something was masked, appends the new message, with type and length, and
    /// returns `true`; otherwise the row goes on as it is.
    ///
    /// # Errors
    /// [`Fault::Fields`] when the body is not a row of these columns. Nothing is appended then.
    pub fn row(&mut self, _body: &[u8], _out: &mut BytesMut) -> Result<bool, Fault> {
        Err(Fault::Fields)
    }

    /// What was masked so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}
