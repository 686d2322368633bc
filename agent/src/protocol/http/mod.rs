//! HTTP/1.1 and 1.0 (RFC 9110, RFC 9112).
//!
//! A request is read strictly, brought into one form, decided and recorded, and only then written upstream in that
//! form; the response is read as strictly. See `README.md` for what is refused and why.

mod body;
mod encoding;
mod fault;
mod head;
mod headers;
mod request;
mod response;
mod target;
