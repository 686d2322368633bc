//! A file of events on a disk that fills up, and that somebody else rotates.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use e2e::wait::{DEADLINE, wait_for};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::rig::{self, Got, Rig};

/// A small file system.
struct Disk(PathBuf);

impl Disk {
    fn new(path: PathBuf, size: &str) -> Result<Self> {
        fs::create_dir(&path)?;
        let options = format!("size={size}");
        mount(
            Some("tmpfs"),
            &path,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        )?;
        Ok(Self(path))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _gone_with_the_test = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// What a file has: whole lines, and nothing else.
fn read(path: &Path) -> Result<Vec<Got>> {
    let text = fs::read_to_string(path)?;
    ensure!(
        text.is_empty() || text.ends_with('\n'),
        "{} ends in half a line",
        path.display()
    );
    text.lines()
        .map(|line| {
            let body: serde_json::Value = serde_json::from_str(line)?;
            Ok(Got {
                seq: body["metadata"]["sequence"].as_u64().unwrap_or_default(),
                id: body["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
                body,
            })
        })
        .collect()
}

/// Waits until everything is taken (nothing), or the disk is full another time than `before`: since when.
fn taken_or_full(rig: &Rig, before: Option<&str>) -> Result<Option<String>> {
    let end = rig.expected()?.last().map_or(0, |entry| entry.seq.0 + 1);
    wait_for("everything taken, or a full disk", DEADLINE, || {
        let status = rig.status().ok()?;
        match status.error {
            None => (status.next >= end).then_some(None),
            Some(error) => {
                (error.class == "full" && Some(error.since.as_str()) != before).then_some(Some(error.since))
            }
        }
    })
}

#[test]
fn a_full_disk_and_a_file_that_is_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::new(dir.path().join("disk"), "1m").unwrap();
    let path = disk.0.join("events.jsonl");
    let config = format!(
        "[[ship]]\nname = 'file'\nkind = 'jsonl'\npath = '{}'\nretry_max = '1s'\nbatch_events = 50\n",
        path.display()
    );
    let mut rig = Rig::new(dir, &config).unwrap();
    rig.record(8).unwrap();
    rig.start().unwrap();
    let (mut got, mut rounds, mut full) = (Vec::new(), 0, None);
    // Whenever it is full somebody takes the file away, as logrotate does, and the next batch makes a new one.
    while let Some(since) = taken_or_full(&rig, full.as_deref()).unwrap() {
        got.extend(read(&path).unwrap());
        fs::remove_file(&path).unwrap();
        (rounds, full) = (rounds + 1, Some(since));
        assert!(rounds < 50);
    }
    got.extend(read(&path).unwrap());
    assert!(rounds > 0, "the disk was never full");
    rig.stop();
    rig.holds(&got, &[], rig::event).unwrap();
    assert!(got.is_sorted_by(|a, b| a.seq < b.seq), "something is there twice");
}
