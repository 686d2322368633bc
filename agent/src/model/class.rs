//! Data classes: kinds of sensitive data, as small integers on the hot path and as names everywhere else.

use std::sync::Arc;

/// A data class's place in the [`ClassTable`] in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassId(pub u8);

/// A set of data classes; at most [`ClassTable::MAX`] exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClassSet(u128);

impl ClassSet {
    /// No class.
    pub const EMPTY: Self = Self(0);

    /// Whether no class is in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// Whether the class is in the set.
    #[must_use]
    pub fn contains(self, class: ClassId) -> bool {
        self.0 >> class.0 & 1 == 1
    }
    /// Adds a class.
    pub fn insert(&mut self, class: ClassId) {
        self.0 |= 1 << class.0;
    }
    /// Takes a class out.
    pub fn remove(&mut self, class: ClassId) {
        self.0 &= !(1 << class.0);
    }
    /// The classes, in order.
    pub fn iter(self) -> impl Iterator<Item = ClassId> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let class = u8::try_from(left.trailing_zeros()).ok().filter(|_| left != 0)?;
            left &= left - 1;
            Some(ClassId(class))
        })
    }
}

impl FromIterator<ClassId> for ClassSet {
    fn from_iter<I: IntoIterator<Item = ClassId>>(classes: I) -> Self {
        let mut set = Self::EMPTY;
        for class in classes {
            set.insert(class);
        }
        set
    }
}

/// The names of all data classes in force: the built-in ones and the operator's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassTable {
    names: Arc<[Arc<str>]>,
}

impl ClassTable {
    /// The most classes a table holds.
    pub const MAX: usize = 128;

    /// A table from names, in order; `None` when there are more than [`Self::MAX`].
    pub fn new(names: impl IntoIterator<Item = Arc<str>>) -> Option<Self> {
        let names: Arc<[_]> = names.into_iter().collect();
        (names.len() <= Self::MAX).then_some(Self { names })
    }
    /// A class's name.
    #[must_use]
    pub fn name(&self, class: ClassId) -> Option<&Arc<str>> {
        self.names.get(usize::from(class.0))
    }
    /// A class by name.
    #[must_use]
    pub fn id(&self, name: &str) -> Option<ClassId> {
        let at = self.names.iter().position(|n| &**n == name)?;
        u8::try_from(at).ok().map(ClassId)
    }
    /// All classes with their names.
    pub fn iter(&self) -> impl Iterator<Item = (ClassId, &Arc<str>)> {
        (0u8..).map(ClassId).zip(self.names.iter())
    }
    /// How many classes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }
    /// Whether there is no class at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}
