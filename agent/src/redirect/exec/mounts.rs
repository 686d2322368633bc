//! Which file system an open file is on, as the kernel knows it: without a question to whoever serves it.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    os::fd::AsRawFd as _,
};

/// What the kernel says of an open descriptor of this thread's (proc_pid_fdinfo(5)).
fn info(file: &File, name: &str) -> Option<u64> {
    let info = fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line?.trim().parse().ok()
}

/// Its inode number.
pub(super) fn inode(file: &File) -> Option<u64> {
    info(file, "ino")
}

/// The device of its file system as the kernel has it inside, whatever stat(2) shows, where a process has that mounted.
/// `of` is `self`, or the process's id.
pub(super) fn device(file: &File, of: &str) -> Option<u32> {
    let id = info(file, "mnt_id")?.to_string();
    let mounts = BufReader::new(File::open(format!("/proc/{of}/mountinfo")).ok()?);
    for line in mounts.split(b'\n') {
        let line = line.ok()?;
        let mut words = line.split(|byte| *byte == b' ');
        if words.next() != Some(id.as_bytes()) {
            continue;
        }
        let (major, minor) = std::str::from_utf8(words.nth(1)?).ok()?.split_once(':')?;
        let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
        return Some((major << 20) | minor);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_is_where_it_is_mounted() {
        use std::os::unix::fs::MetadataExt as _;
        let (this, proc) = (
            File::open("/proc/self/exe").unwrap(),
            File::open("/proc").unwrap(),
        );
        assert_eq!(inode(&this), Some(this.metadata().unwrap().ino()));
        let shown = proc.metadata().unwrap().dev();
        let shown = (nix::sys::stat::major(shown) << 20) | nix::sys::stat::minor(shown);
        assert_eq!(device(&proc, "self").map(u64::from), Some(shown));
        assert_ne!(device(&this, "self"), device(&proc, "self"));
        let (pipe, _end) = std::io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(pipe));
        assert_eq!(device(&pipe, "self"), None, "nobody has that mounted");
    }
}
