//! Putting a program on a cgroup, or behind the link that is there already.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use aya::{
    Ebpf,
    programs::{
        CgroupAttachMode, CgroupSkbAttachType, Program, ProgramError,
        links::{FdLink, LinkError},
    },
};

use super::pin::failed;
use crate::{
    model::CgroupId,
    redirect::{
        RedirectError,
        sys::{self, LinkInfo},
    },
};

/// `BPF_CGROUP_DEVICE`
const DEVICE: u32 = 6;

/// A pinned link, opened.
pub(in crate::redirect) fn open(pin: &Path) -> Result<Option<(OwnedFd, LinkInfo)>, RedirectError> {
    match sys::obj_get(pin).and_then(|link| {
        let info = sys::link_info(link.as_fd())?;
        Ok((link, info))
    }) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(pin)(error)),
    }
}

/// Sees to it that `program` is on the cgroup by the link pinned at `pin`: an old program behind that link is replaced
/// atomically; a link whose cgroup is gone, or is another, is replaced by a new one.
pub(super) fn ensure(
    ebpf: &mut Ebpf,
    program: &'static str,
    (id, directory): (CgroupId, &Path),
    pin: &Path,
) -> Result<(), RedirectError> {
    let refused = |error: ProgramError| RedirectError::program(program, &error);
    let loaded = ebpf.program_mut(program).ok_or(RedirectError::Missing(program))?;
    if let Some((link, info)) = open(pin)? {
        if info.cgroup == id.0 {
            let fd = loaded.fd().map_err(refused)?;
            return sys::link_update(link.as_fd(), fd.as_fd()).map_err(failed(pin));
        }
        std::fs::remove_file(pin).map_err(failed(pin))?;
    }
    let cgroup = File::open(directory).map_err(|source| RedirectError::Cgroup {
        path: directory.to_path_buf(),
        source,
    })?;
    // aya has no descriptor of these links.
    if let Program::CgroupDevice(_) = loaded {
        let fd = loaded.fd().map_err(refused)?;
        let link = sys::load::link_create(fd.as_fd(), cgroup.as_fd(), DEVICE);
        let pinned = link.and_then(|link| sys::load::obj_pin(link.as_fd(), pin));
        return pinned.map_err(failed(pin));
    }
    let direction = if program == "ingress" {
        CgroupSkbAttachType::Ingress
    } else {
        CgroupSkbAttachType::Egress
    };
    let link = attach(loaded, &cgroup, direction).map_err(refused)?;
    link.pin(pin)
        .map(drop)
        .map_err(|error| failed(pin)(io::Error::other(error)))
}

/// `direction` is for programs of packets. `Single` is no flag at all, which is what links need: they always allow others beside them.
fn attach(
    program: &mut Program,
    cgroup: &File,
    direction: CgroupSkbAttachType,
) -> Result<FdLink, ProgramError> {
    let mode = CgroupAttachMode::Single;
    match program {
        Program::CgroupSockAddr(program) => {
            let link = program.attach(cgroup, mode)?;
            fd(program.take_link(link)?)
        }
        Program::CgroupSock(program) => {
            let link = program.attach(cgroup, mode)?;
            fd(program.take_link(link)?)
        }
        Program::CgroupSkb(program) => {
            let link = program.attach(cgroup, direction, mode)?;
            fd(program.take_link(link)?)
        }
        Program::SockOps(program) => {
            let link = program.attach(cgroup, mode)?;
            fd(program.take_link(link)?)
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// Before Linux 5.7, where there were no cgroup links, aya's link has no descriptor; that is refused.
fn fd<L: TryInto<FdLink, Error = LinkError>>(link: L) -> Result<FdLink, ProgramError> {
    link.try_into()
        .map_err(|error| ProgramError::IOError(io::Error::other(error)))
}
