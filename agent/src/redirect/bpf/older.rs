//! Sockets older than a tag: who asks for them to be dealt with, and that it is not forgotten.

use std::path::PathBuf;

use portcullis_abi::{Tag, guard::flag};

use super::control::{Control, State, map_failed};
use crate::{
    config::Brought,
    model::CgroupId,
    redirect::{
        RedirectError,
        older::{self, Ask, Looked, Who},
    },
};

impl Control {
    /// Whether sockets older than this tag have not been dealt with yet: it is new, or the agent that made it was ended
    /// before it could.
    #[must_use]
    pub fn is_new(&self, id: CgroupId) -> bool {
        self.state().is_new(id)
    }

    /// Destroys what is older than a new tag, and ends processes as `brought` says; nothing where the tag is not new.
    ///
    /// Blocks for some milliseconds for each hundred processes and for each hundred threads of the host, longer where sockets
    /// are found that were made outside.
    ///
    /// # Errors
    /// When it is not tagged. What the kernel cannot do is told of in the answer, and is still to be done.
    pub fn settle_older(&self, id: CgroupId, brought: Brought) -> Result<Looked, RedirectError> {
        if !self.is_new(id) {
            return Ok(Looked::default());
        }
        let looked = self.settle(id, true, brought, &Who::default())?;
        if looked.error.is_none() {
            self.state().is_settled(id)?;
        }
        Ok(looked)
    }

    /// The same for processes that came in from outside: for what they have brought along, and nothing else.
    ///
    /// # Errors
    /// As [`Self::settle_older`].
    pub fn settle_arrivals(
        &self,
        id: CgroupId,
        brought: Brought,
        who: &Who,
    ) -> Result<Looked, RedirectError> {
        self.settle(id, false, brought, who)
    }

    fn settle(
        &self,
        id: CgroupId,
        first: bool,
        brought: Brought,
        who: &Who,
    ) -> Result<Looked, RedirectError> {
        let (directory, port, flags) = self.state().older(id)?;
        let ask = Ask {
            directory: &directory,
            first,
            port,
            flags,
            brought,
        };
        Ok(older::settle(&ask, who))
    }
}

impl State {
    fn flags(&self, id: CgroupId) -> u64 {
        self.tagged.get(&id.0, 0).map_or(0, |tag| tag.flags)
    }

    fn is_new(&self, id: CgroupId) -> bool {
        self.flags(id) & flag::OLDER != 0
    }

    fn older(&self, id: CgroupId) -> Result<(PathBuf, u16, u64), RedirectError> {
        let directory = self.tags.get(&id).ok_or(RedirectError::NotTagged(id))?;
        Ok((directory.clone(), self.port, self.flags(id)))
    }

    fn is_settled(&mut self, id: CgroupId) -> Result<(), RedirectError> {
        // Untagged meanwhile.
        if !self.is_new(id) {
            return Ok(());
        }
        let flags = self.flags(id) & !flag::OLDER;
        self.tagged
            .insert(id.0, Tag { flags }, 0)
            .map_err(map_failed("TAGGED"))
    }

    /// The switches of a tag, with the note that it is new where it is. Below a tagged cgroup everything has met the hooks
    /// already.
    pub(super) fn noted(&self, id: CgroupId, covered: bool, switches: Tag) -> Tag {
        let older = match self.tagged.get(&id.0, 0) {
            Ok(tag) => tag.flags & flag::OLDER,
            Err(_) if covered => 0,
            Err(_) => flag::OLDER,
        };
        Tag {
            flags: switches.flags & !flag::OLDER | older,
        }
    }
}
