//! S3's buckets and objects: what a request does is in its method, its path, the query's sub-resource and some headers.
//!
//! Operations have the names of IAM's actions, which are what people write into policies: `s3:GetObject` also for HEAD,
//! `s3:ListBucket` for ListObjectsV2, `s3:PutObject` for each step of a multipart upload.

use super::{
    Ambiguity,
    call::{Call, Why},
    params::{Params, decode},
};
use crate::protocol::http::request::Request;

/// Sub-resources: (method, of a bucket or an object, what the query has, the action).
type Row = (&'static str, Of, &'static str, &'static str);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Bucket,
    Object,
}
use Of::{Bucket as B, Object as O};

const TABLE: &[Row] = &[
    ("GET", O, "", "GetObject"),
    ("GET", O, "versionId", "GetObjectVersion"),
    ("GET", O, "acl", "GetObjectAcl"),
    ("GET", O, "attributes", "GetObjectAttributes"),
    ("GET", O, "legal-hold", "GetObjectLegalHold"),
    ("GET", O, "retention", "GetObjectRetention"),
    ("GET", O, "tagging", "GetObjectTagging"),
    ("GET", O, "torrent", "GetObjectTorrent"),
    ("GET", O, "uploadId", "ListMultipartUploadParts"),
    ("HEAD", O, "", "GetObject"),
    ("HEAD", O, "versionId", "GetObjectVersion"),
    ("PUT", O, "", "PutObject"),
    ("PUT", O, "uploadId", "PutObject"),
    ("PUT", O, "acl", "PutObjectAcl"),
    ("PUT", O, "legal-hold", "PutObjectLegalHold"),
    ("PUT", O, "retention", "PutObjectRetention"),
    ("PUT", O, "tagging", "PutObjectTagging"),
    ("POST", O, "uploads", "PutObject"),
    ("POST", O, "uploadId", "PutObject"),
    ("POST", O, "restore", "RestoreObject"),
    ("POST", O, "select", "GetObject"),
    ("DELETE", O, "", "DeleteObject"),
    ("DELETE", O, "versionId", "DeleteObjectVersion"),
    ("DELETE", O, "tagging", "DeleteObjectTagging"),
    ("DELETE", O, "uploadId", "AbortMultipartUpload"),
    ("GET", B, "", "ListBucket"),
    ("GET", B, "accelerate", "GetAccelerateConfiguration"),
    ("GET", B, "acl", "GetBucketAcl"),
    ("GET", B, "analytics", "GetAnalyticsConfiguration"),
    ("GET", B, "cors", "GetBucketCORS"),
    ("GET", B, "encryption", "GetEncryptionConfiguration"),
    (
        "GET",
        B,
        "intelligent-tiering",
        "GetIntelligentTieringConfiguration",
    ),
    ("GET", B, "inventory", "GetInventoryConfiguration"),
    ("GET", B, "lifecycle", "GetLifecycleConfiguration"),
    ("GET", B, "location", "GetBucketLocation"),
    ("GET", B, "logging", "GetBucketLogging"),
    ("GET", B, "metrics", "GetMetricsConfiguration"),
    ("GET", B, "notification", "GetBucketNotification"),
    ("GET", B, "object-lock", "GetBucketObjectLockConfiguration"),
    ("GET", B, "ownershipControls", "GetBucketOwnershipControls"),
    ("GET", B, "policy", "GetBucketPolicy"),
    ("GET", B, "policyStatus", "GetBucketPolicyStatus"),
    ("GET", B, "publicAccessBlock", "GetBucketPublicAccessBlock"),
    ("GET", B, "replication", "GetReplicationConfiguration"),
    ("GET", B, "requestPayment", "GetBucketRequestPayment"),
    ("GET", B, "session", "CreateSession"),
    ("GET", B, "tagging", "GetBucketTagging"),
    ("GET", B, "uploads", "ListBucketMultipartUploads"),
    ("GET", B, "versioning", "GetBucketVersioning"),
    ("GET", B, "versions", "ListBucketVersions"),
    ("GET", B, "website", "GetBucketWebsite"),
    ("HEAD", B, "", "ListBucket"),
    ("PUT", B, "", "CreateBucket"),
    ("PUT", B, "accelerate", "PutAccelerateConfiguration"),
    ("PUT", B, "acl", "PutBucketAcl"),
    ("PUT", B, "analytics", "PutAnalyticsConfiguration"),
    ("PUT", B, "cors", "PutBucketCORS"),
    ("PUT", B, "encryption", "PutEncryptionConfiguration"),
    (
        "PUT",
        B,
        "intelligent-tiering",
        "PutIntelligentTieringConfiguration",
    ),
    ("PUT", B, "inventory", "PutInventoryConfiguration"),
    ("PUT", B, "lifecycle", "PutLifecycleConfiguration"),
    ("PUT", B, "logging", "PutBucketLogging"),
    ("PUT", B, "metrics", "PutMetricsConfiguration"),
    ("PUT", B, "notification", "PutBucketNotification"),
    ("PUT", B, "object-lock", "PutBucketObjectLockConfiguration"),
    ("PUT", B, "ownershipControls", "PutBucketOwnershipControls"),
    ("PUT", B, "policy", "PutBucketPolicy"),
    ("PUT", B, "publicAccessBlock", "PutBucketPublicAccessBlock"),
    ("PUT", B, "replication", "PutReplicationConfiguration"),
    ("PUT", B, "requestPayment", "PutBucketRequestPayment"),
    ("PUT", B, "tagging", "PutBucketTagging"),
    ("PUT", B, "versioning", "PutBucketVersioning"),
    ("PUT", B, "website", "PutBucketWebsite"),
    ("POST", B, "delete", "DeleteObject"),
    ("DELETE", B, "", "DeleteBucket"),
    ("DELETE", B, "analytics", "PutAnalyticsConfiguration"),
    ("DELETE", B, "cors", "PutBucketCORS"),
    ("DELETE", B, "encryption", "PutEncryptionConfiguration"),
    (
        "DELETE",
        B,
        "intelligent-tiering",
        "PutIntelligentTieringConfiguration",
    ),
    ("DELETE", B, "inventory", "PutInventoryConfiguration"),
    ("DELETE", B, "lifecycle", "PutLifecycleConfiguration"),
    ("DELETE", B, "metrics", "PutMetricsConfiguration"),
    ("DELETE", B, "ownershipControls", "PutBucketOwnershipControls"),
    ("DELETE", B, "policy", "DeleteBucketPolicy"),
    ("DELETE", B, "publicAccessBlock", "PutBucketPublicAccessBlock"),
    ("DELETE", B, "replication", "PutReplicationConfiguration"),
    ("DELETE", B, "tagging", "PutBucketTagging"),
    ("DELETE", B, "website", "DeleteBucketWebsite"),
];

/// Parameters that say more of an operation, not which one it is.
const MODIFIERS: &[&str] = &[
    "x-id",
    "list-type",
    "prefix",
    "delimiter",
    "marker",
    "max-keys",
    "encoding-type",
    "continuation-token",
    "start-after",
    "fetch-owner",
    "key-marker",
    "upload-id-marker",
    "version-id-marker",
    "max-uploads",
    "part-number-marker",
    "max-parts",
    "partNumber",
    "max-buckets",
    "bucket-region",
    "id",
    "select-type",
    "optional-object-attributes",
];

/// Reads a request to S3. `bucket` is what the host says.
pub fn read(
    request: &Request,
    query: &Params<'_>,
    bucket: Option<&str>,
    call: &mut Call,
) -> Result<(), Ambiguity> {
    let (bucket, key) = names(request.target.wire(), bucket, call)?;
    let Some(bucket) = bucket else {
        match request.method.as_str() {
            "GET" if sub_resource(query, call)?.is_empty() => call.operation("ListAllMyBuckets"),
            _ => call.unsure(Why::Operation),
        }
        return Ok(());
    };
    let of = if key.is_some() { O } else { B };
    let name = match &key {
        Some(key) => format!("{bucket}/{key}"),
        None => bucket,
    };
    call.resource(&name);
    let sub = sub_resource(query, call)?;
    let row = TABLE
        .iter()
        .find(|(method, row_of, s, _)| *method == request.method && *row_of == of && *s == sub);
    match row {
        Some((_, _, _, action)) => call.operation(*action),
        // A form: the key and the signature are inside of it.
        None if request.method == "POST" && of == B && sub.is_empty() => {
            call.operation("PutObject");
            call.unsure(Why::Form);
        }
        None => call.unsure(Why::Operation),
    }
    if (request.method.as_str(), of, sub) == ("POST", B, "delete") {
        call.unsure(Why::Keys);
    }
    if request.method == "DELETE" && sub != "uploadId" {
        call.class.destructive = true;
        call.class.raise();
    }
    headers(request, call)
}

/// Bucket and key of a path.
fn names(
    wire: &str,
    bucket: Option<&str>,
    call: &mut Call,
) -> Result<(Option<String>, Option<String>), Ambiguity> {
    let path = wire.strip_prefix('/').unwrap_or(wire);
    let (bucket, key) = match bucket {
        Some(bucket) => (bucket.to_owned(), path),
        None => {
            let (first, rest) = path.split_once('/').unwrap_or((path, ""));
            // Where a bucket's name ends depends on when the slash is decoded.
            if first.contains("%2F") && !first.starts_with("arn%3A") {
                call.unsure(Why::Path);
            }
            (decode(first, false)?.into_owned(), rest)
        }
    };
    let key = decode(key, false)?.into_owned();
    Ok((
        Some(bucket).filter(|b| !b.is_empty()),
        Some(key).filter(|k| !k.is_empty()),
    ))
}

/// The one sub-resource of a query.
fn sub_resource<'q>(query: &'q Params<'_>, call: &mut Call) -> Result<&'q str, Ambiguity> {
    let mut found = "";
    let old = super::auth::is_old(query);
    for (name, _) in query.iter() {
        let known = |n: &str| TABLE.iter().any(|(_, _, sub, _)| *sub == n);
        if name.is_empty() || modifies(name) || super::auth::is_dropped(name, old) {
            continue;
        }
        if query.iter().filter(|(n, _)| *n == name).count() > 1 {
            return Err(Ambiguity::SubResource);
        }
        // Which version is read or written says nothing where something else of the object is meant.
        if name == "versionId" && !found.is_empty() && found != name {
            continue;
        }
        if !known(name) {
            if TABLE.iter().any(|(_, _, sub, _)| sub.eq_ignore_ascii_case(name)) {
                return Err(Ambiguity::SubResource);
            }
            // It may be an operation that is younger than this program.
            call.unsure(Why::Parameter);
            continue;
        }
        if found.is_empty() || found == "versionId" {
            found = name;
        } else {
            return Err(Ambiguity::SubResource);
        }
    }
    Ok(found)
}

/// Whether a parameter leaves the operation what it is. Presigned requests may have headers in the query.
fn modifies(name: &str) -> bool {
    const HEADERS: [&str; 3] = ["x-amz-meta-", "x-amz-checksum-", "x-amz-sdk-"];
    let lower = name.to_ascii_lowercase();
    MODIFIERS.contains(&name)
        || super::auth::is_trace(name)
        || name.starts_with("response-")
        || HEADERS.iter().any(|h| lower.starts_with(h))
}

/// Headers that make more of an operation than its name says.
fn headers(request: &Request, call: &mut Call) -> Result<(), Ambiguity> {
    use crate::model::Access;
    let mut sources = 0;
    for header in request.head().headers() {
        let name = header.name.to_ascii_lowercase();
        let value = std::str::from_utf8(header.value).map_err(|_| Ambiguity::Header)?;
        match name.as_str() {
            "x-amz-copy-source" => {
                sources += 1;
                let source = value.split('?').next().unwrap_or("");
                let source = decode(source, true)?;
                call.more(source.trim_start_matches('/'));
            }
            "x-amz-acl"
                if !matches!(
                    value,
                    "private" | "bucket-owner-full-control" | "bucket-owner-read"
                ) =>
            {
                call.class.access = Access::Admin;
            }
            "x-amz-bypass-governance-retention" if !value.eq_ignore_ascii_case("false") => {
                call.class.access = Access::Admin;
            }
            _ if name.starts_with("x-amz-grant-") || name.starts_with("x-amz-object-lock-") => {
                call.class.access = Access::Admin;
            }
            _ => {}
        }
    }
    if sources > 1 {
        return Err(Ambiguity::Repeated("x-amz-copy-source"));
    }
    Ok(())
}
