//! The automaton over all spellings of all secrets (Aho and Corasick 1975).
//!
//! It reports every match, also one inside or across another: after the leftmost of two that overlap, the rest of the
//! other would be left standing. It runs byte by byte from any state, so that where a stream is cut makes no
//! difference, and every state says how many of the last bytes may still become a secret.

use std::collections::HashMap;

use aho_corasick::{
    Anchored, BuildError, MatchKind,
    automaton::{Automaton, StateID},
    dfa, nfa,
};

use super::encodings::Pattern;

/// Patterns of so many bytes in all get a full table, which is twice as fast and takes about 512 bytes a byte.
const DENSE: usize = 16 * 1024;

enum Tables {
    Dense(dfa::DFA),
    Sparse(nfa::contiguous::NFA),
}

/// Immutable, shared by all streams.
pub(super) struct Machine {
    tables: Tables,
    start: StateID,
    /// Bytes with which a pattern begins.
    first: Box<[bool; 256]>,
    /// Patterns whose replacement is digits.
    hex: Box<[bool]>,
    /// Bytes at the end of the input that may be the beginning of a pattern, by state; none where a state is not here.
    hold: HashMap<StateID, u32>,
}

/// Where a stream is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct State(StateID);

/// A match, by where it ends in the input that was run.
#[derive(Clone, Copy)]
pub(super) struct Found {
    /// Place after its last byte.
    pub(super) end: usize,
    /// Its length; it may have begun before this input.
    pub(super) length: usize,
    /// What replaces its bytes.
    pub(super) fill: u8,
}

impl Machine {
    pub(super) fn new(patterns: &[Pattern]) -> Result<Self, BuildError> {
        let bytes = || patterns.iter().map(|p| &p.bytes[..]);
        let tables = if bytes().map(<[u8]>::len).sum::<usize>() <= DENSE {
            Tables::Dense(
                dfa::Builder::new()
                    .match_kind(MatchKind::Standard)
                    .prefilter(false)
                    .build(bytes())?,
            )
        } else {
            Tables::Sparse(
                nfa::contiguous::Builder::new()
                    .match_kind(MatchKind::Standard)
                    .prefilter(false)
                    .build(bytes())?,
            )
        };
        let mut first = Box::new([false; 256]);
        bytes()
            .filter_map(|p| p.first())
            .for_each(|b| first[usize::from(*b)] = true);
        let mut machine = Self {
            start: match &tables {
                // Without anchors there is always one.
                Tables::Dense(t) => t.start_state(Anchored::No).unwrap_or(StateID::ZERO),
                Tables::Sparse(t) => t.start_state(Anchored::No).unwrap_or(StateID::ZERO),
            },
            tables,
            first,
            hex: patterns.iter().map(|p| p.hex).collect(),
            hold: HashMap::new(),
        };
        machine.learn_holds(patterns);
        Ok(machine)
    }

    /// Walks every pattern: the state after its first n bytes stands for exactly those.
    fn learn_holds(&mut self, patterns: &[Pattern]) {
        let mut ordered: Vec<&Pattern> = patterns.iter().collect();
        ordered.sort_unstable_by_key(|p| p.bytes.len());
        for pattern in &ordered {
            let mut state = self.start();
            for (at, byte) in pattern.bytes.iter().enumerate() {
                if at > 0 {
                    // Something follows here, so these bytes are a beginning.
                    self.hold.insert(state.0, u32::try_from(at).unwrap_or(u32::MAX));
                }
                state = self.next(state, *byte);
            }
        }
        for pattern in ordered {
            let end = pattern.bytes.iter().fold(self.start(), |s, b| self.next(s, *b));
            if !self.hold.contains_key(&end.0) {
                // It is complete, and nothing longer begins so; but another may begin inside it. Shorter ones are known.
                let rest = pattern.bytes[1..]
                    .iter()
                    .fold(self.start(), |s, b| self.next(s, *b));
                let hold = self.hold(rest);
                self.hold.insert(end.0, u32::try_from(hold).unwrap_or(u32::MAX));
            }
        }
    }

    pub(super) fn start(&self) -> State {
        State(self.start)
    }

    /// How many of the last bytes may still become a secret.
    pub(super) fn hold(&self, state: State) -> usize {
        self.hold.get(&state.0).map_or(0, |n| *n as usize)
    }

    fn next(&self, state: State, byte: u8) -> State {
        State(match &self.tables {
            Tables::Dense(t) => t.next_state(Anchored::No, state.0, byte),
            Tables::Sparse(t) => t.next_state(Anchored::No, state.0, byte),
        })
    }

    /// Runs over input. `found` is told of the longest match at each place where one ends, and says whether to go on.
    pub(super) fn run(&self, state: State, input: &[u8], found: impl FnMut(Found) -> bool) -> State {
        match &self.tables {
            Tables::Dense(t) => self.run_on(t, state, input, found),
            Tables::Sparse(t) => self.run_on(t, state, input, found),
        }
    }

    fn run_on<A: Automaton>(
        &self,
        tables: &A,
        state: State,
        input: &[u8],
        mut found: impl FnMut(Found) -> bool,
    ) -> State {
        let mut at = 0;
        let mut sid = state.0;
        while let Some(rest) = input.get(at..) {
            if sid == self.start {
                // Most bytes begin nothing, and a small table says so faster than the automaton.
                match rest.iter().position(|b| self.first[usize::from(*b)]) {
                    Some(skip) => at += skip,
                    None => break,
                }
            }
            let Some(byte) = input.get(at) else { break };
            sid = tables.next_state(Anchored::No, sid, *byte);
            at += 1;
            if tables.is_special(sid) && tables.is_match(sid) {
                let mut best = (0, false);
                for index in 0..tables.match_len(sid) {
                    let pattern = tables.match_pattern(sid, index);
                    let length = tables.pattern_len(pattern);
                    if length > best.0 {
                        best = (length, self.hex.get(pattern.as_usize()).is_some_and(|h| *h));
                    }
                }
                let match_here = Found {
                    end: at,
                    length: best.0,
                    fill: if best.1 { b'0' } else { b'*' },
                };
                if !found(match_here) {
                    break;
                }
            }
        }
        State(sid)
    }
}
