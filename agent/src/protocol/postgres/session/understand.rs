//! Statements by their text, kept for all connections: applications say the same things again and again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
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
}

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
    pub fn of(&self, text: &str) -> Understood {
        if let Some(known) = self.known(text) {
            return known;
        }
        let understood: Understood =
            sql::understand(text).map(|statements| statements.into_iter().map(Arc::new).collect());
        if text.len() <= LONGEST {
            self.keep(text.into(), understood.clone());
        }
        understood
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded() {
        let understanding = Understanding::default();
        for n in 0..2000 {
            let text = format!("SELECT {n} {}", "-- x".repeat(200));
            let _ = understanding.of(&text);
        }
        let halves = understanding.halves.lock().unwrap();
        let bytes = |half: &HashMap<Arc<str>, Understood>| half.keys().map(|k| k.len()).sum::<usize>();
        assert!(bytes(&halves.newer) <= KEPT && bytes(&halves.older) <= KEPT);
        assert!(!halves.older.is_empty());
    }
}
