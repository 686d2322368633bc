//! A body that passes with its framing while it is searched for secrets: what is held back is content alone, and the
//! framing around it waits with it.

use std::collections::VecDeque;

use bytes::BytesMut;

use crate::mask::{Scrubber, Secrets};

enum Piece {
    /// So many bytes of content, which the scrubber has or has given back.
    Content(usize),
    Framing(Vec<u8>),
}

/// One body. Bounded by the longest secret, and by its framing where every byte is a chunk of its own.
pub(super) struct Through {
    scrubber: Scrubber,
    layout: VecDeque<Piece>,
    ready: Vec<u8>,
}

impl Through {
    pub(super) fn new(secrets: &Secrets) -> Self {
        Self {
            scrubber: Scrubber::new(secrets),
            layout: VecDeque::new(),
            ready: Vec::new(),
        }
    }

    /// Takes content.
    pub(super) fn content(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        match self.layout.back_mut() {
            Some(Piece::Content(n)) => *n += data.len(),
            _ => self.layout.push_back(Piece::Content(data.len())),
        }
        self.scrubber.push(data, &mut self.ready);
    }

    /// Takes framing that stands after the content so far.
    pub(super) fn framing(&mut self, bytes: &[u8]) {
        match self.layout.back_mut() {
            Some(Piece::Framing(waiting)) => waiting.extend_from_slice(bytes),
            _ => self.layout.push_back(Piece::Framing(bytes.to_vec())),
        }
    }

    /// The content is complete.
    pub(super) fn finish(&mut self) {
        self.scrubber.finish(&mut self.ready);
    }

    /// Appends what is decided: with framing to `wire`, content alone to `content`.
    pub(super) fn release(&mut self, wire: &mut BytesMut, content: &mut Vec<u8>) {
        let mut used = 0;
        while let Some(piece) = self.layout.front_mut() {
            match piece {
                Piece::Framing(bytes) => wire.extend_from_slice(bytes),
                Piece::Content(n) => {
                    let take = (self.ready.len() - used).min(*n);
                    let bytes = &self.ready[used..used + take];
                    wire.extend_from_slice(bytes);
                    content.extend_from_slice(bytes);
                    used += take;
                    if take < *n {
                        *n -= take;
                        break;
                    }
                }
            }
            self.layout.pop_front();
        }
        self.ready.drain(..used);
    }

    /// How many secrets were found.
    pub(super) fn hits(&self) -> u64 {
        self.scrubber.hits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SecretSink as _;

    #[test]
    fn framing_stays_where_it_was() {
        let secrets = Secrets::default();
        secrets.replace("a", &[b"secret"]);
        let mut through = Through::new(&secrets);
        let (mut wire, mut content) = (BytesMut::new(), Vec::new());
        for letter in b"a secret, secre" {
            through.framing(b"1\r\n");
            through.content(&[*letter]);
            through.framing(b"\r\n");
            through.release(&mut wire, &mut content);
        }
        assert_eq!(content, b"a ******, ");
        assert!(wire.ends_with(b"1\r\n \r\n1\r\n"), "{wire:?}");
        through.framing(b"0\r\n\r\n");
        through.finish();
        through.release(&mut wire, &mut content);
        assert_eq!((&content[..], through.hits()), (&b"a ******, secre"[..], 1));
        let expected: String = "a ******, secre"
            .chars()
            .map(|c| format!("1\r\n{c}\r\n"))
            .collect();
        assert_eq!(wire, format!("{expected}0\r\n\r\n").as_bytes());
    }
}
