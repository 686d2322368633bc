//! Who is told of secrets, so that they can be found in what passes.

/// Takes the secrets that are in use.
pub trait SecretSink: Send + Sync {
    /// The secrets of one owner (a credential's reference, and whose it is) from now on. Former ones are kept for a
    /// while: what was rotated may still be echoed. Without any, the owner is gone.
    fn replace(&self, owner: &str, secrets: &[&[u8]]);
}
