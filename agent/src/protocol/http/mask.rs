//! Masking of what HTTP carries: which contents are read, and bodies as they stream through.

use std::sync::Arc;

use super::{
    encoding::{Coding, Gunzip, Gzip},
    fault::Fault,
};
use crate::{
    mask::{Counts, Format, MaskRules, Masker},
    model::{ClassSet, ClassTable},
};

/// What is done with content of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// It is read so, and may be passed on at these boundaries.
    Read(Format, Boundary),
    /// It is read as text unless it begins like binary data.
    Sniff,
    /// It is passed on unread.
    Opaque,
}

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

/// What is done with content of this type. Only media and archives, which masking would break, pass unread.
#[must_use]
pub fn handling(content_type: Option<&str>) -> Handling {
    let kind = content_type.unwrap_or("").split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match kind.as_str() {
        "text/event-stream" => Handling::Read(Format::Text, Boundary::EmptyLine),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines"
        | "application/json-seq" | "application/stream+json" => Handling::Read(Format::Json, Boundary::Line),
        "application/x-www-form-urlencoded" => Handling::Read(Format::Form, Boundary::End),
        "application/json" | "text/json" => Handling::Read(Format::Json, Boundary::End),
        "image/svg+xml" => Handling::Read(Format::Text, Boundary::End),
        "application/gzip" | "application/x-gzip" | "application/zip" | "application/pdf" | "application/wasm"
        | "application/zstd" | "application/x-xz" | "application/x-bzip2" | "application/x-7z-compressed"
        | "application/vnd.debian.binary-package" | "application/x-debian-package" | "application/java-archive" => {
            Handling::Opaque
        }
        "" | "application/octet-stream" | "binary/octet-stream" | "application/x-tar" => Handling::Sniff,
        k if k.ends_with("+json") => Handling::Read(Format::Json, Boundary::End),
        k if ["image/", "audio/", "video/", "font/"].iter().any(|p| k.starts_with(p)) => Handling::Opaque,
        _ => Handling::Read(Format::Text, Boundary::End),
    }
}

/// Whether content begins like binary data: a NUL in its first KiB.
#[must_use]
pub fn looks_binary(start: &[u8]) -> bool {
    memchr::memchr(0, &start[..start.len().min(1024)]).is_some()
}

/// Every class there is: for what is stored before policy has said what may be revealed.
#[must_use]
pub fn every_class(table: &ClassTable) -> ClassSet {
    table.iter().map(|(id, _)| id).collect()
}

/// Text as it may be stored; `None` when nothing in it had to be masked.
#[must_use]
pub fn text(rules: &MaskRules, value: &str) -> Option<String> {
    let (masked, counts) = rules.mask_text(every_class(rules.classes()), value);
    (!counts.is_empty()).then(|| masked.into_owned())
}

/// A query string as it may be stored; `None` when nothing in it had to be masked.
#[must_use]
pub fn query(rules: &MaskRules, value: &str) -> Option<String> {
    let (masked, counts) = rules.query(every_class(rules.classes()), value);
    (!counts.is_empty()).then(|| masked.into_owned())
}

/// One body on its way: decoded, masked, encoded again.
pub struct MaskedBody {
    rules: Arc<MaskRules>,
    classes: ClassSet,
    format: Format,
    boundary: Boundary,
    masker: Masker,
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
    /// A body of this format and encoding; `reencode` gives it back in the encoding it came in.
    #[must_use]
    pub fn new(
        rules: &Arc<MaskRules>,
        classes: ClassSet,
        (format, boundary): (Format, Boundary),
        coding: Coding,
        reencode: bool,
    ) -> Self {
        let gzip = coding == Coding::Gzip;
        Self {
            rules: Arc::clone(rules),
            classes,
            format,
            boundary,
            masker: Masker::new(Arc::clone(rules), classes, format),
            counts: Counts::default(),
            gunzip: gzip.then(Gunzip::new),
            gzip: (gzip && reencode).then(Gzip::new),
            plain: Vec::new(),
            masked: Vec::new(),
            line_empty: true,
            unflushed: false,
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
        let mut masked = std::mem::take(&mut self.masked);
        masked.clear();
        let boundary = self.last_boundary(plain);
        self.masker.push(&plain[..boundary], &mut masked);
        if boundary > 0 && self.boundary != Boundary::End {
            self.renew(&mut masked);
        }
        self.masker.push(&plain[boundary..], &mut masked);
        let done = self.encode(&masked, out);
        self.masked = masked;
        done
    }

    /// Ends one value so that it can be passed on, and starts the next.
    fn renew(&mut self, masked: &mut Vec<u8>) {
        self.masker.finish(masked);
        self.counts.merge(self.masker.counts());
        self.masker = Masker::new(Arc::clone(&self.rules), self.classes, self.format);
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
        let mut masked = std::mem::take(&mut self.masked);
        masked.clear();
        self.renew(&mut masked);
        self.encode(&masked, out)?;
        match &mut self.gzip {
            Some(gzip) => gzip.finish(out),
            None => Ok(()),
        }
    }

    /// What was masked; complete after [`Self::finish`].
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}
