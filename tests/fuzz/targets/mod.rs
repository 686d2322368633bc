//! The targets: one for each parser of bytes from outside.

mod detect;
mod dns;
mod http;
mod http_parts;
mod mask;
mod postgres;
mod text;

use anyhow::Result;
use portcullis::protocol::postgres::fuzzing::session::Sessions;

/// One parser and what must hold for it.
pub trait Target {
    fn name(&self) -> &'static str;
    /// Inputs that make sense, to start from.
    fn seeds(&self) -> Vec<Vec<u8>>;
    /// An error, or a panic, when a property does not hold. `random` is for choices of the target's own.
    fn check(&mut self, input: &[u8], random: u64) -> Result<()>;
}

/// How a target is made.
type Make = fn() -> Result<Box<dyn Target>>;

/// All of them.
pub const ALL: [Make; 18] = [
    || Ok(Box::new(mask::Mask::json()?)),
    || Ok(Box::new(mask::Mask::form()?)),
    || Ok(Box::new(mask::Mask::text()?)),
    || Ok(Box::new(detect::Detect)),
    || Ok(Box::new(text::Configuration)),
    || Ok(Box::new(text::Policy)),
    || Ok(Box::new(text::Evidence)),
    || Ok(Box::new(http_parts::REQUEST)),
    || Ok(Box::new(http_parts::RESPONSE)),
    || Ok(Box::new(http_parts::TARGET)),
    || Ok(Box::new(http_parts::GZIP)),
    || Ok(Box::new(postgres::CODEC)),
    || Ok(Box::new(postgres::SQL)),
    || Ok(Box::new(postgres::VALUE)),
    || Ok(Box::new(postgres::Session(Sessions::new()?))),
    || Ok(Box::new(http::Requests(http::Agent::new()?))),
    || Ok(Box::new(http::Responses(http::Agent::new()?))),
    || Ok(Box::new(dns::Dns)),
];

/// Where a random number cuts an input.
fn cut(input: &[u8], random: u64) -> (&[u8], &[u8]) {
    let at = usize::try_from(random % (input.len() as u64 + 1)).unwrap_or(0);
    input.split_at(at)
}
