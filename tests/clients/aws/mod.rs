//! The AWS CLI and boto3 through the real redirect, to a moto that takes no signature but one with the real keys.

mod cloud;
mod install;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use cloud::{BUCKET, Cloud};
use e2e::{ledger::Reader, world::World};

/// Runs a test with a cloud of its own.
fn with_cloud(name: &str, test: impl FnOnce(&Cloud<'_>) -> Result<()> + Send) {
    let programs = install::programs().unwrap();
    let result = World::enter(|world| {
        let cloud = Cloud::start(world, name, &programs)?;
        test(&cloud).and_then(|()| cloud.clean()).map_err(|e| {
            let seen = cloud.seen().unwrap_or_default();
            let last: Vec<String> = seen.iter().rev().take(3).map(ToString::to_string).collect();
            let (log, last) = (super::tail(&cloud.site.daemon.log()), last.join("\n"));
            e.context(format!("the daemon's log:\n{log}\nwhat came up last:\n{last}"))
        })
    });
    if let Err(error) = result {
        panic!("{error:?}");
    }
}

fn script(name: &str) -> String {
    install::source().join(name).display().to_string()
}

#[test]
fn boto3() {
    with_cloud("boto3", |cloud| {
        let said = cloud.workload("python", &["-u", &script("with_boto3.py")])?;
        let out = said.clone().ok()?;
        ensure!(out.ends_with("done\n"), "{said:?}");
        // Every way of signing came up, each with the real keys.
        let seen = cloud.seen()?;
        for (what, count) in [("header", 20), ("query", 3)] {
            let found = seen.iter().filter(|e| e["auth"] == what).count();
            ensure!(found >= count, "{found} requests signed in the {what}");
        }
        let actions = Reader::open(&cloud.site.daemon.ledger())?.column(
            "SELECT DISTINCT json_extract(body, '$.context.aws.action') FROM entry \
             WHERE json_extract(body, '$.action') = 'aws:call' ORDER BY 1",
        )?;
        for action in [
            "dynamodb:PutItem",
            "ec2:RunInstances",
            "lambda:ListFunctions",
            "s3:PutObject",
            "sts:GetCallerIdentity",
        ] {
            ensure!(
                actions.iter().any(|a| a == action),
                "no {action} among {actions:?}"
            );
        }
        Ok(())
    });
}

#[test]
fn signed_streams() {
    with_cloud("aws-streams", |cloud| {
        let said = cloud.workload("python", &["-u", &script("with_streams.py")])?;
        ensure!(said.clone().ok()?.ends_with("done\n"), "{said:?}");
        let kinds: Vec<String> = cloud
            .seen()?
            .iter()
            .filter_map(|e| e["payload"].as_str().map(str::to_owned))
            .filter(|p| p.starts_with("STREAMING-"))
            .collect();
        for kind in [
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        ] {
            ensure!(kinds.iter().any(|k| k == kind), "no {kind} among {kinds:?}");
        }
        Ok(())
    });
}

#[test]
fn aws_cli() {
    with_cloud("aws-cli", |cloud| {
        let file = cloud.site.world.path("report.txt");
        std::fs::write(&file, vec![b'x'; 20 << 20])?;
        let (file, to) = (file.display().to_string(), format!("s3://{BUCKET}/report.txt"));
        cloud.aws(&["s3", "cp", "--only-show-errors", &file, &to])?.ok()?;
        let listed = cloud.aws(&["s3", "ls", &format!("s3://{BUCKET}/")])?.ok()?;
        ensure!(listed.contains("20971520 report.txt"), "{listed}");
        let back = cloud.site.world.path("back.txt").display().to_string();
        cloud.aws(&["s3", "cp", "--only-show-errors", &to, &back])?.ok()?;
        ensure!(
            std::fs::read(Path::new(&back))?.len() == 20 << 20,
            "it came back cut"
        );
        let me = cloud.aws(&["sts", "get-caller-identity"])?.ok()?;
        ensure!(me.contains(":user/agent"), "{me}");
        let item = r#"{"id": {"S": "7"}}"#;
        cloud
            .aws(&["dynamodb", "put-item", "--table-name", "orders", "--item", item])?
            .ok()?;
        let count = cloud
            .aws(&["dynamodb", "scan", "--table-name", "orders", "--select", "COUNT"])?
            .ok()?;
        ensure!(count.contains("\"Count\": 1"), "{count}");
        cloud.aws(&["lambda", "list-functions"])?.ok()?;
        let instances = cloud
            .aws(&[
                "ec2",
                "describe-instances",
                "--query",
                "Reservations[].Instances[].[InstanceId,ImageId]",
                "--output",
                "text",
            ])?
            .ok()?;
        let (instance, image) = instances.trim().split_once('\t').context("no instance")?;

        for (words, error) in [
            (&["s3", "rm", &to][..], "AccessDenied"),
            (
                &["s3", "rb", &format!("s3://{BUCKET}"), "--force"],
                "AccessDenied",
            ),
            (
                &["ec2", "terminate-instances", "--instance-ids", instance],
                "UnauthorizedOperation",
            ),
            (
                &["ec2", "run-instances", "--image-id", image],
                "approval_required",
            ),
            (
                &["secretsmanager", "get-secret-value", "--secret-id", "prod-db"],
                "AccessDeniedException",
            ),
            (&["iam", "create-user", "--user-name", "eve"], "approval_required"),
        ] {
            let said = cloud.aws(words)?;
            let text = format!("{}{}", said.out, said.err);
            ensure!(said.code != 0 && text.contains(error), "{words:?}: {said:?}");
        }
        let still = cloud.aws(&["s3", "ls", &format!("s3://{BUCKET}/")])?.ok()?;
        ensure!(still == listed, "{still}");
        Ok(())
    });
}
