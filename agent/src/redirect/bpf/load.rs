//! The embedded object: loaded, verified by the kernel, not yet attached.

use aya::{Ebpf, EbpfLoader, programs::Program};

use super::pin::Pins;
use crate::redirect::{RedirectError, btf::Btf, guard, offsets, sys};

pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/portcullis.bpf.o"));

/// Maps that outlive the agent: what the programs behind the links share with the next agent's.
const PINNED: &[&str] = &[
    "NETNS",
    "TAGGED",
    "COUNTERS",
    "ERRORS",
    "ORIGINAL_DST",
    "INFLIGHT",
    "ACCEPTED",
    "ASKED",
    "SENDING",
    "DATAGRAMS",
    "STRANGE",
    "EXEMPT",
    "EXEMPT_USED",
    "EXEMPT_OF",
    "EVENTS",
    "VERDICTS",
    "HELD_PROCS",
    "GENERATION",
];

/// All of them.
pub(super) fn pinned() -> impl Iterator<Item = &'static str> {
    PINNED.iter().chain(&guard::PINNED).copied()
}

/// The programs of a tagged cgroup, in the order in which they are attached: the guard first, so that there is no
/// moment in which a packet could leave; then what a socket meets, so that none is told less than the next hook needs.
pub(super) const WORKLOAD: &[&str] = &[
    "egress",
    "ingress",
    "workload_ops",
    "getpeername4",
    "getpeername6",
    "recvmsg4",
    "recvmsg6",
    "connect4",
    "connect6",
    "sendmsg4",
    "sendmsg6",
    "bind4",
    "bind6",
    "sock_create",
    "device",
];

/// The program of the agent's own cgroup.
pub(super) const AGENT: &str = "agent_ops";

/// One program as the kernel verified it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ProgramInfo {
    /// Its name.
    pub name: String,
    /// Its type, as bpf(2) calls it.
    pub kind: &'static str,
    /// Instructions that the verifier walked through, over all paths; `None` before Linux 5.16.
    pub verified_instructions: Option<u32>,
    /// Bytes of the translated program.
    pub bytes: Option<u32>,
}

/// Whether the programs log their failures as debug lines, beside counting them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Logging {
    On,
    Off,
}

/// Makes the object's maps, shared through `pins` if given; no program is loaded yet.
fn open(pins: Option<&Pins>, logging: Logging) -> Result<Ebpf, RedirectError> {
    let btf = Btf::of_kernel()?;
    // A constant of the programs: without logging the verifier removes the code.
    let level = match logging {
        Logging::On => aya_log::Level::Debug as u8,
        Logging::Off => 0,
    };
    let offsets = offsets::offsets(&btf)?;
    let mut loader = EbpfLoader::new();
    for (constant, offset) in &offsets {
        loader.override_global(constant, offset, true);
    }
    loader.override_global(aya_log::LEVEL, &level, false);
    if let Some(pins) = pins {
        for map in pinned() {
            loader.map_pin_path(map, pins.map(map));
        }
    }
    Ok(loader.load(OBJECT).map_err(Box::new)?)
}

/// Loads the object and every program that has to be there (without pins, also those for other kernels), with maps shared through `pins` if given.
pub(super) fn load(pins: Option<&Pins>, logging: Logging) -> Result<Ebpf, RedirectError> {
    let mut ebpf = open(pins, logging)?;
    let all = pins.is_none();
    let wanted = |name: &str| !guard::loads(name) && (all || !guard::is_for_others(name));
    for (name, program) in ebpf.programs_mut().filter(|(name, _)| wanted(name)) {
        load_program(program).map_err(|error| RedirectError::program(name, &error))?;
    }
    Ok(ebpf)
}

/// How often a load is tried that something interrupts all the same: the verifier then gives up (EAGAIN), whatever it
/// thinks of the program.
const TRIES: u32 = 20;

fn load_program(program: &mut Program) -> Result<(), aya::programs::ProgramError> {
    let _undisturbed = sys::load::Undisturbed::new();
    for _ in 1..TRIES {
        match load_once(program) {
            Err(aya::programs::ProgramError::LoadError { io_error, .. })
                if io_error.kind() == std::io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
    load_once(program)
}

fn load_once(program: &mut Program) -> Result<(), aya::programs::ProgramError> {
    match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::CgroupDevice(program) => program.load(),
        Program::CgroupSkb(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::RawTracePoint(program) => program.load(),
        Program::TracePoint(program) => program.load(),
        _ => Err(aya::programs::ProgramError::UnexpectedProgramType),
    }
}

/// Loads every program without attaching it, with and without logging: what the running kernel says of it without.
///
/// # Errors
/// When the kernel refuses one; the error has the verifier's words.
pub fn verify() -> Result<Vec<ProgramInfo>, RedirectError> {
    load(None, Logging::On)?;
    let ebpf = load(None, Logging::Off)?;
    let optional = guard::load(&ebpf, OBJECT)?;
    ebpf.programs()
        .filter(|(name, _)| !guard::loads(name))
        .map(|(name, program)| describe(name, program))
        .chain(optional.loaded().map(|one| {
            Ok(ProgramInfo {
                name: one.name().to_owned(),
                kind: one.kind(),
                verified_instructions: None,
                bytes: None,
            })
        }))
        .collect()
}

/// A program, tried by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Its name.
    pub program: String,
    /// Whether the agent does without it, where a host refuses it.
    pub optional: bool,
    /// Why the kernel refuses it, in its words.
    pub refused: Option<String>,
    /// Whether the kernel may interrupt it, and skips its other runs meanwhile: it closes no door by itself.
    pub unsteady: bool,
}

/// Loads each program by itself, without attaching it: what the running kernel takes, and why it refuses another.
///
/// # Errors
/// When it does not come to that: no BTF, or no maps.
pub fn try_each() -> Result<Vec<Tried>, RedirectError> {
    let mut ebpf = open(None, Logging::Off)?;
    let needed = ebpf.programs_mut().filter(|(name, _)| !guard::loads(name));
    let mut all: Vec<Tried> = needed
        .map(|(name, program)| Tried {
            program: name.to_owned(),
            optional: guard::is_for_others(name),
            refused: load_program(program)
                .err()
                .map(|error| match RedirectError::program(name, &error) {
                    RedirectError::Program { why, .. } => why,
                    other => other.to_string(),
                }),
            unsteady: false,
        })
        .collect();
    let optional = guard::load(&ebpf, OBJECT)?;
    all.extend(optional.loaded().map(|one| Tried {
        program: one.name().to_owned(),
        optional: true,
        refused: None,
        unsteady: !one.is_steady(),
    }));
    all.extend(optional.unavailable().iter().map(|one| Tried {
        program: one.program.to_owned(),
        optional: true,
        refused: Some(one.why.clone()),
        unsteady: false,
    }));
    Ok(all)
}

fn describe(name: &str, program: &Program) -> Result<ProgramInfo, RedirectError> {
    let info = program
        .info()
        .map_err(|error| RedirectError::program(name, &error))?;
    Ok(ProgramInfo {
        name: name.to_owned(),
        kind: kind(program),
        verified_instructions: info.verified_instruction_count(),
        bytes: info.size_translated(),
    })
}

fn kind(program: &Program) -> &'static str {
    match program {
        Program::CgroupSockAddr(_) => "cgroup_sock_addr",
        Program::CgroupSock(_) => "cgroup_sock",
        Program::CgroupDevice(_) => "cgroup_device",
        Program::CgroupSkb(_) => "cgroup_skb",
        Program::SockOps(_) => "sock_ops",
        Program::RawTracePoint(_) => "raw_tracepoint",
        Program::TracePoint(_) => "tracepoint",
        _ => "other",
    }
}
