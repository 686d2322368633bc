//! The maps, and the one way to each.
//!
//! `ORIGINAL_DST`, `ASKED` and `ACCEPTED` live and die with their sockets; nothing cleans them up.

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    btf_maps::{Array, HashMap, LruHashMap, PerCpuHashMap, RingBuf, SkStorage},
    helpers::generated::bpf_sk_storage_get,
    macros::btf_map,
};
use portcullis_abi::{
    Counters, Exempt, Flow, MAX_DATAGRAMS, MAX_EXEMPT, MAX_INFLIGHT, MAX_NETNS, MAX_SENDING, MAX_TAGGED,
    Ports, Record, SITE_SLOTS, STRANGE_BYTES, Strange, Tag,
    guard::{GUARD_EVENT_BYTES, GUARD_SLOTS, GuardEvent, MAX_CONDEMNED, MAX_UNIX_RULES, UnixKey, UnixRule},
};

/// Memory for what is there, not for what could be: only the agent inserts, and on many CPUs it would be much.
const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

/// Where the agent listens, by cookie of the network namespace.
#[btf_map]
pub static NETNS: HashMap<u64, Ports, MAX_NETNS, ON_DEMAND> = HashMap::new();

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

/// Per UDP socket of a workload: what the last datagram with an address asked for. Not `ORIGINAL_DST`, which is the peer
/// of a connected one.
#[btf_map]
pub static ASKED: SkStorage<Record> = SkStorage::new();

/// Between the hook and the packet: what a thread's datagram asked for, by the address of its task.
#[btf_map]
pub static SENDING: LruHashMap<u64, Record, MAX_SENDING> = LruHashMap::new();

/// Between the packet and the agent: the same, by the token in the packet's mark.
#[btf_map]
pub static DATAGRAMS: LruHashMap<u32, Record, MAX_DATAGRAMS> = LruHashMap::new();

/// Network namespaces that the agent should listen in.
#[btf_map]
pub static STRANGE: RingBuf<Strange, STRANGE_BYTES> = RingBuf::new();

/// What passes by exemption.
#[btf_map]
pub static EXEMPT: Array<Exempt, MAX_EXEMPT> = Array::new();

/// How often each exemption was used: connects, sends, and packets.
#[btf_map]
pub static EXEMPT_USED: Array<u64, MAX_EXEMPT> = Array::new();

/// Which of them are a tagged cgroup's: a bit each.
#[btf_map]
pub static EXEMPT_OF: HashMap<u64, u64, MAX_TAGGED, ON_DEMAND> = HashMap::new();

/// What holds for the host: which doors LSM programs answer, whether processes may be held, and how many are condemned.
#[btf_map]
pub static GUARD: Array<u64, GUARD_SLOTS> = Array::new();

/// Processes, by thread group id, that end at their next system call: the tagged cgroup that they got away from.
#[btf_map]
pub static CONDEMNED: HashMap<u32, u64, MAX_CONDEMNED, ON_DEMAND> = HashMap::new();

/// What the guard did, for the ledger.
#[btf_map]
pub static GUARD_EVENTS: RingBuf<GuardEvent, GUARD_EVENT_BYTES> = RingBuf::new();

/// UNIX sockets that may be connected or sent to, by tagged cgroup and exact address.
#[btf_map]
pub static UNIX_RULES: HashMap<UnixKey, UnixRule, MAX_UNIX_RULES, ON_DEMAND> = HashMap::new();

/// Where the agent listens in a network namespace; `None` where it does not.
#[inline(always)]
pub fn ports(netns: u64) -> Option<Ports> {
    NETNS.get_ptr(netns).map(|ports| unsafe { *ports })
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
