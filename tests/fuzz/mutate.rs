//! Inputs: the seeds, then seeds with bytes flipped, cut, doubled, spliced, and with words put in that parsers trip on.

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

/// What has broken parsers of these formats before.
const WORDS: [&[u8]; 36] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b"\r\n\r\n",
    b"\r\n ",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n",
    b"Host: other\r\n",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"5;x=\"\r\n\"\r\n",
    b"/../",
    b"//",
    b"%2e%2e",
    b"%00",
    b"\xc3\x28",
    b"\xff\xfe",
    b"{",
    b"}",
    b"\"",
    b"\\u0041",
    b"\\ud800",
    b"ada@example.com",
    b"219-09-9999",
    b"4111 1111 1111 1111",
    b"null",
    b"-----BEGIN PRIVATE KEY-----",
    b"a=b&",
    b"@",
];

/// A source of inputs that is the same for the same seed.
pub struct Mutator {
    random: SmallRng,
    seeds: Vec<Vec<u8>>,
}

impl Mutator {
    pub fn new(seed: u64, seeds: Vec<Vec<u8>>) -> Self {
        Self {
            random: SmallRng::seed_from_u64(seed),
            seeds,
        }
    }

    /// A number for the target's own choices.
    pub fn random(&mut self) -> u64 {
        self.random.random()
    }

    /// The input number `n`.
    pub fn next(&mut self, n: u64) -> Vec<u8> {
        if let Some(seed) = usize::try_from(n).ok().and_then(|n| self.seeds.get(n)) {
            return seed.clone();
        }
        let mut input = self.seeds[self.random.random_range(0..self.seeds.len())].clone();
        for _ in 0..self.random.random_range(1..6) {
            self.change(&mut input);
        }
        input.truncate(64 * 1024);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.random.random_range(0..=input.len());
        let to = self.random.random_range(at..=input.len().min(at + 40));
        match self.random.random_range(0..7) {
            0 if at < input.len() => input[at] ^= 1 << self.random.random_range(0..8),
            1 if at < input.len() => input[at] = self.random.random(),
            2 => drop(input.drain(at..to)),
            3 => input.truncate(at),
            4 => {
                let piece = input[at..to].to_vec();
                let times = if self.random.random_ratio(1, 20) { 400 } else { 1 };
                input.splice(at..at, piece.repeat(times));
            }
            5 => {
                let word = WORDS[self.random.random_range(0..WORDS.len())];
                input.splice(at..at, word.iter().copied());
            }
            _ => {
                let other = &self.seeds[self.random.random_range(0..self.seeds.len())];
                let from = self.random.random_range(0..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }
}
