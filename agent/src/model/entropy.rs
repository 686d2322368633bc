//! How random bytes are.

/// Shannon entropy in hundredths of a bit per byte, 0 to 800; letters of either case count as the same. Of n bytes it is at
/// most log2(n) bits, so that short ones never have much.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // Between 0 and 800; lengths are small.
pub fn entropy(bytes: &[u8]) -> i64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(byte.to_ascii_lowercase())] += 1;
    }
    let all = bytes.len() as f64;
    let bits: f64 = (counts.iter().filter(|n| **n > 0))
        .map(|n| {
            let share = f64::from(*n) / all;
            -share * share.log2()
        })
        .sum();
    (bits * 100.0).round() as i64
}
