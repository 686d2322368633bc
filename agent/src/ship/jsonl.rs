//! Events to a file, one a line.
//!
//! A batch counts as taken when fdatasync has returned. What a crash left of a line is cut off before anything is
//! appended, so there are never two half lines; that line's event was not acknowledged, and comes again. The file may be
//! renamed or removed at any time by others (logrotate): the next batch makes a new one. It rotates by itself at
//! `rotate_bytes`: `PATH` becomes `PATH.1`, and that `PATH.2`, to `keep`.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;

use super::{Accepted, Class, Event, EventSink, Receipt, ShipError, form::Form};
use crate::config::ship;

/// Bytes looked at once for the end of the last whole line.
const CHUNK: u64 = 64 << 10;

/// The sink.
pub struct Jsonl {
    form: Form,
    file: Option<Lines>,
    /// A batch that is being written. A thread that hangs on its disk goes on when nobody waits for it any more: two at
    /// once would mix their lines.
    writing: Option<JoinHandle<io::Result<Lines>>>,
    config: ship::Jsonl,
}

impl Jsonl {
    /// To the file of a configuration that was checked. Opens nothing yet.
    #[must_use]
    pub fn new(config: ship::Jsonl, form: Form) -> Self {
        Self {
            form,
            file: None,
            writing: None,
            config,
        }
    }

    /// Waits for the batch that is being written. When this is dropped, the next one waits for it.
    async fn written(&mut self) -> io::Result<()> {
        let Some(writing) = &mut self.writing else {
            return Ok(());
        };
        let done = writing.await;
        self.writing = None;
        self.file = Some(done.map_err(|_| io::Error::other("the writing thread ended"))??);
        Ok(())
    }
}

impl EventSink for Jsonl {
    fn lasts(&self) -> bool {
        true
    }

    fn send<'a>(&'a mut self, batch: &'a [Event]) -> BoxFuture<'a, Result<Accepted, ShipError>> {
        Box::pin(async move {
            // That batch was given up: what became of it does not matter, it comes again.
            let _ = self.written().await;
            let mut text = Vec::with_capacity(batch.len() * 2048);
            for event in batch {
                text.extend_from_slice(self.form.body(event).as_bytes());
                text.push(b'\n');
            }
            let (file, config) = (self.file.take(), self.config.clone());
            let path = config.path.display().to_string();
            self.writing = Some(tokio::task::spawn_blocking(move || {
                let mut file = match file {
                    Some(file) if file.is_at(&config.path) => file,
                    _ => Lines::open(&config.path)?,
                };
                if file.size > 0 && file.size + text.len() as u64 > config.rotate_bytes {
                    rotate(&config.path, config.keep)?;
                    file = Lines::open(&config.path)?;
                }
                file.append(&text)?;
                Ok(file)
            }));
            let failed = |e: io::Error| ShipError::temporary(class(&e), format!("{path}: {e}"));
            self.written().await.map_err(failed)?;
            let receipt = Receipt {
                place: path,
                detail: serde_json::Map::new(),
            };
            Ok(Accepted::all(batch, receipt))
        })
    }
}

fn class(e: &io::Error) -> Class {
    match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Class::Missing,
        io::ErrorKind::PermissionDenied => Class::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Class::Full
        }
        _ => Class::Local,
    }
}

/// A file of whole lines.
struct Lines {
    file: File,
    size: u64,
}

impl Lines {
    /// Opens or makes it, and cuts off what is left of a line.
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .mode(0o640)
            // A pipe without a reader must not stop this thread for ever.
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not a regular file",
            ));
        }
        let whole = whole(&file, found.len())?;
        if whole < found.len() {
            tracing::warn!(path = %path.display(), bytes = found.len() - whole, "half a line is cut off");
            file.set_len(whole)?;
            file.sync_all()?;
        }
        if found.len() == 0 {
            sync_dir(path)?;
        }
        Ok(Self { file, size: whole })
    }

    /// Whether it is still what the path leads to.
    fn is_at(&self, path: &Path) -> bool {
        let (Ok(there), Ok(here)) = (fs::metadata(path), self.file.metadata()) else {
            return false;
        };
        // Somebody who truncates or writes to it gets it opened anew, too.
        (there.dev(), there.ino(), there.len()) == (here.dev(), here.ino(), self.size)
    }

    /// All of it, durable, or nothing.
    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        let done = self.file.write_all(text).and_then(|()| self.file.sync_data());
        if let Err(e) = done {
            // As it was: a full disk must not leave half a line. Where that fails too, opening it cuts it off.
            let _ = self.file.set_len(self.size);
            return Err(e);
        }
        self.size += text.len() as u64;
        Ok(())
    }
}

/// Bytes up to the end of the last whole line.
fn whole(file: &File, size: u64) -> io::Result<u64> {
    let mut end = size;
    let mut buffer = vec![0; usize::try_from(CHUNK).unwrap_or_default()];
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        let piece = usize::try_from(end - start).unwrap_or_default();
        file.read_exact_at(&mut buffer[..piece], start)?;
        if let Some(at) = memchr::memrchr(b'\n', &buffer[..piece]) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// `PATH.N`
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}

/// Renames, the oldest first, so that a crash in the middle loses none but what was to go.
fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    let missing_is_fine = |done: io::Result<()>| match done {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    };
    if keep == 0 {
        missing_is_fine(fs::remove_file(path))?;
        return sync_dir(path);
    }
    for number in (1..keep).rev() {
        missing_is_fine(fs::rename(numbered(path, number), numbered(path, number + 1)))?;
    }
    missing_is_fine(fs::rename(path, numbered(path, 1)))?;
    sync_dir(path)
}

fn sync_dir(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => File::open(dir)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{samples::samples, view::HostFacts},
        *,
    };
    use crate::config::ship::EventFormat;

    fn events() -> Vec<Event> {
        samples().into_iter().map(Event::new).collect()
    }

    fn sink(dir: &Path, rotate_bytes: u64, keep: u32) -> Jsonl {
        let form = Form {
            format: EventFormat::Json,
            facts: HostFacts::new("host-1"),
        };
        let path = dir.join("events.jsonl");
        let config = ship::Jsonl {
            path,
            rotate_bytes,
            keep,
        };
        Jsonl::new(config, form)
    }

    fn lines(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(str::to_owned).collect()
    }

    fn bodies(events: &[Event]) -> Vec<String> {
        events.iter().map(|e| e.body.clone()).collect()
    }

    #[tokio::test]
    async fn half_a_line_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let (events, path) = (events(), dir.path().join("events.jsonl"));
        let mut first = sink(dir.path(), 1 << 30, 2);
        assert_eq!(first.send(&events[..3]).await.unwrap().done, 3);
        // The crash: a whole line more, and a part longer than what is looked at once.
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(b"{}\n").unwrap();
        torn.write_all(&vec![b'x'; 200_000]).unwrap();
        let mut second = sink(dir.path(), 1 << 30, 2);
        second.send(&events[3..5]).await.unwrap();
        let mut expected = bodies(&events[..5]);
        expected.insert(3, "{}".into());
        assert_eq!(lines(&path), expected);
        // Nothing but half a line.
        fs::write(&path, "half").unwrap();
        second.send(&events[5..6]).await.unwrap();
        assert_eq!(lines(&path), bodies(&events[5..6]));
    }

    #[tokio::test]
    async fn it_rotates_and_follows_who_renames() {
        let dir = tempfile::tempdir().unwrap();
        let (events, path) = (events(), dir.path().join("events.jsonl"));
        let size = events[..2].iter().map(|e| e.body.len() as u64 + 1).sum::<u64>();
        let mut sink = sink(dir.path(), size, 2);
        for event in &events[..2] {
            sink.send(std::slice::from_ref(event)).await.unwrap();
        }
        for at in 2..5 {
            sink.send(&events[at..=at]).await.unwrap();
        }
        let all: Vec<String> = [2, 1]
            .iter()
            .map(|n| numbered(&path, *n))
            .chain([path.clone()])
            .flat_map(|p| lines(&p))
            .collect();
        let kept = bodies(&events[..5]);
        assert_eq!(all, kept[kept.len() - all.len()..]);
        assert!(all.len() >= 3 && !numbered(&path, 3).exists());
        fs::rename(&path, dir.path().join("moved")).unwrap();
        sink.send(&events[5..6]).await.unwrap();
        assert_eq!(lines(&path), bodies(&events[5..6]));
        fs::remove_file(&path).unwrap();
        sink.send(&events[6..7]).await.unwrap();
        assert_eq!(lines(&path), bodies(&events[6..7]));
    }

    #[tokio::test]
    async fn what_is_no_file_is_refused() {
        let events = events();
        let full = Path::new("/dev/full");
        let mut sink = sink(Path::new("/nonexistent"), 1 << 30, 2);
        let error = sink.send(&events[..1]).await.unwrap_err();
        assert_eq!(error.class(), Class::Missing);
        sink.config.path = full.into();
        let error = sink.send(&events[..1]).await.unwrap_err();
        assert!(error.why().contains("not a regular file"), "{error}");
    }
}
