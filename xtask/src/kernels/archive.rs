//! Debian's archive, read through apt with lists of its own: what this host has installed, or pinned, does not count.
//!
//! Which mirror is asked is what this host's own apt says; other releases are asked of the same one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::step::{output, run};

/// The release of the image, which is the oldest that is supported.
pub const RELEASE: &str = "bookworm";

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A kernel of the matrix.
pub struct Spec {
    /// What `--kernel` calls it.
    pub name: &'static str,
    /// The package that depends on the present build of it.
    pub package: &'static str,
    /// Where that is.
    suites: &'static [Suite],
}

struct Suite {
    name: &'static str,
    security: bool,
}

const STABLE: &[Suite] = &[
    Suite {
        name: "bookworm",
        security: false,
    },
    Suite {
        name: "bookworm-security",
        security: true,
    },
];

/// The matrix, oldest first.
const SPECS: [Spec; 3] = [
    Spec {
        name: "6.1",
        package: "linux-image-cloud-amd64",
        suites: STABLE,
    },
    Spec {
        name: "6.12",
        package: "linux-image-6.12-cloud-amd64",
        suites: STABLE,
    },
    Spec {
        name: "newest",
        package: "linux-image-cloud-amd64",
        suites: &[Suite {
            name: "trixie-backports",
            security: false,
        }],
    },
];

/// The kernels with these names; all when there are none.
pub fn select(names: &[String]) -> anyhow::Result<Vec<&'static Spec>> {
    if let Some(unknown) = names.iter().find(|n| SPECS.iter().all(|s| s.name != **n)) {
        let known = SPECS.map(|s| s.name).join(", ");
        bail!("no kernel '{unknown}': there are {known}");
    }
    let all = SPECS.iter();
    Ok(all
        .filter(|s| names.is_empty() || names.iter().any(|n| n == s.name))
        .collect())
}

/// The mirrors, and a directory for lists.
pub struct Archive {
    main: String,
    security: String,
    directory: PathBuf,
}

impl Archive {
    /// Finds the mirrors that this host uses.
    pub fn open(work: &Path) -> anyhow::Result<Self> {
        let targets = output(Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(ORIGIN) $(LABEL) $(REPO_URI)",
        ]))?;
        let mirror = |label: &str| {
            let found = targets.lines().find_map(|l| l.strip_prefix(label));
            found
                .map(|uri| uri.trim().to_owned())
                .with_context(|| format!("apt knows no mirror of {label}: run apt-get update"))
        };
        Ok(Self {
            main: mirror("Debian Debian ")?,
            security: mirror("Debian Debian-Security ")?,
            directory: work.join("apt"),
        })
    }

    /// Lines of sources.list for the image.
    pub fn sources(&self) -> String {
        self.lines(STABLE)
    }

    fn lines(&self, suites: &[Suite]) -> String {
        let line = |s: &Suite| {
            let mirror = if s.security { &self.security } else { &self.main };
            format!("deb [signed-by={KEYRING}] {mirror} {} main\n", s.name)
        };
        suites.iter().map(line).collect()
    }

    /// Downloads the kernel's present build into `to`: its packages' files. Newer kernels come in parts.
    pub fn download(&self, spec: &Spec, to: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let options = self.lists(spec)?;
        run(Command::new("apt-get").args(&options).arg("update").arg("-qq"))?;
        let depends = |package: &str| {
            let depends = Command::new("apt-cache")
                .args(&options)
                .args(["depends", package])
                .output()?;
            anyhow::Ok(String::from_utf8(depends.stdout)?)
        };
        let numbered = |text: &str, prefix: &str| {
            let names = text.lines().filter_map(|l| l.trim().strip_prefix("Depends: "));
            let digit = |n: &&str| {
                let rest = n.strip_prefix(prefix);
                rest.is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()))
            };
            names.filter(digit).map(str::to_owned).collect::<Vec<_>>()
        };
        let mut packages = numbered(&depends(spec.package)?, "linux-image-");
        let Some(build) = packages.first() else {
            bail!("{} depends on no kernel", spec.package);
        };
        let parts = depends(build)?;
        for part in ["linux-base-", "linux-binary-", "linux-modules-"] {
            packages.extend(numbered(&parts, part));
        }
        fs::create_dir_all(to)?;
        run(Command::new("apt-get")
            .args(&options)
            .args(["download", "-qq"])
            .args(&packages)
            .current_dir(to))?;
        let files = fs::read_dir(to)?.filter_map(Result::ok).map(|e| e.path());
        Ok(files
            .filter(|p| p.extension().is_some_and(|e| e == "deb"))
            .collect())
    }

    /// apt's options for lists, sources and caches of its own.
    fn lists(&self, spec: &Spec) -> anyhow::Result<Vec<String>> {
        let directory = self.directory.join(spec.name);
        fs::create_dir_all(directory.join("lists/partial"))?;
        fs::write(directory.join("sources.list"), self.lines(spec.suites))?;
        let path = directory.display();
        let options = [
            format!("Dir::Etc::sourcelist={path}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".into(),
            "Dir::Etc::preferencesparts=/dev/null".into(),
            format!("Dir::State::lists={path}/lists"),
            format!("Dir::Cache::pkgcache={path}/pkgcache.bin"),
            format!("Dir::Cache::srcpkgcache={path}/srcpkgcache.bin"),
            "APT::Sandbox::User=root".into(),
            "Acquire::Retries=3".into(),
        ];
        Ok(options.into_iter().flat_map(|o| ["-o".into(), o]).collect())
    }
}
