//! Requests that two servers could take for different operations.

use super::*;

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\nContent-Length: 9";

#[test]
fn what_has_two_readings_is_refused() {
    let signed = "Authorization: AWS4-HMAC-SHA256 Credential=A/20260101/eu-west-1/ec2/aws4_request, SignedHeaders=host, Signature=0";
    let presigned = "X-Amz-Credential=A%2F20260101%2Feu-west-1%2Fec2%2Faws4_request";
    for (line, headers, body) in [
        // The operation twice.
        (
            "POST /?Action=DescribeInstances",
            FORM,
            "Action=TerminateInstances",
        ),
        (
            "POST /",
            FORM,
            "Action=DescribeInstances&Action=TerminateInstances",
        ),
        (
            "POST /",
            FORM,
            "Action=DescribeInstances&action=TerminateInstances",
        ),
        ("POST /", FORM, "ACTION=TerminateInstances"),
        (
            "GET /?Action=DescribeInstances&%41ction=TerminateInstances",
            "",
            "",
        ),
        ("GET /?Action=DescribeInstances&Action=DescribeInstances", "", ""),
        (
            "POST /?Action=DescribeInstances",
            "X-Amz-Target: AmazonEC2.TerminateInstances",
            "",
        ),
        // Not a name.
        ("GET /?Action=", "", ""),
        ("GET /?Action=describeInstances", "", ""),
        ("GET /?Action=Describe%00Instances", "", ""),
        ("GET /?Action=Describe%20TerminateInstances", "", ""),
        (
            "GET /?Action=DescribeInstances%26Action=TerminateInstances",
            "",
            "",
        ),
        ("GET /?Action=%E2%80%8BDescribeInstances", "", ""),
        // Badly encoded.
        ("GET /?Action=Describe%", "", ""),
        ("GET /?Action=DescribeInstances&x=%zz", "", ""),
        ("POST /", FORM, "Action=DescribeInstances&x=%f"),
        // The target.
        ("POST /", "X-Amz-Target: DynamoDB_20120810.GetItem", ""),
        (
            "POST /",
            "X-Amz-Target: a.GetItem\nX-Amz-Target: a.DeleteItem",
            "",
        ),
        ("POST /", "X_Amz_Target: a.GetItem", ""),
        ("POST /", "X-Amz-Target: GetItem", ""),
        ("POST /", "X-Amz-Target: a.", ""),
        ("POST /path", "X-Amz-Target: a.GetItem", ""),
        // An operation at a path.
        ("GET /path?Action=TerminateInstances", "", ""),
        ("POST /service/a/operation/Get?Action=TerminateInstances", "", ""),
        // Signatures.
        (
            "GET /?Action=DescribeInstances",
            &format!("{signed}\n{signed}"),
            "",
        ),
        (&format!("GET /?Action=DescribeInstances&{presigned}"), signed, ""),
        (
            &format!("GET /?Action=DescribeInstances&{presigned}&{presigned}"),
            "",
            "",
        ),
        ("GET /?Action=DescribeInstances&X-Amz-Signature=0", "", ""),
        (
            &format!("GET /?Action=DescribeInstances&{presigned}&X-Amz-Expires=99999999"),
            "",
            "",
        ),
        (
            &format!("GET /?Action=DescribeInstances&{presigned}&X-Amz-Expires=-1"),
            "",
            "",
        ),
        (
            "POST /",
            FORM,
            "Action=DescribeInstances&AWSAccessKeyId=A&Signature=s",
        ),
        ("POST /", FORM, &format!("Action=DescribeInstances&{presigned}")),
    ] {
        let head = format!("{line} HTTP/1.1\nHost: ec2.eu-west-1.amazonaws.com\n{headers}");
        let read = understood(&head, body);
        assert!(
            read.is_err(),
            "{line} {headers} {body}: {}",
            shown(&read.unwrap())
        );
    }
}

#[test]
fn sub_resources_have_one_reading() {
    for line in [
        "PUT /b/k?acl&tagging",
        "GET /b?policy&acl",
        "PUT /b/k?ACL",
        "PUT /b?Policy",
        "GET /b?acl&acl",
        "DELETE /b/k?versionId=1&versionId=2",
        "DELETE /b/k?tagging&uploadId=1",
        "GET /b/k?%61cl&tagging",
        "GET /b/k?x=%",
    ] {
        let head = format!("{line} HTTP/1.1\nHost: s3.eu-west-1.amazonaws.com");
        assert!(understood(&head, "").is_err(), "{line}");
    }
    let head = "GET /b/k HTTP/1.1\nHost: s3.amazonaws.com\nX-Amz-Target: DynamoDB_20120810.DeleteTable";
    assert!(understood(head, "").is_err());
}

#[test]
fn what_is_unsure_is_never_a_read_that_is_complete() {
    for head in [
        "GET / HTTP/1.1\nHost: brandnew.eu-west-1.amazonaws.com",
        "GET /?Action=GetThing HTTP/1.1\nHost: brandnew.eu-west-1.amazonaws.com",
        "GET /b/k?future HTTP/1.1\nHost: s3.amazonaws.com",
        "GET /2099-01-01/x HTTP/1.1\nHost: lambda.eu-west-1.amazonaws.com",
        "GET /x HTTP/1.1\nHost: ec2.eu-west-1.amazonaws.com",
    ] {
        let call = understood(head, "").unwrap();
        assert!(!call.complete(), "{head}: {}", shown(&call));
    }
    // A body that was not read.
    let request = request("POST / HTTP/1.1\nHost: ec2.eu-west-1.amazonaws.com\nContent-Length: 3");
    let claim = claim(&request, None).unwrap().unwrap();
    assert!(needs_body(&claim, &request));
    assert!(!read(&claim, &request, Body::Unread).unwrap().complete());
}

#[test]
fn endpoints_of_ones_own_are_known_by_configuration_or_scope() {
    let custom = Custom::default();
    let claimed = |head: &str, custom: Option<&Custom>| claim(&request(head), custom).unwrap();
    let plain = "GET /b/k HTTP/1.1\nHost: aws.internal";
    assert_eq!(claimed(plain, None), None);
    let scope = |service: &str| {
        format!(
            "{plain}\nAuthorization: AWS4-HMAC-SHA256 Credential=AKIA/20260101/eu-west-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
        )
    };
    let s3 = claimed(&scope("s3"), Some(&custom)).unwrap();
    assert_eq!(
        (s3.service.as_str(), s3.region.as_deref(), s3.plane),
        ("s3", Some("eu-west-1"), Plane::S3)
    );
    assert_eq!(claimed(&scope("ec2"), Some(&custom)).unwrap().plane, Plane::Api);
    assert_eq!(
        claimed(&scope("no/such"), Some(&custom)).unwrap().plane,
        Plane::Unknown
    );
    let nothing = claimed(plain, Some(&custom)).unwrap();
    assert_eq!((nothing.service.as_str(), nothing.plane), ("", Plane::Unknown));
    let fixed = Custom {
        service: Some("s3".into()),
        region: Some("us-east-2".into()),
    };
    let fixed = claimed(&scope("ec2"), Some(&fixed)).unwrap();
    assert_eq!(
        (fixed.service.as_str(), fixed.region.as_deref()),
        ("s3", Some("us-east-2"))
    );
    let target = "POST / HTTP/1.1\nHost: aws.internal\nX-Amz-Target: DynamoDB_20120810.ListTables";
    assert_eq!(claimed(target, Some(&custom)).unwrap().service, "dynamodb");
}
