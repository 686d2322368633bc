//! An exec, as policy and ledger read it.

use std::{collections::BTreeMap, ffi::OsString, net::Ipv6Addr, sync::Arc};

use crate::{
    model::{Ancestor, Destination, Operation, OperationId, Process, Resource, Value},
    redirect::{Executed, Found, Kind, Program},
};

/// The process, as entries have it.
pub(super) fn process(executed: &Executed, found: &Found) -> Process {
    let (pid, start_ns) = executed.process;
    Process {
        pid,
        tid: pid,
        uid: executed.uid,
        gid: executed.gid,
        start_ns,
        exe: found.program.path.clone(),
        cgroup: None,
        sha256: found.program.sha256.clone(),
        parents: found.parents.clone(),
    }
}

/// The operation.
pub(super) fn operation(executed: &Executed, found: &Found) -> Operation {
    let path = path(&found.program);
    let mut incomplete = Vec::new();
    if found.program.path.is_none() {
        incomplete.push("path");
    }
    if found.program.sha256.is_none() {
        incomplete.push("sha256");
    }
    if !executed.args_complete {
        incomplete.push("args");
    }
    if executed.file.made_up {
        incomplete.push("made_up");
    }
    if found.unread {
        incomplete.push("unread");
    }
    if found.unread || (found.kind != Kind::Program && found.given.sha256.is_none()) {
        incomplete.push("given");
    }
    if executed.writers || found.program.memfd {
        incomplete.push("writable");
    }
    let words: Vec<Value> = executed
        .args
        .iter()
        .map(|w| w.to_string_lossy().into_owned().into())
        .collect();
    let mut record = BTreeMap::from([
        ("access", "admin".into()),
        ("args", Value::Set(words.into())),
        ("args_bytes", i64::from(executed.args_bytes).into()),
        ("args_complete", executed.args_complete.into()),
        ("command", command(&executed.args).into()),
        ("complete", incomplete.is_empty().into()),
        (
            "incomplete",
            Value::Set(incomplete.into_iter().map(Value::from).collect()),
        ),
        ("kind", found.kind.as_str().into()),
        ("loader", found.program.loader.into()),
        ("memfd", found.program.memfd.into()),
        ("name", executed.name.to_string_lossy().into_owned().into()),
        ("parents", Value::Set(parents(&found.parents))),
        ("path", path.clone().into()),
        ("host", found.program.host.into()),
        ("uid", i64::from(executed.uid).into()),
        ("device", i64::from(executed.file.dev).into()),
        (
            "inode",
            i64::try_from(executed.file.ino).unwrap_or(i64::MAX).into(),
        ),
    ]);
    let mut set = |name, value: Option<Value>| {
        if let Some(value) = value {
            record.insert(name, value);
        }
    };
    set("sha256", found.program.sha256.clone().map(Value::String));
    set(
        "cwd",
        found
            .cwd
            .as_ref()
            .map(|c| c.to_string_lossy().into_owned().into()),
    );
    set(
        "given",
        found
            .given
            .path
            .as_ref()
            .map(|p| p.to_string_lossy().into_owned().into()),
    );
    set("given_sha256", found.given.sha256.clone().map(Value::String));
    let given = found.given.path.is_some().then_some(found.given.host);
    set("given_host", given.map(Value::from));
    let hash = found.program.sha256.iter();
    Operation {
        id: OperationId::new(),
        protocol: "exec",
        action: "exec:run",
        resource: Resource {
            kind: "Executable",
            id: path,
            attributes: Vec::new(),
            parents: hash.map(|h| ("ExecutableHash", h.clone())).collect(),
        },
        // It goes nowhere: entries leave it out.
        destination: Destination {
            address: Ipv6Addr::UNSPECIFIED.into(),
            port: 0,
            name: None,
            name_verified: false,
        },
        context: ("exec", Value::Record(record)),
        recorded_context: None,
        recorded_resource: None,
        credential: None,
    }
}

/// Of what nobody could tell, a text that is no path.
fn path(program: &Program) -> Arc<str> {
    let path = program.path.as_ref().map(|p| p.to_string_lossy());
    path.map_or_else(|| "unknown".into(), |p| p.as_ref().into())
}

fn parents(parents: &[Ancestor]) -> Arc<[Value]> {
    let paths = parents.iter().filter_map(|p| p.exe.as_ref());
    paths.map(|p| p.to_string_lossy().into_owned().into()).collect()
}

/// The arguments as one line, for people and for patterns.
fn command(args: &[OsString]) -> String {
    let words: Vec<_> = args.iter().map(|w| w.to_string_lossy()).collect();
    words.join(" ")
}
