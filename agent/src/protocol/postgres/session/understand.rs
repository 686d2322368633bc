//! What all connections share: statements by their text, because applications say the same things again and again,
//! and a count for each database of how often its definitions were changed through this agent.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
};

use super::super::sql::{self, NotUnderstood, Statement};

/// The most text that is kept, bytes, in each of two halves. A parse tree is about twenty times as large.
const KEPT: usize = 512 * 1024;
/// A longer text is not kept: it was made by a program for this one time.
const LONGEST: usize = 16 * 1024;

/// What a query string says.
pub type Understood = Result<Arc<[Arc<Statement>]>, NotUnderstood>;

/// Query strings and what they say. The newer half takes what is used; when it is full it becomes the older one.
#[derive(Default)]
pub struct Understanding {
    halves: Mutex<Halves>,
    epochs: Mutex<HashMap<Arc<str>, Arc<AtomicU64>>>,
}

/// The most databases whose changes are counted. Beyond it connections that are open go on with counts of their own,
/// and see each other's changes when what they know has become old.
const DATABASES: usize = 1024;

#[derive(Default)]
struct Halves {
    newer: HashMap<Arc<str>, Understood>,
    older: HashMap<Arc<str>, Understood>,
    bytes: usize,
}

impl Understanding {
    /// The statements of a query string.
    ///
    /// # Errors
    /// When it is not understood.
    pub async fn of(&self, text: &str) -> Understood {
        if text.len() > LONGEST {
            // It can take long enough to keep other connections of the same thread waiting.
            let text = text.to_owned();
            let parsed = tokio::task::spawn_blocking(move || understand(&text)).await;
            return parsed.unwrap_or_else(|_| Err(sql::Kind::TooDeep.into()));
        }
        if let Some(known) = self.known(text) {
            return known;
        }
        let understood = understand(text);
        self.keep(text.into(), understood.clone());
        understood
    }

    /// How often a database's definitions were changed through this agent.
    pub(super) fn epoch(&self, database: &Arc<str>) -> Arc<AtomicU64> {
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        if epochs.len() >= DATABASES && !epochs.contains_key(database) {
            epochs.clear();
        }
        Arc::clone(epochs.entry(Arc::clone(database)).or_default())
    }

    fn known(&self, text: &str) -> Option<Understood> {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = halves.newer.get(text) {
            return Some(known.clone());
        }
        let (text, known) = halves.older.remove_entry(text)?;
        halves.keep(text, known.clone());
        Some(known)
    }

    fn keep(&self, text: Arc<str>, understood: Understood) {
        self.halves
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keep(text, understood);
    }
}

impl Halves {
    fn keep(&mut self, text: Arc<str>, understood: Understood) {
        self.bytes += text.len();
        if self.bytes > KEPT {
            self.older = std::mem::take(&mut self.newer);
            self.bytes = text.len();
        }
        self.newer.insert(text, understood);
    }
}

fn understand(text: &str) -> Understood {
    sql::understand(text).map(|statements| statements.into_iter().map(Arc::new).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_is_bounded() {
        let understanding = Understanding::default();
        for n in 0..2000 {
            let text = format!("SELECT {n} {}", "-- x".repeat(200));
            let _ = understanding.of(&text).await;
        }
        let halves = understanding.halves.lock().unwrap();
        let bytes = |half: &HashMap<Arc<str>, Understood>| half.keys().map(|k| k.len()).sum::<usize>();
        assert!(bytes(&halves.newer) <= KEPT && bytes(&halves.older) <= KEPT);
        assert!(!halves.older.is_empty());
    }

    #[tokio::test]
    async fn long_texts_are_understood_and_not_kept() {
        let understanding = Understanding::default();
        let text = format!("SELECT 1; SELECT '{}'", "x".repeat(2 * LONGEST));
        assert_eq!(understanding.of(&text).await.map(|s| s.len()), Ok(2));
        assert!(understanding.of(&text[..text.len() - 1]).await.is_err());
        assert!(understanding.halves.lock().unwrap().newer.is_empty());
    }
}
