//! The maps, and the one way to each.
//!
//! `ORIGINAL_DST` and `ACCEPTED` live and die with their sockets; nothing cleans them up.

use aya_ebpf::{
    Global,
    bindings::{BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    btf_maps::{Array, HashMap, LruHashMap, PerCpuHashMap, RingBuf, SkStorage},
    helpers::generated::bpf_sk_storage_get,
    macros::btf_map,
};
use portcullis_abi::{
    guard::{
        GUARD_EVENT_BYTES, GUARD_SLOTS, GuardEvent, MAX_CONDEMNED, MAX_MEMBERS, MAX_UNIX_RULES, UnixKey, UnixRule,
    },
    Config, Counters, Flow, MAX_INFLIGHT, MAX_TAGGED, Record, SITE_SLOTS, Tag,
};

/// Memory for what is there, not for what could be: only the agent inserts, and on many CPUs it would be much.
const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

/// What the agent tells the programs.
#[btf_map]
pub static CONFIG: Array<Config, 1> = Array::new();

/// The tagged cgroups, by id.
#[btf_map]
pub static TAGGED: HashMap<u64, Tag, MAX_TAGGED, ON_DEMAND> = HashMap::new();

/// Outcomes, by id of the tagged cgroup; made by the agent together with the tag.
#[btf_map]
pub static COUNTERS: PerCpuHashMap<u64, Counters, MAX_TAGGED, ON_DEMAND> = PerCpuHashMap::new();

/// Failures, by site.
#[btf_map]
pub static ERRORS: Array<u64, SITE_SLOTS> = Array::new();

/// Per socket of a workload: who connected, and where to.
#[btf_map]
pub static ORIGINAL_DST: SkStorage<Record> = SkStorage::new();

/// Between a SYN and the accept queue: the same, by the flow.
#[btf_map]
pub static INFLIGHT: LruHashMap<Flow, Record, MAX_INFLIGHT> = LruHashMap::new();

/// Per socket that the agent accepted: the same; the agent reads it by file descriptor.
#[btf_map]
pub static ACCEPTED: SkStorage<Record> = SkStorage::new();

/// Which doors LSM programs answer, and how many processes are condemned.
#[btf_map]
pub static GUARD: Array<u64, GUARD_SLOTS> = Array::new();

/// The processes of workloads, by thread group id: the tagged cgroup that each belongs to. What a process is moved out
/// of is not to be seen any more when it is told of.
#[btf_map]
pub static MEMBERS: HashMap<u32, u64, MAX_MEMBERS, ON_DEMAND> = HashMap::new();

/// Processes, by thread group id, that end at their next system call: the tagged cgroup that they got away from.
#[btf_map]
pub static CONDEMNED: HashMap<u32, u64, MAX_CONDEMNED, ON_DEMAND> = HashMap::new();

/// What the guard did, for the ledger.
#[btf_map]
pub static GUARD_EVENTS: RingBuf<GuardEvent, GUARD_EVENT_BYTES> = RingBuf::new();

/// UNIX sockets that may be connected or sent to, by tagged cgroup and exact address.
#[btf_map]
pub static UNIX_RULES: HashMap<UnixKey, UnixRule, MAX_UNIX_RULES, ON_DEMAND> = HashMap::new();

/// Offset of `task_struct.group_leader`, bytes; written by the loader from the kernel's BTF.
#[unsafe(no_mangle)]
pub static TASK_GROUP_LEADER: Global<u32> = Global::new(0);

/// Offset of `task_struct.start_boottime`, bytes; written by the loader.
#[unsafe(no_mangle)]
pub static TASK_START_BOOTTIME: Global<u32> = Global::new(0);

/// The configuration; `None` until the agent has written one.
#[inline(always)]
pub fn config() -> Option<&'static Config> {
    CONFIG.get(0).filter(|config| config.port != 0)
}

/// A socket's record in `map`, made (zeroed) when `create` and it has none.
///
/// aya's own method takes the context of one program type only; the helper serves all of them.
///
/// # Safety
/// `sk` must be a socket of the running program's context, and not null: the verifier refuses it otherwise.
#[inline(always)]
pub unsafe fn record(
    map: &SkStorage<Record>,
    sk: *mut bpf_sock,
    create: bool,
) -> Option<&'static mut Record> {
    let flags = if create {
        u64::from(BPF_SK_STORAGE_GET_F_CREATE)
    } else {
        0
    };
    let map = core::ptr::from_ref(map).cast_mut().cast();
    let value: *mut Record =
        unsafe { bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), flags) }.cast();
    unsafe { value.as_mut() }
}

/// Adds one, atomically: a program can be preempted by another on the same CPU, and counts must reconcile.
///
/// # Safety
/// `counter` must point into a map's value.
#[inline(always)]
pub unsafe fn increment(counter: *mut u64) {
    unsafe {
        core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) 1_u64);
    }
}

/// Takes one away, atomically.
///
/// # Safety
/// As [`increment`].
#[inline(always)]
pub unsafe fn decrement(counter: *mut u64) {
    unsafe {
        core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) u64::MAX);
    }
}
