//! What this kernel can do, by asking it to.

use std::{fs, path::Path};

use aya::{
    programs::{LsmAttachType, ProgramError, ProgramType},
    sys::is_program_supported,
};

use super::{RedirectError, bpf, btf::Btf, guard, offsets, sys};

/// Reads the kernel's type information, and finds in it what every program needs.
///
/// # Errors
/// When it is missing, or not as expected.
pub fn btf() -> Result<(), RedirectError> {
    offsets::offsets(&Btf::of_kernel()?).map(drop)
}

/// Whether tracepoints can be had as perf events, where the kernel makes that necessary.
///
/// # Errors
/// Why they cannot.
pub fn tracepoints() -> Result<(), String> {
    guard::try_tracepoints().map_err(|error| error.to_string())
}

/// Whether pins below `pin_dir` would be on a bpf file system, mounting it where the daemon would; `None` where the kernel
/// has none. Nothing is mounted by this.
#[must_use]
pub fn bpffs(pin_dir: &Path) -> Option<bool> {
    let known = fs::read_to_string("/proc/filesystems").ok()?;
    known
        .lines()
        .find(|l| l.split_whitespace().last() == Some("bpf"))?;
    Some(bpf::can_pin(pin_dir))
}

/// Whether sockets tell which network namespace they are of (`SO_NETNS_COOKIE`).
#[must_use]
pub fn netns_cookies() -> bool {
    // A socket that is bound to nothing and sends nothing.
    std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))
        .is_ok_and(|socket| sys::netns_cookie(&socket).is_ok())
}

/// Whether an LSM program can be loaded and attached: one that does nothing is, for a moment.
///
/// # Errors
/// The kernel's words, where it neither takes nor knows them.
pub fn lsm_programs() -> Result<bool, String> {
    match is_program_supported(ProgramType::Lsm(LsmAttachType::Mac)) {
        Ok(supported) => Ok(supported),
        Err(ProgramError::SyscallError(error)) => Err(error.io_error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
