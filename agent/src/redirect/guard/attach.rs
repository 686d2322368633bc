//! Attaching the programs that aya does not know.

use std::{fs::File, io, os::fd::AsFd as _, path::Path};

use portcullis_abi::guard::flag;

use super::{
    Guard,
    hooks::{Attach, HOOKS, LSM_WAY as LSM},
    interrupted,
    load::Loaded,
    tracepoints::replace,
};
use crate::{
    model::CgroupId,
    redirect::{RedirectError, sys},
};

/// The doors that security hooks can answer.
const DOORS: [u64; 3] = [flag::FAMILIES, flag::TRACE, flag::MOUNT];

fn failed(pin: &Path) -> impl Fn(io::Error) -> RedirectError + use<> {
    let path = pin.to_path_buf();
    move |source| RedirectError::Pin {
        path: path.clone(),
        source,
    }
}

impl Loaded {
    /// The program's name.
    pub(in crate::redirect) fn name(&self) -> &'static str {
        self.hook.program
    }

    /// What kind of program it is, in a word.
    pub(in crate::redirect) fn kind(&self) -> &'static str {
        self.way
    }

    /// Whether it runs whatever else is interrupted within it, and so closes a door by itself.
    pub(in crate::redirect) fn is_steady(&self) -> bool {
        self.hook.attach == Attach::Cgroup || self.way == LSM || !interrupted::in_front_of_functions()
    }

    /// Sees to it that the program is on the cgroup by the link pinned at `pin`, as `bpf::attach` does for its own.
    pub(in crate::redirect) fn ensure(
        &self,
        (id, directory): (CgroupId, &Path),
        pin: &Path,
    ) -> Result<(), RedirectError> {
        let failed = failed(pin);
        match sys::obj_get(pin) {
            Ok(link) => {
                let info = sys::link_info(link.as_fd()).map_err(&failed)?;
                if info.cgroup == id.0 {
                    return sys::link_update(link.as_fd(), self.program.as_fd()).map_err(&failed);
                }
                std::fs::remove_file(pin).map_err(&failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let cgroup = File::open(directory).map_err(|source| RedirectError::Cgroup {
            path: directory.to_path_buf(),
            source,
        })?;
        sys::load::link_create(self.program.as_fd(), cgroup.as_fd(), self.hook.attach_type)
            .and_then(|link| sys::load::obj_pin(link.as_fd(), pin))
            .map_err(&failed)
    }
}

impl Guard {
    /// What goes on every tagged cgroup.
    pub(in crate::redirect) fn on_cgroups(&self) -> impl Iterator<Item = &Loaded> {
        let all = self.optional.loaded.iter();
        all.filter(|one| one.hook.attach == Attach::Cgroup)
    }

    /// What goes on the host's security hooks.
    pub(in crate::redirect) fn on_host(&self) -> impl Iterator<Item = &'static str> {
        let all = self.optional.loaded.iter();
        all.filter(|one| one.hook.attach == Attach::Security)
            .map(Loaded::name)
    }

    /// Whether the program of this name, one of the guard's, does not close a door by itself.
    pub(in crate::redirect) fn is_unsteady(&self, program: &str) -> bool {
        let mut all = self.optional.loaded.iter();
        all.any(|one| one.name() == program && !one.is_steady())
    }

    /// Whether the program of this name has this id.
    pub(in crate::redirect) fn is_loaded(&self, program: &str, id: u32) -> bool {
        let mut all = self.optional.loaded.iter();
        all.any(|one| one.name() == program && one.id == id)
    }

    /// Attaches the programs on security hooks, and leaves to them the doors that they answer whole: a hook that cannot
    /// be attached after all leaves its door to the guard of system calls.
    pub(in crate::redirect) fn attach(
        &mut self,
        pin: impl Fn(&str) -> std::path::PathBuf,
    ) -> Result<(), RedirectError> {
        let (optional, unavailable) = (&mut self.optional.loaded, &mut self.optional.unavailable);
        optional.retain(|one| {
            if one.hook.attach == Attach::Cgroup {
                return true;
            }
            let attached = sys::load::attach_function(one.program.as_fd())
                .map_err(failed(&pin(one.name())))
                .and_then(|link| replace(&pin(one.name()), |at| sys::load::obj_pin(link.as_fd(), at)));
            if let Err(error) = &attached {
                tracing::info!(program = one.name(), "not attached on this host: {error}");
                unavailable.push(super::Unavailable {
                    program: one.name(),
                    why: error.to_string(),
                });
            }
            attached.is_ok()
        });
        let is_there = |program: &str| {
            optional
                .iter()
                .any(|one| one.name() == program && one.is_steady())
        };
        let answered = DOORS.into_iter().filter(|door| {
            HOOKS
                .iter()
                .filter(|h| h.door == *door)
                .all(|h| is_there(h.program))
        });
        let answered = answered.sum();
        self.set_host(DOORS.into_iter().sum(), answered)
    }
}
