//! `ship/NAME.dead/`: what a receiver will never take, by reference. The ledger has the entries and segments themselves,
//! for as long as it keeps them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Class, file};

/// What waits for an admin.
const LETTERS: &str = "letters.jsonl";
/// What an admin wants to be sent again.
const AGAIN: &str = "again.jsonl";
/// One line is not longer than this.
const LINE: u64 = 64 << 10;

/// One of them: a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// When it was rejected, RFC 3339.
    pub at: String,
    /// The place of the entry; for a segment its number.
    pub place: u64,
    /// The entry's id; for a segment its name.
    pub id: String,
    /// The entry's kind, or `segment`.
    pub kind: String,
    /// What kind of trouble.
    pub class: Class,
    /// What the receiver said.
    pub why: String,
}

/// The dead letters of one sink. Blocks on the disk.
#[derive(Debug)]
pub(super) struct DeadLetters {
    dir: PathBuf,
    max_bytes: u64,
    bytes: u64,
    count: u64,
    lowest: Option<u64>,
}

impl DeadLetters {
    /// Those in a directory, which is made with the first one.
    pub(super) fn open(dir: PathBuf, max_bytes: u64) -> io::Result<Self> {
        let (count, bytes) = measure(&dir.join(LETTERS))?;
        let lowest = lowest(&dir.join(LETTERS))?
            .into_iter()
            .chain(lowest(&dir.join(AGAIN))?)
            .min();
        Ok(Self {
            dir,
            max_bytes,
            bytes,
            count,
            lowest,
        })
    }

    /// The lowest place among all that was rejected and not sent since.
    pub(super) fn lowest(&self) -> Option<u64> {
        self.lowest
    }

    /// How many wait for an admin.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Adds some, durably. Gives how many found room.
    pub(super) fn push(&mut self, letters: &[DeadLetter]) -> io::Result<usize> {
        let mut text = Vec::new();
        let mut kept = 0;
        for letter in letters {
            let before = text.len();
            serde_json::to_writer(&mut text, letter)?;
            text.push(b'\n');
            if self.bytes + text.len() as u64 > self.max_bytes {
                text.truncate(before);
                break;
            }
            kept += 1;
        }
        if kept == 0 {
            return Ok(0);
        }
        if !self.dir.is_dir() {
            fs::create_dir_all(&self.dir)?;
            file::sync_parent(&self.dir)?;
        }
        let path = self.dir.join(LETTERS);
        let fresh = !path.exists();
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).mode(0o600).open(&path)?;
        // Half a line of a former try is cut off.
        let length = file.metadata()?.len();
        if length != self.bytes {
            file.set_len(self.bytes.min(length))?;
        }
        file.write_all(&text)?;
        file.sync_data()?;
        if fresh {
            file::sync_parent(&path)?;
        }
        self.bytes += text.len() as u64;
        self.count += kept as u64;
        let kept_places = letters[..kept].iter().map(|letter| letter.place);
        self.lowest = self.lowest.into_iter().chain(kept_places).min();
        Ok(kept)
    }

    /// Sets all aside to be sent again. What is set aside already goes first. Gives how many there are then.
    pub(super) fn again(&mut self) -> io::Result<u64> {
        let (letters, again) = (self.dir.join(LETTERS), self.dir.join(AGAIN));
        if again.exists() {
            // An admin asked before, and that is not done with yet: both, in their order.
            let mut source = match File::open(&letters) {
                Ok(source) => source,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(measure(&again)?.0),
                Err(e) => return Err(e),
            };
            let mut target = OpenOptions::new().append(true).open(&again)?;
            io::copy(&mut source, &mut target)?;
            target.sync_data()?;
            fs::remove_file(&letters)?;
        } else if letters.exists() {
            fs::rename(&letters, &again)?;
        } else {
            return Ok(0);
        }
        file::sync_parent(&letters)?;
        (self.bytes, self.count) = (0, 0);
        Ok(measure(&again)?.0)
    }

    /// Up to `limit` of those that are to be sent again, from an offset on, and the offset behind them. `None` when there
    /// is nothing.
    pub(super) fn to_send(&self, from: u64, limit: usize) -> io::Result<Option<(Vec<DeadLetter>, u64)>> {
        read(&self.dir.join(AGAIN), from, limit)
    }

    /// All of them were dealt with.
    pub(super) fn sent(&mut self) -> io::Result<()> {
        let again = self.dir.join(AGAIN);
        fs::remove_file(&again)?;
        file::sync_parent(&again)?;
        self.lowest = lowest(&self.dir.join(LETTERS))?;
        Ok(())
    }
}

/// The first `limit` dead letters in a sink's directory.
pub(super) fn list(dir: &Path, limit: usize) -> io::Result<Vec<DeadLetter>> {
    Ok(read(&dir.join(LETTERS), 0, limit)?.map_or_else(Vec::new, |(letters, _)| letters))
}

/// How many whole lines, and how many bytes they have.
fn measure(path: &Path) -> io::Result<(u64, u64)> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((0, 0)),
        Err(e) => return Err(e),
    };
    let mut buffer = vec![0; 64 << 10];
    let (mut lines, mut bytes, mut at) = (0, 0, 0);
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok((lines, bytes));
        }
        lines += memchr::memchr_iter(b'\n', &buffer[..n]).count() as u64;
        if let Some(last) = memchr::memrchr(b'\n', &buffer[..n]) {
            bytes = at + last as u64 + 1;
        }
        at += n as u64;
    }
}

/// The lowest place in a file.
fn lowest(path: &Path) -> io::Result<Option<u64>> {
    let (mut lowest, mut from) = (None::<u64>, 0);
    while let Some((letters, end)) = read(path, from, 1000)? {
        let places = letters.iter().map(|letter| letter.place);
        lowest = lowest.into_iter().chain(places).min();
        from = end;
    }
    Ok(lowest)
}

fn read(path: &Path, from: u64, limit: usize) -> io::Result<Option<(Vec<DeadLetter>, u64)>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::new(file);
    let (mut letters, mut at) = (Vec::new(), from);
    let mut line = Vec::new();
    while letters.len() < limit {
        line.clear();
        let n = reader.by_ref().take(LINE).read_until(b'\n', &mut line)?;
        if n == 0 {
            break;
        }
        at += n as u64;
        // A line that is not one of ours was cut by a crash, before anything relied on it.
        if let Ok(letter) = serde_json::from_slice(&line) {
            letters.push(letter);
        }
    }
    if letters.is_empty() {
        return Ok(None);
    }
    Ok(Some((letters, at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(place: u64) -> DeadLetter {
        DeadLetter {
            at: "2026-11-26T00:00:00.000000000Z".into(),
            place,
            id: "id".into(),
            kind: "operation".into(),
            class: Class::Invalid,
            why: "no".into(),
        }
    }

    #[test]
    fn bounded_and_sent_again_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("s.dead");
        let line = serde_json::to_vec(&letter(1)).unwrap().len() as u64 + 1;
        let mut dead = DeadLetters::open(place.clone(), line * 3).unwrap();
        assert_eq!(dead.push(&[letter(1), letter(2)]).unwrap(), 2);
        // A crash left half a line.
        fs::OpenOptions::new()
            .append(true)
            .open(place.join(LETTERS))
            .unwrap()
            .write_all(b"{\"at\":")
            .unwrap();
        let mut dead = DeadLetters::open(place.clone(), line * 3).unwrap();
        assert_eq!(dead.count(), 2);
        assert_eq!(dead.push(&[letter(3), letter(4)]).unwrap(), 1);
        assert_eq!(list(&place, 10).unwrap(), [letter(1), letter(2), letter(3)]);
        assert_eq!(
            (dead.again().unwrap(), dead.count(), dead.lowest()),
            (3, 0, Some(1))
        );
        assert_eq!(dead.push(&[letter(5)]).unwrap(), 1);
        assert_eq!(dead.again().unwrap(), 4);
        let (first, at) = dead.to_send(0, 3).unwrap().unwrap();
        assert_eq!(first.len(), 3);
        assert_eq!(dead.to_send(at, 3).unwrap().unwrap().0, [letter(5)]);
        assert_eq!(DeadLetters::open(place, line * 3).unwrap().lowest(), Some(1));
        dead.sent().unwrap();
        assert_eq!(dead.lowest(), None);
        assert!(dead.to_send(0, 3).unwrap().is_none());
        assert_eq!(dead.again().unwrap(), 0);
    }
}
