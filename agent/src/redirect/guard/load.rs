//! Programs that aya cannot load: on UNIX sockets, which call functions of the kernel, and on its security hooks.
//!
//! They are taken from the object that aya has loaded, with the maps that it made. Each is tried at run time and none is
//! needed: a kernel that refuses one is asked for its words, which are shown.

use std::{
    collections::HashSet,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
};

use aya::{
    Ebpf,
    maps::{Map, MapData},
};
use aya_obj::{Function, Object};

use super::{Unavailable, hooks::Hook};
use crate::redirect::{btf::Btf, sys};

/// `BPF_CALL`
const CALL: u8 = 0x85;
/// `BPF_PSEUDO_KFUNC_CALL`
const KFUNC: u8 = 2;
/// The made-up helpers of `ebpf/src/unix.rs`, and what they stand for.
const FUNCTIONS: [(i32, &str); 2] = [
    (0x7f00_0001, "bpf_cast_to_kern_ctx"),
    (0x7f00_0002, "bpf_sock_addr_set_sun_path"),
];
/// What `ebpf/src/unix.rs` takes for granted.
const CONTEXT: [(&str, u32); 2] = [("uaddr", 8), ("uaddrlen", 32)];
/// Characters that are kept of what the verifier says.
const WORDS: usize = 600;

/// A program that was loaded.
pub(in crate::redirect) struct Loaded {
    pub(super) hook: &'static Hook,
    pub(super) program: OwnedFd,
    pub(super) id: u32,
    pub(super) way: &'static str,
}

/// Loads what the host takes; the rest is told.
pub(super) fn load(ebpf: &Ebpf, object: &[u8], btf: &Btf) -> (Vec<Loaded>, Vec<Unavailable>) {
    let (mut loaded, mut unavailable) = (Vec::new(), Vec::new());
    let linked = link(ebpf, object);
    for hook in super::hooks::HOOKS {
        if loaded.iter().any(|one: &Loaded| one.hook.program == hook.instead_of) {
            continue;
        }
        let tried = linked
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|object| load_one(object, hook, btf));
        match tried {
            Ok(program) => loaded.push(program),
            Err(why) => unavailable.push(Unavailable {
                program: hook.program,
                why,
            }),
        }
    }
    (loaded, unavailable)
}

/// The object, its references to maps and functions resolved.
fn link(ebpf: &Ebpf, object: &[u8]) -> Result<Object, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let mut object = Object::parse(object).map_err(|error| said(&error))?;
    let maps = std::mem::take(&mut object.maps);
    let found: Vec<(String, RawFd, aya_obj::Map)> = maps
        .into_iter()
        .filter_map(|(name, map)| {
            let fd = descriptor(ebpf.map(&name)?)?.as_raw_fd();
            Some((name, fd, map))
        })
        .collect();
    let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let all = found.iter().map(|(name, fd, map)| (name.as_str(), *fd, map));
    object
        .relocate_maps(all, &sections)
        .map_err(|error| said(&error))?;
    object.relocate_calls(&sections).map_err(|error| said(&error))?;
    Ok(object)
}

fn descriptor(map: &Map) -> Option<BorrowedFd<'_>> {
    let data: &MapData = match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuHashMap(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data)
        | Map::PerfEventArray(data)
        | Map::SkStorage(data) => data,
        _ => return None,
    };
    Some(data.fd().as_fd())
}

fn load_one(object: &Object, hook: &'static Hook, btf: &Btf) -> Result<Loaded, String> {
    let program = object.programs.get(hook.program).ok_or("not in the object")?;
    let mut function = object
        .functions
        .get(&program.function_key())
        .ok_or("not in the object")?
        .clone();
    if hook.attach == super::hooks::Attach::Cgroup {
        call_functions(&mut function, btf)?;
    }
    let instructions = words(&function);
    let mut said = String::new();
    for way in hook.ways(btf)? {
        let program = sys::load::Program {
            kind: way.kind,
            attach_type: way.attach_type,
            function: way.function,
            instructions: &instructions,
        };
        match sys::load::prog_load(&program) {
            Ok(program) => {
                let id = sys::load::prog_id(program.as_fd()).map_err(|error| error.to_string())?;
                return Ok(Loaded {
                    hook,
                    program,
                    id,
                    way: way.name,
                });
            }
            Err((error, log)) => {
                let from = log.ceil_char_boundary(log.len().saturating_sub(WORDS));
                let log = log.get(from..).unwrap_or_default();
                said = format!("{}: {error} {log}", way.name).trim_end().to_owned();
            }
        }
    }
    Err(said)
}

/// Puts the kernel's functions in place of what stands for them.
fn call_functions(function: &mut Function, btf: &Btf) -> Result<(), String> {
    for (member, expected) in CONTEXT {
        if btf.offset("bpf_sock_addr_kern", member) != Some(expected) {
            return Err("the kernel has no programs on UNIX sockets (Linux 6.7)".into());
        }
    }
    for instruction in &mut function.instructions {
        if instruction.code != CALL || instruction.src_reg() != 0 {
            continue;
        }
        let Some((_, name)) = FUNCTIONS.iter().find(|(number, _)| *number == instruction.imm) else {
            continue;
        };
        let id = btf
            .function(name)
            .and_then(|id| i32::try_from(id).ok())
            .ok_or_else(|| format!("the kernel has no function {name} (Linux 6.7)"))?;
        instruction.set_src_reg(KFUNC);
        (instruction.imm, instruction.off) = (id, 0);
    }
    Ok(())
}

/// `struct bpf_insn`: code, registers, offset, immediate value.
fn words(function: &Function) -> Vec<u64> {
    function
        .instructions
        .iter()
        .map(|instruction| {
            let [low, high] = instruction.off.to_le_bytes();
            let registers = instruction.dst_reg() | instruction.src_reg() << 4;
            let [a, b, c, d] = instruction.imm.to_le_bytes();
            u64::from_le_bytes([instruction.code, registers, low, high, a, b, c, d])
        })
        .collect()
}
