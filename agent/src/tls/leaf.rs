//! Leaves of the host CA, one per name, minted when first asked for (14 us) and kept, bounded.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{
    HostCa, PeerName, TlsError,
    ca::{BACKDATE, serial, set_validity},
};
use crate::clock::Clock;

/// How many leaves a cache keeps by default (about 1 KiB each).
pub const LEAVES: usize = 1_024;
/// How long a leaf lasts, in seconds: three days, so that a copied one is of little use.
const LIFETIME: i64 = 3 * 86_400;
/// How long before its end a leaf is replaced, in seconds: no workload meets one about to expire.
const RENEW_BEFORE: i64 = 86_400;

/// The leaves in use. All share one key, made with the process and never stored.
pub struct LeafCache {
    ca: Arc<HostCa>,
    clock: Clock,
    key: KeyPair,
    signing: Arc<dyn SigningKey>,
    capacity: usize,
    slots: Mutex<HashMap<PeerName, Arc<Slot>>>,
    /// Counts lookups: the age of a slot.
    tick: AtomicU64,
    minted: AtomicU64,
}

/// One name. Its lock is held while its leaf is minted, which makes that single flight; the map's is not.
#[derive(Default)]
struct Slot {
    used: AtomicU64,
    leaf: Mutex<Option<Leaf>>,
}

struct Leaf {
    /// From when it is good, and until when it is used, seconds since 1970 UTC.
    good: std::ops::Range<i64>,
    key: Arc<CertifiedKey>,
}

impl std::fmt::Debug for LeafCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeafCache")
            .field("ca", &self.ca)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

impl LeafCache {
    /// A cache of at most `capacity` leaves (at least one) with a key of its own.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(ca: Arc<HostCa>, clock: Clock, capacity: usize) -> Result<Self, TlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialized_der()));
        let signing = rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&der).map_err(TlsError::Config)?;
        Ok(Self {
            ca,
            clock,
            key,
            signing,
            capacity: capacity.max(1),
            slots: Mutex::default(),
            tick: AtomicU64::new(0),
            minted: AtomicU64::new(0),
        })
    }

    /// The leaf for a name, minted if there is none or it is about to end.
    ///
    /// # Errors
    /// When it cannot be minted.
    pub fn get(&self, name: &PeerName) -> Result<Arc<CertifiedKey>, TlsError> {
        let slot = self.slot(name);
        let now = self.clock.now_seconds();
        let mut leaf = lock(&slot.leaf);
        if let Some(leaf) = leaf.as_ref().filter(|leaf| leaf.good.contains(&now)) {
            return Ok(Arc::clone(&leaf.key));
        }
        let fresh = self.mint(name, now)?;
        let key = Arc::clone(&fresh.key);
        *leaf = Some(fresh);
        Ok(key)
    }

    /// How many leaves are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.slots).len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many were minted since the start.
    #[must_use]
    pub fn minted(&self) -> u64 {
        self.minted.load(Ordering::Relaxed)
    }

    fn slot(&self, name: &PeerName) -> Arc<Slot> {
        let tick = self.tick.fetch_add(1, Ordering::Relaxed);
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(name) {
            slot.used.store(tick, Ordering::Relaxed);
            return Arc::clone(slot);
        }
        if slots.len() >= self.capacity {
            // A scan of the whole map: microseconds, and only when a new name meets a full cache.
            let oldest = slots
                .iter()
                .min_by_key(|(_, s)| s.used.load(Ordering::Relaxed))
                .map(|(n, _)| n.clone());
            if let Some(oldest) = oldest {
                slots.remove(&oldest);
            }
        }
        let slot = Arc::new(Slot::default());
        slot.used.store(tick, Ordering::Relaxed);
        slots.insert(name.clone(), Arc::clone(&slot));
        slot
    }

    fn mint(&self, name: &PeerName, now: i64) -> Result<Leaf, TlsError> {
        self.minted.fetch_add(1, Ordering::Relaxed);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let text = name.to_string();
        // ub-common-name is 64 (RFC 5280 appendix A.1); only the SAN counts for verification.
        params.distinguished_name.push(
            DnType::CommonName,
            if text.len() <= 64 { &text } else { "Portcullis" },
        );
        params.subject_alt_names = vec![match name {
            PeerName::Dns(dns) => SanType::DnsName(dns.to_string().try_into()?),
            PeerName::Ip(address) => SanType::IpAddress(*address),
        }];
        // rcgen derives a missing serial from the key, and one key serves all leaves: they would share it.
        params.serial_number = Some(serial());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Verifiers that are strict about RFC 5280 (Python 3.13) ask for it.
        params.use_authority_key_identifier_extension = true;
        let (from, to) = (now - BACKDATE, (now + LIFETIME).min(self.ca.not_after));
        set_validity(&mut params, from, to);
        let cert = params.signed_by(&self.key, &self.ca.issuer)?;
        let key = CertifiedKey::new(vec![cert.der().clone()], Arc::clone(&self.signing));
        // Near the end of the CA itself there is nothing to renew to: such a leaf is used to its end.
        let until = (to - RENEW_BEFORE).max(to.min(now + BACKDATE));
        Ok(Leaf {
            good: from..until,
            key: Arc::new(key),
        })
    }
}

/// Locks; a panic elsewhere left nothing half done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
