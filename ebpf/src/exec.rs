//! Execs of workloads: told to the agent, and let run, held or ended before the first instruction.
//!
//! `sched_process_exec` runs when the old program is gone and the new one's arguments are in place, before it has run
//! an instruction: a signal sent here is delivered first. What the agent has not decided before is stopped; that it is
//! held is remembered, so that a process that another one wakes (SIGCONT) ends before its first instruction, where the
//! kernel tells of that, and else at its first system call.
//! A signal is always sent before the agent is told: otherwise its SIGCONT could come first.

use aya_ebpf::{
    EbpfContext,
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
    helpers::{
        bpf_get_current_uid_gid,
        generated::{
            bpf_ktime_get_boot_ns, bpf_probe_read_kernel_str, bpf_probe_read_user, bpf_ringbuf_output,
            bpf_send_signal,
        },
    },
    macros::btf_map,
};
use portcullis_abi::{
    ARGS, EVENT_BYTES, EXEC_AUDIT, EXEC_ENFORCE, EXEC_LOSS_KILLS, EXECUTED, EXITED, Event, ExecVerdict,
    FORKED, FileKey, HELD, KILLED, LEFT, MADE_UP, MAX_HELD, MAX_VERDICTS, NAME, NO_ARGS, Outcome, REMEMBERED,
    Site, WRITERS,
};

use crate::{
    errors::failed,
    kernel::{self, member, start},
    maps,
    tagged::{self, Tagged},
    task,
};

const SIGKILL: u32 = 9;
const SIGSTOP: u32 = 19;
/// `SIGNAL_GROUP_EXIT` (linux/sched/signal.h)
const GROUP_EXIT: u32 = 4;
/// `I_CTIME_QUERIED` (linux/fs.h), since Linux 6.13 in the upper bit of the nanoseconds.
const CTIME: u32 = 0x7fff_ffff;
/// `FUSE_SUPER_MAGIC`, `TMPFS_MAGIC` and `RAMFS_MAGIC` (linux/magic.h)
const FUSE: u64 = 0x6573_5546;
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;

/// What the agent is told, in order.
#[btf_map]
pub static EVENTS: RingBuf<Event, EVENT_BYTES> = RingBuf::new();

/// What the agent said of executed files.
#[btf_map]
pub static VERDICTS: LruHashMap<FileKey, ExecVerdict, MAX_VERDICTS> = LruHashMap::new();

/// Processes that are held, by id: when they started.
#[btf_map]
pub static HELD_PROCS: HashMap<u32, u64, MAX_HELD> = HashMap::new();

/// The generation of the agent's verdicts: the only element.
#[btf_map]
pub static GENERATION: Array<u32, 1> = Array::new();

/// Where an event is put together, which is too large for the stack.
#[btf_map]
pub static SCRATCH: PerCpuArray<Record, 1> = PerCpuArray::new();

/// An exec as it is sent: without what of the arguments is not used. They have twice the room, so that the verifier
/// sees that a masked length is within.
#[repr(C)]
pub struct Record {
    event: Event,
    name: [u8; NAME],
    args: [u8; 2 * ARGS],
}

/// A process was made by the caller.
#[inline(always)]
pub fn forked(ctx: &impl EbpfContext, child: u64, tagged: Tagged) {
    let Some(flags) = flags(tagged) else { return };
    let mut event = about(child, tagged, FORKED);
    event.parent = task::caller();
    event.parent_start_ns = start(kernel::current()).unwrap_or_default();
    note(ctx, tagged, flags, &event);
}

/// A process is another cgroup's. Where nobody hears of its end any more, that is the end of what its workload has of it.
#[inline(always)]
pub fn moved(ctx: &impl EbpfContext, task: u64, from: Tagged, to: Tagged) {
    let (Some(before), None) = (flags(from), flags(to)) else {
        return;
    };
    let event = about(task, from, LEFT);
    note(ctx, from, before, &event);
}

/// A process has ended.
#[inline(always)]
pub fn exited(ctx: &impl EbpfContext, task: u64, tagged: Tagged) {
    let (Some(flags), Some(signal)) = (flags(tagged), member::<u64>(task, &kernel::TASK_SIGNAL)) else {
        return;
    };
    let mut event = about(task, tagged, EXITED);
    let leader = member::<u64>(task, &kernel::TASK_GROUP_LEADER).unwrap_or(task);
    let whole = member::<u32>(signal, &kernel::SIGNAL_FLAGS).unwrap_or_default() & GROUP_EXIT != 0;
    event.status = if whole {
        member::<u32>(signal, &kernel::SIGNAL_GROUP_EXIT_CODE)
    } else {
        member::<u32>(leader, &kernel::TASK_EXIT_CODE)
    }
    .unwrap_or_default();
    note(ctx, tagged, flags, &event);
}

/// A process is held no longer, since it has ended; also where its cgroup is not tagged any more.
#[inline(always)]
pub fn ended(process: u32) {
    let _absent = HELD_PROCS.remove(&process);
}

/// Whether a process is held.
#[inline(always)]
pub fn is_held(process: u32) -> bool {
    HELD_PROCS.get_ptr(process).is_some()
}

/// What a process executes.
pub struct Executed {
    /// `struct file` of what runs.
    pub file: u64,
    /// By what it was executed, a string of the kernel.
    pub name: u64,
    /// [`portcullis_abi::ITSELF`], [`portcullis_abi::INTERPRETS`], or 0.
    pub runs: u32,
}

/// A process has a new program. `task` is the caller.
#[inline(always)]
pub fn executed(ctx: &impl EbpfContext, task: u64, executed: &Executed, tagged: Tagged) {
    let Some(flags) = flags(tagged) else { return };
    let Some(record) = SCRATCH.get_ptr_mut(0) else {
        return;
    };
    let record = unsafe { &mut *record };
    record.event = about(task, tagged, EXECUTED);
    record.event.flags = executed.runs;
    let known = file(executed.file, &mut record.event);
    if !known {
        failed(ctx, Site::ExecFile);
    }
    record.event.flags |= judge(ctx, tagged, flags, known, &record.event);
    let read = unsafe {
        bpf_probe_read_kernel_str(
            (&raw mut record.name).cast(),
            NAME as u32,
            executed.name as *const _,
        )
    };
    if read < 0 {
        record.name[0] = 0;
    }
    let kept = arguments(task, record);
    let size = (size_of::<Event>() + NAME) as u64 + kept;
    if !send(ctx, tagged, flags, (&raw const *record).cast(), size) && record.event.flags & HELD != 0 {
        // Nobody would ever decide.
        kill(ctx);
    }
}

/// Whether the caller, which runs, is a process that is held: someone has woken it.
#[inline(always)]
pub fn is_woken() -> bool {
    let Some(held) = HELD_PROCS.get_ptr(task::caller()) else {
        return false;
    };
    let since = unsafe { *held };
    // Its id may be another's by now.
    start(kernel::current()).is_none_or(|start| start == since)
}

/// `x86_fpu_regs_activated(fpu)`: the last that the kernel does before a thread that did not run is back in its program.
/// Interrupts are off: the signal comes by one, which is there before the program's first instruction.
#[inline(always)]
pub fn resumed(ctx: &impl EbpfContext) {
    if is_woken() {
        kill(ctx);
    }
}

/// What becomes of an exec: the event's flags. The signal is on its way then.
#[inline(always)]
fn judge(ctx: &impl EbpfContext, tagged: Tagged, flags: u64, known: bool, event: &Event) -> u32 {
    if flags & EXEC_ENFORCE == 0 {
        tagged::count(ctx, tagged, Outcome::ExecAllowed);
        return 0;
    }
    // What is open for writing may be another file in a moment, and what is made up may claim to be any.
    if known && event.flags & (WRITERS | MADE_UP) == 0 {
        match remembered(event) {
            1 => {
                tagged::count(ctx, tagged, Outcome::ExecAllowed);
                return REMEMBERED;
            }
            2 => {
                kill(ctx);
                tagged::count(ctx, tagged, Outcome::ExecDenied);
                return REMEMBERED | KILLED;
            }
            _ => {}
        }
    }
    let held = HELD_PROCS.insert(&event.pid, &event.start_ns, 0).is_ok();
    if held && unsafe { bpf_send_signal(SIGSTOP) } == 0 {
        tagged::count(ctx, tagged, Outcome::ExecHeld);
        return HELD;
    }
    failed(ctx, Site::ExecHold);
    kill(ctx);
    tagged::count(ctx, tagged, Outcome::ExecDenied);
    KILLED
}

/// What the agent said of this file, if that still holds; 0 otherwise.
#[inline(always)]
fn remembered(event: &Event) -> u32 {
    let key = FileKey {
        tagged: event.tagged,
        ino: event.ino,
        ctime_s: event.ctime_s,
        ctime_ns: event.ctime_ns,
        dev: event.dev,
    };
    let (Some(verdict), Some(generation)) = (VERDICTS.get_ptr(&key), GENERATION.get(0)) else {
        return 0;
    };
    let verdict = unsafe { *verdict };
    if verdict.generation == *generation && event.at_ns < verdict.until_ns {
        verdict.effect
    } else {
        0
    }
}

#[inline(always)]
fn kill(ctx: &impl EbpfContext) {
    if unsafe { bpf_send_signal(SIGKILL) } != 0 {
        failed(ctx, Site::ExecKill);
    }
}

/// The switches of a workload whose execs are told.
#[inline(always)]
fn flags(tagged: Tagged) -> Option<u64> {
    let tag = maps::TAGGED.get_ptr(tagged.0)?;
    let flags = unsafe { (*tag).flags };
    (flags & EXEC_AUDIT != 0).then_some(flags)
}

/// What is the same of all kinds of events.
#[inline(always)]
fn about(task: u64, tagged: Tagged, kind: u32) -> Event {
    let gid_uid = bpf_get_current_uid_gid();
    let leader = member::<u64>(task, &kernel::TASK_GROUP_LEADER).unwrap_or(task);
    let parent = member::<u64>(leader, &kernel::TASK_REAL_PARENT).unwrap_or_default();
    Event {
        tagged: tagged.0,
        at_ns: unsafe { bpf_ktime_get_boot_ns() },
        start_ns: start(task).unwrap_or_default(),
        parent_start_ns: start(parent).unwrap_or_default(),
        kind,
        pid: member(task, &kernel::TASK_TGID).unwrap_or_default(),
        parent: member(parent, &kernel::TASK_TGID).unwrap_or_default(),
        uid: gid_uid as u32,
        gid: (gid_uid >> 32) as u32,
        execs: member(task, &kernel::TASK_SELF_EXEC_ID).unwrap_or_default(),
        ..Event::default()
    }
}

/// The executed file: of a script its interpreter, of `ld.so ./program` the loader.
#[inline(always)]
fn file(file: u64, event: &mut Event) -> bool {
    // Until it is known where it is.
    event.flags |= MADE_UP;
    let Some(inode) = member::<u64>(file, &kernel::FILE_INODE) else {
        return false;
    };
    let Some(sb) = member::<u64>(inode, &kernel::INODE_SB) else {
        return false;
    };
    if !is_made_up(sb) {
        event.flags &= !MADE_UP;
    }
    let (Some(dev), Some(ino), Some(seconds), Some(nanoseconds)) = (
        member::<u32>(sb, &kernel::SB_DEV),
        member::<u64>(inode, &kernel::INODE_INO),
        member::<u64>(inode, &kernel::INODE_CTIME_SEC),
        member::<u32>(inode, &kernel::INODE_CTIME_NSEC),
    ) else {
        return false;
    };
    event.dev = dev;
    event.ino = ino;
    event.size = member(inode, &kernel::INODE_SIZE).unwrap_or_default();
    event.ctime_s = seconds;
    event.ctime_ns = nanoseconds & CTIME;
    // Negative while it is executed and nobody can write.
    if member::<i32>(inode, &kernel::INODE_WRITECOUNT).unwrap_or(1) > 0 {
        event.flags |= WRITERS;
    }
    true
}

/// Whether somebody makes up what a file system has: a process that serves it (FUSE), or whoever has mounted it in a user
/// namespace over what such a process serves (overlayfs, whose inodes have the numbers and times of those below). What is
/// in memory only is the kernel's own, whoever has mounted it. What cannot be read is made up.
#[inline(always)]
fn is_made_up(sb: u64) -> bool {
    let (Some(magic), Some(users)) = (
        member::<u64>(sb, &kernel::SB_MAGIC),
        member::<u64>(sb, &kernel::SB_USER_NS),
    ) else {
        return true;
    };
    let Some(level) = member::<u32>(users, &kernel::USER_NS_LEVEL) else {
        return true;
    };
    magic == FUSE || (level != 0 && magic != TMPFS && magic != RAMFS)
}

/// Copies the arguments from where the kernel has just put them; how many bytes.
#[inline(always)]
fn arguments(task: u64, record: &mut Record) -> u64 {
    let mm: u64 = member(task, &kernel::TASK_MM).unwrap_or_default();
    let (begin, end): (u64, u64) = (
        member(mm, &kernel::MM_ARG_START).unwrap_or_default(),
        member(mm, &kernel::MM_ARG_END).unwrap_or_default(),
    );
    let all = end.wrapping_sub(begin);
    record.event.args_bytes = all as u32;
    let kept = if all > ARGS as u64 { ARGS as u64 } else { all };
    let kept = kept & (2 * ARGS as u64 - 1);
    if kept > 0 {
        let to = (&raw mut record.args).cast();
        if unsafe { bpf_probe_read_user(to, kept as u32, begin as *const _) } != 0 {
            record.event.flags |= NO_ARGS;
            return 0;
        }
    }
    record.event.args_kept = kept as u32;
    kept
}

/// Tells the agent of what nothing is killed for: the exec that comes of it will be.
#[inline(always)]
fn note(ctx: &impl EbpfContext, tagged: Tagged, flags: u64, event: &Event) {
    let event = core::ptr::from_ref(event).cast();
    let _sent = send(
        ctx,
        tagged,
        flags & !EXEC_LOSS_KILLS,
        event,
        size_of::<Event>() as u64,
    );
}

/// Tells the agent. Where that cannot be, it is counted, and the caller ended where the workload's switches say so.
#[inline(always)]
fn send(ctx: &impl EbpfContext, tagged: Tagged, flags: u64, event: *const u8, size: u64) -> bool {
    let ring = (&raw const EVENTS).cast_mut().cast();
    if unsafe { bpf_ringbuf_output(ring, event.cast_mut().cast(), size, 0) } == 0 {
        return true;
    }
    tagged::count(ctx, tagged, Outcome::ExecLost);
    if flags & EXEC_LOSS_KILLS != 0 {
        kill(ctx);
    }
    false
}
