//! Masking of what HTTP carries: which contents are read, and bodies as they stream through.

use std::sync::Arc;

use super::{
    encoding::{Coding, Gunzip, Gzip},
    fault::Fault,
};
use crate::{
    gate::Gate,
    mask::{Counts, Format, Handling, MaskRules, Masker, Scrubber, looks_wide},
    model::ClassSet,
};

/// What UTF-32 can be told by.
const PREFIX: usize = 8;

/// Where a stream of values has an end that no value crosses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// Nowhere before the end.
    End,
    /// At the end of a line.
    Line,
    /// At an empty line.
    EmptyLine,
}

impl Boundary {
    /// The boundary of a type.
    #[must_use]
    pub fn of(content_type: Option<&str>) -> Self {
        match media(content_type).as_str() {
            "text/event-stream" => Self::EmptyLine,
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/jsonlines"
            | "application/stream+json" => Self::Line,
            _ => Self::End,
        }
    }
}

fn media(content_type: Option<&str>) -> String {
    content_type
        .unwrap_or("")
        .split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase()
}

/// Whether a type says for itself that its content is not text.
#[must_use]
pub fn is_binary(content_type: Option<&str>) -> bool {
    Format::of(content_type, &[]) == Handling::Binary
}

/// Text of a request as it may be stored before policy has said what may be revealed; `None` when it stays.
#[must_use]
pub fn path(rules: &Arc<MaskRules>, value: &str) -> Option<String> {
    let mut counts = Counts::default();
    let masked = rules.mask_path(rules.all(), value, &mut counts);
    (!counts.is_empty()).then(|| masked.into_owned())
}

/// A short text likewise.
#[must_use]
pub fn text(rules: &Arc<MaskRules>, value: &str) -> Option<String> {
    let mut counts = Counts::default();
    let masked = rules.mask_text(rules.all(), value, &mut counts);
    (!counts.is_empty()).then(|| masked.into_owned())
}

/// A query string likewise.
#[must_use]
pub fn query(rules: &Arc<MaskRules>, value: &str) -> Option<String> {
    let mut counts = Counts::default();
    let masked = rules.mask_query(rules.all(), value, &mut counts);
    (!counts.is_empty()).then(|| masked.into_owned())
}

/// One body on its way: decoded, masked, encoded again.
pub struct MaskedBody {
    classes: ClassSet,
    content_type: Option<String>,
    boundary: Boundary,
    masker: Masker,
    scrubber: Scrubber,
    clean: Vec<u8>,
    /// How it is read: known once its first bytes are.
    handling: Option<Handling>,
    /// The first bytes of the content, until there are enough to tell the writing by.
    prefix: Vec<u8>,
    /// What maskers that are through have counted.
    counts: Counts,
    gunzip: Option<Gunzip>,
    gzip: Option<Gzip>,
    plain: Vec<u8>,
    masked: Vec<u8>,
    /// The line being read has nothing in it so far.
    line_empty: bool,
    /// Encoded content was held back since the last flush.
    unflushed: bool,
}

impl MaskedBody {
    /// A body of this type and encoding; `reencode` gives it back in the encoding it came in.
    #[must_use]
    pub fn new(
        gate: &Gate,
        classes: ClassSet,
        content_type: Option<&str>,
        coding: Coding,
        reencode: bool,
    ) -> Self {
        let gzip = coding == Coding::Gzip;
        Self {
            classes,
            content_type: content_type.map(str::to_owned),
            boundary: Boundary::of(content_type),
            masker: Masker::new(Arc::clone(gate.mask()), classes, Format::Text),
            scrubber: Scrubber::new(gate.secrets()),
            clean: Vec::new(),
            handling: None,
            prefix: Vec::new(),
            counts: Counts::default(),
            gunzip: gzip.then(Gunzip::new),
            gzip: (gzip && reencode).then(Gzip::new),
            plain: Vec::new(),
            masked: Vec::new(),
            line_empty: true,
            unflushed: false,
        }
    }

    /// Masks a body that is not encoded and all at hand; `None` when nothing had to be masked.
    pub fn whole(&mut self, content: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        if self.settle(content)?.is_none() {
            return Ok(None);
        }
        let masked = self.masker.scan_whole(content);
        self.counts.merge(self.masker.counts());
        Ok(masked)
    }

    /// Decides how the body is read, by its first bytes.
    fn settle(&mut self, start: &[u8]) -> Result<Option<Format>, Fault> {
        let handling = match self.handling {
            Some(handling) => handling,
            None => {
                let handling = Format::of(self.content_type.as_deref(), start);
                self.handling = Some(handling);
                if let Handling::Mask(format) = handling {
                    self.masker.reset(self.classes, format);
                }
                handling
            }
        };
        // Pieces may be too short to tell UTF-16 by, so the start is looked at until it is long enough.
        if self.prefix.len() < PREFIX {
            let room = PREFIX - self.prefix.len();
            self.prefix.extend_from_slice(&start[..start.len().min(room)]);
            if looks_wide(&self.prefix) {
                self.handling = Some(Handling::Unreadable);
                return Err(Fault::Encoding);
            }
        }
        match handling {
            Handling::Mask(format) => Ok(Some(format)),
            Handling::Binary => Ok(None),
            Handling::Unreadable => Err(Fault::Encoding),
        }
    }

    /// Takes some of the body and appends what may be passed on.
    pub fn push(&mut self, mut data: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        if self.gunzip.is_none() {
            return self.mask(data, out);
        }
        loop {
            let mut plain = std::mem::take(&mut self.plain);
            plain.clear();
            let step = match &mut self.gunzip {
                Some(gunzip) => gunzip.push(data, &mut plain),
                None => Ok((data.len(), false)),
            };
            let (taken, again) = step?;
            data = data.get(taken..).unwrap_or_default();
            let done = self.mask(&plain, out);
            self.plain = plain;
            done?;
            if data.is_empty() && !again {
                return Ok(());
            }
        }
    }

    fn mask(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        if plain.is_empty() {
            return Ok(());
        }
        if self.scrubber.is_idle() {
            return self.mask_clean(plain, out);
        }
        let mut clean = std::mem::take(&mut self.clean);
        clean.clear();
        self.scrubber.push(plain, &mut clean);
        let done = self.mask_clean(&clean, out);
        self.clean = clean;
        done
    }

    /// Masks data classes in what no secret is in any more.
    fn mask_clean(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        // Read for secrets alone, whatever it is.
        if plain.is_empty() || self.classes.is_empty() {
            return self.encode(plain, out);
        }
        let Some(format) = self.settle(plain)? else {
            return self.encode(plain, out);
        };
        let mut masked = std::mem::take(&mut self.masked);
        masked.clear();
        let boundary = self.last_boundary(plain);
        self.masker.push(&plain[..boundary], &mut masked);
        if boundary > 0 {
            self.renew(format, &mut masked);
        }
        self.masker.push(&plain[boundary..], &mut masked);
        let done = self.encode(&masked, out);
        self.masked = masked;
        done
    }

    /// Ends one value so that it can be passed on, and starts the next.
    fn renew(&mut self, format: Format, masked: &mut Vec<u8>) {
        self.masker.finish(masked);
        self.counts.merge(self.masker.counts());
        self.masker.reset(self.classes, format);
    }

    /// The place after the last boundary in the content; 0 when there is none.
    fn last_boundary(&mut self, plain: &[u8]) -> usize {
        if self.boundary == Boundary::End {
            return 0;
        }
        let (mut last, mut start) = (0, 0);
        for end in memchr::memchr_iter(b'\n', plain) {
            let line = &plain[start..end];
            let empty = self.line_empty && (line.is_empty() || line == b"\r");
            if self.boundary == Boundary::Line || empty {
                last = end + 1;
            }
            start = end + 1;
            self.line_empty = true;
        }
        let rest = &plain[start..];
        self.line_empty = self.line_empty && (rest.is_empty() || rest == b"\r");
        last
    }

    fn encode(&mut self, masked: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        match &mut self.gzip {
            None => out.extend_from_slice(masked),
            Some(gzip) if !masked.is_empty() => {
                gzip.push(masked, false, out)?;
                self.unflushed = true;
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Nothing more is at hand: appends what encoding held back, so that the workload can read it now.
    pub fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        if let Some(gzip) = &mut self.gzip
            && self.unflushed
        {
            self.unflushed = false;
            return gzip.push(&[], true, out);
        }
        Ok(())
    }

    /// The body is complete: appends the rest.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        if let Some(gunzip) = &self.gunzip {
            gunzip.finish()?;
        }
        let mut clean = std::mem::take(&mut self.clean);
        clean.clear();
        self.scrubber.finish(&mut clean);
        self.mask_clean(&clean, out)?;
        let mut masked = std::mem::take(&mut self.masked);
        masked.clear();
        if let Some(Handling::Mask(format)) = self.handling {
            self.renew(format, &mut masked);
        }
        self.encode(&masked, out)?;
        match &mut self.gzip {
            Some(gzip) => gzip.finish(out),
            None => Ok(()),
        }
    }

    /// How many secrets in use were masked; complete after [`Self::finish`].
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.scrubber.hits()
    }

    /// What was masked; complete after [`Self::finish`].
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}
