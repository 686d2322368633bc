//! The Merkle tree of RFC 6962 section 2.1, over salted leaves.
//!
//! A leaf is `SHA-256(0x00 || salt || body)`: RFC 6962's leaf hash of `salt || body`. The salt (16 random bytes per
//! entry) lets one entry be disclosed without its neighbours' hashes giving away short or guessable bodies.

mod prove;

use aws_lc_rs::digest;

pub use self::prove::Prover;

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// SHA-256 over parts, as if joined.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// The leaf hash of an entry.
#[must_use]
pub fn leaf_hash(salt: &[u8], body: &[u8]) -> Hash {
    sha256(&[&[0], salt, body])
}

/// The hash of an inner node: `SHA-256(0x01 || left || right)`.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    // One contiguous buffer: a third of the cost of three updates.
    let mut node = [1; 65];
    node[1..33].copy_from_slice(left);
    node[33..].copy_from_slice(right);
    sha256(&[&node])
}

/// The root hash of a tree without leaves: SHA-256 of nothing.
#[must_use]
pub fn empty_root() -> Hash {
    sha256(&[])
}

/// What is needed to append to a tree and to know its root: the roots of its perfect subtrees, largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactRange {
    size: u64,
    nodes: Vec<Hash>,
}

impl CompactRange {
    /// How many leaves the tree has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf hash; amortised one inner node.
    pub fn append(&mut self, leaf: &Hash) {
        let mut hash = *leaf;
        let mut level = self.size;
        while level & 1 == 1 {
            let Some(left) = self.nodes.pop() else { break };
            hash = node_hash(&left, &hash);
            level >>= 1;
        }
        self.nodes.push(hash);
        self.size += 1;
    }

    /// The root hash.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut nodes = self.nodes.iter().rev();
        let Some(last) = nodes.next() else {
            return empty_root();
        };
        nodes.fold(*last, |right, left| node_hash(left, &right))
    }

    /// The subtree roots, joined.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.nodes.concat()
    }

    /// The reverse of [`Self::to_bytes`]; `None` when the bytes do not fit the size.
    #[must_use]
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Option<Self> {
        let (nodes, rest) = bytes.as_chunks::<32>();
        (rest.is_empty() && nodes.len() == size.count_ones() as usize).then(|| Self {
            size,
            nodes: nodes.to_vec(),
        })
    }
}

impl CompactRange {
    /// What it knows of the leaves from `from` on and before `to`: a range to go on from, counted from `from`. `None`
    /// when none of its subtrees begins at `from`, or one crosses `to`.
    fn within(&self, from: u64, to: u64) -> Option<Self> {
        let mut inside = Self::default();
        let (mut start, mut left) = (0, self.size);
        for node in &self.nodes {
            let width = 1u64 << left.checked_ilog2()?;
            let end = start + width;
            if start >= from && end <= to {
                if inside.nodes.is_empty() && start != from {
                    return None;
                }
                inside.nodes.push(*node);
                inside.size += width;
            } else if end > from && start < to {
                return None;
            }
            (start, left) = (end, left - width);
        }
        Some(inside)
    }
}

/// The largest power of two below `n`, for `n` of at least 2.
fn split(n: usize) -> usize {
    1 << (n - 1).ilog2()
}

/// The root over leaf hashes.
#[must_use]
pub fn root(leaves: &[Hash]) -> Hash {
    let mut range = CompactRange::default();
    for leaf in leaves {
        range.append(leaf);
    }
    range.root()
}

/// The inclusion proof (audit path, RFC 6962 section 2.1.1) of leaf `index`, nearest sibling first; `None` when
/// there is no such leaf.
#[must_use]
pub fn inclusion_proof(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut leaves, mut index, mut path) = (leaves, index, Vec::new());
    while leaves.len() > 1 {
        let (left, right) = leaves.split_at(split(leaves.len()));
        if index < left.len() {
            path.push(root(right));
            leaves = left;
        } else {
            path.push(root(left));
            index -= left.len();
            leaves = right;
        }
    }
    path.reverse();
    Some(path)
}

/// Whether the proof shows that `leaf` is at `index` of the tree of `size` leaves with this root (RFC 9162 section
/// 2.1.3.2).
#[must_use]
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], expected: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *expected
}

/// The consistency proof (RFC 6962 section 2.1.2) from the tree of the first `from` leaves to the tree of all;
/// `None` when `from` is not between 1 and their number.
#[must_use]
pub fn consistency_proof(leaves: &[Hash], from: usize) -> Option<Vec<Hash>> {
    if from == 0 || from > leaves.len() {
        return None;
    }
    let (mut leaves, mut from, mut whole, mut path) = (leaves, from, true, Vec::new());
    while from < leaves.len() {
        let (left, right) = leaves.split_at(split(leaves.len()));
        if from <= left.len() {
            path.push(root(right));
            leaves = left;
        } else {
            path.push(root(left));
            from -= left.len();
            leaves = right;
            whole = false;
        }
    }
    if !whole {
        path.push(root(leaves));
    }
    path.reverse();
    Some(path)
}

/// Whether the proof shows that the tree of `from` leaves is a prefix of the tree of `to` leaves (RFC 9162 section
/// 2.1.4.2).
#[must_use]
pub fn verify_consistency(from: u64, from_root: &Hash, to: u64, to_root: &Hash, proof: &[Hash]) -> bool {
    if from == 0 || from > to {
        return false;
    }
    if from == to {
        return proof.is_empty() && from_root == to_root;
    }
    let mut path = proof.iter();
    let first = if from.is_power_of_two() {
        *from_root
    } else {
        match path.next() {
            Some(first) => *first,
            None => return false,
        }
    };
    let shift = (from - 1).trailing_ones();
    let (mut at, mut last) = ((from - 1) >> shift, (to - 1) >> shift);
    let (mut old, mut new) = (first, first);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(&new, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && old == *from_root && new == *to_root
}

#[cfg(test)]
mod tests;
