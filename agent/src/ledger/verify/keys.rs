//! Which keys may have signed what: the host's keys in the line in which they followed each other.
//!
//! At any size of the tree one key signs. Another takes over by an entry `key_rotated`, whose statement both signed; a
//! checkpoint over that entry is by the new key. Where that entry is not in the file (it lies before its beginning, or
//! its body is withheld), the statement alone, in the table `statement`, shows who followed whom.
//!
//! A key given from outside vouches for the whole line: as an old one by the statements, as a newer one because its
//! checkpoints cover everything before them.

use rusqlite::Connection;

use super::{
    super::{
        checkpoint::Checkpoint,
        note::{NoteError, VerifierKey},
        segment::statement::Statement,
        succession::Succession,
    },
    CheckpointFlaw, EntryFlaw, VerifyError,
};

/// So many keys no host has had: a bound on what a hostile file costs.
const MOST: usize = 4096;

/// The keys of one ledger, as the files tell of them.
#[derive(Default)]
pub(super) struct KeyRing {
    given: Option<VerifierKey>,
    /// The rows of `key`.
    known: Vec<VerifierKey>,
    /// From the table `statement` and from entries.
    successions: Vec<Succession>,
    /// Who signs at the place where the pass is.
    signer: Option<VerifierKey>,
    /// Who signs no more, and the entry that says so, where it is there.
    retired: Vec<(VerifierKey, Option<u64>)>,
    /// Who signed a checkpoint.
    signed: Vec<VerifierKey>,
    /// Entries by which a key took over.
    rotations: u64,
}

impl KeyRing {
    pub(super) fn new(given: Option<&VerifierKey>) -> Self {
        Self {
            given: given.cloned(),
            ..Self::default()
        }
    }

    /// Takes up what a file says of keys, and gives the name of its keys; of several files, the next.
    pub(super) fn add_file(&mut self, conn: &Connection) -> Result<String, VerifyError> {
        let mut origin = String::new();
        let mut statement = conn.prepare("SELECT vkey FROM key ORDER BY vkey")?;
        let rows = statement.query_map([], |r| r.get::<_, String>(0))?;
        for text in rows {
            let key = text?;
            if self.known.len() >= MOST {
                return Err(VerifyError::Key {
                    key,
                    what: "there are more keys than a host can have had",
                });
            }
            match VerifierKey::parse(&key) {
                Ok(parsed) if parsed.to_string() == key => {
                    parsed.name().clone_into(&mut origin);
                    add(&mut self.known, &parsed);
                }
                _ => {
                    return Err(VerifyError::Key {
                        key,
                        what: "it was changed: it is no key in the signed-note form",
                    });
                }
            }
        }
        let mut statement = conn.prepare("SELECT note FROM statement ORDER BY note")?;
        // What is not text is none of these.
        let rows = statement.query_map([], |r| Ok(r.get::<_, String>(0).unwrap_or_default()))?;
        for note in rows {
            let note = note?;
            if !Succession::is_titled(&note) {
                continue;
            }
            let succession = Succession::open(&note).map_err(|_| VerifyError::Succession {
                what: "it was changed",
            })?;
            self.follow(succession)
                .map_err(|what| VerifyError::Succession { what })?;
        }
        Ok(origin)
    }

    /// The rows of `key` so far.
    pub(super) fn known(&self) -> &[VerifierKey] {
        &self.known
    }

    /// Whether the key given is one of the files', once all were added.
    pub(super) fn check_given(&self) -> Result<(), VerifyError> {
        match &self.given {
            Some(given) if !self.known.contains(given) => Err(VerifyError::Key {
                key: given.to_string(),
                what: "it is not among the file's keys: the file is of another host, or was signed by someone else",
            }),
            _ => Ok(()),
        }
    }

    /// Adds a statement; one key is followed by one, and follows one.
    fn follow(&mut self, succession: Succession) -> Result<(), &'static str> {
        let same = |s: &&Succession| s.old == succession.old || s.new == succession.new;
        match self.successions.iter().find(same) {
            Some(found) if *found == succession => Ok(()),
            Some(_) => Err("there are two of one key: the ledger was forked"),
            None => {
                self.successions.push(succession);
                Ok(())
            }
        }
    }

    /// Reads the particulars of an entry `key_rotated`.
    pub(super) fn rotated(&mut self, seq: u64, detail: &serde_json::Value) -> Result<(), EntryFlaw> {
        let flaw = |what| EntryFlaw::Succession { what };
        let member = |name| {
            detail
                .get(name)
                .and_then(serde_json::Value::as_str)
                .ok_or(EntryFlaw::Member { member: "detail" })
        };
        let succession = Succession::open(member("statement")?)
            .map_err(|_| flaw("its statement is not signed by the two keys that it names"))?;
        if member("old")? != succession.old.to_string() || member("new")? != succession.new.to_string() {
            return Err(flaw("its statement is about other keys than it names itself"));
        }
        if succession.size > seq {
            return Err(flaw("its statement was made after it"));
        }
        if self
            .signer
            .as_ref()
            .is_some_and(|signer| *signer != succession.old)
        {
            return Err(flaw(
                "the key that it replaces is not the one that signed until then",
            ));
        }
        if !self.known.contains(&succession.new) || !self.known.contains(&succession.old) {
            return Err(flaw("its keys are not among the file's keys"));
        }
        self.retired.push((succession.old.clone(), Some(seq)));
        self.signer = Some(succession.new.clone());
        self.rotations += 1;
        self.follow(succession).map_err(flaw)
    }

    /// Opens a checkpoint that stands where the pass is.
    pub(super) fn checkpoint(&mut self, note: &str) -> Result<Checkpoint, CheckpointFlaw> {
        let (key, checkpoint) = self.open(note)?;
        let key = key.clone();
        if self.signer.as_ref() != Some(&key) {
            self.take_over(&key, checkpoint.size)?;
        }
        add(&mut self.signed, &key);
        Ok(checkpoint)
    }

    /// A checkpoint by whichever of the keys signed it, wherever it stands: one that was kept elsewhere. By a key that
    /// was replaced it covers nothing after that.
    pub(super) fn kept(&self, note: &str) -> Result<Checkpoint, CheckpointFlaw> {
        let (key, checkpoint) = self.open(note)?;
        if let Some((_, Some(entry))) = self.retired.iter().find(|(retired, _)| retired == key)
            && checkpoint.size > *entry
        {
            return Err(self.retired_flaw(key));
        }
        Ok(checkpoint)
    }

    /// What the host declares of a segment, by any of its keys: the one that signed when it was made, which may have
    /// taken over since the segment's last entry.
    pub(super) fn statement(&self, note: &str) -> Result<Statement, NoteError> {
        let mut last = NoteError::NoSignature;
        for key in &self.known {
            match Statement::open(key, note) {
                Ok(statement) => return Ok(statement),
                Err(NoteError::NoSignature) => {}
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    fn open(&self, note: &str) -> Result<(&VerifierKey, Checkpoint), CheckpointFlaw> {
        let mut last = NoteError::NoSignature;
        for key in self.signer.iter().chain(&self.known) {
            match Checkpoint::open(key, note) {
                Ok(checkpoint) => return Ok((key, checkpoint)),
                Err(NoteError::NoSignature) => {}
                Err(e) => last = e,
            }
        }
        Err(last.into())
    }

    /// Another key than the one so far signed: it has to be its successor, by statements alone.
    fn take_over(&mut self, key: &VerifierKey, size: u64) -> Result<(), CheckpointFlaw> {
        if self.retired.iter().any(|(retired, _)| retired == key) {
            return Err(self.retired_flaw(key));
        }
        let mut line = Vec::new();
        let mut at = self.signer.clone();
        while let Some(before) = at.take_if(|before| before != key) {
            let next = self
                .successions
                .iter()
                .find(|s| s.old == before && s.size < size && line.len() < self.successions.len())
                .ok_or_else(|| CheckpointFlaw::NotSucceeded { key: key.to_string() })?;
            line.push((before, None));
            at = Some(next.new.clone());
        }
        self.retired.append(&mut line);
        self.signer = Some(key.clone());
        Ok(())
    }

    fn retired_flaw(&self, key: &VerifierKey) -> CheckpointFlaw {
        let entry = self.retired.iter().find(|(retired, _)| retired == key);
        CheckpointFlaw::Retired {
            key: key.to_string(),
            by: entry
                .and_then(|(_, entry)| *entry)
                .map_or_else(|| "before".into(), |entry| format!("by entry {entry}")),
        }
    }

    /// How many keys took over by entries of the files.
    pub(super) fn rotations(&self) -> u64 {
        self.rotations
    }

    /// At the end: every key belongs to the line, and the one given vouches for it.
    pub(super) fn finish(&self) -> Result<(), VerifyError> {
        let start = self
            .signer
            .as_ref()
            .or(self.given.as_ref())
            .or(self.known.first());
        let mut line: Vec<VerifierKey> = start.into_iter().cloned().collect();
        // Each round adds a key, or is the last.
        loop {
            let more =
                self.successions
                    .iter()
                    .find_map(|s| match (line.contains(&s.old), line.contains(&s.new)) {
                        (true, false) => Some(s.new.clone()),
                        (false, true) => Some(s.old.clone()),
                        _ => None,
                    });
            match more {
                Some(key) => line.push(key),
                None => break,
            }
        }
        if let Some(stranger) = self.known.iter().find(|key| !line.contains(key)) {
            return Err(VerifyError::Key {
                key: stranger.to_string(),
                what: "no statement says that it follows, or is followed by, the host's other keys",
            });
        }
        match &self.given {
            Some(given) if !self.signed.is_empty() && !self.vouches(given) => Err(VerifyError::Key {
                key: given.to_string(),
                what: "it has signed nothing in the file, nor a key before which it came: give the host's key of \
                       that time, or a file that goes on to when this one signed",
            }),
            _ => Ok(()),
        }
    }

    /// Whether a key signed a checkpoint, or came before one that did.
    fn vouches(&self, given: &VerifierKey) -> bool {
        let mut at = Some(given);
        for _ in 0..=self.successions.len() {
            let Some(key) = at else { return false };
            if self.signed.contains(key) {
                return true;
            }
            at = self.successions.iter().find(|s| s.old == *key).map(|s| &s.new);
        }
        false
    }
}

fn add(keys: &mut Vec<VerifierKey>, key: &VerifierKey) {
    if !keys.contains(key) {
        keys.push(key.clone());
    }
}
