//! What kind of operation of AWS it is: whether it reads, writes or administers, destroys, costs money, or shows a secret.
//!
//! By a table of those whose names do not tell, then by their words. What neither knows is a write; nothing is ever
//! guessed down.

use std::{collections::BTreeMap, sync::LazyLock};

use super::Access;

/// What kind of operation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AwsClass {
    /// Read, write or admin.
    pub access: Access,
    /// It deletes or ends something.
    pub destructive: bool,
    /// It costs money beyond the request itself.
    pub spend: bool,
    /// The answer holds a secret, or gives credentials.
    pub secret: bool,
    /// What it does is in a language or program that is not read.
    pub open: bool,
}

impl AwsClass {
    const fn of(access: Access) -> Self {
        Self {
            access,
            destructive: false,
            spend: false,
            secret: false,
            open: false,
        }
    }

    /// What destroys is more than a write, as it is in other protocols.
    pub fn raise(&mut self) {
        if self.destructive {
            self.access = Access::Admin;
        }
    }
}

const TEXT: &str = include_str!("actions.tsv");

/// A pattern with its `*` in the middle or at the end, as what comes before and after it.
type Pattern = (&'static str, &'static str, AwsClass);

type Exact = BTreeMap<&'static str, AwsClass>;
type Patterns = BTreeMap<&'static str, Vec<Pattern>>;

static TABLE: LazyLock<(Exact, Patterns)> = LazyLock::new(|| {
    let (mut exact, mut patterns) = (BTreeMap::new(), BTreeMap::<_, Vec<_>>::new());
    for line in TEXT.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let (name, words) = line.split_once('\t').unwrap_or((line, "admin"));
        let mut class = AwsClass::of(Access::Admin);
        for word in words.split(' ') {
            match word {
                "read" => class.access = Access::Read,
                "write" => class.access = Access::Write,
                "destructive" => class.destructive = true,
                "spend" => class.spend = true,
                "secret" => class.secret = true,
                "open" => class.open = true,
                _ => {}
            }
        }
        class.raise();
        match (name.split_once(':'), name.split_once('*')) {
            (Some((service, action)), Some(_)) => {
                let (before, after) = action.split_once('*').unwrap_or((action, ""));
                patterns.entry(service).or_default().push((before, after, class));
            }
            _ => {
                exact.insert(name, class);
            }
        }
    }
    (exact, patterns)
});

/// The kind of an operation, by IAM's prefix of its service and its name.
#[must_use]
pub fn aws_class(service: &str, operation: &str) -> AwsClass {
    let (exact, patterns) = &*TABLE;
    if let Some(class) = exact.get(format!("{service}:{operation}").as_str()) {
        return *class;
    }
    let words = by_words(operation);
    // The most specific: `ram:*` says something of all of it, `ec2:RequestSpot*` of little.
    let pattern = patterns
        .get(service)
        .into_iter()
        .flatten()
        .filter(|(before, after, _)| {
            operation.len() >= before.len() + after.len()
                && operation.starts_with(before)
                && operation.ends_with(after)
        });
    match pattern.max_by_key(|(before, after, _)| before.len() + after.len()) {
        // A service of administration can be read, and what it deletes is deleted.
        Some(("", "", class)) if words.access == Access::Read && !class.secret && !class.open => words,
        Some(("", "", class)) => AwsClass {
            access: words.access.max(class.access),
            destructive: words.destructive || class.destructive,
            ..*class
        },
        Some((_, _, class)) => *class,
        None => words,
    }
}

fn by_words(name: &str) -> AwsClass {
    const READS: [&str; 7] = [
        "Get",
        "List",
        "Describe",
        "Head",
        "BatchGet",
        "BatchDescribe",
        "Search",
    ];
    const PERMISSIONS: [&str; 10] = [
        "Policy",
        "Policies",
        "Permission",
        "Permissions",
        "Grant",
        "Grants",
        "Acl",
        "Role",
        "Roles",
        "RoleAlias",
    ];
    const ENDS: [&str; 9] = [
        "Delete",
        "Terminate",
        "Purge",
        "Destroy",
        "Drop",
        "Wipe",
        "Deregister",
        "Deprovision",
        "BatchDelete",
    ];
    // `Getaway` is not `Get`.
    let verb = |verbs: &[&str]| {
        verbs.iter().any(|v| {
            name.strip_prefix(v)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_uppercase()))
        })
    };
    if verb(&READS) {
        return AwsClass::of(Access::Read);
    }
    let mut class = AwsClass::of(Access::Write);
    if PERMISSIONS.iter().any(|p| name.ends_with(p))
        || name.contains("PolicyVersion")
        || name.contains("TrustPolicy")
    {
        class.access = Access::Admin;
    }
    class.destructive = verb(&ENDS) || name.contains("Delete") || name.contains("Deletion");
    class.raise();
    class.spend = ["Purchase", "Buy", "Reserved"].iter().any(|w| name.contains(w)) && !class.destructive;
    class
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `r`, `w` or `a`, then `d`estructive, `$` spend, `s`ecret, `o`pen.
    fn shown(action: &str) -> String {
        let (service, operation) = action.split_once(':').unwrap();
        let class = aws_class(service, operation);
        let mut text = String::from(match class.access {
            Access::Read => "r",
            Access::Write => "w",
            Access::Admin => "a",
        });
        for (set, letter) in [
            (class.destructive, 'd'),
            (class.spend, '$'),
            (class.secret, 's'),
            (class.open, 'o'),
        ] {
            text.extend(set.then_some(letter));
        }
        text
    }

    #[test]
    fn operations_are_classified() {
        for (action, expected) in [
            ("ec2:DescribeInstances", "r"),
            ("ec2:RunInstances", "w$"),
            ("ec2:TerminateInstances", "ad"),
            ("ec2:StopInstances", "w"),
            ("ec2:CreateTags", "w"),
            ("ec2:RequestSpotFleet", "w$"),
            ("ec2:PurchaseHostReservation", "w$"),
            ("ec2:GetPasswordData", "as"),
            ("ec2:Getaway", "w"),
            ("ec2:DeleteVpc", "ad"),
            ("ec2:ReleaseAddress", "ad"),
            ("rds:CreateDBInstance", "w$"),
            ("rds:CreateDBInstanceReadReplica", "w$"),
            ("rds:DeleteDBInstance", "ad"),
            ("rds:PurchaseReservedDBInstancesOffering", "w$"),
            ("dynamodb:Query", "r"),
            ("dynamodb:GetItem", "r"),
            ("dynamodb:PutItem", "w"),
            ("dynamodb:DeleteItem", "ad"),
            ("dynamodb:ExecuteStatement", "wo"),
            ("secretsmanager:GetSecretValue", "as"),
            ("secretsmanager:ListSecrets", "r"),
            ("secretsmanager:DeleteSecret", "ad"),
            ("ssm:GetParameter", "as"),
            ("ssm:GetParametersByPath", "as"),
            ("ssm:DescribeParameters", "r"),
            ("ssm:SendCommand", "ao"),
            ("sts:AssumeRole", "as"),
            ("sts:AssumeRoleWithWebIdentity", "as"),
            ("sts:GetCallerIdentity", "r"),
            ("kms:Decrypt", "as"),
            ("kms:ReEncryptFrom", "as"),
            ("kms:ListKeys", "r"),
            ("kms:ScheduleKeyDeletion", "ad"),
            ("ecr:GetAuthorizationToken", "as"),
            ("iam:CreateAccessKey", "as"),
            ("iam:CreateUser", "a"),
            ("iam:PassRole", "a"),
            ("iam:DeleteUser", "ad"),
            ("iam:ListUsers", "r"),
            ("iam:SimulateCustomPolicy", "r"),
            ("organizations:LeaveOrganization", "a"),
            ("organizations:ListAccounts", "r"),
            ("s3:GetObject", "r"),
            ("s3:PutObject", "w"),
            ("s3:DeleteObject", "ad"),
            ("s3:PutBucketPolicy", "a"),
            ("s3:PutObjectAcl", "a"),
            ("s3:DeleteBucketPolicy", "ad"),
            ("s3:PutLifecycleConfiguration", "ad"),
            ("lambda:InvokeFunction", "w"),
            ("lambda:ListFunctions", "r"),
            ("lambda:AddPermission", "a"),
            ("lambda:CreateFunction", "a"),
            ("sqs:ReceiveMessage", "w"),
            ("sqs:PurgeQueue", "ad"),
            ("sqs:DeleteMessage", "w"),
            ("cloudformation:CreateStack", "ao"),
            ("cloudformation:DeleteStack", "ad"),
            ("cloudtrail:StopLogging", "ad"),
            ("aws-marketplace:Subscribe", "a$"),
            ("savingsplans:DescribeSavingsPlans", "r"),
            ("rds-data:ListThings", "wo"),
            ("newservice:FrobnicateThing", "w"),
            ("newservice:GetThing", "r"),
            ("newservice:BatchDeleteThings", "ad"),
            ("newservice:PutThingPolicy", "a"),
            ("newservice:unknown", "w"),
            ("quicksight:GetDashboardEmbedUrl", "as"),
        ] {
            assert_eq!(shown(action), expected, "{action}");
        }
    }

    #[test]
    fn the_table_is_well_formed() {
        for line in TEXT.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
            let (name, words) = line.split_once('\t').unwrap_or_else(|| panic!("{line}"));
            assert!(name.contains(':') && name.matches('*').count() <= 1, "{line}");
            for word in words.split(' ') {
                assert!(
                    ["read", "write", "admin", "destructive", "spend", "secret", "open"].contains(&word),
                    "{line}"
                );
            }
        }
    }
}
