//! A key that the agent puts in is nowhere that a workload, or whoever gets its files, could find it.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use e2e::{
    child::Process,
    site::{KEY, Options},
    wait::{DEADLINE, wait_until},
};

use super::with_options;

/// Asks in several ways, keeps every answer, and stays.
const SCRIPT: &str = r#"
import requests, time
kept = []
session = requests.Session()
for header in [{}, {"Authorization": "Bearer placeholder"}, {"authorization": "Basic cGxhY2U6aG9sZGVy"}]:
    kept.append(session.get("https://api.internal/whoami", headers=header))
kept.append(session.get("https://api.internal/whoami?x=1"))
kept.append(requests.post("https://api.internal/mirror", data="nothing of it"))
print(*[(r.status_code, r.text, dict(r.headers)) for r in kept], sep="\n", flush=True)
print("kept", flush=True)
time.sleep(120)
"#;

/// What to look for: the key, and what it would be called elsewhere.
fn needles() -> Vec<Vec<u8>> {
    let mut needles = vec![KEY.as_bytes().to_vec(), hex::encode(KEY).into_bytes()];
    // Without what depends on its neighbours.
    let encoded = STANDARD.encode(KEY);
    needles.push(encoded.as_bytes()[..24].to_vec());
    needles
}

fn holds(bytes: &[u8]) -> bool {
    needles().iter().any(|n| memchr::memmem::find(bytes, n).is_some())
}

/// Every readable byte of a process: memory, environment, arguments.
fn of_process(pid: u32) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in ["environ", "cmdline"] {
        if holds(&fs::read(format!("/proc/{pid}/{name}"))?) {
            found.push(name.to_owned());
        }
    }
    let mut memory = fs::File::open(format!("/proc/{pid}/mem"))?;
    let mut looked_at = 0;
    for line in fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let Some((from, to)) = range.split_once('-').filter(|_| rights.starts_with('r')) else {
            continue;
        };
        let (from, to) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
        let mut bytes = vec![0; usize::try_from(to - from)?];
        // The kernel's own pages cannot be read so.
        if memory.seek(SeekFrom::Start(from)).is_err() || memory.read_exact(&mut bytes).is_err() {
            continue;
        }
        looked_at += bytes.len();
        if holds(&bytes) {
            found.push(line.to_owned());
        }
    }
    ensure!(
        looked_at > 1 << 20,
        "only {looked_at} bytes of memory were looked at"
    );
    Ok(found)
}

/// Every file below a directory.
fn of_files(dir: &Path, but: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        let meta = fs::symlink_metadata(&path)?;
        if meta.is_dir() {
            found.extend(of_files(&path, but)?);
        } else if meta.is_file() && path != but && holds(&fs::read(&path)?) {
            found.push(path);
        }
    }
    Ok(found)
}

#[test]
fn a_key_that_is_put_in_is_nowhere_else() {
    with_options("secrets", Options::demo, |site| {
        let mut command = site.workload().command(&["python3", "-c", SCRIPT])?;
        let mut python = Process::start("python", site.world.dir(), &mut command)?;
        wait_until("the answers", DEADLINE, || {
            python.log().contains("kept") || python.ended().is_some()
        })?;
        let log = python.log();
        ensure!(log.contains("kept"), "{log}");
        ensure!(log.matches("(200, ").count() == 5, "{log}");
        let arrived = site.backend.authorization();
        ensure!(arrived == vec![format!("Bearer {KEY}"); 4], "{arrived:?}");
        // `portcullis run` is the parent: the program itself is below it, in the tagged cgroup.
        let procs = fs::read_to_string(site.tagged().join("cgroup.procs"))?;
        let inside: Vec<u32> = procs.lines().filter_map(|l| l.parse().ok()).collect();
        let mut pids = inside;
        pids.push(python.pid());
        for pid in pids {
            let found = of_process(pid)?;
            ensure!(found.is_empty(), "process {pid} holds the key: {found:?}");
        }
        // The answers are where they are looked for: what stands around the key is found.
        ensure!(log.contains("Bearer ****"), "{log}");
        let key = site.world.path("api.key");
        let export = site.world.path("export.db");
        site.daemon
            .cli(&["export", "--out", &export.display().to_string()])?
            .ok()?;
        site.daemon.stop()?;
        let found = of_files(site.world.dir(), &key)?;
        ensure!(found.is_empty(), "files hold the key: {found:?}");
        Ok(())
    });
}
