//! What of a name policy can measure: data that is smuggled out in names makes them long and random.

use hickory_resolver::proto::rr::Name;

use crate::model::entropy;

/// Measures of one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Labels, without the root.
    pub labels: usize,
    /// Bytes of all labels and the dots between them.
    pub bytes: usize,
    /// Bytes of the longest label.
    pub longest: usize,
    /// Shannon entropy of the most random label, in hundredths of a bit per byte. A label of n bytes has at most
    /// log2(n) bits per byte, so that short ones are never conspicuous: English words have 200 to 320, 32 hexadecimal
    /// digits 340 to 390, 60 characters of base32 about 450.
    pub entropy: i64,
}

impl Features {
    /// Of a name; letters of either case count as the same, as they do in DNS.
    #[must_use]
    pub fn of(name: &Name) -> Self {
        let mut features = Self::default();
        for label in name.iter() {
            features.labels += 1;
            features.bytes += label.len() + usize::from(features.labels > 1);
            features.longest = features.longest.max(label.len());
            features.entropy = features.entropy.max(entropy(label));
        }
        features
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Features {
        Features::of(&Name::from_ascii(name).unwrap())
    }

    #[test]
    fn words_are_less_random_than_data() {
        assert_eq!(of("."), Features::default());
        assert_eq!(
            of("aaaa.Ab."),
            Features {
                labels: 2,
                bytes: 7,
                longest: 4,
                entropy: 100
            }
        );
        let hex = of("9f86d081884c7d659a2feaa0c55ad015.example.");
        let base32 = of("mfrggzdfmztwq2lkbnwg23tpobyxe43uov3ho6dzpjaueq2eivdeoscj.example.");
        let words = of("internal-monitoring.production.example.");
        assert!((330..400).contains(&hex.entropy), "{hex:?}");
        assert!(base32.entropy > 420, "{base32:?}");
        assert!(words.entropy < 340, "{words:?}");
    }
}
