//! The response's way down: read strictly, masked where policy asks, recorded as it is sent.

use bytes::Buf as _;

use super::{
    body::BodyDecoder,
    encoding::Coding,
    fault::Fault,
    forward::{Failure, HIGH},
    head::Scanner,
    headers::Framing,
    lines::{self, Lines, chunk},
    mask::{Boundary, MaskedBody},
    request::Request,
    response::Response,
    through::Through,
    upload::ENCODED,
};
use crate::{
    gate::{Gate, Permit},
    mask::{Format, Handling},
    model::{ClassSet, Direction},
    protocol::wire::Leg,
};

/// The most interim responses before a final one.
const INTERIM: usize = 64;

enum Phase {
    Head(Scanner),
    /// The head is read, and the first bytes of the body say how to treat it.
    Sniff,
    Body,
    Done,
}

/// How the body goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// As it came, with its framing.
    Verbatim,
    /// Content only: the end of the connection delimits it.
    Bare,
    /// Content in chunks of our own.
    Chunks,
    /// Kept until it is complete, so that its length is known.
    Held,
}

/// One response.
pub(super) struct Reply<'a> {
    pub(super) gate: &'a Gate,
    pub(super) classes: ClassSet,
    phase: Phase,
    pub(super) mode: Mode,
    pub(super) decoder: BodyDecoder,
    body: Option<MaskedBody>,
    /// Looks for secrets in use in what is not read otherwise, from when there are any.
    pub(super) through: Option<Through>,
    /// The request holds a secret that the answer could.
    pub(super) carries: bool,
    encoded: bool,
    held: Vec<u8>,
    original: Vec<u8>,
    pub(super) scratch: Vec<u8>,
    pub(super) trailers: Vec<u8>,
    interim: usize,
    /// Bytes of the final response were handed downstream.
    pub begun: bool,
    /// Upstream said `100 Continue`.
    pub continued: bool,
    /// The connections close after it.
    pub close: bool,
    /// The final status, once known.
    pub status: u16,
}

impl<'a> Reply<'a> {
    pub(super) fn new(permit: &Permit, gate: &'a Gate) -> Self {
        Self {
            gate,
            classes: permit.obligations().mask,
            phase: Phase::Head(Scanner::default()),
            mode: Mode::Verbatim,
            decoder: BodyDecoder::new(Framing::None),
            body: None,
            through: None,
            carries: false,
            encoded: false,
            held: Vec::new(),
            original: Vec::new(),
            scratch: Vec::new(),
            trailers: Vec::new(),
            interim: 0,
            begun: false,
            continued: false,
            close: false,
            status: 0,
        }
    }

    /// Whether all of it was handed downstream.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    /// Whether not even its head has come.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(self.phase, Phase::Head(_))
    }

    /// Moves what there is room for. `last` asks that the connections close after this response.
    pub(super) async fn advance(
        &mut self,
        request: &Request,
        response: &mut Response,
        up: &mut Leg,
        down: &mut Leg,
        permit: &mut Permit,
        last: bool,
    ) -> Result<(), Failure> {
        while down.output.len() < HIGH {
            match &mut self.phase {
                Phase::Done => return Ok(()),
                Phase::Head(scanner) => {
                    let limit = self.gate.limits().head_bytes;
                    let Some(length) = scanner.scan(&up.input, limit).map_err(Failure::Response)? else {
                        return Ok(());
                    };
                    response
                        .parse(&up.input[..length], &request.method)
                        .map_err(Failure::Response)?;
                    up.input.advance(length);
                    if response.is_interim() {
                        self.pass_interim(request, response, down, permit).await?;
                        continue;
                    }
                    self.status = response.status;
                    self.phase = Phase::Sniff;
                }
                Phase::Sniff => {
                    let start = self.start(response, &up.input).map_err(Failure::Response)?;
                    if start.is_none() && !up.eof {
                        return Ok(());
                    }
                    self.begin(request, response, start.unwrap_or_default(), last)
                        .map_err(Failure::Response)?;
                    self.phase = Phase::Body;
                    if self.mode != Mode::Held {
                        let lines = match self.mode {
                            Mode::Chunks => Lines::Chunked,
                            Mode::Bare if response.framing != Framing::Close => Lines::Close,
                            _ => Lines::Verbatim,
                        };
                        self.head(request, response, lines, self.body.is_some(), down, permit)
                            .await?;
                    }
                }
                Phase::Body => {
                    if self.decoder.is_done() {
                        self.end(request, response, down, permit).await?;
                        self.phase = Phase::Done;
                        return Ok(());
                    }
                    if !self.body_step(request, response, up, down, permit).await? {
                        return self.flush(down, permit).await;
                    }
                }
            }
        }
        Ok(())
    }

    /// Upstream sent its last byte: whether the response is complete by that.
    pub(super) fn end_of_input(&mut self) -> Result<(), Failure> {
        match self.phase {
            Phase::Body | Phase::Sniff => self.decoder.end_of_input().map_err(Failure::Response),
            Phase::Head(_) => Err(Failure::NoAnswer),
            Phase::Done => Ok(()),
        }
    }

    async fn pass_interim(
        &mut self,
        request: &Request,
        response: &Response,
        down: &mut Leg,
        permit: &mut Permit,
    ) -> Result<(), Failure> {
        self.phase = Phase::Head(Scanner::default());
        self.interim += 1;
        if self.interim > INTERIM {
            return Err(Failure::Response(Fault::Status));
        }
        self.continued |= response.status == 100;
        // HTTP/1.0 knows none of these.
        if request.minor == 1 {
            self.write_head(response, Lines::Verbatim, false, down, permit, false)
                .await?;
        }
        Ok(())
    }

    /// The first bytes of the content, which tell text from anything else; `None` while they are awaited. An event
    /// stream is text by its definition, and its head must not wait for its first event.
    fn start<'b>(&self, response: &Response, input: &'b [u8]) -> Result<Option<&'b [u8]>, Fault> {
        let plain = response.encoding == Coding::Identity && !self.classes.is_empty();
        let events = Boundary::of(response.content_type.as_deref()) == Boundary::EmptyLine;
        if !plain || is_empty(response.framing) || events {
            return Ok(Some(&[]));
        }
        let mut decoder = BodyDecoder::new(response.framing);
        let mut rest = input;
        while !decoder.is_done() {
            let step = decoder.step(rest)?;
            if !step.data.is_empty() {
                return Ok(Some(&rest[step.data]));
            }
            if step.consumed == 0 {
                return Ok(None);
            }
            rest = &rest[step.consumed..];
        }
        Ok(Some(&[]))
    }

    /// Decides how the body goes down, by its type and framing.
    fn begin(
        &mut self,
        request: &Request,
        response: &Response,
        start: &[u8],
        last: bool,
    ) -> Result<(), Fault> {
        let framing = response.framing;
        self.decoder = BodyDecoder::new(framing);
        self.close = last || !request.keep_alive || !response.keep_alive;
        let content_type = response.content_type.as_deref();
        let clear = self.classes.is_empty();
        if (!clear || self.carries) && response.status == 206 {
            return Err(Fault::PartialContent);
        }
        let readable = match response.encoding {
            _ if is_empty(framing) => false,
            Coding::Identity if clear => false,
            Coding::Gzip if clear && !self.gate.secrets().is_active() => false,
            Coding::Other if clear && !self.carries => false,
            Coding::Identity => match Format::of(content_type, start) {
                Handling::Mask(_) => true,
                Handling::Binary => false,
                Handling::Unreadable => return Err(Fault::Encoding),
            },
            // The type cannot be believed before the content is decoded: the workload may have chosen it.
            Coding::Gzip => true,
            Coding::Other => return Err(Fault::Encoding),
        };
        if !readable {
            if framing == Framing::Chunked && request.minor == 0 {
                self.mode = Mode::Bare;
                self.close = true;
            }
            return Ok(());
        }
        self.encoded = response.encoding == Coding::Gzip;
        self.body = Some(MaskedBody::new(
            self.gate,
            self.classes,
            content_type,
            response.encoding,
            true,
        ));
        let hold = self.gate.limits().hold_bytes as u64;
        self.mode = match framing {
            Framing::Length(n) if n <= hold && Boundary::of(content_type) == Boundary::End => Mode::Held,
            Framing::Close => Mode::Bare,
            _ if request.minor == 1 => Mode::Chunks,
            _ => Mode::Bare,
        };
        self.close |= self.mode == Mode::Bare;
        Ok(())
    }

    /// One piece of the body; `false` when more input is needed.
    async fn body_step(
        &mut self,
        request: &Request,
        response: &Response,
        up: &mut Leg,
        down: &mut Leg,
        permit: &mut Permit,
    ) -> Result<bool, Failure> {
        if up.input.is_empty() {
            return Ok(false);
        }
        let limit = if self.encoded { ENCODED } else { HIGH };
        let mut step = self
            .decoder
            .step(&up.input[..up.input.len().min(limit)])
            .map_err(Failure::Response)?;
        if step.consumed == 0 {
            step = self.decoder.step(&up.input).map_err(Failure::Response)?;
        }
        if step.consumed == 0 {
            return Ok(false);
        }
        let data = &up.input[step.data.clone()];
        if self.mode == Mode::Held && !self.encoded {
            self.original.extend_from_slice(data);
            up.input.advance(step.consumed);
            return Ok(true);
        }
        if let Some(body) = &mut self.body {
            self.scratch.clear();
            body.push(data, &mut self.scratch).map_err(Failure::Response)?;
            self.trailers.extend_from_slice(&up.input[step.trailers.clone()]);
            if self.mode == Mode::Held {
                self.original.extend_from_slice(data);
                self.held.extend_from_slice(&self.scratch);
                up.input.advance(step.consumed);
                if self.held.len() > 2 * self.gate.limits().hold_bytes {
                    self.let_go(request, response, down, permit).await?;
                }
                return Ok(true);
            }
            up.input.advance(step.consumed);
            let out = std::mem::take(&mut self.scratch);
            let sent = self.send(&out, down, permit).await;
            self.scratch = out;
            return sent.map(|()| true);
        }
        // What is in an encoding that cannot be read is searched as well: it costs little and may be mislabelled.
        if self.through.is_none() && permit.secrets().is_active() {
            self.through = Some(Through::new(permit.secrets()));
        }
        if self.through.is_some() {
            let done = self.scrub(&up.input, &step, down, permit).await;
            up.input.advance(step.consumed);
            return done.map(|()| true);
        }
        if !data.is_empty() {
            permit.record(Direction::Down, data).await?;
        }
        match self.mode {
            // Trailers are text whatever the content is.
            Mode::Verbatim if !step.trailers.is_empty() => {
                let section = &up.input[step.trailers.clone()];
                let (shown, kept) = lines::trailers(self.gate.mask(), self.classes, section, false, permit);
                if self.classes.is_empty() {
                    down.output.extend_from_slice(&up.input[..step.consumed]);
                } else {
                    down.output.extend_from_slice(&shown);
                    down.output
                        .extend_from_slice(&up.input[step.trailers.end..step.consumed]);
                }
                permit.record(Direction::Down, &kept).await?;
            }
            Mode::Verbatim => down.output.extend_from_slice(&up.input[..step.consumed]),
            _ => down.output.extend_from_slice(data),
        }
        up.input.advance(step.consumed);
        Ok(true)
    }

    /// Masked content grew beyond what is held: it goes down as a stream after all.
    async fn let_go(
        &mut self,
        request: &Request,
        response: &Response,
        down: &mut Leg,
        permit: &mut Permit,
    ) -> Result<(), Failure> {
        let (mode, lines) = if request.minor == 1 {
            (Mode::Chunks, Lines::Chunked)
        } else {
            (Mode::Bare, Lines::Close)
        };
        self.mode = mode;
        self.close |= mode == Mode::Bare;
        self.original = Vec::new();
        self.head(request, response, lines, true, down, permit).await?;
        let held = std::mem::take(&mut self.held);
        self.send(&held, down, permit).await
    }

    /// Content downstream, in the framing chosen.
    async fn send(&mut self, content: &[u8], down: &mut Leg, permit: &mut Permit) -> Result<(), Failure> {
        if content.is_empty() {
            return Ok(());
        }
        if self.mode == Mode::Chunks {
            chunk(content, &mut down.output);
        } else {
            down.output.extend_from_slice(content);
        }
        Ok(permit.record(Direction::Down, content).await?)
    }

    /// Nothing more is at hand: nothing that can be passed on stays back.
    async fn flush(&mut self, down: &mut Leg, permit: &mut Permit) -> Result<(), Failure> {
        if let Some(body) = &mut self.body
            && self.mode != Mode::Held
        {
            self.scratch.clear();
            body.flush(&mut self.scratch).map_err(Failure::Response)?;
            let out = std::mem::take(&mut self.scratch);
            let sent = self.send(&out, down, permit).await;
            self.scratch = out;
            return sent;
        }
        Ok(())
    }

    async fn end(
        &mut self,
        request: &Request,
        response: &Response,
        down: &mut Leg,
        permit: &mut Permit,
    ) -> Result<(), Failure> {
        let Some(mut body) = self.body.take() else {
            return self.end_scrub(down, permit).await;
        };
        if self.mode == Mode::Held && !self.encoded {
            let injected = permit.secrets().mask(&mut self.original);
            permit.add_injected(injected);
            let masked = body.whole(&self.original).map_err(Failure::Response)?;
            permit.add_masked(body.counts());
            let lines = masked
                .as_ref()
                .map_or(Lines::Verbatim, |m| Lines::Length(m.len()));
            let changed = masked.is_some() || injected > 0;
            self.head(request, response, lines, changed, down, permit).await?;
            let content = masked.as_deref().unwrap_or(&self.original);
            down.output.extend_from_slice(content);
            return Ok(permit.record(Direction::Down, content).await?);
        }
        self.scratch.clear();
        body.finish(&mut self.scratch).map_err(Failure::Response)?;
        let rest = std::mem::take(&mut self.scratch);
        permit.add_masked(body.counts());
        permit.add_injected(body.injected());
        if self.mode != Mode::Held {
            self.send(&rest, down, permit).await?;
            if self.mode == Mode::Chunks {
                down.output.extend_from_slice(b"0\r\n");
                let (shown, kept) =
                    lines::trailers(self.gate.mask(), self.classes, &self.trailers, true, permit);
                down.output.extend_from_slice(&shown);
                down.output.extend_from_slice(b"\r\n");
                permit.record(Direction::Down, &kept).await?;
            }
            return Ok(());
        }
        let changed = !body.counts().is_empty() || body.injected() > 0;
        let content = if changed {
            self.held.extend_from_slice(&rest);
            std::mem::take(&mut self.held)
        } else {
            std::mem::take(&mut self.original)
        };
        let lines = if changed {
            Lines::Length(content.len())
        } else {
            Lines::Verbatim
        };
        self.head(request, response, lines, changed, down, permit).await?;
        down.output.extend_from_slice(&content);
        Ok(permit.record(Direction::Down, &content).await?)
    }

    /// The final head, downstream and into the record.
    async fn head(
        &mut self,
        _request: &Request,
        response: &Response,
        lines: Lines,
        changed: bool,
        down: &mut Leg,
        permit: &mut Permit,
    ) -> Result<(), Failure> {
        self.begun = true;
        let close = self.close && (lines == Lines::Close || response.keep_alive);
        self.write_head(response, lines, changed, down, permit, close)
            .await
    }
}

fn is_empty(framing: Framing) -> bool {
    matches!(framing, Framing::None | Framing::Length(0))
}
