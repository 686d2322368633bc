"""What an agent does with boto3. It has placeholders for keys; what it prints is what it got."""

import hashlib
import io
import urllib.request

import boto3
from boto3.s3.transfer import TransferConfig
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

BUCKET = "agents-scratch"


def denied(name, call, code, *words):
    try:
        call()
    except ClientError as error:
        got = error.response["Error"]
        assert got["Code"] == code, (name, error.response)
        for word in words:
            assert word in got["Message"], (name, got)
        print("denied", name)
        return
    raise AssertionError(f"{name} was not denied")


s3 = boto3.client("s3", config=Config(signature_version="s3v4"))
path_style = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
dynamodb = boto3.client("dynamodb")
ec2 = boto3.client("ec2")

# Objects.
s3.put_object(Bucket=BUCKET, Key="a/one two+three.txt", Body=b"hello", Metadata={"note": "a  b", "with_underscore": "x"})
got = path_style.get_object(Bucket=BUCKET, Key="a/one two+three.txt")
assert got["Body"].read() == b"hello" and got["Metadata"]["note"].split() == ["a", "b"], got
assert s3.head_object(Bucket=BUCKET, Key="a/one two+three.txt")["ContentLength"] == 5
keys = [o["Key"] for o in s3.list_objects_v2(Bucket=BUCKET, Prefix="a/")["Contents"]]
assert keys == ["a/one two+three.txt"], keys
print("objects")

# A stream, and several parts at once.
big = bytes(range(256)) * 4096 * 11
s3.upload_fileobj(io.BytesIO(big), BUCKET, "big.bin", Config=TransferConfig(multipart_threshold=5 << 20, max_concurrency=4))
whole = s3.get_object(Bucket=BUCKET, Key="big.bin")["Body"].read()
assert hashlib.sha256(whole).digest() == hashlib.sha256(big).digest(), len(whole)
part = s3.get_object(Bucket=BUCKET, Key="big.bin", Range="bytes=256-511")["Body"].read()
assert part == bytes(range(256)), len(part)
print("multipart")

# Presigned: the address is the workload's own, and means nothing without the agent.
for client in (s3, boto3.client("s3")):
    url = client.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "keep.txt"}, ExpiresIn=60)
    assert "PLACEHOLDERKEYID" in url
    assert urllib.request.urlopen(url).read() == b"keep\n"
url = s3.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": "presigned.txt"}, ExpiresIn=60)
kind = {"Content-Type": "application/octet-stream"}
urllib.request.urlopen(urllib.request.Request(url, data=b"up", headers=kind, method="PUT"))
assert s3.get_object(Bucket=BUCKET, Key="presigned.txt")["Body"].read() == b"up"
print("presigned")

# Without any keys.
nobody = boto3.client("s3", config=Config(signature_version=UNSIGNED))
assert nobody.get_object(Bucket=BUCKET, Key="keep.txt")["Body"].read() == b"keep\n"
assert boto3.client("sts", config=Config(signature_version=UNSIGNED)).get_caller_identity()["Arn"].endswith(":user/agent")
print("unsigned")

# Others.
assert boto3.client("sts").get_caller_identity()["Arn"].endswith(":user/agent")
dynamodb.put_item(TableName="orders", Item={"id": {"S": "1"}, "note": {"S": "x" * 1000}})
found = dynamodb.query(
    TableName="orders", KeyConditionExpression="id = :id", ExpressionAttributeValues={":id": {"S": "1"}}
)
assert found["Count"] == 1, found
instances = [i for r in ec2.describe_instances()["Reservations"] for i in r["Instances"]]
assert len(instances) == 1 and instances[0]["State"]["Name"] == "running", instances
assert boto3.client("lambda").list_functions()["Functions"] == []
print("others")

# What is masked stays so.
row = s3.get_object(Bucket="payroll", Key="2026.csv")["Body"].read()
assert b"ada," in row and b"219-09-9999" not in row, row
print("masked")

# What is not to be.
image = instances[0]["ImageId"]
instance = instances[0]["InstanceId"]
denied("run", lambda: ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1), "UnauthorizedOperation", "approval_required")
denied("terminate", lambda: ec2.terminate_instances(InstanceIds=[instance]), "UnauthorizedOperation", "policy_forbid")
denied("delete", lambda: s3.delete_object(Bucket=BUCKET, Key="keep.txt"), "AccessDenied", "delete or end something")
denied("delete many", lambda: s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "keep.txt"}]}), "AccessDenied")
denied("another bucket", lambda: s3.put_object(Bucket="payroll", Key="x", Body=b"x"), "AccessDenied", "policy_default_deny")
denied(
    "copy out",
    lambda: s3.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": "payroll", "Key": "2026.csv"}),
    "AccessDenied",
)
denied("public", lambda: s3.put_object(Bucket=BUCKET, Key="x", Body=b"x", ACL="public-read"), "AccessDenied", "approval_required")
denied("policy", lambda: s3.put_bucket_policy(Bucket=BUCKET, Policy="{}"), "AccessDenied", "approval_required")
denied("table", lambda: dynamodb.delete_table(TableName="orders"), "AccessDeniedException", "policy_forbid")
denied(
    "secret",
    lambda: boto3.client("secretsmanager").get_secret_value(SecretId="prod-db"),
    "AccessDeniedException",
    "secret or credentials",
)
denied("user", lambda: boto3.client("iam").create_user(UserName="eve"), "AccessDenied", "approval_required")
denied("key", lambda: boto3.client("iam").create_access_key(UserName="agent"), "AccessDenied", "policy_forbid")
denied("role", lambda: boto3.client("sts").assume_role(RoleArn="arn:aws:iam::123456789012:role/admin", RoleSessionName="session"), "AccessDenied")
# The connections are still good.
assert s3.get_object(Bucket=BUCKET, Key="keep.txt")["Body"].read() == b"keep\n"
print("done")
