//! How many values of each class were masked: numbers only, never the values.

use crate::model::{ClassId, ClassSet, ClassTable};

/// Masked values by class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    seen: ClassSet,
    by_class: [u32; ClassTable::MAX],
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            seen: ClassSet::EMPTY,
            by_class: [0; ClassTable::MAX],
        }
    }
}

impl Counts {
    /// Counts one more value of a class.
    pub fn add(&mut self, class: ClassId) {
        if let Some(count) = self.by_class.get_mut(usize::from(class.0)) {
            *count = count.saturating_add(1);
            self.seen.insert(class);
        }
    }
    /// How many values of one class.
    #[must_use]
    pub fn get(&self, class: ClassId) -> u32 {
        self.by_class.get(usize::from(class.0)).copied().unwrap_or(0)
    }
    /// Whether nothing was masked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
    /// The classes that occurred, with their counts, in order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (ClassId, u32)> + '_ {
        self.seen.iter().map(|class| (class, self.get(class)))
    }
    /// How many values of all classes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.iter().map(|(_, n)| u64::from(n)).sum()
    }
    /// Adds what another masker counted.
    pub fn merge(&mut self, other: &Self) {
        for (class, n) in other.iter() {
            let count = &mut self.by_class[usize::from(class.0)];
            *count = count.saturating_add(n);
            self.seen.insert(class);
        }
    }
    pub(super) fn clear(&mut self) {
        if !self.is_empty() {
            *self = Self::default();
        }
    }
}
