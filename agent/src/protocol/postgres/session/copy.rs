//! COPY: data from the workload, and data to it.

use bytes::{Bytes, BytesMut};
use pg_query::{
    DeparseOptions,
    protobuf::{Node, node},
};

use super::{
    super::{
        frame::{Fault, HEADER, Reader},
        sql::{Act, Copy, Source},
    },
    Session,
    expect::Expect,
    running::Running,
};
use crate::{
    mask::{Format, Masker},
    model::Direction,
    protocol::ProtocolError,
};

/// Whether the server takes COPY data now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CopyIn {
    /// It does not.
    No,
    /// It will, once it has answered what went up.
    Coming,
    /// It does.
    Open,
}

impl Session<'_> {
    pub(super) fn copy_in(&mut self) -> CopyIn {
        if self.expected.running().is_some_and(|r| r.copying_in) {
            return CopyIn::Open;
        }
        if self.expected.copies_in() {
            CopyIn::Coming
        } else {
            CopyIn::No
        }
    }

    /// CopyData, CopyDone, CopyFail. Where no COPY takes them the server drops them, and so does this.
    pub(super) async fn copy_message(&mut self, tag: u8, message: &Bytes) -> Result<(), ProtocolError> {
        if self.copy_in() != CopyIn::Open {
            return Ok(());
        }
        let rules = self.rules();
        let Some(running) = self.expected.running() else {
            return Ok(());
        };
        running.went_up(message.len() as u64);
        if tag == b'd' {
            let body = &message[HEADER..];
            let hidden = running.mask();
            let masker = running
                .copied_in
                .get_or_insert_with(|| Box::new(Masker::new(rules, hidden, Format::Text)));
            let mut masked = Vec::with_capacity(body.len());
            masker.push(body, &mut masked);
            let mut kept = BytesMut::with_capacity(masked.len() + HEADER);
            super::running::copy_data(&masked, &mut kept);
            running.record(Direction::Up, &kept).await?;
        } else {
            running.copying_in = false;
            running.end_copy_in().await?;
        }
        self.forward(message);
        Ok(())
    }

    /// CopyInResponse: from here on data goes up.
    pub(super) fn copy_in_begins(&mut self) -> Result<(), ProtocolError> {
        let Some(running) = self.expected.running() else {
            return Err(self.upstream_broke(Fault::Unexpected(b'G')));
        };
        running.copying_in = true;
        Ok(())
    }
}

/// The formats of the columns in a CopyOutResponse.
///
/// # Errors
/// When it is none.
pub(super) fn formats(body: &[u8]) -> Result<Vec<i16>, Fault> {
    let mut r = Reader::new(body);
    r.u8()?;
    let n = r.count()?;
    let formats = (0..n).map(|_| r.i16()).collect::<Result<_, _>>()?;
    r.end()?;
    Ok(formats)
}

/// A query whose result has the columns that a COPY copies, so that the server can be asked for their types; `None`
/// where there is none: the data is then taken apart without types.
pub(super) fn copied(copy: &Copy, tree: Option<&Node>) -> Option<String> {
    match &copy.source {
        Source::Relation { name, columns } => {
            let columns = match &columns[..] {
                [] => "*".to_owned(),
                some => some.iter().map(|c| quoted(c)).collect::<Vec<_>>().join(", "),
            };
            let relation = match &name.schema {
                Some(schema) => format!("{}.{}", quoted(schema), quoted(&name.name)),
                None => quoted(&name.name),
            };
            Some(format!("SELECT {columns} FROM {relation}"))
        }
        Source::Query => {
            let Some(node::Node::CopyStmt(statement)) = tree.and_then(|t| t.node.as_ref()) else {
                return None;
            };
            statement.query.as_ref()?.deparse(DeparseOptions::default()).ok()
        }
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl super::expect::Expected {
    /// The operation whose answer comes next.
    pub(super) fn running(&mut self) -> Option<&mut Running> {
        match self.front()? {
            Expect::Execute(running) | Expect::Function(running) => Some(running),
            Expect::Simple(running) => running.front_mut(),
            _ => None,
        }
    }

    /// Whether a COPY FROM STDIN went up that the server has not begun to take.
    pub(super) fn copies_in(&self) -> bool {
        let copies = |r: &Running| matches!(r.plan.statement.as_deref().map(|s| &s.act), Some(Act::CopyIn));
        self.items.iter().any(|item| match item {
            Expect::Execute(running) => copies(running),
            Expect::Simple(running) => running.iter().any(copies),
            _ => false,
        })
    }
}
