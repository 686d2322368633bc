//! What flows into a value.

use std::ops::{BitOr, BitOrAssign};

use super::Sources;
use crate::model::{ClassId, ClassSet};

/// What flows into one value. Unions only, so that every fixpoint ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flow {
    value: u128,
    derived: u128,
    pub(super) opaque: bool,
}

impl Flow {
    pub(super) const NONE: Self = Self {
        value: 0,
        derived: 0,
        opaque: false,
    };
    pub(super) const OPAQUE: Self = Self {
        value: 0,
        derived: 0,
        opaque: true,
    };

    pub(super) fn class(class: ClassId) -> Self {
        Self {
            value: 1u128.checked_shl(class.0.into()).unwrap_or(0),
            ..Self::NONE
        }
    }
    /// What only tells something of this.
    pub(super) fn computed(self) -> Self {
        Self {
            value: 0,
            derived: self.value | self.derived,
            opaque: self.opaque,
        }
    }
    /// The classes of this that another does not have.
    pub(super) fn beyond(self, other: Self) -> Self {
        Self {
            value: self.value & !other.value,
            derived: self.derived & !other.value,
            opaque: false,
        }
    }
    pub(super) fn classes(self) -> ClassSet {
        set(self.value | self.derived)
    }
    pub(super) fn has_classes(self) -> bool {
        self.value | self.derived != 0
    }
    pub(super) fn sources(self) -> Sources {
        Sources {
            value: set(self.value),
            derived: set(self.derived),
            opaque: self.opaque,
        }
    }
}

fn set(bits: u128) -> ClassSet {
    if bits == 0 {
        return ClassSet::EMPTY;
    }
    (0..128).filter(|i| bits >> i & 1 == 1).map(ClassId).collect()
}

impl BitOr for Flow {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self {
            value: self.value | other.value,
            derived: self.derived | other.derived,
            opaque: self.opaque || other.opaque,
        }
    }
}

impl BitOrAssign for Flow {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}
