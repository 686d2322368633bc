//! The list: what is needed, what for, how to see that it is there, and how to bring it.

use std::{path::Path, process::Command};

use crate::step::{command, succeeds};

/// The release of bpf-linker that `ebpf/` is built with; its LLVM must not be older than the compiler's.
const BPF_LINKER: &str = "0.13.0";
/// The oldest minor release of the compiler, from 1, that `ebpf/Cargo.lock` builds with.
const EBPF_RUSTC: u32 = 91;
const LLVM: &str = "/usr/lib/llvm-22";

/// One thing that is needed.
pub struct Need {
    /// What it is.
    pub name: &'static str,
    /// What it is for.
    pub why: &'static str,
    /// Whether it is there.
    pub present: fn() -> bool,
    /// What brings it.
    pub remedy: Remedy,
}

/// What brings a thing that is missing.
pub enum Remedy {
    /// Debian packages.
    Apt(&'static [&'static str]),
    /// Commands, in order.
    Run(&'static [fn() -> Command]),
    /// Nothing that this program may do: what to tell the admin.
    Admin(&'static str),
}

impl Need {
    /// Whether it is there now.
    pub fn met(&self) -> bool {
        (self.present)()
    }
}

/// Everything, in the order in which it has to come.
pub fn all() -> Vec<Need> {
    let mut all = host();
    all.extend(toolchain());
    all.extend(tests());
    all.extend(dns());
    all.extend(postgres());
    all
}

/// What `cargo xtask dist` takes beside Rust: nothing of it is needed for anything else.
pub fn for_dist() -> Vec<Need> {
    let mut all = toolchain();
    all.extend(vec![
        Need {
            name: "cargo-deb",
            why: "makes the Debian package",
            present: || packer("deb"),
            remedy: Remedy::Run(&[|| install_packer("cargo-deb", "3.8.0")]),
        },
        Need {
            name: "cargo-generate-rpm",
            why: "makes the RPM package",
            present: || packer("generate-rpm"),
            remedy: Remedy::Run(&[|| install_packer("cargo-generate-rpm", "0.21.1")]),
        },
        Need {
            name: "cargo-cyclonedx",
            why: "writes the bill of materials",
            present: || packer("cyclonedx"),
            remedy: Remedy::Run(&[|| install_packer("cargo-cyclonedx", "0.5.9")]),
        },
        Need {
            name: "dpkg-dev",
            why: "finds the libraries that the binary needs, for the Debian package",
            present: || succeeds("dpkg-shlibdeps", &["--version"]),
            remedy: Remedy::Apt(&["dpkg-dev"]),
        },
    ]);
    all.extend(readers());
    all
}

/// What opens packages again once they are made.
fn readers() -> Vec<Need> {
    vec![
        Need {
            name: "rpm",
            why: "installs the RPM package, in a root of its own",
            present: || succeeds("rpm", &["--version"]),
            remedy: Remedy::Apt(&["rpm"]),
        },
        busybox(),
        Need {
            name: "lintian",
            why: "knows what Debian wants of packages",
            present: || succeeds("lintian", &["--version"]),
            remedy: Remedy::Apt(&["lintian"]),
        },
        Need {
            name: "man",
            why: "formats manual pages, and says what is wrong in them",
            present: || succeeds("man", &["--version"]),
            remedy: Remedy::Apt(&["man-db"]),
        },
        Need {
            name: "systemd-analyze",
            why: "reads units as systemd does",
            present: || succeeds("systemd-analyze", &["--version"]),
            remedy: Remedy::Apt(&["systemd"]),
        },
    ]
}

fn packer(name: &str) -> bool {
    crate::step::cargo()
        .args([name, "--help"])
        .output()
        .is_ok_and(|said| said.status.success())
}

fn install_packer(name: &str, version: &str) -> Command {
    let mut command = crate::step::cargo();
    command
        .args(["install", name, "--version", version, "--locked"])
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .current_dir("/");
    command
}

fn host() -> Vec<Need> {
    vec![
        Need {
            name: "root",
            why: "eBPF, cgroups and network namespaces, in demo and tests",
            present: run_as_root,
            remedy: Remedy::Admin("run this as root"),
        },
        Need {
            name: "kernel BTF",
            why: "how eBPF programs find the kernel's structures",
            present: || Path::new("/sys/kernel/btf/vmlinux").exists(),
            remedy: Remedy::Admin("boot a kernel built with CONFIG_DEBUG_INFO_BTF, 5.10 or later"),
        },
        Need {
            name: "cgroup2",
            why: "workloads are cgroups of the unified hierarchy; a hybrid layout is fine",
            present: || mounted("cgroup2"),
            remedy: Remedy::Admin("mount it: mount -t cgroup2 none /sys/fs/cgroup/unified"),
        },
        Need {
            name: "bpffs",
            why: "where links and maps outlive the daemon",
            present: || mounted("bpf"),
            remedy: Remedy::Run(&[|| command("mount", &["-t", "bpf", "bpf", "/sys/fs/bpf"])]),
        },
    ]
}

fn toolchain() -> Vec<Need> {
    vec![
        Need {
            name: "C compiler",
            why: "SQLite, zstd and AWS-LC are built from C",
            present: || succeeds("cc", &["--version"]) && succeeds("make", &["--version"]),
            remedy: Remedy::Apt(&["build-essential"]),
        },
        Need {
            name: "rustfmt, clippy",
            why: "checks",
            present: || {
                succeeds("cargo", &["fmt", "--version"]) && succeeds("cargo", &["clippy", "--version"])
            },
            remedy: Remedy::Run(&[|| command("rustup", &["component", "add", "rustfmt", "clippy"])]),
        },
        Need {
            name: "rustc-web",
            why: "compiles eBPF: core is built from source, which takes Debian's compiler and its rust-src",
            present: || ebpf_rustc() && installed(&["rustc-web", "rust-web-src"]),
            remedy: Remedy::Apt(&["rustc-web", "rust-web-src"]),
        },
        Need {
            name: "libclang",
            why: "reads the C headers of PostgreSQL's own parser while that is built",
            present: || installed(&["libclang1-14", "libclang-common-14-dev"]),
            remedy: Remedy::Apt(&["libclang1-14", "libclang-common-14-dev"]),
        },
        Need {
            name: "llvm-22-dev",
            why: "the LLVM that bpf-linker links with",
            present: || installed(&["llvm-22-dev", "libzstd-dev", "zlib1g-dev"]),
            remedy: Remedy::Apt(&["llvm-22-dev", "libzstd-dev", "zlib1g-dev"]),
        },
        Need {
            name: "bpf-linker",
            why: "links the eBPF object; built from source in about a minute",
            present: bpf_linker,
            remedy: Remedy::Run(&[install_bpf_linker]),
        },
    ]
}

fn tests() -> Vec<Need> {
    vec![
        Need {
            name: "nginx",
            why: "the real upstream of demo, tests and benchmarks",
            present: || succeeds("/usr/sbin/nginx", &["-v"]),
            remedy: Remedy::Apt(&["nginx-light"]),
        },
        Need {
            name: "curl",
            why: "a real client",
            present: || succeeds("curl", &["--version"]),
            remedy: Remedy::Apt(&["curl"]),
        },
        Need {
            name: "openssl",
            why: "a real client: openssl s_client",
            present: || succeeds("openssl", &["version"]),
            remedy: Remedy::Apt(&["openssl"]),
        },
        Need {
            name: "CA bundle",
            why: "the roots that the host trusts, which workloads see with the host CA added",
            present: || Path::new("/etc/ssl/certs/ca-certificates.crt").exists(),
            remedy: Remedy::Apt(&["ca-certificates"]),
        },
        Need {
            name: "crun",
            why: "runs the containers of the redirect and client tests",
            present: || succeeds("crun", &["--version"]),
            remedy: Remedy::Apt(&["crun"]),
        },
        Need {
            name: "podman",
            why: "makes a container with a bridge of its own inside of a workload, in the client tests",
            present: || succeeds("podman", &["--version"]),
            remedy: Remedy::Apt(&["podman"]),
        },
        busybox(),
        Need {
            name: "ip, nsenter",
            why: "network namespaces for the tests",
            present: || succeeds("ip", &["-Version"]) && succeeds("nsenter", &["--version"]),
            remedy: Remedy::Apt(&["iproute2", "util-linux"]),
        },
        Need {
            name: "Python requests",
            why: "a real client with a bundle of its own",
            present: || {
                ["python3", "/usr/bin/python3"]
                    .iter()
                    .any(|p| succeeds(p, &["-c", "import requests"]))
            },
            remedy: Remedy::Apt(&["python3", "python3-requests"]),
        },
        Need {
            name: "Node fetch",
            why: "a real client with roots compiled in; Node 18 or later",
            present: || {
                succeeds(
                    "node",
                    &["-e", "process.exit(typeof fetch === 'function' ? 0 : 1)"],
                )
            },
            remedy: Remedy::Apt(&["nodejs"]),
        },
        Need {
            name: "npm",
            why: "brings the certified OIDC provider that identity is tested against, node-postgres, and what drives Chromium",
            present: || succeeds("npm", &["--version"]),
            remedy: Remedy::Apt(&["npm"]),
        },
        Need {
            name: "Chromium",
            why: "a real browser, without a screen, for the approvers' page and for reports",
            present: || succeeds("/usr/bin/chromium", &["--version"]),
            remedy: Remedy::Apt(&["chromium"]),
        },
        Need {
            name: "sqlite3",
            why: "auditors read the ledger with it, and so does the tour in README.md",
            present: || succeeds("sqlite3", &["-version"]),
            remedy: Remedy::Apt(&["sqlite3"]),
        },
        Need {
            name: "rsyslog",
            why: "a real receiver of syslog over TLS; only its program, no service is needed",
            present: || succeeds("/usr/sbin/rsyslogd", &["-v"]) && installed(&["rsyslog-gnutls"]),
            remedy: Remedy::Apt(&["rsyslog", "rsyslog-gnutls"]),
        },
        Need {
            name: "wrk",
            why: "an independent load generator, to check the benchmark's own",
            // wrk has no option that succeeds without sending load.
            present: || Path::new("/usr/bin/wrk").exists(),
            remedy: Remedy::Apt(&["wrk"]),
        },
    ]
}

/// DNS: a client, and a server.
fn dns() -> Vec<Need> {
    vec![
        Need {
            name: "dig",
            why: "a real client of DNS",
            present: || succeeds("dig", &["-v"]),
            remedy: Remedy::Apt(&["bind9-dnsutils"]),
        },
        Need {
            name: "kdig",
            why: "a real client of DNS over TLS",
            present: || succeeds("kdig", &["-V"]),
            remedy: Remedy::Apt(&["knot-dnsutils"]),
        },
        Need {
            name: "Knot DNS",
            why: "a real authoritative server of DNS; only its program, no service is needed",
            present: || succeeds("/usr/sbin/knotd", &["-V"]),
            remedy: Remedy::Apt(&["knot"]),
        },
    ]
}

/// Real PostgreSQL and its clients. What comes from PyPI and npm is pinned beside the tests that install it.
fn postgres() -> Vec<Need> {
    vec![
        Need {
            name: "PostgreSQL 15",
            why: "the real server, with pgbench; only its programs, no database is made or started",
            present: || {
                ["postgres", "initdb", "pgbench", "psql", "pg_dump"]
                    .iter()
                    .all(|p| succeeds(&format!("/usr/lib/postgresql/15/bin/{p}"), &["--version"]))
            },
            remedy: Remedy::Apt(&["postgresql-15", "postgresql-client-15"]),
        },
        Need {
            name: "venv",
            why: "holds psycopg, asyncpg and pg8000, real clients, and the models and schema that reports in OSCAL are held to",
            present: || succeeds("/usr/bin/python3", &["-c", "import ensurepip, venv"]),
            remedy: Remedy::Apt(&["python3", "python3-venv"]),
        },
        Need {
            name: "JDBC",
            why: "a real client: Java's PostgreSQL driver, and what compiles the test of it",
            present: || {
                succeeds("javac", &["-version"])
                    && succeeds("java", &["-version"])
                    && Path::new("/usr/share/java/postgresql.jar").exists()
            },
            remedy: Remedy::Apt(&["default-jdk-headless", "libpostgresql-jdbc-java"]),
        },
        Need {
            name: "haproxy",
            why: "a plain TCP relay, to compare with in the benchmark",
            present: || succeeds("/usr/sbin/haproxy", &["-v"]),
            remedy: Remedy::Apt(&["haproxy"]),
        },
    ]
}

/// What only `cargo xtask kernels` needs.
pub fn for_kernels() -> Vec<Need> {
    vec![
        Need {
            name: "qemu",
            why: "emulates the machines that other kernels run in",
            present: || succeeds("qemu-system-x86_64", &["--version"]),
            remedy: Remedy::Apt(&["qemu-system-x86"]),
        },
        Need {
            name: "mmdebstrap",
            why: "makes the Debian root that they start",
            present: || succeeds("mmdebstrap", &["--version"]),
            remedy: Remedy::Apt(&["mmdebstrap"]),
        },
        Need {
            name: "mkfs.ext4",
            why: "makes their disks",
            present: || succeeds("mkfs.ext4", &["-V"]),
            remedy: Remedy::Apt(&["e2fsprogs"]),
        },
        Need {
            name: "busybox, depmod, xz",
            why: "make the initramfs that finds the disks",
            present: || {
                succeeds("/bin/busybox", &["true"])
                    && succeeds("depmod", &["--version"])
                    && succeeds("xz", &["--version"])
            },
            remedy: Remedy::Apt(&["busybox-static", "kmod", "xz-utils"]),
        },
    ]
}

fn busybox() -> Need {
    Need {
        name: "busybox",
        why: "a shell that needs nothing else, in roots of their own: a container's, and one to install packages in",
        present: || succeeds("/bin/busybox", &["true"]),
        remedy: Remedy::Apt(&["busybox-static"]),
    }
}

fn run_as_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

fn mounted(kind: &str) -> bool {
    std::fs::read_to_string("/proc/mounts")
        .is_ok_and(|mounts| mounts.lines().any(|l| l.split(' ').nth(2) == Some(kind)))
}

/// Whether Debian packages are fully installed.
pub fn installed(packages: &[&str]) -> bool {
    packages.iter().all(|package| {
        Command::new("dpkg-query")
            .args(["--show", "--showformat", "${db:Status-Abbrev}", package])
            .output()
            .is_ok_and(|o| o.status.success() && o.stdout.starts_with(b"ii"))
    })
}

/// Whether Debian's compiler is recent enough for what `ebpf/` is built with; the release that a distribution began
/// with is not.
fn ebpf_rustc() -> bool {
    Command::new("/usr/bin/rustc")
        .arg("--version")
        .output()
        .is_ok_and(|o| minor_of(&String::from_utf8_lossy(&o.stdout)) >= Some(EBPF_RUSTC))
}

/// `rustc 1.96.0 (...)`: 96.
fn minor_of(version: &str) -> Option<u32> {
    version.strip_prefix("rustc 1.")?.split('.').next()?.parse().ok()
}

fn bpf_linker() -> bool {
    let mut command = command("bpf-linker", &["--version"]);
    with_cargo_bin(&mut command);
    command
        .output()
        .is_ok_and(|o| o.status.success() && String::from_utf8_lossy(&o.stdout).trim().ends_with(BPF_LINKER))
}

fn install_bpf_linker() -> Command {
    let mut command = crate::step::cargo();
    command.args([
        "install",
        "bpf-linker",
        "--version",
        BPF_LINKER,
        "--locked",
        "--force",
    ]);
    command.args(["--no-default-features", "--features", "llvm-22"]);
    command.env("LLVM_PREFIX", LLVM);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{LLVM}/bin:{path}"));
    // Its build must not follow settings that are meant for this workspace.
    command
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .current_dir("/");
    command
}

/// `cargo install` puts programs where PATH does not always look.
fn with_cargo_bin(command: &mut Command) {
    if let Some(home) = std::env::var_os("CARGO_HOME")
        .map(std::path::PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|h| Path::new(&h).join(".cargo")))
    {
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", home.join("bin").display()));
    }
}

#[cfg(test)]
mod tests {
    use super::minor_of;

    #[test]
    fn versions_are_read() {
        assert_eq!(
            minor_of("rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)"),
            Some(96)
        );
        assert_eq!(minor_of("rustc 1.85.0"), Some(85));
        assert_eq!(minor_of("no compiler"), None);
    }
}
