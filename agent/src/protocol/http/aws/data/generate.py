#!/usr/bin/env python3
"""Writes services.tsv and rest.tsv from the service models that AWS publishes in botocore (Apache-2.0).

    python3 -m venv venv && venv/bin/pip install botocore && venv/bin/python generate.py
"""

import collections
import pathlib
import re

import botocore.loaders

# Signing names whose IAM prefix is another word.
IAM = {
    "monitoring": "cloudwatch",
    "tagging": "tag",
    "iotdata": "iot",
    "iot-jobs-data": "iot",
    "awsssoportal": "sso",
    "IoTSecuredTunneling": "iot",
    "s3-object-lambda": "s3-object-lambda",
}
# Services of which every path is listed. Others that are addressed by path are known by name only.
REST = """access-analyzer account acm-pca airflow amplify aoss apigateway appconfig apprunner appsync
    aps awsssoportal backup batch bedrock cloudfront codeartifact detective dlm     eks elasticfilesystem emr-containers emr-serverless es fis glacier grafana guardduty
    imagebuilder inspector2 iot iot-jobs-data iotdata kafka kafkaconnect lambda     macie2 mediaconvert mediapackage mobiletargeting mq network-firewall oam outposts pipes polly
    ram rds-data resource-explorer-2 resource-groups rolesanywhere route53 s3 sagemaker savingsplans
    scheduler schemas securityhub securitylake serverlessrepo ses signer sso-oauth ssm-incidents synthetics
    vpc-lattice xray""".split()
# Read by `s3/`, not by a table: one path has many meanings there.
NOT_BY_PATH = {"s3"}

loader = botocore.loaders.Loader()
services = set()
rest = collections.defaultdict(set)
for name in loader.list_available_services("service-2"):
    if name in NOT_BY_PATH:
        services.add(("s3", "s3", "-", "s3"))
        continue
    model = loader.load_service_model(name, "service-2")
    meta = model["metadata"]
    endpoint = meta["endpointPrefix"]
    signing = meta.get("signingName", endpoint)
    iam = IAM.get(signing, signing)
    services.add((endpoint, signing, meta.get("targetPrefix", "-"), iam))
    protocols = meta.get("protocols", [meta["protocol"]])
    if signing in REST and any(p.startswith("rest") for p in protocols):
        for operation in model["operations"].values():
            http = operation["http"]
            # CloudFront's operations are named with their version.
            name = re.sub(r"\d{4}_\d{2}_\d{2}$", "", operation["name"])
            rest[signing].add((http["requestUri"], http["method"], name))

here = pathlib.Path(__file__).parent
with open(here / "services.tsv", "w") as out:
    out.write("# endpoint\tsigning name\tX-Amz-Target prefix\tIAM prefix. Made by generate.py.\n")
    for row in sorted(services):
        out.write("\t".join(row) + "\n")
with open(here / "rest.tsv", "w") as out:
    out.write("# A signing name, then its operations: method, path, name. Made by generate.py.\n")
    for signing in sorted(rest):
        out.write(f"[{signing}]\n")
        for path, method, name in sorted(rest[signing]):
            out.write(f"{method}\t{path}\t{name}\n")
