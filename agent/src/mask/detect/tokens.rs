//! Secrets with a literal in them: tokens with a prefix, JWTs (RFC 7519), PEM private keys (RFC 7468).
//!
//! Shapes as published by their issuers, several of them as collected by gitleaks (MIT).

use aho_corasick::{AhoCorasick, packed};

use super::{
    Search, Tail,
    bytes::{ALNUM, BASE64, BASE64URL, COMPACT, UPPER_DIGIT, WORD, is},
};
use crate::mask::classes::Builtin;

/// What a candidate begins with. At most 64, and three bytes or more: then they are all searched for at once, with
/// vector instructions. Of `password` only the part without its first letter, for the sake of its case.
#[rustfmt::skip]
const LITERALS: &[&str] = &[
    "-----BEGIN ", "AKIA", "ASIA", "AIza", "eyJ", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "xoxb-",
    "xoxp-", "xoxa-", "xoxr-", "xoxs-", "xoxe", "xapp-", "hooks.slack.com/", "sk_live_", "sk_test_", "rk_live_",
    "rk_test_", "whsec_", "sk-", "assword", "ASSWORD", "asswd", "ASSWD", "pwd", "Pwd", "PWD", "ecret_", "ecretA",
    "ecretK", "ECRET_",
];
/// Only in plain text: in JSON its `@` marks it.
const URL: &str = "://";

/// Searchers for the literals.
#[derive(Debug)]
pub(in crate::mask) struct Literals {
    all: Searcher,
    json: Searcher,
}

#[derive(Debug)]
enum Searcher {
    Packed(packed::Searcher),
    Automaton(AhoCorasick),
}

impl Searcher {
    fn new(literals: &[&str]) -> Result<Self, aho_corasick::BuildError> {
        match packed::Config::new().builder().extend(literals).build() {
            Some(searcher) => Ok(Self::Packed(searcher)),
            None => AhoCorasick::new(literals).map(Self::Automaton),
        }
    }

    fn each(&self, hay: &[u8], from: usize, mut found: impl FnMut(usize)) {
        let mut span = aho_corasick::Span {
            start: from,
            end: hay.len(),
        };
        loop {
            let at = match self {
                Self::Packed(searcher) => searcher.find_in(hay, span).map(|m| m.start()),
                Self::Automaton(searcher) => searcher
                    .find(aho_corasick::Input::new(hay).span(span))
                    .map(|m| m.start()),
            };
            let Some(at) = at else { return };
            found(at);
            // Not after the match: another could begin inside it.
            span.start = at + 1;
        }
    }
}

impl Literals {
    pub(in crate::mask) fn new() -> Result<Self, aho_corasick::BuildError> {
        let all: Vec<&str> = LITERALS.iter().chain([&URL]).copied().collect();
        Ok(Self {
            all: Searcher::new(&all)?,
            json: Searcher::new(LITERALS)?,
        })
    }
    pub(super) fn each(&self, hay: &[u8], from: usize, found: impl FnMut(usize)) {
        self.all.each(hay, from, found);
    }
    pub(super) fn each_in_json(&self, hay: &[u8], from: usize, found: impl FnMut(usize)) {
        self.json.each(hay, from, found);
    }
}

/// Tokens: prefix, class, the least number of bytes after it, and of what kind they are.
const TOKENS: &[(&[u8], Builtin, usize, u16)] = &[
    (b"ghp_", Builtin::GithubToken, 30, ALNUM),
    (b"gho_", Builtin::GithubToken, 30, ALNUM),
    (b"ghu_", Builtin::GithubToken, 30, ALNUM),
    (b"ghs_", Builtin::GithubToken, 30, ALNUM),
    (b"ghr_", Builtin::GithubToken, 30, ALNUM),
    (b"github_pat_", Builtin::GithubToken, 36, WORD),
    (b"xoxb-", Builtin::SlackToken, 20, BASE64URL),
    (b"xoxp-", Builtin::SlackToken, 20, BASE64URL),
    (b"xoxa-", Builtin::SlackToken, 20, BASE64URL),
    (b"xoxr-", Builtin::SlackToken, 20, BASE64URL),
    (b"xoxs-", Builtin::SlackToken, 20, BASE64URL),
    (b"xoxe-", Builtin::SlackToken, 20, BASE64URL),
    (b"xoxe.xoxp-", Builtin::SlackToken, 20, BASE64URL),
    (b"xoxe.xoxb-", Builtin::SlackToken, 20, BASE64URL),
    (b"xapp-", Builtin::SlackToken, 20, BASE64URL),
    (b"sk_live_", Builtin::StripeKey, 10, ALNUM),
    (b"sk_test_", Builtin::StripeKey, 10, ALNUM),
    (b"rk_live_", Builtin::StripeKey, 10, ALNUM),
    (b"rk_test_", Builtin::StripeKey, 10, ALNUM),
    (b"whsec_", Builtin::StripeKey, 24, ALNUM),
    (b"sk-ant-", Builtin::AnthropicKey, 20, BASE64URL),
    (b"sk-proj-", Builtin::OpenaiKey, 20, BASE64URL),
    (b"sk-svcacct-", Builtin::OpenaiKey, 20, BASE64URL),
    (b"sk-admin-", Builtin::OpenaiKey, 20, BASE64URL),
    (b"sk-", Builtin::OpenaiKey, 32, ALNUM),
    (b"AIza", Builtin::GcpKey, 35, BASE64URL),
];

const JWT_HEADER_MAX: usize = 512;
const PEM_LABEL_MAX: usize = 48;

impl Search<'_> {
    /// A literal begins at `at`.
    pub(super) fn token(&mut self, at: usize) {
        let rest = &self.hay[at..];
        match rest {
            [b':', ..] => self.url(at),
            [b'-', ..] => self.pem(at),
            [b'e', b'y', b'J', ..] => self.jwt(at),
            [b'e' | b'E', b'c' | b'C', ..] => self.aws_secret(at),
            [b'a' | b'A', b's' | b'S', b's' | b'S', b'w' | b'W', third, ..] => {
                let len = if third.eq_ignore_ascii_case(&b'o') { 7 } else { 5 };
                if matches!(self.before(at), b'p' | b'P') {
                    self.assignment(at, at + len);
                }
            }
            [b'p' | b'P', b'w' | b'W', ..] => {
                // The shell's own PWD and OLDPWD are directories.
                if !is(self.before(at), ALNUM) && !rest.starts_with(b"PWD=/") && !rest.starts_with(b"PWD=\"/")
                {
                    self.assignment(at, at + 3);
                }
            }
            [b'A', b'K' | b'S', ..] => self.aws_access(at),
            [b'h', ..] => self.slack_hook(at),
            _ => self.prefixed(at),
        }
    }

    fn prefixed(&mut self, at: usize) {
        if is(self.before(at), BASE64URL) {
            return;
        }
        let mut wait = false;
        for (prefix, class, least, kind) in TOKENS {
            let rest = &self.hay[at..];
            if !rest.starts_with(prefix) {
                wait |= !self.last && prefix.starts_with(rest);
                continue;
            }
            let from = at + prefix.len();
            let n = self.run(from, *least, *kind);
            if n == *least {
                // A word after `sk-` is a class of a style sheet, not a key.
                return self.hit(*class, at, from + n, Some(Tail::Run(*kind)));
            }
            wait |= self.is_open(from + n);
        }
        if wait {
            self.wait(at);
        }
    }

    fn aws_access(&mut self, at: usize) {
        if is(self.before(at), WORD) {
            return;
        }
        let n = self.run(at, 21, UPPER_DIGIT);
        if n <= 20 && self.is_open(at + n) {
            return self.wait(at);
        }
        if n == 20 && !self.at(at + n).is_some_and(|b| is(b, WORD)) {
            self.hit(Builtin::AwsAccessKey, at, at + n, None);
        }
    }

    fn slack_hook(&mut self, at: usize) {
        const PATH: &[u8] = b"hooks.slack.com/services/";
        let rest = &self.hay[at..];
        if rest.starts_with(PATH) {
            let start = at + PATH.len();
            let n = self.run(start, 8, BASE64);
            if n == 8 {
                self.hit_after(Builtin::SlackToken, at, start, start + n, Some(Tail::Run(BASE64)));
            } else if self.is_open(start + n) {
                self.wait(at);
            }
        } else if !self.last && PATH.starts_with(rest) {
            self.wait(at);
        }
    }

    /// `eyJ`: an encoded `{"`. Three parts, of which the third may be empty; or one that is too long for anything else.
    fn jwt(&mut self, at: usize) {
        if self.on.id(Builtin::Jwt).is_none() || is(self.before(at), BASE64URL) {
            return;
        }
        let tail = Some(Tail::Run(COMPACT));
        let header = self.run(at, JWT_HEADER_MAX, BASE64URL);
        if header == JWT_HEADER_MAX {
            return self.hit(Builtin::Jwt, at, at + header, tail);
        }
        if self.is_open(at + header) {
            return self.wait(at);
        }
        if header < 12 || self.at(at + header) != Some(b'.') {
            return;
        }
        let payload = self.run(at + header + 1, 8, BASE64URL);
        if payload == 8 {
            self.hit(Builtin::Jwt, at, at + header + 1 + payload, tail);
        } else if self.is_open(at + header + 1 + payload) {
            self.wait(at);
        }
    }

    fn pem(&mut self, at: usize) {
        const BEGIN: usize = "-----BEGIN ".len();
        let rest = &self.hay[at + BEGIN..];
        let label = rest
            .iter()
            .take(PEM_LABEL_MAX)
            .take_while(|b| is(**b, UPPER_DIGIT) || **b == b' ')
            .count();
        self.spent(label + BEGIN);
        let from = at + BEGIN + label;
        let is_private =
            rest[..label].ends_with(b"PRIVATE KEY") || rest[..label].ends_with(b"PRIVATE KEY BLOCK");
        let dashes = &self.hay[from..self.hay.len().min(from + 5)];
        if is_private && dashes == b"-----" {
            self.hit(Builtin::PrivateKey, at, from + 5, Some(Tail::PemBody(0)));
        } else if !self.last && from + 5 > self.hay.len() && b"-----".starts_with(dashes) {
            self.wait(at);
        }
    }
}
