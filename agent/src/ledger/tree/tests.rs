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
