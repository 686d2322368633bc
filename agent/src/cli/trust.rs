//! How trust in the host CA reaches a workload without its help: copies of the system's CA bundles with the host CA
//! added, to be mounted over the originals in the workload's mount namespace, and variables for toolchains that carry
//! a bundle of their own.
//!
//! A plan is data: nothing is changed by making one. Not covered: Java (its key store is a binary of its own), NSS
//! (Firefox, Chromium), and programs that pin a certificate.

mod hash;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Files that hold a whole bundle: Debian, RHEL, Alpine, SUSE, and what OpenSSL builds look for.
const BUNDLES: &[&str] = &[
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "etc/ssl/ca-bundle.pem",
    "etc/ssl/cert.pem",
    "etc/pki/tls/cert.pem",
    "usr/lib/ssl/cert.pem",
    "usr/local/ssl/cert.pem",
];
/// Directories that OpenSSL searches by subject hash.
const DIRECTORIES: &[&str] = &[
    "etc/ssl/certs",
    "etc/pki/tls/certs",
    "etc/pki/ca-trust/extracted/pem/directory-hash",
    "usr/lib/ssl/certs",
    "usr/local/ssl/certs",
];
/// Variables that name a bundle instead of the program's own: OpenSSL and Go, curl, Python, git, pip, cargo, AWS,
/// gRPC, Google Cloud, Nix, Elixir, Perl.
const BUNDLE_VARIABLES: &[&str] = &[
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HTTPLIB2_CA_CERTS",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "NIX_SSL_CERT_FILE",
    "HEX_CACERTS_PATH",
    "PERL_LWP_SSL_CA_FILE",
];
/// Variables that name roots beside the program's own: Node, Deno.
const EXTRA_VARIABLES: &[&str] = &["NODE_EXTRA_CA_CERTS", "DENO_CERT"];
/// Switches to the system's bundle: uv, by its old and its new name.
const SWITCHES: &[(&str, &str)] = &[("UV_NATIVE_TLS", "true"), ("UV_SYSTEM_CERTS", "true")];

/// The whole bundle, in the workload's view of `[host] run_dir`.
pub const BUNDLE: &str = "ca-bundle.pem";
/// The host CA, and roots that [`EXTRA_VARIABLES`] named before.
pub const EXTRA: &str = "extra-ca.pem";
/// The host CA's name in a hashed directory.
const IN_DIRECTORY: &str = "portcullis-host-ca.pem";

/// The most that is copied: a directory above it is left alone, with a warning.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
const MAX_ENTRIES: usize = 20_000;
const MAX_DEPTH: usize = 4;

/// One bind mount, read-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted: a file or directory.
    pub source: PathBuf,
    /// Over what: a file or directory that exists.
    pub target: PathBuf,
}

/// One thing to make.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Directory,
    File { content: Vec<u8>, mode: u32 },
    Link(PathBuf),
}

/// What is to be made, mounted and set so that a workload trusts the host CA.
#[derive(Debug, Default)]
pub struct TrustPlan {
    /// By path below the directory it will be made in.
    items: BTreeMap<PathBuf, Item>,
    /// Sources are below that directory.
    mounts: Vec<Mount>,
    /// Variables for the workload.
    pub env: Vec<(OsString, OsString)>,
    /// What could not be done, for the user to read.
    pub warnings: Vec<String>,
}

/// Where a plan finds things.
pub struct Sources<'a> {
    /// `/`, but in tests.
    pub root: &'a Path,
    /// The host CA's certificate, PEM.
    pub ca_pem: &'a str,
    /// Where the workload will see the directory that is made: `[host] run_dir`, which it hides.
    pub seen_at: &'a Path,
    /// The variables that the workload would have otherwise.
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
}

impl TrustPlan {
    /// Plans; reads the system's bundles and directories.
    ///
    /// # Errors
    /// When a system bundle cannot be read, or the host CA cannot be parsed.
    pub fn new(sources: &Sources<'_>) -> io::Result<Self> {
        let mut plan = Self::default();
        let hash = hash::subject_hash(sources.ca_pem.as_bytes()).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the host CA's certificate cannot be parsed",
            )
        })?;
        let real = |names: &[&str], wanted: fn(&Path) -> bool| -> Vec<PathBuf> {
            let mut seen = BTreeSet::new();
            let paths = names
                .iter()
                .filter_map(|n| fs::canonicalize(sources.root.join(n)).ok());
            paths.filter(|p| wanted(p) && seen.insert(p.clone())).collect()
        };
        let bundles = real(BUNDLES, Path::is_file);
        let mut directories = real(DIRECTORIES, Path::is_dir);
        let all = directories.clone();
        directories.retain(|d| !all.iter().any(|other| other != d && d.starts_with(other)));
        directories.retain(|d| plan.add_directory(d, &hash, &bundles, sources.ca_pem));
        for (number, bundle) in bundles.iter().enumerate() {
            if !directories.iter().any(|d| bundle.starts_with(d)) {
                let name = PathBuf::from(format!("bundle-{number}.pem"));
                plan.add_file(name.clone(), with_ca(fs::read(bundle)?, sources.ca_pem));
                plan.mounts.push(Mount {
                    source: name,
                    target: bundle.clone(),
                });
            }
        }
        plan.add_variables(sources, bundles.first())?;
        plan.mounts.push(Mount {
            source: PathBuf::new(),
            target: sources.seen_at.into(),
        });
        Ok(plan)
    }

    /// Makes everything below `dir`, which exists and is empty, and gives the mounts with their full sources.
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn make(&self, dir: &Path) -> io::Result<Vec<Mount>> {
        for (name, item) in &self.items {
            let path = dir.join(name);
            match item {
                Item::Directory => fs::DirBuilder::new().mode(0o755).recursive(true).create(&path)?,
                Item::Link(target) => std::os::unix::fs::symlink(target, &path)?,
                Item::File { content, mode } => {
                    let mut file = fs::OpenOptions::new()
                        .write(true)
                        .create_new(true)
                        .mode(*mode)
                        .open(&path)?;
                    // Whatever the umask: the workload may be another user.
                    file.set_permissions(fs::Permissions::from_mode(*mode))?;
                    io::Write::write_all(&mut file, content)?;
                }
            }
        }
        let full = |m: &Mount| Mount {
            source: dir.join(&m.source),
            target: m.target.clone(),
        };
        Ok(self.mounts.iter().map(full).collect())
    }

    /// The bind mounts: sources below the directory that everything is made in, and targets.
    pub fn mounts(&self) -> impl Iterator<Item = (&Path, &Path)> {
        self.mounts
            .iter()
            .map(|m| (m.source.as_path(), m.target.as_path()))
    }

    fn add_file(&mut self, name: PathBuf, content: Vec<u8>) {
        self.items.insert(name, Item::File { content, mode: 0o644 });
    }

    /// Plans a copy of a hashed directory; says whether it did.
    fn add_directory(&mut self, dir: &Path, hash: &str, bundles: &[PathBuf], ca_pem: &str) -> bool {
        let name = PathBuf::from(format!("dir-{}", self.mounts.len()));
        let mut copy = BTreeMap::from([(name.clone(), Item::Directory)]);
        let mut budget = MAX_BYTES;
        if let Err(e) = copy_tree(dir, &name, 0, &mut budget, &mut copy) {
            self.warnings
                .push(format!("{}: left as it is: {e}", dir.display()));
            return false;
        }
        for bundle in bundles {
            let inside = bundle
                .strip_prefix(dir)
                .ok()
                .and_then(|inside| copy.get_mut(&name.join(inside)));
            if let Some(Item::File { content, .. }) = inside {
                *content = with_ca(std::mem::take(content), ca_pem);
            }
        }
        let ca = Item::File {
            content: ca_pem.into(),
            mode: 0o644,
        };
        copy.insert(name.join(IN_DIRECTORY), ca);
        let free = (0..100)
            .map(|n| name.join(format!("{hash}.{n}")))
            .find(|p| !copy.contains_key(p));
        if let Some(link) = free {
            copy.insert(link, Item::Link(IN_DIRECTORY.into()));
        }
        self.items.append(&mut copy);
        self.mounts.push(Mount {
            source: name,
            target: dir.into(),
        });
        true
    }

    /// Plans the two files that variables name. What a variable named before is kept in them.
    fn add_variables(&mut self, sources: &Sources<'_>, system: Option<&PathBuf>) -> io::Result<()> {
        let mut bundle = match system {
            Some(path) => fs::read(path)?,
            None => Vec::new(),
        };
        let mut extra = Vec::new();
        let mut seen: BTreeSet<PathBuf> = system.cloned().into_iter().collect();
        for (name, into) in BUNDLE_VARIABLES
            .iter()
            .map(|n| (n, false))
            .chain(EXTRA_VARIABLES.iter().map(|n| (n, true)))
        {
            let Some(value) = (sources.env)(name).filter(|v| !v.is_empty()) else {
                continue;
            };
            let Ok(path) = fs::canonicalize(&value) else {
                self.warnings
                    .push(format!("{name} names {}, which cannot be read", value.display()));
                continue;
            };
            if !seen.insert(path.clone())
                || BUNDLES
                    .iter()
                    .any(|b| fs::canonicalize(sources.root.join(b)).is_ok_and(|b| b == path))
            {
                continue;
            }
            match fs::read(&path) {
                Ok(content) => {
                    let file = if into { &mut extra } else { &mut bundle };
                    file.push(b'\n');
                    file.extend(content);
                }
                Err(e) => self.warnings.push(format!("{name}: {}: {e}", path.display())),
            }
        }
        self.add_file(BUNDLE.into(), with_ca(bundle, sources.ca_pem));
        self.add_file(EXTRA.into(), with_ca(extra, sources.ca_pem));
        let mut set = |names: &[&str], file: &str| {
            let path = sources.seen_at.join(file).into_os_string();
            self.env
                .extend(names.iter().map(|n| (OsString::from(n), path.clone())));
        };
        set(BUNDLE_VARIABLES, BUNDLE);
        set(EXTRA_VARIABLES, EXTRA);
        self.env.extend(
            SWITCHES
                .iter()
                .map(|(n, v)| (OsString::from(n), OsString::from(v))),
        );
        Ok(())
    }
}

/// A bundle with the host CA at its end.
fn with_ca(mut bundle: Vec<u8>, ca_pem: &str) -> Vec<u8> {
    if !bundle.is_empty() && !bundle.ends_with(b"\n") {
        bundle.push(b'\n');
    }
    bundle.extend_from_slice(ca_pem.as_bytes());
    bundle
}

/// Copies a directory into a plan: links as links, which resolve as before once the copy is mounted in its place.
fn copy_tree(
    dir: &Path,
    name: &Path,
    depth: usize,
    budget: &mut u64,
    copy: &mut BTreeMap<PathBuf, Item>,
) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other(format!(
            "it is more than {MAX_DEPTH} levels deep"
        )));
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, name) = (entry.path(), name.join(entry.file_name()));
        let kind = entry.file_type()?;
        if copy.len() >= MAX_ENTRIES {
            return Err(io::Error::other(format!(
                "it has more than {MAX_ENTRIES} entries"
            )));
        }
        if kind.is_symlink() {
            copy.insert(name, Item::Link(fs::read_link(&path)?));
        } else if kind.is_dir() {
            copy.insert(name.clone(), Item::Directory);
            copy_tree(&path, &name, depth + 1, budget, copy)?;
        } else if kind.is_file() {
            let meta = entry.metadata()?;
            *budget = budget
                .checked_sub(meta.len())
                .ok_or_else(|| io::Error::other(format!("it is larger than {MAX_BYTES} bytes")))?;
            // What others could not read before, they cannot read after.
            let mode = if meta.permissions().mode() & 0o004 == 0 {
                0o600
            } else {
                0o644
            };
            copy.insert(
                name,
                Item::File {
                    content: fs::read(&path)?,
                    mode,
                },
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
