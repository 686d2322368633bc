//! The drop-in's text.

use std::{ffi::OsStr, fmt::Write as _, path::Path};

use anyhow::{Context as _, bail};

use crate::{cli::trust::TrustPlan, model::WorkloadName};

/// What it is made of.
pub(super) struct Parts<'a> {
    pub(super) unit: &'a str,
    pub(super) workload: &'a WorkloadName,
    pub(super) program: &'a Path,
    pub(super) config: &'a Path,
    pub(super) run_dir: &'a Path,
    pub(super) trust: &'a TrustPlan,
    pub(super) hardening: bool,
}

/// What closes further doors: AF_PACKET, AF_VSOCK and the like, io_uring, other processes' memory and descriptors, and the
/// way out of the cgroup. Lists that the unit has itself are narrowed by `~`, not replaced.
const HARDENING: &str = "
# Only the families that are gated. Sockets of others could leave unseen.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
# What could do on its behalf what the unit may not, or have it done in another process.
SystemCallFilter=~io_uring_setup io_uring_enter io_uring_register bpf pidfd_getfd process_vm_readv process_vm_writev
SystemCallErrorNumber=EPERM
# Root could write itself into another cgroup, or make and load what it likes.
ProtectControlGroups=yes
CapabilityBoundingSet=~CAP_SYS_ADMIN CAP_SYS_PTRACE CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_BOOT CAP_NET_ADMIN CAP_NET_RAW CAP_BPF CAP_PERFMON
";

/// The whole file.
pub(super) fn text(parts: &Parts<'_>) -> anyhow::Result<String> {
    let Parts { unit, workload, .. } = parts;
    let (program, config) = (word(parts.program)?, word(parts.config)?);
    let run_dir = word(parts.run_dir)?;
    let mut text = format!(
        "# Written by `portcullis tag --unit {unit} --workload {workload}`; `portcullis untag --unit {unit}` takes it away.
[Unit]
# Not Requires=: an upgrade of the daemon would restart this unit with it. The condition below is what this unit cannot
# start without.
Wants=portcullis.service
After=portcullis.service

[Service]
# Before anything else of this unit runs, its cgroup is tagged. 255 is a failure, where other statuses skip a unit quietly.
ExecCondition=+{program} --config {config} tag --here --trust %n --workload {workload}

# Trust in the host CA, which the daemon's certificates are signed by. The files are made anew at each
# start, by the condition above; \"-\" is for the condition itself, which comes before them.
Environment=\"PORTCULLIS_WORKLOAD={workload}\"
"
    );
    for (name, value) in &parts.trust.env {
        let (name, value) = (plain(name)?, plain(value)?);
        let _infallible = writeln!(text, "Environment=\"{name}={value}\"");
    }
    for (source, target) in parts.trust.mounts() {
        let (source, target) = (plain(source.as_os_str())?, word(target)?);
        let source = format!("{run_dir}/{}/%n/{source}", super::here::TRUST);
        let source = source.trim_end_matches('/');
        let _infallible = writeln!(text, "BindReadOnlyPaths=-{source}:{target}");
    }
    if parts.hardening {
        text.push_str(HARDENING);
    }
    Ok(text)
}

/// A path as one word of a unit file.
fn word(path: &Path) -> anyhow::Result<&str> {
    if !path.is_absolute() {
        bail!("{} is not an absolute path", path.display());
    }
    plain(path.as_os_str())
}

/// Text that means itself in a unit file: quoting, specifiers and variables have to be spelled otherwise, and nothing here
/// needs them.
fn plain(text: &OsStr) -> anyhow::Result<&str> {
    let text = text
        .to_str()
        .with_context(|| format!("{} is not UTF-8", text.display()))?;
    if text
        .chars()
        .any(|c| c.is_whitespace() || c.is_control() || "\"'\\%$:;".contains(c))
    {
        bail!("'{text}' has characters that mean something else in a unit file");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<'a>(trust: &'a TrustPlan, workload: &'a WorkloadName, config: &'a str) -> Parts<'a> {
        Parts {
            unit: "deploy-bot.service",
            workload,
            program: Path::new("/usr/bin/portcullis"),
            config: Path::new(config),
            run_dir: Path::new("/run/portcullis"),
            trust,
            hardening: true,
        }
    }

    #[test]
    fn it_tags_before_anything_runs() {
        let (trust, workload) = (TrustPlan::default(), WorkloadName::new("deploy-bot").unwrap());
        let with = text(&parts(&trust, &workload, "/etc/portcullis/portcullis.toml")).unwrap();
        assert!(with.contains(
            "\nExecCondition=+/usr/bin/portcullis --config /etc/portcullis/portcullis.toml tag --here --trust %n --workload deploy-bot\n"
        ));
        assert!(with.contains("\nAfter=portcullis.service\n") && !with.contains("\nRequires="));
        assert!(with.contains("\nProtectControlGroups=yes\n"));
        let without = text(&Parts {
            hardening: false,
            ..parts(&trust, &workload, "/c")
        });
        assert!(!without.unwrap().contains("RestrictAddressFamilies"));
    }

    #[test]
    fn what_would_mean_something_else_is_refused() {
        let (trust, workload) = (TrustPlan::default(), WorkloadName::new("w").unwrap());
        for config in ["/a b", "/a%n", "relative", "/a\nExecStart=/bin/sh", "/a\"b"] {
            assert!(text(&parts(&trust, &workload, config)).is_err(), "{config}");
        }
    }
}
