"""What an admin of the storage does and sees.

    bucket.py make BUCKET lock|plain | drop BUCKET | put BUCKET KEY TEXT | get BUCKET KEY | delete BUCKET KEY
              facts BUCKET KEY | versions BUCKET | uploads BUCKET
"""

import datetime
import hashlib
import json
import sys

import boto3
import botocore.exceptions

s3 = boto3.client("s3")


def make(bucket, kind):
    s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=kind == "lock")


def objects(bucket):
    found = s3.list_object_versions(Bucket=bucket)
    return found.get("Versions", []) + found.get("DeleteMarkers", [])


def drop(bucket):
    for found in objects(bucket):
        s3.delete_object(Bucket=bucket, Key=found["Key"], VersionId=found["VersionId"])
    s3.delete_bucket(Bucket=bucket)


def put(bucket, key, text):
    s3.put_object(Bucket=bucket, Key=key, Body=text.encode())


def get(bucket, key):
    sys.stdout.write(s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode())


def delete(bucket, key):
    for found in objects(bucket):
        if found["Key"] == key:
            s3.delete_object(Bucket=bucket, Key=key, VersionId=found["VersionId"], BypassGovernanceRetention=True)


def facts(bucket, key):
    found = s3.get_object(Bucket=bucket, Key=key)
    until, now = found.get("ObjectLockRetainUntilDate"), datetime.datetime.now(datetime.timezone.utc)
    told = {
        "sha256": hashlib.sha256(found["Body"].read()).hexdigest(),
        "mode": found.get("ObjectLockMode"),
        "hold": found.get("ObjectLockLegalHoldStatus"),
        "days": (until - now).days if until else None,
        "encryption": found.get("ServerSideEncryption"),
        "metadata": found["Metadata"],
    }
    if until:
        try:
            s3.delete_object(Bucket=bucket, Key=key, VersionId=found["VersionId"])
            told["deleted"] = True
        except botocore.exceptions.ClientError as error:
            told["deleted"] = error.response["Error"]["Code"]
    print(json.dumps(told))


def versions(bucket):
    print(len(objects(bucket)))


def uploads(bucket):
    print(len(s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])))


{f.__name__: f for f in (make, drop, put, get, delete, facts, versions, uploads)}[sys.argv[1]](*sys.argv[2:])
