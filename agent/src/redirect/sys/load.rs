//! bpf(2) for programs of kinds that aya does not know.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use nix::sys::signal::{SigSet, SigmaskHow};

use super::{OBJ_GET_INFO_BY_FD, bpf, raw};

/// How often a load is tried that something interrupts all the same.
const TRIES: u32 = 20;

const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const LINK_CREATE: libc::c_int = 28;
/// Bytes that the verifier may say; its last words are what matters.
const LOG: usize = 1 << 20;

/// No signal comes to this thread for as long as it lives: the verifier gives up (EAGAIN) when one does, and a process whose
/// children end one after the other would never have a program loaded.
pub(in crate::redirect) struct Undisturbed(Option<SigSet>);

impl Undisturbed {
    pub(in crate::redirect) fn new() -> Self {
        Self(SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).ok())
    }
}

impl Drop for Undisturbed {
    fn drop(&mut self) {
        let _as_before = self.0.map(|before| before.thread_set_mask());
    }
}

/// A program, as `BPF_PROG_LOAD` wants it.
pub(in crate::redirect) struct Program<'a> {
    /// `BPF_PROG_TYPE_*`
    pub(in crate::redirect) kind: u32,
    /// `BPF_*` attach type.
    pub(in crate::redirect) attach_type: u32,
    /// Id of the kernel's function that it is for; 0 for none.
    pub(in crate::redirect) function: u32,
    /// Instructions, eight bytes each.
    pub(in crate::redirect) instructions: &'a [u64],
}

fn owned(fd: libc::c_int) -> OwnedFd {
    // Safety: the kernel has just made this descriptor, and nobody else knows of it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Loads a program: its descriptor, or the error with the end of what the verifier says.
pub(in crate::redirect) fn prog_load(program: &Program<'_>) -> Result<OwnedFd, (io::Error, String)> {
    #[repr(C)]
    #[derive(Default)]
    struct Attr {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
        interface: u32,
        attach_type: u32,
        /// The program's own types, lines and functions, from `prog_btf_fd` to `line_info_cnt`.
        btf: [u32; 9],
        function: u32,
        target: u32,
        relocations: u32,
    }
    const { assert!(std::mem::offset_of!(Attr, function) == 108 && size_of::<Attr>() == 120) };
    let license = c"GPL";
    let mut attr = Attr {
        kind: program.kind,
        count: u32::try_from(program.instructions.len()).unwrap_or(u32::MAX),
        instructions: program.instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        attach_type: program.attach_type,
        function: program.function,
        ..Attr::default()
    };
    let _undisturbed = Undisturbed::new();
    for _ in 0..TRIES {
        match bpf(PROG_LOAD, &mut attr) {
            Ok(fd) => return Ok(owned(fd)),
            // The verifier was interrupted, whatever it thinks of the program.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    let mut log = vec![0_u8; LOG];
    (attr.log_level, attr.log_size) = (1, u32::try_from(LOG).unwrap_or(0));
    attr.log = log.as_mut_ptr() as u64;
    match bpf(PROG_LOAD, &mut attr) {
        Ok(fd) => Ok(owned(fd)),
        Err(error) => {
            let text = log.split(|byte| *byte == 0).next().unwrap_or_default();
            Err((error, String::from_utf8_lossy(text).trim_end().to_owned()))
        }
    }
}

/// Attaches a program to a cgroup.
pub(in crate::redirect) fn link_create(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let mut attr = [raw(program), raw(cgroup), attach_type, 0];
    bpf(LINK_CREATE, &mut attr).map(owned)
}

/// Attaches a program that was loaded for a function of the kernel.
pub(in crate::redirect) fn attach_function(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        name: u64,
        program: u32,
        reserved: u32,
    }
    let mut attr = Attr {
        name: 0,
        program: raw(program),
        reserved: 0,
    };
    bpf(RAW_TRACEPOINT_OPEN, &mut attr).map(owned)
}

/// Pins an object.
pub(in crate::redirect) fn obj_pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        path: u64,
        object: u32,
        flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Attr {
        path: path.as_ptr() as u64,
        object: raw(object),
        flags: 0,
    };
    bpf(OBJ_PIN, &mut attr).map(drop)
}

/// A program's id.
pub(in crate::redirect) fn prog_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    #[repr(C)]
    struct Attr {
        object: u32,
        length: u32,
        info: u64,
    }
    // Type, id, and what is not asked for.
    let mut info = [0_u32; 2];
    let mut attr = Attr {
        object: raw(program),
        length: 8,
        info: info.as_mut_ptr() as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info[1])
}
