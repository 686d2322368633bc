//! What clients send, service by service.

use super::*;

#[track_caller]
fn check(host: &str, cases: &[(&str, &str, &str, &str)]) {
    for (line, headers, body, expected) in cases {
        let head = format!("{line} HTTP/1.1\nHost: {host}\n{headers}");
        let read = understood(&head, body).map_or_else(|e| format!("refused: {e}"), |c| shown(&c));
        assert_eq!(read, *expected, "{line} {headers} {body}");
    }
}

#[test]
fn s3_path_style() {
    let objects = [
        ("GET /", "s3:ListAllMyBuckets r"),
        ("GET /?x-id=ListBuckets&max-buckets=3", "s3:ListAllMyBuckets r"),
        ("PUT /", "s3:unknown w ?unknown_operation"),
        ("GET /b", "s3:ListBucket r b"),
        ("GET /b/", "s3:ListBucket r b"),
        (
            "GET /b?list-type=2&prefix=a%2F&delimiter=%2F&encoding-type=url",
            "s3:ListBucket r b",
        ),
        ("HEAD /b", "s3:ListBucket r b"),
        ("GET /b?versions", "s3:ListBucketVersions r b"),
        ("GET /b?uploads", "s3:ListBucketMultipartUploads r b"),
        ("GET /b?location", "s3:GetBucketLocation r b"),
        ("GET /b?policy", "s3:GetBucketPolicy r b"),
        ("GET /b?policyStatus", "s3:GetBucketPolicyStatus r b"),
        ("GET /b?acl", "s3:GetBucketAcl r b"),
        ("GET /b?versioning", "s3:GetBucketVersioning r b"),
        ("GET /b?lifecycle", "s3:GetLifecycleConfiguration r b"),
        ("GET /b?inventory&id=x", "s3:GetInventoryConfiguration r b"),
        ("GET /b?session", "s3:CreateSession as b"),
        ("GET /b?newthing", "s3:ListBucket r b ?unknown_parameter"),
        ("PUT /b", "s3:CreateBucket w b"),
        ("PUT /b?policy", "s3:PutBucketPolicy a b"),
        ("PUT /b?acl", "s3:PutBucketAcl a b"),
        ("PUT /b?lifecycle", "s3:PutLifecycleConfiguration ad b"),
        ("PUT /b?versioning", "s3:PutBucketVersioning a b"),
        ("PUT /b?publicAccessBlock", "s3:PutBucketPublicAccessBlock a b"),
        ("PUT /b?replication", "s3:PutReplicationConfiguration a b"),
        ("PUT /b?encryption", "s3:PutEncryptionConfiguration a b"),
        ("PUT /b?tagging", "s3:PutBucketTagging w b"),
        ("PUT /b?object-lock", "s3:PutBucketObjectLockConfiguration a b"),
        ("POST /b?delete", "s3:DeleteObject ad b ?keys_in_body"),
        ("POST /b", "s3:PutObject w b ?form"),
        ("DELETE /b", "s3:DeleteBucket ad b"),
        ("DELETE /b?policy", "s3:DeleteBucketPolicy ad b"),
        ("DELETE /b?lifecycle", "s3:PutLifecycleConfiguration ad b"),
        ("DELETE /b?tagging", "s3:PutBucketTagging ad b"),
        ("GET /b/k", "s3:GetObject r b/k"),
        ("GET /b/k?x-id=GetObject", "s3:GetObject r b/k"),
        ("GET /b/k?partNumber=2", "s3:GetObject r b/k"),
        (
            "GET /b/k?response-content-type=text%2Fplain",
            "s3:GetObject r b/k",
        ),
        ("GET /b/k?versionId=3", "s3:GetObjectVersion r b/k"),
        ("GET /b/k?acl&versionId=3", "s3:GetObjectAcl r b/k"),
        ("GET /b/k?versionId=3&acl", "s3:GetObjectAcl r b/k"),
        ("GET /b/a/b/c.txt", "s3:GetObject r b/a/b/c.txt"),
        ("GET /b/a%20b+c%2B%C3%A9", "s3:GetObject r b/a b+c+é"),
        ("GET /b/a%2Fb", "s3:GetObject r b/a/b"),
        ("GET /b%2Fc/k", "s3:GetObject r b/c/k ?path"),
        ("GET /b/k?tagging", "s3:GetObjectTagging r b/k"),
        (
            "GET /b/k?uploadId=1&max-parts=3",
            "s3:ListMultipartUploadParts r b/k",
        ),
        ("GET /b/k?attributes", "s3:GetObjectAttributes r b/k"),
        ("GET /b/k?torrent", "s3:GetObjectTorrent r b/k"),
        ("GET /b/k?policy", "s3:unknown w b/k ?unknown_operation"),
        ("HEAD /b/k", "s3:GetObject r b/k"),
        ("HEAD /b/k?versionId=3", "s3:GetObjectVersion r b/k"),
        ("PUT /b/k", "s3:PutObject w b/k"),
        ("PUT /b/k?x-id=PutObject", "s3:PutObject w b/k"),
        ("PUT /b/k?partNumber=1&uploadId=2", "s3:PutObject w b/k"),
        ("PUT /b/k?acl", "s3:PutObjectAcl a b/k"),
        ("PUT /b/k?tagging", "s3:PutObjectTagging w b/k"),
        ("PUT /b/k?retention", "s3:PutObjectRetention a b/k"),
        ("PUT /b/k?legal-hold", "s3:PutObjectLegalHold a b/k"),
        ("PUT /b/k?renameObject", "s3:PutObject w b/k ?unknown_parameter"),
        ("POST /b/k?uploads", "s3:PutObject w b/k"),
        ("POST /b/k?uploadId=2", "s3:PutObject w b/k"),
        ("POST /b/k?restore", "s3:RestoreObject w$ b/k"),
        ("POST /b/k?select&select-type=2", "s3:GetObject r b/k"),
        ("POST /b/k", "s3:unknown w b/k ?unknown_operation"),
        ("DELETE /b/k", "s3:DeleteObject ad b/k"),
        ("DELETE /b/k?versionId=3", "s3:DeleteObjectVersion ad b/k"),
        ("DELETE /b/k?tagging", "s3:DeleteObjectTagging ad b/k"),
        ("DELETE /b/k?uploadId=2", "s3:AbortMultipartUpload w b/k"),
        ("OPTIONS /b/k", "s3:unknown w b/k ?unknown_operation"),
        (
            "GET /b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F20260101%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Date=20260101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=0",
            "s3:GetObject r b/k",
        ),
        (
            "GET /b/k?AWSAccessKeyId=A&Expires=1&Signature=s",
            "s3:GetObject r b/k",
        ),
    ];
    for (line, expected) in objects {
        check("s3.eu-west-1.amazonaws.com", &[(line, "", "", expected)]);
    }
    // The same with the bucket in the host.
    for (line, expected) in objects {
        let Some(rest) = line
            .split_once(" /b")
            .map(|(method, rest)| (method, rest.strip_prefix('/').unwrap_or(rest)))
        else {
            continue;
        };
        if line.contains("%2Fc/k") {
            continue;
        }
        let line = format!("{} /{}", rest.0, rest.1);
        check("b.s3.eu-west-1.amazonaws.com", &[(&line, "", "", expected)]);
    }
}

#[test]
fn s3_headers() {
    check(
        "b.s3.eu-west-1.amazonaws.com",
        &[
            (
                "PUT /k",
                "x-amz-copy-source: /other/k2",
                "",
                "s3:PutObject w b/k other/k2",
            ),
            (
                "PUT /k?partNumber=1&uploadId=2",
                "x-amz-copy-source: other/a%20b?versionId=3",
                "",
                "s3:PutObject w b/k other/a b",
            ),
            (
                "PUT /k",
                "x-amz-copy-source: arn:aws:s3:eu-west-1:123456789012:accesspoint/p/object/k",
                "",
                "s3:PutObject w accesspoint/p/object/k b/k",
            ),
            ("PUT /k", "x-amz-acl: private", "", "s3:PutObject w b/k"),
            ("PUT /k", "x-amz-acl: public-read", "", "s3:PutObject a b/k"),
            ("PUT /k", "x-amz-grant-read: id=1", "", "s3:PutObject a b/k"),
            (
                "PUT /k",
                "x-amz-object-lock-mode: COMPLIANCE",
                "",
                "s3:PutObject a b/k",
            ),
            (
                "DELETE /k?versionId=1",
                "x-amz-bypass-governance-retention: true",
                "",
                "s3:DeleteObjectVersion ad b/k",
            ),
            (
                "PUT /k",
                "x-amz-copy-source: a/b\nx-amz-copy-source: c/d",
                "",
                "refused: x-amz-copy-source is given more than once, or in another writing",
            ),
        ],
    );
}

#[test]
fn s3_elsewhere() {
    check(
        "p-1.s3-accesspoint.eu-west-1.amazonaws.com",
        &[("GET /k", "", "", "s3:GetObject r p-1/k")],
    );
    check(
        "x.s3-object-lambda.eu-west-1.amazonaws.com",
        &[("GET /k", "", "", "s3-object-lambda:GetObject r x/k")],
    );
    check(
        "123456789012.s3-control.eu-west-1.amazonaws.com",
        &[
            ("GET /v20180820/accesspoint", "", "", "s3:ListAccessPoints r"),
            (
                "PUT /v20180820/accesspoint/p/policy",
                "",
                "",
                "s3:PutAccessPointPolicy a p",
            ),
            (
                "PUT /v20180820/configuration/publicAccessBlock",
                "",
                "",
                "s3:PutPublicAccessBlock a",
            ),
            (
                "GET /v20180820/accessgrantsinstance/dataaccess",
                "",
                "",
                "s3:GetDataAccess as",
            ),
            (
                "DELETE /v20180820/nothing",
                "",
                "",
                "s3:unknown w ?unknown_operation",
            ),
        ],
    );
}

#[test]
fn json() {
    let json = |target: &str| {
        format!("X-Amz-Target: {target}\nContent-Type: application/x-amz-json-1.0\nContent-Length: 9")
    };
    for (host, target, body, expected) in [
        (
            "dynamodb",
            "DynamoDB_20120810.GetItem",
            r#"{"TableName":"t","Key":{}}"#,
            "dynamodb:GetItem r t",
        ),
        (
            "dynamodb",
            "DynamoDB_20120810.Query",
            r#"{"TableName":"t"}"#,
            "dynamodb:Query r t",
        ),
        (
            "dynamodb",
            "DynamoDB_20120810.PutItem",
            r#"{"TableName":"t"}"#,
            "dynamodb:PutItem w t",
        ),
        (
            "dynamodb",
            "DynamoDB_20120810.DeleteItem",
            r#"{"TableName":"t"}"#,
            "dynamodb:DeleteItem ad t",
        ),
        (
            "dynamodb",
            "DynamoDB_20120810.DeleteTable",
            r#"{"TableName":"t"}"#,
            "dynamodb:DeleteTable ad t",
        ),
        (
            "dynamodb",
            "DynamoDB_20120810.BatchGetItem",
            r#"{"RequestItems":{"a":{},"b":{}}}"#,
            "dynamodb:BatchGetItem r a b",
        ),
        (
            "dynamodb",
            "DynamoDB_20120810.BatchWriteItem",
            r#"{"RequestItems":{"a":[]}}"#,
            "dynamodb:BatchWriteItem w a ?language",
        ),
        (
            "dynamodb",
            "DynamoDB_20120810.TransactGetItems",
            r#"{"TransactItems":[{"Get":{"TableName":"a"}},{"Get":{"TableName":"b"}}]}"#,
            "dynamodb:TransactGetItems r a b",
        ),
        (
            "dynamodb",
            "DynamoDB_20120810.ExecuteStatement",
            r#"{"Statement":"SELECT 1"}"#,
            "dynamodb:ExecuteStatement w ?language",
        ),
        (
            "dynamodb",
            "DynamoDB_20120810.GetItem",
            r#"{"TableName":"arn:aws:dynamodb:eu-west-1:123456789012:table/t"}"#,
            "dynamodb:GetItem r t",
        ),
        (
            "dynamodb",
            "DynamoDB_20120810.GetItem",
            "not json",
            "dynamodb:GetItem r ?body",
        ),
        (
            "dynamodb",
            "DynamoDB_20120810.GetItem",
            r#"{"TableName":"t","TableName":"u"}"#,
            "dynamodb:GetItem r ?body",
        ),
        (
            "dynamodb",
            "DynamoDB_20120810.ListTables",
            "{}",
            "dynamodb:ListTables r",
        ),
        (
            "streams.dynamodb",
            "DynamoDBStreams_20120810.ListStreams",
            "{}",
            "dynamodb:ListStreams r",
        ),
        (
            "secretsmanager",
            "secretsmanager.GetSecretValue",
            r#"{"SecretId":"s"}"#,
            "secretsmanager:GetSecretValue as s",
        ),
        (
            "secretsmanager",
            "secretsmanager.ListSecrets",
            "{}",
            "secretsmanager:ListSecrets r",
        ),
        (
            "ssm",
            "AmazonSSM.GetParameters",
            r#"{"Names":["/a","/b"]}"#,
            "ssm:GetParameters as /a /b",
        ),
        (
            "ssm",
            "AmazonSSM.SendCommand",
            "{}",
            "ssm:SendCommand a ?language",
        ),
        (
            "kms",
            "TrentService.Decrypt",
            r#"{"KeyId":"alias/k"}"#,
            "kms:Decrypt as alias/k",
        ),
        (
            "kms",
            "TrentService.ScheduleKeyDeletion",
            r#"{"KeyId":"k"}"#,
            "kms:ScheduleKeyDeletion ad k",
        ),
        (
            "kinesis",
            "Kinesis_20131202.PutRecord",
            r#"{"StreamName":"s"}"#,
            "kinesis:PutRecord w s",
        ),
        (
            "logs",
            "Logs_20140328.FilterLogEvents",
            r#"{"logGroupName":"/g"}"#,
            "logs:FilterLogEvents r /g",
        ),
        (
            "sqs",
            "AmazonSQS.SendMessage",
            r#"{"QueueUrl":"https://sqs.eu-west-1.amazonaws.com/123456789012/q"}"#,
            "sqs:SendMessage w q",
        ),
        (
            "sqs",
            "AmazonSQS.PurgeQueue",
            r#"{"QueueUrl":"https://sqs.eu-west-1.amazonaws.com/123456789012/q"}"#,
            "sqs:PurgeQueue ad q",
        ),
        (
            "api.ecr",
            "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
            "{}",
            "ecr:GetAuthorizationToken as",
        ),
        (
            "ecs",
            "AmazonEC2ContainerServiceV20141113.RunTask",
            r#"{"cluster":"c"}"#,
            "ecs:RunTask w$ c ?language",
        ),
        (
            "states",
            "AWSStepFunctions.StartExecution",
            r#"{"stateMachineArn":"arn:aws:states:eu-west-1:123456789012:stateMachine:m"}"#,
            "states:StartExecution w m",
        ),
        (
            "organizations",
            "AWSOrganizationsV20161128.ListAccounts",
            "{}",
            "organizations:ListAccounts r",
        ),
        (
            "organizations",
            "AWSOrganizationsV20161128.LeaveOrganization",
            "{}",
            "organizations:LeaveOrganization a",
        ),
        (
            "ecs",
            "Nothing.RunTask",
            "{}",
            "ecs:RunTask w$ ?unknown_service ?language",
        ),
        (
            "brandnew",
            "Nothing.GetThing",
            "{}",
            "brandnew:GetThing r ?unknown_service",
        ),
    ] {
        check(
            &format!("{host}.eu-west-1.amazonaws.com"),
            &[("POST /", &json(target), body, expected)],
        );
    }
    check(
        "dynamodb.eu-west-1.amazonaws.com",
        &[
            (
                "GET /",
                "X-Amz-Target: DynamoDB_20120810.ListTables",
                "",
                "dynamodb:ListTables r ?unknown_operation",
            ),
            (
                "POST /",
                "X-Amz-Target: DynamoDB_20120810.ListTables\nContent-Type: text/plain\nContent-Length: 2",
                "{}",
                "dynamodb:ListTables r ?body",
            ),
            ("POST /", "", "", "dynamodb:unknown w ?unknown_operation"),
        ],
    );
}

#[test]
fn query_protocol() {
    let form = "Content-Type: application/x-www-form-urlencoded; charset=utf-8\nContent-Length: 9";
    for (host, body, expected) in [
        (
            "ec2",
            "Action=DescribeInstances&Version=2016-11-15",
            "ec2:DescribeInstances r",
        ),
        (
            "ec2",
            "Action=RunInstances&ImageId=ami-1&Version=2016-11-15",
            "ec2:RunInstances w$ ami-1",
        ),
        (
            "ec2",
            "Action=TerminateInstances&InstanceId.1=i-1&InstanceId.2=i-2",
            "ec2:TerminateInstances ad i-1 i-2",
        ),
        (
            "ec2",
            "Action=DeleteVolume&VolumeId=vol-1",
            "ec2:DeleteVolume ad vol-1",
        ),
        (
            "ec2",
            "Action=AuthorizeSecurityGroupIngress&GroupId=sg-1",
            "ec2:AuthorizeSecurityGroupIngress a sg-1",
        ),
        (
            "ec2",
            "Action=GetPasswordData&InstanceId=i-1",
            "ec2:GetPasswordData as i-1",
        ),
        ("ec2", "Version=2016-11-15", "ec2:unknown w ?unknown_operation"),
        (
            "sts",
            "Action=GetCallerIdentity&Version=2011-06-15",
            "sts:GetCallerIdentity r",
        ),
        (
            "sts",
            "Action=AssumeRole&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fr",
            "sts:AssumeRole as r",
        ),
        (
            "sns",
            "Action=Publish&TopicArn=arn%3Aaws%3Asns%3Aeu-west-1%3A123456789012%3At&Message=a+b",
            "sns:Publish w t",
        ),
        (
            "rds",
            "Action=CreateDBInstance&DBInstanceIdentifier=d",
            "rds:CreateDBInstance w$ d",
        ),
        (
            "rds",
            "Action=DeleteDBInstance&DBInstanceIdentifier=d",
            "rds:DeleteDBInstance ad d",
        ),
        (
            "cloudformation",
            "Action=CreateStack&StackName=s",
            "cloudformation:CreateStack a s ?language",
        ),
        (
            "cloudformation",
            "Action=DescribeStacks",
            "cloudformation:DescribeStacks r",
        ),
        (
            "autoscaling",
            "Action=SetDesiredCapacity&AutoScalingGroupName=g",
            "autoscaling:SetDesiredCapacity w$ g",
        ),
        (
            "monitoring",
            "Action=PutMetricData&Namespace=n",
            "cloudwatch:PutMetricData w n",
        ),
        ("email", "Action=SendEmail&Source=a", "ses:SendEmail w a"),
        (
            "elasticloadbalancing",
            "Action=DeleteLoadBalancer&LoadBalancerName=l",
            "elasticloadbalancing:DeleteLoadBalancer ad l",
        ),
    ] {
        check(
            &format!("{host}.eu-west-1.amazonaws.com"),
            &[("POST /", form, body, expected)],
        );
    }
    check(
        "iam.amazonaws.com",
        &[
            (
                "POST /",
                form,
                "Action=CreateAccessKey&UserName=u",
                "iam:CreateAccessKey as u",
            ),
            ("POST /", form, "Action=ListUsers", "iam:ListUsers r"),
            (
                "POST /",
                form,
                "Action=AttachRolePolicy&RoleName=r",
                "iam:AttachRolePolicy a r",
            ),
            (
                "POST /",
                form,
                "Action=DeleteRole&RoleName=r",
                "iam:DeleteRole ad r",
            ),
            (
                "GET /?Action=ListUsers&Version=2010-05-08",
                "",
                "",
                "iam:ListUsers r",
            ),
            (
                "GET /?Action=DeleteUser&UserName=u",
                "",
                "",
                "iam:DeleteUser ad u",
            ),
            (
                "POST /?Version=2010-05-08",
                form,
                "Action=ListUsers",
                "iam:ListUsers r ?unknown_parameter",
            ),
            (
                "DELETE /?Action=ListUsers",
                "",
                "",
                "iam:ListUsers r ?unknown_operation",
            ),
            (
                "POST /",
                "Content-Type: text/plain\nContent-Length: 1",
                "Action=ListUsers",
                "iam:unknown a ?unknown_operation ?body",
            ),
        ],
    );
    check(
        "sqs.eu-west-1.amazonaws.com",
        &[
            (
                "POST /123456789012/q",
                form,
                "Action=SendMessage&MessageBody=x",
                "sqs:SendMessage w q",
            ),
            (
                "GET /123456789012/q?Action=DeleteQueue",
                "",
                "",
                "sqs:DeleteQueue ad q",
            ),
            (
                "POST /123456789012/q/more",
                form,
                "Action=SendMessage",
                "sqs:unknown w ?unknown_operation",
            ),
        ],
    );
}

#[test]
fn rest_and_rpc() {
    check(
        "lambda.eu-west-1.amazonaws.com",
        &[
            ("GET /2015-03-31/functions/", "", "", "lambda:ListFunctions r"),
            (
                "POST /2015-03-31/functions/f/invocations",
                "",
                "",
                "lambda:InvokeFunction w f",
            ),
            (
                "POST /2015-03-31/functions/f%3A7/invocations",
                "",
                "",
                "lambda:InvokeFunction w f",
            ),
            (
                "POST /2015-03-31/functions/123456789012%3Afunction%3Af/invocations",
                "",
                "",
                "lambda:InvokeFunction w f",
            ),
            ("POST /2015-03-31/functions", "", "", "lambda:CreateFunction a"),
            (
                "PUT /2015-03-31/functions/f/code",
                "",
                "",
                "lambda:UpdateFunctionCode a f",
            ),
            (
                "DELETE /2015-03-31/functions/f",
                "",
                "",
                "lambda:DeleteFunction ad f",
            ),
            (
                "POST /2015-03-31/functions/f/policy",
                "",
                "",
                "lambda:AddPermission a f",
            ),
            (
                "GET /2018-10-31/layers/l/versions",
                "",
                "",
                "lambda:ListLayerVersions r l",
            ),
            (
                "POST /2021-10-31/functions/f/url",
                "",
                "",
                "lambda:CreateFunctionUrlConfig a f",
            ),
            (
                "POST /2015-03-31/functions/f/nothing",
                "",
                "",
                "lambda:unknown w ?unknown_operation",
            ),
        ],
    );
    check(
        "eks.eu-west-1.amazonaws.com",
        &[
            ("GET /clusters", "", "", "eks:ListClusters r"),
            ("POST /clusters", "", "", "eks:CreateCluster w$"),
            ("DELETE /clusters/c", "", "", "eks:DeleteCluster ad c"),
            (
                "POST /clusters/c/access-entries",
                "",
                "",
                "eks:CreateAccessEntry a c",
            ),
        ],
    );
    check(
        "batch.eu-west-1.amazonaws.com",
        &[
            ("POST /v1/submitjob", "", "", "batch:SubmitJob w$ ?language"),
            ("POST /v1/describejobs", "", "", "batch:DescribeJobs r"),
            ("POST /v1/deletejobqueue", "", "", "batch:DeleteJobQueue ad"),
        ],
    );
    check(
        "apigateway.eu-west-1.amazonaws.com",
        &[
            ("GET /restapis", "", "", "apigateway:GetRestApis r"),
            ("DELETE /restapis/a", "", "", "apigateway:DeleteRestApi ad a"),
            ("GET /apikeys", "", "", "apigateway:GetApiKeys as"),
            ("GET /v2/apis", "", "", "apigateway:GetApis r"),
        ],
    );
    check(
        "route53.amazonaws.com",
        &[
            ("GET /2013-04-01/hostedzone", "", "", "route53:ListHostedZones r"),
            (
                "POST /2013-04-01/hostedzone/Z1/rrset",
                "",
                "",
                "route53:ChangeResourceRecordSets w Z1",
            ),
        ],
    );
    check(
        "bedrock-runtime.eu-west-1.amazonaws.com",
        &[("POST /model/m/converse", "", "", "bedrock:Converse w m")],
    );
    check(
        "email.eu-west-1.amazonaws.com",
        &[("POST /v2/email/outbound-emails", "", "", "ses:SendEmail w")],
    );
    check(
        "monitoring.eu-west-1.amazonaws.com",
        &[
            (
                "POST /service/GraniteServiceVersion20100801/operation/PutMetricData",
                "smithy-protocol: rpc-v2-cbor",
                "",
                "cloudwatch:PutMetricData w ?body",
            ),
            (
                "POST /service/GraniteServiceVersion20100801/operation/ListMetrics",
                "smithy-protocol: rpc-v2-cbor",
                "",
                "cloudwatch:ListMetrics r ?body",
            ),
        ],
    );
    check(
        "search-d.eu-west-1.es.amazonaws.com",
        &[
            ("GET /i/_search", "", "", "es:ESHttpGet r"),
            ("POST /i/_search", "", "", "es:ESHttpPost w ?language"),
            ("DELETE /i", "", "", "es:ESHttpDelete ad"),
        ],
    );
    check(
        "a1.execute-api.eu-west-1.amazonaws.com",
        &[("GET /prod/x", "", "", "execute-api:Invoke w ?language ?opaque")],
    );
}
