//! Proofs about a tree of which only a part is at hand: the compact range where that part begins, and its leaves.
//!
//! The leaves come by one after the other and are not kept: a proof of a tree of any size takes a few hashes.

use super::{CompactRange, Hash};

/// A proof that is being made.
pub struct Prover {
    /// The subtrees whose roots make up the proof, in its order.
    wanted: Vec<Wanted>,
    /// The next leaf.
    next: u64,
    /// The tree's size.
    size: u64,
}

struct Wanted {
    from: u64,
    to: u64,
    range: CompactRange,
}

impl Prover {
    /// The inclusion proof of leaf `index` in the tree of `size` leaves, as
    /// [`inclusion_proof`](super::inclusion_proof). The leaves to come begin at the frontier's size, which is not behind
    /// `index`. `None` when there is no such leaf.
    #[must_use]
    pub fn inclusion(frontier: &CompactRange, index: u64, size: u64) -> Option<Self> {
        if index < frontier.size || index >= size {
            return None;
        }
        let (mut from, mut to, mut wanted) = (0, size, Vec::new());
        while to - from > 1 {
            let middle = from + split(to - from);
            if index < middle {
                wanted.push((middle, to));
                to = middle;
            } else {
                wanted.push((from, middle));
                from = middle;
            }
        }
        Self::of(frontier, wanted, size)
    }

    /// The consistency proof from the tree of the first `old` leaves to that of `size` leaves, as
    /// [`consistency_proof`](super::consistency_proof). The leaves to come begin at the frontier's size, which is not
    /// behind `old`. `None` when `old` is not from 1 to `size`.
    #[must_use]
    pub fn consistency(frontier: &CompactRange, old: u64, size: u64) -> Option<Self> {
        if old < frontier.size || old == 0 || old > size {
            return None;
        }
        let (mut from, mut to, mut wanted) = (0, size, Vec::new());
        while old < to {
            let middle = from + split(to - from);
            if old <= middle {
                wanted.push((middle, to));
                to = middle;
            } else {
                wanted.push((from, middle));
                from = middle;
            }
        }
        if from > 0 {
            wanted.push((from, to));
        }
        Self::of(frontier, wanted, size)
    }

    fn of(frontier: &CompactRange, mut wanted: Vec<(u64, u64)>, size: u64) -> Option<Self> {
        wanted.reverse();
        let wanted = wanted.into_iter().map(|(from, to)| {
            let range = frontier.within(from, to)?;
            Some(Wanted { from, to, range })
        });
        Some(Self {
            wanted: wanted.collect::<Option<_>>()?,
            next: frontier.size,
            size,
        })
    }

    /// Takes the next leaf; what is behind the tree is passed over.
    pub fn leaf(&mut self, leaf: &Hash) {
        let at = self.next;
        self.next += 1;
        // They do not overlap, and are as many as a tree is high.
        if let Some(wanted) = self.wanted.iter_mut().find(|w| w.from <= at && at < w.to) {
            wanted.range.append(leaf);
        }
    }

    /// The proof; `None` before all leaves of the tree were there.
    #[must_use]
    pub fn finish(self) -> Option<Vec<Hash>> {
        let whole = |w: &Wanted| w.range.size() == w.to - w.from;
        (self.next >= self.size && self.wanted.iter().all(whole))
            .then(|| self.wanted.iter().map(|w| w.range.root()).collect())
    }
}

/// The largest power of two below `n`, for `n` of at least 2.
fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{consistency_proof, inclusion_proof, leaf_hash},
        *,
    };

    fn leaves(n: u64) -> Vec<Hash> {
        (0..n).map(|i| leaf_hash(&[], &i.to_le_bytes())).collect()
    }

    fn frontier(leaves: &[Hash]) -> CompactRange {
        let mut range = CompactRange::default();
        leaves.iter().for_each(|l| range.append(l));
        range
    }

    fn fed(prover: Option<Prover>, leaves: &[Hash]) -> Option<Vec<Hash>> {
        let mut prover = prover?;
        leaves.iter().for_each(|l| prover.leaf(l));
        prover.finish()
    }

    #[test]
    fn every_proof_of_small_trees_from_every_place() {
        let all = leaves(34);
        for begin in 0..=all.len() {
            let range = frontier(&all[..begin]);
            for n in begin.max(1)..=all.len() {
                for i in 0..=n {
                    let (at, size) = (i as u64, n as u64);
                    let expected = (i >= begin).then(|| inclusion_proof(&all[..n], i)).flatten();
                    let made = fed(Prover::inclusion(&range, at, size), &all[begin..]);
                    assert_eq!(made, expected, "leaf {i} of {n} from {begin}");
                    let expected = (i >= begin).then(|| consistency_proof(&all[..n], i)).flatten();
                    let made = fed(Prover::consistency(&range, at, size), &all[begin..]);
                    assert_eq!(made, expected, "{i} to {n} from {begin}");
                }
            }
        }
    }

    #[test]
    fn a_proof_wants_all_leaves() {
        let all = leaves(9);
        let range = frontier(&all[..2]);
        assert!(fed(Prover::inclusion(&range, 3, 9), &all[2..8]).is_none());
        assert!(fed(Prover::consistency(&range, 3, 9), &all[2..8]).is_none());
        assert!(Prover::inclusion(&range, 1, 9).is_none() && Prover::inclusion(&range, 9, 9).is_none());
        assert!(Prover::consistency(&range, 1, 9).is_none() && Prover::consistency(&range, 10, 9).is_none());
        assert!(Prover::consistency(&CompactRange::default(), 0, 9).is_none());
    }

    proptest! {
        #[test]
        fn large_trees(n in 1u64..5_000, begin in 0u64..5_000, at in 0u64..5_000) {
            let (begin, at) = (begin % n, at % n);
            let (begin, at) = (begin.min(at), begin.max(at));
            let all = leaves(n);
            let range = frontier(&all[..begin as usize]);
            let rest = &all[begin as usize..];
            prop_assert_eq!(fed(Prover::inclusion(&range, at, n), rest), inclusion_proof(&all, at as usize));
            let at = at + 1;
            prop_assert_eq!(fed(Prover::consistency(&range, at, n), rest), consistency_proof(&all, at as usize));
        }
    }
}
