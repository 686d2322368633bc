//! Bytes that are wiped, and never printed.

use std::{fmt, sync::Arc};

use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::{Zeroize as _, Zeroizing};

/// A password, token or key; clones share it, and it is wiped when the last of them is dropped.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

impl Secret {
    /// One that is in memory already.
    #[must_use]
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(Arc::new(bytes))
    }

    /// From text.
    #[must_use]
    pub(super) fn text(mut text: Zeroizing<String>) -> Self {
        Self::new(Zeroizing::new(std::mem::take(&mut *text).into_bytes()))
    }

    /// Its bytes, for the one message that carries them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// How many share it.
    pub(super) fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A client certificate with its key; the key is wiped when dropped.
pub struct Certificate {
    /// It, and those that lead to its root.
    pub chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// The private key, for the handshake.
    #[must_use]
    pub fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("chain", &self.chain.len())
            .finish_non_exhaustive()
    }
}
