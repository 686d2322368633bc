//! One permitted operation under way: its rows are masked and recorded as they pass, and its outcome is written.

use std::sync::{Arc, PoisonError};

use bytes::{Bytes, BytesMut};

use super::{
    super::{
        frame::{self, Fault, Message},
        lineage::{Outputs, Resolved, Sources},
        record::{Field, describe},
        sql::{self, Act, Statement},
        value::{self, Column, CopyMasker, CopyOptions, CopySyntax, RowMasker, Treatment},
    },
    lookup::Classes,
    names::{Portal, Reuse},
    plan::Kept,
};
use crate::{
    gate::Permit,
    ledger::LedgerError,
    mask::{Counts, MaskRules, Masker},
    model::{ClassSet, Direction, Reason},
};

/// Why a statement may be incomplete without calling unknown code.
const NO_CODE: [&str; 4] = ["unknown_relation", "prepared", "cursor", "copy_option"];

/// What is known of a statement before its operation was decided.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// What it says; `None` for the empty statement and for a function call.
    pub statement: Option<Arc<Statement>>,
    /// What that means.
    pub resolved: Arc<Resolved>,
    /// What its result columns are, as far as the server was asked: of a prepared statement, or of what COPY copies.
    pub columns: Option<Arc<[Field]>>,
    /// What the cursor that it opens means.
    pub opens: Option<Arc<Kept>>,
}

/// One permitted operation.
pub(super) struct Running {
    permit: Permit,
    pub(super) plan: Plan,
    /// The portal that is executed.
    portal: Option<Arc<Portal>>,
    rows: Option<Box<RowMasker>>,
    copy: Option<Box<CopyMasker>>,
    /// The result's columns are in the record.
    described: bool,
    /// Its COPY FROM STDIN has begun.
    pub(super) copying_in: bool,
    /// What masks that data for the record.
    pub(super) copied_in: Option<Box<Masker>>,
}

/// Why a row cannot be passed on.
#[derive(Debug, thiserror::Error)]
pub(super) enum RowError {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Running {
    pub(super) fn new(permit: Permit, plan: Plan, portal: Option<Arc<Portal>>) -> Self {
        Self {
            permit,
            plan,
            portal,
            rows: None,
            copy: None,
            described: false,
            copying_in: false,
            copied_in: None,
        }
    }

    /// Classes that may not be shown.
    pub(super) fn mask(&self) -> ClassSet {
        self.permit.obligations().mask
    }

    /// Whether its answer, errors and notices included, may carry values that may not be shown.
    pub(super) fn is_sensitive(&self) -> bool {
        let hidden = self.mask();
        self.plan.resolved.sensitive.iter().any(|c| hidden.contains(c))
    }

    /// Whether a row of a relation may be shown as a whole: it writes there, and knows of no column that may not be
    /// shown.
    pub(super) fn may_show_rows_of(&self, relation: &str) -> bool {
        let hidden = self.mask();
        let resolved = &self.plan.resolved;
        resolved.writes.contains(relation) && !resolved.touched.iter().any(|c| hidden.contains(c))
    }

    /// Whether it calls code that nobody has looked into.
    pub(super) fn runs_unknown_code(&self) -> bool {
        self.plan
            .resolved
            .incomplete
            .iter()
            .any(|word| !NO_CODE.contains(word))
    }

    /// Its result columns, as soon as the server has told.
    fn columns(&self) -> Option<Arc<[Field]>> {
        let told = || self.portal.as_ref()?.statement.columns.get().cloned();
        self.plan.columns.clone().or_else(told)
    }

    /// How its parameters are recorded: as a whole where they stand beside columns that may not be shown.
    pub(super) fn parameter_treatment(&self) -> Treatment {
        let hidden = self.mask();
        let resolved = &self.plan.resolved;
        let class = resolved.sensitive.iter().find(|c| hidden.contains(*c));
        class.map_or(Treatment::Scan, Treatment::Mask)
    }

    /// Secrets in use that were replaced in its answer.
    pub(super) fn add_injected(&mut self, n: u64) {
        self.permit.add_injected(n);
    }

    /// The operation's bytes that went up.
    pub(super) fn went_up(&mut self, bytes: u64) {
        self.permit.add_bytes(Direction::Up, bytes);
    }

    /// Bytes of its answer that passed.
    pub(super) fn went_down(&mut self, bytes: u64) {
        self.permit.add_bytes(Direction::Down, bytes);
    }

    pub(super) fn add_masked(&mut self, counts: &Counts) {
        self.permit.add_masked(counts);
    }

    pub(super) async fn record(&mut self, direction: Direction, masked: &[u8]) -> Result<(), LedgerError> {
        self.permit.record(direction, masked).await
    }

    /// The server has described the result: from here on rows can be masked.
    pub(super) fn set_columns(&mut self, columns: Arc<[Field]>) {
        self.plan.columns = Some(columns);
        self.close_rows();
    }

    fn close_rows(&mut self) {
        if let Some(mut rows) = self.rows.take() {
            self.permit.add_masked(rows.counts());
            if let Some(portal) = &self.portal {
                rows.reset_counts();
                *portal
                    .statement
                    .masker
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some(Reuse {
                    resolved: Arc::clone(&self.plan.resolved),
                    hidden: self.mask(),
                    formats: portal.formats.clone(),
                    rows,
                });
            }
        }
        self.described = false;
    }

    /// What masked the last result of the same prepared statement, where nothing has changed since.
    fn kept_masker(&self) -> Option<Box<RowMasker>> {
        let portal = self.portal.as_ref()?;
        let mut kept = portal
            .statement
            .masker
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let same = |kept: &mut Reuse| {
            Arc::ptr_eq(&kept.resolved, &self.plan.resolved)
                && kept.hidden == self.mask()
                && kept.formats == portal.formats
        };
        kept.take_if(same).map(|kept| kept.rows)
    }

    /// Passes rows on: `run` holds whole DataRow messages. What may not be shown is masked, and what is passed on is
    /// recorded.
    ///
    /// # Errors
    /// When a row is none, when nobody knows what its columns are, or when it cannot be recorded.
    pub(super) async fn rows(
        &mut self,
        run: &Bytes,
        classes: &dyn Classes,
        rules: &Arc<MaskRules>,
        out: &mut BytesMut,
    ) -> Result<(), RowError> {
        if self.rows.is_none() {
            let columns = self.columns().ok_or(Fault::Unexpected(b'D'))?;
            self.rows = Some(match self.kept_masker() {
                Some(rows) => rows,
                None => Box::new(self.masker(&columns, classes, rules)),
            });
        }
        let before = out.len();
        if !self.described {
            self.described = true;
            if let Some(columns) = &self.columns() {
                let mut head = BytesMut::new();
                let portal = self.portal.as_deref();
                describe(
                    columns,
                    |at| portal.map_or_else(|| columns[at].format, |p| p.format(at)),
                    &mut head,
                );
                self.permit.record(Direction::Down, &head).await?;
            }
        }
        if let Some(rows) = &mut self.rows {
            masked(rows, run, out)?;
        }
        self.went_down((out.len() - before) as u64);
        self.permit.record(Direction::Down, &out[before..]).await?;
        Ok(())
    }

    fn masker(&self, columns: &[Field], classes: &dyn Classes, rules: &Arc<MaskRules>) -> RowMasker {
        let hidden = self.mask();
        let columns = columns
            .iter()
            .enumerate()
            .map(|(at, field)| Column {
                type_oid: field.type_oid,
                type_mod: field.type_mod,
                format: match self.portal.as_ref().map_or(field.format, |p| p.format(at)) {
                    0 => value::Format::Text,
                    _ => value::Format::Binary,
                },
                treatment: self.treatment(at, columns.len(), Some(field), classes, hidden),
            })
            .collect();
        RowMasker::new(Arc::clone(rules), hidden, columns, classes.types())
    }

    /// What to do with a result column: by where it comes from, as the server says and as the statement says.
    fn treatment(
        &self,
        at: usize,
        of: usize,
        field: Option<&Field>,
        classes: &dyn Classes,
        hidden: ClassSet,
    ) -> Treatment {
        let first = |set: ClassSet| set.iter().find(|c| hidden.contains(*c));
        let of_table = field.filter(|f| f.table != 0);
        // A table that nobody has looked up: created, or put in another's place, a moment ago.
        let by_table = of_table.map_or(Some(Sources::default()), |f| classes.column(f.table, f.number));
        let by_table = by_table.unwrap_or(Sources {
            opaque: true,
            ..Sources::default()
        });
        let by_statement = match &self.plan.resolved.outputs {
            Outputs::Columns(sources) if sources.len() == of => sources[at],
            // Rows that the statement does not say it gives, or more columns than it says.
            Outputs::Columns(_) | Outputs::None => Sources {
                value: self.plan.resolved.sensitive,
                opaque: true,
                ..Sources::default()
            },
            Outputs::Unknown(classes) => Sources {
                value: *classes,
                opaque: true,
                ..Sources::default()
            },
        };
        if let Some(class) = first(by_table.value).or_else(|| first(by_statement.value)) {
            return Treatment::Mask(class);
        }
        let derived = [by_table, by_statement]
            .iter()
            .any(|s| s.opaque || first(s.derived).is_some());
        match classes.derived().filter(|c| derived && hidden.contains(*c)) {
            Some(class) => Treatment::Mask(class),
            None => Treatment::Scan,
        }
    }

    /// COPY TO STDOUT begins. `formats` is what CopyOutResponse says of each column.
    ///
    /// # Errors
    /// When what is copied cannot be taken apart.
    pub(super) fn begin_copy(
        &mut self,
        formats: &[i16],
        classes: &dyn Classes,
        rules: &Arc<MaskRules>,
        limit: usize,
    ) -> Result<(), Fault> {
        let Some(statement) = &self.plan.statement else {
            return Err(Fault::Unexpected(b'H'));
        };
        let Act::CopyOut(copy) = &statement.act else {
            return Err(Fault::Unexpected(b'H'));
        };
        let hidden = self.mask();
        let described = self.plan.columns.clone().filter(|c| c.len() == formats.len());
        let columns = (0..formats.len())
            .map(|at| {
                let field = described.as_ref().map(|c| &c[at]);
                Column {
                    type_oid: field.map_or(0, |f| f.type_oid),
                    type_mod: field.map_or(-1, |f| f.type_mod),
                    format: if formats[at] == 0 {
                        value::Format::Text
                    } else {
                        value::Format::Binary
                    },
                    treatment: self.treatment(at, formats.len(), field, classes, hidden),
                }
            })
            .collect();
        let utf8 = |name: &str| matches!(&*name.to_ascii_lowercase(), "utf8" | "utf-8" | "unicode");
        if !copy.understood || copy.encoding.as_deref().is_some_and(|e| !utf8(e)) {
            return Err(Fault::Fields);
        }
        let options = CopyOptions {
            syntax: match copy.format {
                sql::Format::Text => CopySyntax::Text,
                sql::Format::Csv => CopySyntax::Csv,
                sql::Format::Binary => CopySyntax::Binary,
            },
            delimiter: copy.delimiter,
            null: copy.null.as_bytes().to_vec(),
            header: copy.header != sql::Header::No,
            quote: copy.quote,
            escape: copy.escape,
        };
        self.copy = Some(Box::new(CopyMasker::new(
            Arc::clone(rules),
            hidden,
            options,
            columns,
            classes.types(),
            limit,
        )));
        Ok(())
    }

    /// Passes on what COPY TO STDOUT copies: `run` holds whole CopyData messages.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub(super) async fn copied(&mut self, run: &Bytes, out: &mut BytesMut) -> Result<(), RowError> {
        let Some(copy) = &mut self.copy else {
            return Err(Fault::Unexpected(b'd').into());
        };
        let before = out.len();
        let mut payload = BytesMut::new();
        let (mut at, mut same) = (0, 0);
        while let Some(Message { body, .. }) = frame::message(&run[at..], usize::MAX)? {
            let end = at + frame::HEADER + body.len();
            if !copy.push(body, &mut payload)? {
                out.extend_from_slice(&run[same..at]);
                copy_data(&payload, out);
                payload.clear();
                same = end;
            }
            at = end;
        }
        out.extend_from_slice(&run[same..]);
        self.went_down((out.len() - before) as u64);
        self.permit.record(Direction::Down, &out[before..]).await?;
        Ok(())
    }

    /// COPY TO STDOUT has ended: what was held back.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub(super) async fn copy_done(&mut self, out: &mut BytesMut) -> Result<(), RowError> {
        if let Some(mut copy) = self.copy.take() {
            let before = out.len();
            let mut payload = BytesMut::new();
            copy.finish(&mut payload)?;
            copy_data(&payload, out);
            self.permit.add_masked(copy.counts());
            self.went_down((out.len() - before) as u64);
            self.permit.record(Direction::Down, &out[before..]).await?;
        }
        Ok(())
    }

    /// The workload's data has ended: what the masker held back is recorded.
    ///
    /// # Errors
    /// When the ledger cannot take it.
    pub(super) async fn end_copy_in(&mut self) -> Result<(), LedgerError> {
        let Some(mut masker) = self.copied_in.take() else {
            return Ok(());
        };
        let (mut rest, mut kept) = (Vec::new(), BytesMut::new());
        masker.finish(&mut rest);
        copy_data(&rest, &mut kept);
        self.permit.add_masked(masker.counts());
        self.permit.record(Direction::Up, &kept).await
    }

    /// Ends the operation; `status` is the server's command tag or SQLSTATE.
    ///
    /// # Errors
    /// When the ledger cannot take the outcome.
    pub(super) async fn finish(mut self, reason: Reason, status: &str) -> Result<(), LedgerError> {
        self.close_rows();
        if let Some(copy) = self.copy.take() {
            self.permit.add_masked(copy.counts());
        }
        self.permit.finish(reason, status).await
    }
}

/// Appends rows, masked where they have to be. Rows that stay as they are are copied together.
fn masked(rows: &mut RowMasker, run: &Bytes, out: &mut BytesMut) -> Result<(), Fault> {
    if rows.passes() {
        out.extend_from_slice(run);
        return Ok(());
    }
    let mut changed = BytesMut::new();
    let (mut at, mut same) = (0, 0);
    while let Some(Message { body, .. }) = frame::message(&run[at..], usize::MAX)? {
        let end = at + frame::HEADER + body.len();
        if rows.row(body, &mut changed)? {
            out.extend_from_slice(&run[same..at]);
            out.extend_from_slice(&changed);
            changed.clear();
            same = end;
        }
        at = end;
    }
    out.extend_from_slice(&run[same..]);
    Ok(())
}

/// Appends a CopyData, where there is anything to say.
pub(super) fn copy_data(payload: &[u8], out: &mut BytesMut) {
    if !payload.is_empty() {
        frame::write(out, b'd', |out| out.extend_from_slice(payload));
    }
}
