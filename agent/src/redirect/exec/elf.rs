//! Whether a file is the dynamic loader: by what it is, whatever it is called.
//!
//! `ld.so ./program` runs a program that the kernel never hears of. The loader is a shared object that is executed
//! itself: it has a name as a library (DT_SONAME) and no interpreter (PT_INTERP). A static program that can be moved
//! has neither, a library that can be run (libc.so.6) has both. Layout: elf(5).

use std::{fs::File, os::unix::fs::FileExt as _};

const ET_DYN: u16 = 3;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NULL: u64 = 0;
const DT_SONAME: u64 = 14;
/// Bytes of headers and of the dynamic section that are looked at.
const MOST: usize = 64 * 1024;

/// Whether it is. What is no ELF file of 64 bits in this machine's byte order is not.
pub(super) fn is_loader(file: &File) -> bool {
    loader(file).unwrap_or(false)
}

fn loader(file: &File) -> Option<bool> {
    let head = read(file, 0, 64)?;
    if head.get(..5)? != b"\x7fELF\x02" || half(&head, 16)? != ET_DYN {
        return Some(false);
    }
    let (at, size, count) = (word(&head, 32)?, half(&head, 54)?, half(&head, 56)?);
    if size < 56 {
        return Some(false);
    }
    let table = read(file, at, usize::from(size).checked_mul(usize::from(count))?)?;
    let mut dynamic = None;
    for header in table.chunks_exact(usize::from(size)) {
        match u32::from_le_bytes(header.get(..4)?.try_into().ok()?) {
            PT_INTERP => return Some(false),
            PT_DYNAMIC => dynamic = Some((word(header, 8)?, word(header, 32)?)),
            _ => {}
        }
    }
    let Some((at, size)) = dynamic else {
        return Some(false);
    };
    let section = read(file, at, usize::try_from(size).ok()?)?;
    for entry in section.chunks_exact(16) {
        match word(entry, 0)? {
            DT_NULL => break,
            DT_SONAME => return Some(true),
            _ => {}
        }
    }
    Some(false)
}

fn read(file: &File, at: u64, length: usize) -> Option<Vec<u8>> {
    if length > MOST {
        return None;
    }
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at).ok()?;
    Some(bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// What a loader is told to run: its first argument that is no option of its own (ld.so(8)).
pub(super) fn loaded(args: &[std::ffi::OsString]) -> Option<&std::ffi::OsStr> {
    const WITH_VALUE: [&str; 7] = [
        "--library-path",
        "--inhibit-rpath",
        "--audit",
        "--preload",
        "--argv0",
        "--glibc-hwcaps-prepend",
        "--glibc-hwcaps-mask",
    ];
    let mut rest = args.iter().skip(1);
    while let Some(word) = rest.next() {
        match word.to_str() {
            Some("--") => return rest.next().map(AsRef::as_ref),
            Some(option) if WITH_VALUE.contains(&option) => drop(rest.next()),
            Some(option) if option.starts_with("--") => {}
            _ => return Some(word),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &str) -> File {
        File::open(path).unwrap()
    }

    #[test]
    fn the_loader_is_one_and_programs_are_not() {
        let loader = std::fs::read_dir("/lib64").unwrap().filter_map(Result::ok);
        let loader = loader
            .map(|e| e.path())
            .find(|p| p.to_string_lossy().contains("ld-linux"));
        let copy = std::env::temp_dir().join(format!("portcullis-elf-{}", std::process::id()));
        std::fs::copy(loader.unwrap(), &copy).unwrap();
        assert!(is_loader(&File::open(&copy).unwrap()), "by another name");
        std::fs::remove_file(&copy).unwrap();
        for other in ["/bin/sh", "/proc/self/exe", "/etc/passwd", "/dev/null"] {
            assert!(!is_loader(&open(other)), "{other}");
        }
    }

    #[test]
    fn options_of_the_loader_are_passed_over() {
        let of = |words: &[&str]| {
            let args: Vec<_> = words.iter().map(Into::into).collect();
            loaded(&args).map(|w| w.to_string_lossy().into_owned())
        };
        assert_eq!(of(&["ld.so", "./bad", "--x"]).as_deref(), Some("./bad"));
        let with = ["ld.so", "--argv0", "good", "--inhibit-cache", "./bad"];
        assert_eq!(of(&with).as_deref(), Some("./bad"));
        assert_eq!(of(&["ld.so"]), None);
    }
}
