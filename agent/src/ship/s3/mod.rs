//! Segments to S3, or to what speaks like it.
//!
//! An object is made once: only if there is none of its name, whole, with the checksum of every piece checked by the
//! storage, and then looked at: its size, its checksum, and whether the lock that it was to have is there. What is there
//! already under the name is compared by its content.

mod http;
mod stores;
mod tell;

use std::time::Duration;

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, future::BoxFuture};
use object_store::{
    Attribute, Attributes, GetOptions, ObjectStore as _, PutMode, PutMultipartOptions, PutOptions,
    PutPayload,
    aws::AmazonS3,
    multipart::{MultipartStore as _, PartId},
    path::Path,
};

use self::{
    http::{Said, Watched},
    stores::{Stores, checksum, place},
};
use super::{Class, Context, Receipt, Segment, SegmentSink, ShipError};
use crate::{config::ship, tls};

/// S3 takes no more parts than this.
const PARTS_MAX: u64 = 10_000;
/// So long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// So long giving up may take.
const GIVE_UP: Duration = Duration::from_secs(10);
/// One piece of a payload: each that goes is a sign of life.
const PIECE: usize = 64 << 10;

/// Puts segments into a bucket.
pub(super) struct S3 {
    config: ship::S3,
    context: Context,
    client: reqwest::Client,
}

/// What was found under a name.
enum Found {
    /// Nothing.
    Nothing,
    /// Who asks may not look; so may it be for a name that is not taken.
    Hidden,
    /// An object of this size.
    Object { bytes: u64 },
}

impl S3 {
    /// # Errors
    /// When its roots cannot be used.
    pub(super) fn new(config: &ship::S3, context: &Context, timeout: Duration) -> Result<Self, ShipError> {
        let local = |e: String| ShipError::temporary(Class::Local, e);
        let builder = tls::web_client(config.ca_file.as_deref()).map_err(|e| local(e.to_string()))?;
        let client = builder
            .connect_timeout(CONNECT.min(timeout))
            .read_timeout(timeout)
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|e| local(e.to_string()))?;
        Ok(Self {
            config: config.clone(),
            context: context.clone(),
            client,
        })
    }

    async fn place(&self, segment: &Segment) -> Result<Receipt, ShipError> {
        let material = self.context.material(&self.config.credential).await?;
        let keys = material.aws().ok_or_else(|| {
            let why = format!("credential '{}' is not AWS keys", self.config.credential);
            ShipError::temporary(Class::Denied, why)
        })?;
        let http = Watched::new(self.client.clone(), segment.pace().clone());
        let stores = Stores::new(&self.config, keys, &http, self.context.clock.now_ns())?;
        let object = Object {
            sink: self,
            stores,
            http,
            path: self.path(segment)?,
            segment,
        };
        object.put().await
    }

    fn path(&self, segment: &Segment) -> Result<Path, ShipError> {
        let name = if self.config.prefix.is_empty() {
            segment.name.clone()
        } else {
            format!("{}/{}", self.config.prefix, segment.name)
        };
        Path::parse(name).map_err(|e| ShipError::permanent(Class::Local, e.to_string()))
    }
}

impl SegmentSink for S3 {
    fn put<'a>(&'a self, segment: &'a Segment) -> BoxFuture<'a, Result<Receipt, ShipError>> {
        Box::pin(self.place(segment))
    }
}

/// One object, to be made.
struct Object<'a> {
    sink: &'a S3,
    stores: Stores,
    http: Watched,
    path: Path,
    segment: &'a Segment,
}

impl Object<'_> {
    async fn put(&self) -> Result<Receipt, ShipError> {
        if let Found::Object { bytes } = self.look().await? {
            return self.was_there(bytes).await;
        }
        let parts = self.parts();
        let composite = if parts.is_some() {
            self.upload_parts().await?
        } else {
            self.upload().await?
        };
        let Some(sum) = composite else {
            // Somebody was faster, or it could not be seen before.
            return match self.look().await? {
                Found::Object { bytes } => self.was_there(bytes).await,
                _ => Err(ShipError::temporary(
                    Class::Denied,
                    format!(
                        "{} is there and may not be looked at: allow s3:GetObject",
                        self.path
                    ),
                )),
            };
        };
        match self.look().await? {
            Found::Object { bytes } => self.verify(bytes, &sum, false),
            // The storage has checked every piece; more cannot be known by who may only write.
            Found::Hidden => Ok(self.receipt(&self.http.said(), false, false)),
            Found::Nothing => Err(ShipError::temporary(
                Class::Broken,
                format!("{} was taken, and is not there", self.path),
            )),
        }
    }

    /// The size of a part, where it goes in parts.
    fn parts(&self) -> Option<usize> {
        let size = self.sink.config.part_bytes;
        if self.segment.bytes <= size {
            return None;
        }
        let size = size.max(self.segment.bytes.div_ceil(PARTS_MAX));
        Some(usize::try_from(size).unwrap_or(usize::MAX))
    }

    async fn look(&self) -> Result<Found, ShipError> {
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        match self.stores.looking.get_opts(&self.path, options).await {
            Ok(found) => Ok(Found::Object {
                bytes: found.meta.size,
            }),
            Err(error) => match self.http.said() {
                Said {
                    status: Some(404), ..
                } => Ok(Found::Nothing),
                Said {
                    status: Some(403), ..
                } => Ok(Found::Hidden),
                said => Err(tell::error("looking", &said, &error)),
            },
        }
    }

    /// Whole; its checksum, or `None` where there is one of that name.
    async fn upload(&self) -> Result<Option<String>, ShipError> {
        let size = usize::try_from(self.segment.bytes).unwrap_or(usize::MAX);
        let bytes = self.read(0, size).await?;
        let options = PutOptions {
            mode: PutMode::Create,
            attributes: self.attributes(),
            ..PutOptions::default()
        };
        let put = self
            .stores
            .creating
            .put_opts(&self.path, payload(&bytes), options);
        match put.await {
            Ok(_) => Ok(Some(checksum(&self.segment.sha256))),
            Err(error) => {
                let said = self.http.said();
                if tell::is_there(&said) {
                    return Ok(None);
                }
                Err(tell::error("putting", &said, &error))
            }
        }
    }

    /// In parts; as [`Self::upload`].
    async fn upload_parts(&self) -> Result<Option<String>, ShipError> {
        let size = self.parts().unwrap_or(usize::MAX);
        let options = PutMultipartOptions {
            attributes: self.attributes(),
            ..PutMultipartOptions::default()
        };
        let begun = self.stores.creating.create_multipart_opts(&self.path, options);
        let id = begun
            .await
            .map_err(|e| tell::error("beginning", &self.http.said(), &e))?;
        let mut unfinished = Unfinished {
            store: self.stores.parts.clone(),
            path: self.path.clone(),
            id: Some(id.clone()),
        };
        let (mut parts, mut sums, mut at) = (Vec::new(), Vec::new(), 0);
        while at < self.segment.bytes {
            let bytes = self.read(at, size).await?;
            let sum = digest::digest(&digest::SHA256, &bytes);
            sums.extend_from_slice(sum.as_ref());
            let number = parts.len();
            let sent = self
                .stores
                .parts
                .put_part(&self.path, &id, number, payload(&bytes));
            let part: PartId = sent
                .await
                .map_err(|e| tell::error("sending a part", &self.http.said(), &e))?;
            parts.push(part);
            at += bytes.len() as u64;
        }
        let count = parts.len();
        let completed = self.stores.completing.complete_multipart(&self.path, &id, parts);
        match completed.await {
            Ok(_) => {
                unfinished.id = None;
                let sum = checksum(digest::digest(&digest::SHA256, &sums).as_ref());
                Ok(Some(format!("{sum}-{count}")))
            }
            Err(error) => {
                let said = self.http.said();
                if tell::is_there(&said) {
                    return Ok(None);
                }
                Err(tell::error("completing", &said, &error))
            }
        }
    }

    /// So much of the segment, at the sink's pace.
    async fn read(&self, from: u64, size: usize) -> Result<Bytes, ShipError> {
        let left = usize::try_from(self.segment.bytes - from).unwrap_or(usize::MAX);
        let mut bytes = BytesMut::with_capacity(left.min(size));
        while bytes.len() < size {
            let piece = self
                .segment
                .read(from + bytes.len() as u64, size - bytes.len())
                .await?;
            if piece.is_empty() {
                break;
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    fn attributes(&self) -> Attributes {
        let entries = &self.segment.entries;
        let mut attributes = Attributes::new();
        let mut add = |name: &'static str, value: String| {
            attributes.insert(Attribute::Metadata(name.into()), value.into());
        };
        add("sha256", self.segment.sha256_hex());
        add("entries", format!("{}-{}", entries.start, entries.end));
        attributes.insert(Attribute::ContentType, "application/vnd.sqlite3".into());
        attributes
    }

    /// Something of that name is there. The storage's own checksum tells whether it is this segment; where it has none
    /// that does, its content does.
    async fn was_there(&self, bytes: u64) -> Result<Receipt, ShipError> {
        let said = self.http.said();
        let sum = said.header("x-amz-checksum-sha256").map(str::to_owned);
        let whole = sum.filter(|sum| !sum.contains('-'));
        if bytes == self.segment.bytes
            && let Some(sum) = whole
            && sum == checksum(&self.segment.sha256)
        {
            return self.verify(bytes, &sum, true);
        }
        if bytes == self.segment.bytes && self.fetched().await? == self.segment.sha256 {
            // Looked at again: the answer to that tells of its lock.
            return match self.look().await? {
                Found::Object { bytes } => self.verify(bytes, "", true),
                _ => Err(ShipError::temporary(
                    Class::Broken,
                    format!("{} has gone", self.path),
                )),
            };
        }
        Err(ShipError::permanent(
            Class::Conflict,
            format!(
                "{} is there with other content ({bytes} bytes); it is not replaced",
                self.path
            ),
        ))
    }

    /// The hash of what is there.
    async fn fetched(&self) -> Result<[u8; 32], ShipError> {
        let step = "reading what is there";
        let got = self
            .stores
            .looking
            .get_opts(&self.path, GetOptions::default())
            .await;
        let got = got.map_err(|e| tell::error(step, &self.http.said(), &e))?;
        let mut stream = got.into_stream();
        let mut context = digest::Context::new(&digest::SHA256);
        let mut left = self.segment.bytes;
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|e| ShipError::temporary(Class::Broken, format!("{step}: {e}")))?;
            // More than there should be is not read to its end.
            left = match left.checked_sub(piece.len() as u64) {
                Some(left) => left,
                None => break,
            };
            context.update(&piece);
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(context.finish().as_ref());
        Ok(sha256)
    }

    /// Whether what was just looked at is what it should be. `sum` is empty where the content was compared.
    fn verify(&self, bytes: u64, sum: &str, was_there: bool) -> Result<Receipt, ShipError> {
        let said = self.http.said();
        let wrong = |what: String| ShipError::temporary(Class::Broken, format!("{} {what}", self.path));
        if bytes != self.segment.bytes {
            return Err(wrong(format!("has {bytes} bytes, not {}", self.segment.bytes)));
        }
        let theirs = said.header("x-amz-checksum-sha256");
        // Storage that keeps no checksums has checked them on the way.
        let compared = sum.is_empty() || theirs.is_some_and(|theirs| !theirs.is_empty());
        if let Some(theirs) = theirs
            && !sum.is_empty()
            && !theirs.is_empty()
            && theirs != sum
            // Some count parts otherwise, or not at all.
            && theirs.contains('-') == sum.contains('-')
        {
            return Err(wrong(format!("has the checksum {theirs}, not {sum}")));
        }
        self.locked(&said)?;
        Ok(self.receipt(&said, was_there, compared))
    }

    /// Whether the object is locked as it should be: storage that knows no lock takes the wish for one and forgets it.
    fn locked(&self, said: &Said) -> Result<(), ShipError> {
        let config = &self.sink.config;
        let missing = |what: &str| {
            let why = format!(
                "{} is there without {what}: the bucket does not do Object Lock, or who asks may not see it",
                self.path
            );
            Err(ShipError::temporary(Class::Missing, why))
        };
        if let Some(mode) = config.object_lock
            && said.header("x-amz-object-lock-mode") != Some(mode.as_str())
        {
            return missing(&format!("its lock ({})", mode.as_str()));
        }
        if config.legal_hold && said.header("x-amz-object-lock-legal-hold") != Some("ON") {
            return missing("its legal hold");
        }
        Ok(())
    }

    fn receipt(&self, said: &Said, was_there: bool, verified: bool) -> Receipt {
        let config = &self.sink.config;
        let (endpoint, _) = place(config);
        let at = endpoint.map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
        let mut receipt = Receipt {
            place: format!("s3://{}/{}{at}", config.bucket, self.path),
            ..Receipt::default()
        };
        let detail = &mut receipt.detail;
        detail.insert("was_there".into(), was_there.into());
        detail.insert("verified".into(), verified.into());
        for (member, header) in [
            ("etag", "etag"),
            ("version", "x-amz-version-id"),
            ("checksum_sha256", "x-amz-checksum-sha256"),
            ("lock", "x-amz-object-lock-mode"),
            ("lock_until", "x-amz-object-lock-retain-until-date"),
            ("legal_hold", "x-amz-object-lock-legal-hold"),
            ("encryption", "x-amz-server-side-encryption"),
        ] {
            if let Some(value) = said.header(header) {
                detail.insert(member.into(), value.into());
            }
        }
        receipt
    }
}

/// Pieces of what is shared, not copies.
fn payload(bytes: &Bytes) -> PutPayload {
    let pieces = (0..bytes.len()).step_by(PIECE);
    pieces
        .map(|at| bytes.slice(at..(at + PIECE).min(bytes.len())))
        .collect()
}

/// Parts that were sent cost money until somebody gives them up: here, whatever ends the try.
struct Unfinished {
    store: AmazonS3,
    path: Path,
    id: Option<String>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let (store, path) = (self.store.clone(), self.path.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let given_up = tokio::time::timeout(GIVE_UP, store.abort_multipart(&path, &id)).await;
                if !matches!(given_up, Ok(Ok(()))) {
                    tracing::warn!(%path, "parts of an upload stay at the storage: a lifecycle rule should remove such");
                }
            });
        }
    }
}
