//! What is wrong with a message: the closed set, with the reason and status each one answers to.

use crate::model::Reason;

/// Why a message, or a part of it, is refused. Nothing of it is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // each variant's text is its documentation
pub enum Fault {
    #[error("a line ends in LF without CR")]
    BareLf,
    #[error("a CR stands without LF")]
    BareCr,
    #[error("the message starts with an empty line")]
    LeadingLine,
    #[error("the head exceeds the limit")]
    HeadTooLarge,
    #[error("the head has too many header lines")]
    TooManyHeaders,
    #[error("the start line is malformed")]
    StartLine,
    #[error("a header line is malformed")]
    HeaderLine,
    #[error("the HTTP version is not 1.0 or 1.1")]
    Version,
    #[error("HTTP/2 is not spoken here yet; use HTTP/1.1")]
    Http2,
    #[error("the method is malformed")]
    Method,
    #[error("CONNECT is not supported yet")]
    Connect,
    #[error("this protocol upgrade is not supported yet")]
    Upgrade,
    #[error("the expectation is not 100-continue")]
    Expectation,
    #[error("the request target is malformed")]
    Target,
    #[error("the path has empty segments")]
    EmptySegment,
    #[error("the path has dot segments")]
    DotSegment,
    #[error("the path hides a dot, slash, backslash or control character behind percent-encoding")]
    EncodedDelimiter,
    #[error("the path has parameters after ';'")]
    PathParameters,
    #[error("a header asks for another method or path than the request line")]
    Override,
    #[error("Content-Type is given more than once")]
    ContentTypeRepeated,
    #[error("the Host header is missing")]
    HostMissing,
    #[error("the Host header is given more than once")]
    HostRepeated,
    #[error("the Host header is malformed")]
    HostMalformed,
    #[error("the request target names another host than the Host header")]
    HostConflict,
    #[error("the request target's scheme is not the connection's")]
    Scheme,
    #[error("Content-Length is given more than once")]
    LengthRepeated,
    #[error("Content-Length is malformed")]
    LengthMalformed,
    #[error("both Content-Length and Transfer-Encoding are given")]
    LengthAndEncoding,
    #[error("Transfer-Encoding is not exactly 'chunked'")]
    TransferEncoding,
    #[error("a header name can be taken for one that frames the message")]
    FramingAlias,
    #[error("Connection lists a header that must not be dropped")]
    ConnectionOption,
    #[error("a chunk's size is malformed or has extensions")]
    ChunkSize,
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    #[error("the aws-chunked body is malformed, or cannot be signed anew")]
    AwsChunked,
    #[error("the trailer section is malformed")]
    Trailer,
    #[error("the trailer section names a header that may not be there")]
    TrailerName,
    #[error("the message ends before it is complete")]
    Truncated,
    #[error("the head took too long to come")]
    Slow,
    #[error("the status is malformed or may not be sent now")]
    Status,
    #[error("the content encoding cannot be read")]
    Encoding,
    #[error("the encoded content is damaged or expands beyond the limit")]
    EncodedContent,
    #[error("part of the content came although all of it was asked for")]
    PartialContent,
}

impl Fault {
    /// The reason in entries and problem documents, for a fault of the workload's own message.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::HeadTooLarge | Self::TooManyHeaders => Reason::TooLarge,
            Self::Http2
            | Self::Connect
            | Self::Upgrade
            | Self::Expectation
            | Self::Version
            | Self::Truncated => Reason::ProtocolError,
            Self::Encoding | Self::EncodedContent => Reason::EncodingUnreadable,
            Self::Slow => Reason::Timeout,
            _ => Reason::ProtocolAmbiguous,
        }
    }

    /// The reason, for a fault of the destination's message.
    #[must_use]
    pub fn upstream_reason(self) -> Reason {
        match self {
            Self::Encoding | Self::EncodedContent => Reason::EncodingUnreadable,
            _ => Reason::UpstreamProtocolError,
        }
    }

    /// The status of the answer to a request with this fault.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::HeadTooLarge | Self::TooManyHeaders => 431,
            Self::Version | Self::Http2 => 505,
            Self::Connect | Self::Upgrade => 501,
            Self::Slow => 408,
            Self::Expectation => 417,
            Self::Encoding | Self::EncodedContent => 415,
            _ => 400,
        }
    }
}
