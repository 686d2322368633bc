//! Execs of workloads: told to the agent, and let run, held or ended before the first instruction.
//!
//! `sched_process_exec` runs when the old program is gone and the new one's arguments are in place, before it has run
//! an instruction: a signal sent here is delivered first. What the agent has not decided before is stopped; that it is
//! held is remembered, so that a process that another one wakes (SIGCONT) ends at its first system call.
//! A signal is always sent before the agent is told: otherwise its SIGCONT could come first.

use aya_ebpf::{
    Global,
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
        generated::{
            bpf_get_current_task, bpf_ktime_get_boot_ns, bpf_probe_read_kernel_str, bpf_probe_read_user,
            bpf_ringbuf_output, bpf_send_signal,
        },
    },
    macros::btf_map,
    programs::RawTracePointContext,
};
use portcullis_abi::{
    ARGS, EVENT_BYTES, EXEC_AUDIT, EXEC_ENFORCE, EXEC_LOSS_KILLS, EXECUTED, EXITED, Event, ExecVerdict,
    FORKED, FileKey, HELD, KILLED, MAX_HELD, MAX_VERDICTS, NAME, NO_ARGS, Outcome, REMEMBERED, Site, WRITERS,
};

use crate::{
    errors::failed,
    kernel::{SIGNAL_LIVE, TASK_PID, TASK_SIGNAL, TASK_TGID},
    maps,
    process::{self, TASK_SELF_EXEC_ID, member, start},
    tagged::{self, Tagged},
};

const SIGKILL: u32 = 9;
const SIGSTOP: u32 = 19;
/// `SIGNAL_GROUP_EXIT` (linux/sched/signal.h)
const GROUP_EXIT: u32 = 4;
/// `I_CTIME_QUERIED` (linux/fs.h), since Linux 6.13 in the upper bit of the nanoseconds.
const CTIME: u32 = 0x7fff_ffff;

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

macro_rules! offsets {
    ($($name:ident)*) => { $(
        #[doc = "An offset, bytes; written by the loader."]
        #[unsafe(no_mangle)]
        pub static $name: Global<u32> = Global::new(0);
    )* };
}

offsets! {
    TASK_MM TASK_REAL_PARENT TASK_EXIT_CODE
    MM_ARG_START MM_ARG_END
    BPRM_FILENAME BPRM_FILE FILE_INODE
    INODE_INO INODE_SB INODE_SIZE INODE_WRITECOUNT INODE_CTIME_SEC INODE_CTIME_NSEC
    SB_DEV
    SIGNAL_FLAGS SIGNAL_GROUP_EXIT_CODE
}

/// A process was made by `current`. Threads are not told of.
#[inline(always)]
pub fn forked(ctx: &RawTracePointContext, child: u64, tid: u32, tagged: Tagged) {
    let Some(flags) = flags(tagged) else { return };
    if member::<u32>(child, &TASK_TGID) != Some(tid) {
        return;
    }
    let maker = unsafe { bpf_get_current_task() };
    let mut event = about(child, tagged, FORKED);
    event.parent = (bpf_get_current_pid_tgid() >> 32) as u32;
    event.parent_start_ns = start(maker).unwrap_or_default();
    // Nothing is killed for it: its exec will be.
    let _sent = send(
        ctx,
        tagged,
        flags & !EXEC_LOSS_KILLS,
        (&raw const event).cast(),
        size_of::<Event>() as u64,
    );
}

/// A process has ended, when the last of its threads has: then all of them are counted off.
#[inline(always)]
pub fn exited(ctx: &RawTracePointContext, task: u64) {
    let Some(tid) = member::<u32>(task, &TASK_PID) else {
        return;
    };
    // Also where its cgroup is tagged no longer.
    let _absent = HELD_PROCS.remove(&((bpf_get_current_pid_tgid() >> 32) as u32));
    let Some(known) = process::PROCS.get_ptr(tid) else {
        return;
    };
    let known = unsafe { *known };
    let tagged = Tagged(known.tagged);
    let (Some(flags), Some(signal)) = (flags(tagged), member::<u64>(task, &TASK_SIGNAL)) else {
        return;
    };
    if member::<u32>(signal, &SIGNAL_LIVE) != Some(0) {
        return;
    }
    let mut event = about(task, tagged, EXITED);
    let leader = member::<u64>(task, &maps::TASK_GROUP_LEADER).unwrap_or(task);
    let whole = member::<u32>(signal, &SIGNAL_FLAGS).unwrap_or_default() & GROUP_EXIT != 0;
    event.status = if whole {
        member::<u32>(signal, &SIGNAL_GROUP_EXIT_CODE)
    } else {
        member::<u32>(leader, &TASK_EXIT_CODE)
    }
    .unwrap_or_default();
    let _sent = send(
        ctx,
        tagged,
        flags & !EXEC_LOSS_KILLS,
        (&raw const event).cast(),
        size_of::<Event>() as u64,
    );
}

/// A process has a new program. `task` is the caller.
#[inline(always)]
pub fn executed(ctx: &RawTracePointContext, task: u64, bprm: u64, tagged: Tagged) {
    let Some(flags) = flags(tagged) else { return };
    let Some(record) = SCRATCH.get_ptr_mut(0) else {
        return;
    };
    let record = unsafe { &mut *record };
    record.event = about(task, tagged, EXECUTED);
    let known = file(bprm, &mut record.event);
    if !known {
        failed(ctx, Site::ExecFile);
    }
    record.event.flags |= judge(ctx, tagged, flags, known, &record.event);
    let name: u64 = member(bprm, &BPRM_FILENAME).unwrap_or_default();
    let read =
        unsafe { bpf_probe_read_kernel_str((&raw mut record.name).cast(), NAME as u32, name as *const _) };
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

/// Ends a process that is held and makes a system call: someone has woken it.
#[inline(always)]
pub fn held_call() {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let Some(held) = HELD_PROCS.get_ptr(pid) else {
        return;
    };
    let since = unsafe { *held };
    // Its id may be another's by now.
    if start(unsafe { bpf_get_current_task() }).is_none_or(|start| start == since) {
        unsafe { bpf_send_signal(SIGKILL) };
    }
}

/// What becomes of an exec: the event's flags. The signal is on its way then.
#[inline(always)]
fn judge(ctx: &RawTracePointContext, tagged: Tagged, flags: u64, known: bool, event: &Event) -> u32 {
    if flags & EXEC_ENFORCE == 0 {
        tagged::count(ctx, tagged, Outcome::ExecAllowed);
        return 0;
    }
    // What is open for writing may be another file in a moment.
    if known && event.flags & WRITERS == 0 {
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
fn kill(ctx: &RawTracePointContext) {
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
    let leader = member::<u64>(task, &maps::TASK_GROUP_LEADER).unwrap_or(task);
    let parent = member::<u64>(leader, &TASK_REAL_PARENT).unwrap_or_default();
    Event {
        tagged: tagged.0,
        at_ns: unsafe { bpf_ktime_get_boot_ns() },
        start_ns: start(task).unwrap_or_default(),
        parent_start_ns: start(parent).unwrap_or_default(),
        kind,
        pid: member(task, &TASK_TGID).unwrap_or_default(),
        parent: member(parent, &TASK_TGID).unwrap_or_default(),
        uid: gid_uid as u32,
        gid: (gid_uid >> 32) as u32,
        execs: member(task, &TASK_SELF_EXEC_ID).unwrap_or_default(),
        ..Event::default()
    }
}

/// The executed file: of a script its interpreter, of `ld.so ./program` the loader.
#[inline(always)]
fn file(bprm: u64, event: &mut Event) -> bool {
    let Some(inode) = member::<u64>(bprm, &BPRM_FILE).and_then(|file| member::<u64>(file, &FILE_INODE))
    else {
        return false;
    };
    let dev = member::<u64>(inode, &INODE_SB).and_then(|sb| member::<u32>(sb, &SB_DEV));
    let (Some(dev), Some(ino), Some(seconds), Some(nanoseconds)) = (
        dev,
        member::<u64>(inode, &INODE_INO),
        member::<u64>(inode, &INODE_CTIME_SEC),
        member::<u32>(inode, &INODE_CTIME_NSEC),
    ) else {
        return false;
    };
    event.dev = dev;
    event.ino = ino;
    event.size = member(inode, &INODE_SIZE).unwrap_or_default();
    event.ctime_s = seconds;
    event.ctime_ns = nanoseconds & CTIME;
    // Negative while it is executed and nobody can write.
    if member::<i32>(inode, &INODE_WRITECOUNT).unwrap_or(1) > 0 {
        event.flags |= WRITERS;
    }
    true
}

/// Copies the arguments from where the kernel has just put them; how many bytes.
#[inline(always)]
fn arguments(task: u64, record: &mut Record) -> u64 {
    let mm: u64 = member(task, &TASK_MM).unwrap_or_default();
    let (begin, end): (u64, u64) = (
        member(mm, &MM_ARG_START).unwrap_or_default(),
        member(mm, &MM_ARG_END).unwrap_or_default(),
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

/// Tells the agent. Where that cannot be, it is counted, and the caller ended where the workload's switches say so.
#[inline(always)]
fn send(ctx: &RawTracePointContext, tagged: Tagged, flags: u64, event: *const u8, size: u64) -> bool {
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
