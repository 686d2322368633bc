//! What is done in a guest.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, bail};

use super::{
    deb::Packages,
    image::Image,
    kernel::Kernel,
    machine::{Machine, Outcome},
    payload::Payload,
};
use crate::step::{cargo, root, run, say};

/// One thing that is done in a guest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Every program is loaded.
    Verify,
    /// `doctor` is right about the kernel.
    Doctor,
    /// The redirect tests.
    Redirect,
    /// The package, under systemd.
    Service,
}

const STAGES: [Stage; 4] = [Stage::Verify, Stage::Doctor, Stage::Redirect, Stage::Service];

/// What was built on this host.
pub struct Built {
    portcullis: PathBuf,
    redirect: Option<PathBuf>,
    workload: PathBuf,
    /// The package, and one of a later version.
    packages: Option<Packages>,
}

/// Builds what the stages take along, or finds what was built before.
pub fn build(work: &Path, stages: &[Stage], anew: bool) -> anyhow::Result<Built> {
    let target = root().canonicalize()?.join("target/debug");
    // The name of the tests' program changes with what they are made of.
    let named = work.join("redirect.path");
    let wanted = stages.contains(&Stage::Redirect);
    if anew {
        say("build", "what is taken into the guests");
        run(cargo().args(["build", "--package", "portcullis", "--bins"]))?;
        if wanted {
            let path = redirect_tests()?;
            std::fs::write(&named, path.as_os_str().as_encoded_bytes())?;
        }
    }
    let redirect = if wanted {
        Some(PathBuf::from(
            std::fs::read_to_string(&named).context("the redirect tests are not built")?,
        ))
    } else {
        None
    };
    let portcullis = target.join("portcullis");
    let packages = if stages.contains(&Stage::Service) {
        Some(Packages::ensure(work, anew.then_some(portcullis.as_path()))?)
    } else {
        None
    };
    Ok(Built {
        portcullis,
        packages,
        workload: target.join("redirect-workload"),
        redirect,
    })
}

/// Builds the redirect tests: where cargo put them.
fn redirect_tests() -> anyhow::Result<PathBuf> {
    let mut command = cargo();
    command.args(["test", "--package", "e2e", "--test", "redirect", "--no-run"]);
    command.args(["--message-format", "json"]);
    let messages = crate::step::output(&mut command)?;
    messages
        .lines()
        .filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok())
        .filter(|m| m.pointer("/target/name").is_some_and(|n| n == "redirect"))
        .find_map(|m| m.get("executable")?.as_str().map(PathBuf::from))
        .context("cargo built no redirect tests")
}

impl Stage {
    /// The stages with these names; all when there are none.
    pub fn select(names: &[String]) -> anyhow::Result<Vec<Self>> {
        if let Some(unknown) = names.iter().find(|n| STAGES.iter().all(|s| s.name() != **n)) {
            bail!(
                "no stage '{unknown}': there are {}",
                STAGES.map(Self::name).join(", ")
            );
        }
        Ok(STAGES
            .into_iter()
            .filter(|s| names.is_empty() || names.iter().any(|n| n == s.name()))
            .collect())
    }

    /// What `--only` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Doctor => "doctor",
            Self::Redirect => "redirect",
            Self::Service => "service",
        }
    }

    /// What it shows.
    pub fn what(self) -> &'static str {
        match self {
            Self::Verify => "this kernel's verifier takes every program",
            Self::Doctor => "doctor says of this kernel what is true of it",
            Self::Redirect => "the redirect tests, each in a process of its own",
            Self::Service => {
                "the package: installed, a unit tagged, upgraded under traffic, started again, removed"
            }
        }
    }

    /// How long it may take, the start of the machine included.
    fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::Verify | Self::Doctor => 900,
            Self::Service => 3600,
            Self::Redirect => 7200,
        })
    }

    fn payload(self, built: &Built, kernel: &Kernel, tests: &[String]) -> anyhow::Result<Payload> {
        let mut payload = Payload {
            programs: vec![built.portcullis.clone()],
            files: vec![("config".into(), kernel.config.clone())],
            ..Payload::default()
        };
        let head = format!(
            "PORTCULLIS={}\nKERNEL={}\n",
            built.portcullis.display(),
            kernel.name
        );
        payload.script = match self {
            Self::Verify => head + include_str!("guest/verify.sh"),
            Self::Doctor => head + include_str!("guest/doctor.sh"),
            Self::Redirect => {
                let program = built
                    .redirect
                    .as_ref()
                    .context("the redirect tests are not built")?;
                payload.programs.push(program.clone());
                payload.programs.push(built.workload.clone());
                // What they compile when they run.
                payload
                    .sources
                    .push(root().canonicalize()?.join("tests/redirect/hostile"));
                let named = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b':';
                if let Some(test) = tests.iter().find(|t| !t.bytes().all(named)) {
                    bail!("'{test}' is no part of a test's name");
                }
                let more = format!("TESTS={}\nFILTERS='{}'\n", program.display(), tests.join(" "));
                head + &more + include_str!("guest/redirect.sh")
            }
            Self::Service => {
                let packages = built.packages.as_ref().context("the packages are not made")?;
                payload.files.extend([
                    ("first.deb".into(), packages.first.clone()),
                    ("second.deb".into(), packages.second.clone()),
                ]);
                payload.texts.extend([
                    ("second.version", packages.version.clone()),
                    ("site.py", include_str!("guest/site.py").into()),
                    ("traffic.py", include_str!("guest/traffic.py").into()),
                    ("portcullis.toml", include_str!("guest/portcullis.toml").into()),
                    (
                        "units/site.service",
                        include_str!("guest/units/site.service").into(),
                    ),
                    (
                        "units/bot.service",
                        include_str!("guest/units/bot.service").into(),
                    ),
                    (
                        "units/traffic.service",
                        include_str!("guest/units/traffic.service").into(),
                    ),
                ]);
                head + include_str!("guest/service.sh")
            }
        };
        Ok(payload)
    }

    /// Does it in a machine of its own: of the redirect tests `tests`, all when there are none, with `boot` on the kernel's
    /// command line.
    pub fn run(
        self,
        work: &Path,
        (image, kernel): (&Image, &Kernel),
        built: &Built,
        (tests, boot): (&[String], &str),
    ) -> anyhow::Result<Outcome> {
        let of = |what: &str| work.join(format!("{}-{}.{what}", kernel.name, self.name()));
        let machine = Machine {
            kernel,
            root: of("root"),
            payload: of("payload"),
            log: of("log"),
            boot,
        };
        run(Command::new("cp")
            .arg("--sparse=always")
            .args([&image.path, &machine.root]))?;
        self.payload(built, kernel, tests)?
            .write(kernel, &machine.payload)?;
        machine.run(self.limit())
    }
}
