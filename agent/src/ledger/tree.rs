//! The Merkle tree of RFC 6962 section 2.1, over salted leaves.
//!
//! A leaf is `SHA-256(0x00 || salt || body)`: RFC 6962's leaf hash of `salt || body`. The salt (16 random bytes per
//! entry) lets one entry be disclosed without its neighbours' hashes giving away short or guessable bodies.

use aws_lc_rs::digest;

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
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition of RFC 6962 section 2.1, word by word.
    fn naive(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => sha256(&[]),
            [one] => *one,
            _ => {
                let (l, r) = leaves.split_at(split(leaves.len()));
                sha256(&[&[1], &naive(l), &naive(r)])
            }
        }
    }

    fn leaves(n: usize) -> Vec<Hash> {
        (0..n).map(|i| leaf_hash(&[], &i.to_le_bytes())).collect()
    }

    /// The inputs and roots of the certificate-transparency reference implementation.
    #[test]
    fn known_roots() {
        let inputs = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        assert_eq!(
            hex::encode(empty_root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let mut range = CompactRange::default();
        for (input, expected) in inputs.iter().zip(roots) {
            range.append(&leaf_hash(&[], &hex::decode(input).unwrap()));
            assert_eq!(hex::encode(range.root()), expected, "size {}", range.size());
        }
    }

    #[test]
    fn every_proof_of_small_trees() {
        let all = leaves(40);
        for n in 1..=all.len() {
            let tree = &all[..n];
            let top = naive(tree);
            assert_eq!(root(tree), top);
            for i in 0..n {
                let proof = inclusion_proof(tree, i).unwrap();
                let (i, n) = (i as u64, n as u64);
                assert!(
                    verify_inclusion(&tree[i as usize], i, n, &proof, &top),
                    "{i} of {n}"
                );
                for other in (0..n).filter(|o| *o != i) {
                    assert!(!verify_inclusion(&tree[i as usize], other, n, &proof, &top));
                }
            }
            for m in 1..=n {
                let proof = consistency_proof(tree, m).unwrap();
                let (from, to) = (m as u64, n as u64);
                assert!(
                    verify_consistency(from, &naive(&tree[..m]), to, &top, &proof),
                    "{m} to {n}"
                );
                assert!(!verify_consistency(from, &[7; 32], to, &top, &proof));
                assert!(!verify_consistency(
                    from,
                    &naive(&tree[..m]),
                    to,
                    &[7; 32],
                    &proof
                ));
            }
            assert!(consistency_proof(tree, 0).is_none() && consistency_proof(tree, n + 1).is_none());
            assert!(inclusion_proof(tree, n).is_none());
        }
    }

    proptest! {
        #[test]
        fn proofs_break_when_touched(n in 2usize..300, seed in any::<u64>(), bit in 0usize..256) {
            let tree = leaves(n);
            let top = naive(&tree);
            let index = (seed % n as u64) as usize;
            let mut proof = inclusion_proof(&tree, index).unwrap();
            prop_assert!(verify_inclusion(&tree[index], index as u64, n as u64, &proof, &top));
            let at = (seed >> 32) as usize % proof.len();
            proof[at][bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!verify_inclusion(&tree[index], index as u64, n as u64, &proof, &top));
            proof.pop();
            prop_assert!(!verify_inclusion(&tree[index], index as u64, n as u64, &proof, &top));

            let from = index + 1;
            let mut proof = consistency_proof(&tree, from).unwrap();
            let old = naive(&tree[..from]);
            prop_assert!(verify_consistency(from as u64, &old, n as u64, &top, &proof));
            if !proof.is_empty() {
                let at = (seed >> 32) as usize % proof.len();
                proof[at][bit / 8] ^= 1 << (bit % 8);
                prop_assert!(!verify_consistency(from as u64, &old, n as u64, &top, &proof));
            }
        }

        #[test]
        fn a_stored_range_goes_on(n in 0usize..300, more in 0usize..50) {
            let all = leaves(n + more);
            let mut range = CompactRange::default();
            all[..n].iter().for_each(|l| range.append(l));
            let mut again = CompactRange::from_bytes(n as u64, &range.to_bytes()).unwrap();
            prop_assert_eq!(&again, &range);
            all[n..].iter().for_each(|l| again.append(l));
            prop_assert_eq!(again.root(), naive(&all));
            prop_assert!(CompactRange::from_bytes(n as u64, &[0; 31]).is_none());
        }
    }
}
