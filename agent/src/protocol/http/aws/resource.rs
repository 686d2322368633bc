//! What a call is about, where its body says so.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::Value as Json;

use super::{
    call::{Call, Why},
    params::Params,
};

const TEXT: &str = include_str!("data/resources.tsv");

static MEMBERS: LazyLock<BTreeMap<&'static str, Vec<&'static str>>> = LazyLock::new(|| {
    TEXT.lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|l| l.split_once('\t'))
        .map(|(service, members)| (service, members.split(' ').collect()))
        .collect()
});

/// An object of which no member is given twice: which of them counts would be for the server to know.
struct Members(serde_json::Map<String, Json>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = serde_json::Map::new();
                while let Some((key, value)) = map.next_entry::<String, Json>()? {
                    if members.insert(key, value).is_some() {
                        return Err(serde::de::Error::custom("a member is given twice"));
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// The most of them that are named.
const MOST: usize = 128;

/// Names what a JSON body is about.
pub fn of_json(service: &str, body: &[u8], call: &mut Call) {
    let Ok(Members(body)) = serde_json::from_slice(body) else {
        call.unsure(Why::Body);
        return;
    };
    for member in MEMBERS.get(service).into_iter().flatten() {
        let name = member.trim_end_matches("{}").trim_end_matches("[]");
        match body.get(name) {
            Some(Json::String(text)) => name_it(text, call),
            Some(Json::Object(map)) if member.ends_with("{}") => {
                for key in map.keys() {
                    name_it(key, call);
                }
            }
            Some(Json::Array(items)) if member.ends_with("[]") => {
                for item in items.iter().filter_map(Json::as_str) {
                    name_it(item, call);
                }
            }
            _ => {}
        }
    }
    // Tables of a transaction are inside of its items.
    if service == "dynamodb" && call.name.starts_with("Transact") {
        for item in body
            .get("TransactItems")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
        {
            let tables = item.as_object().into_iter().flat_map(|m| m.values());
            for table in tables.filter_map(|t| t.get("TableName")?.as_str()) {
                name_it(table, call);
            }
        }
    }
}

/// Names what parameters are about.
pub fn of_params(service: &str, params: &Params<'_>, call: &mut Call) {
    let members = MEMBERS.get(service).map_or(&[][..], Vec::as_slice);
    for (name, value) in params.iter() {
        let named = members.iter().any(|m| match m.strip_suffix('*') {
            Some(start) => name
                .strip_prefix(start)
                .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit())),
            None => *m == name,
        });
        if named {
            name_it(value, call);
        }
    }
}

fn name_it(text: &str, call: &mut Call) {
    if call.resources.len() < MOST {
        call.resource(text);
    } else {
        call.unsure(Why::Body);
    }
}

/// A resource's name out of its ARN, URL or path, in one form; the account where it is in there.
pub fn plain(service: &str, text: &str, account: &mut Option<String>) -> String {
    let mut name = text;
    if let Some(arn) = text.strip_prefix("arn:") {
        let mut parts = arn.splitn(5, ':').skip(3);
        let owner = parts.next().unwrap_or("");
        name = parts.next().unwrap_or("");
        set_account(owner, account);
        // What it is stands before its name: `table/orders`, `function:report`. Topics and queues and buckets are alone.
        if !matches!(service, "sns" | "sqs" | "s3") {
            name = name.split_once([':', '/']).map_or(name, |(_, rest)| rest);
        }
    } else if service == "sqs" {
        // A queue's address.
        let path = text.split_once("://").map_or(text, |(_, rest)| {
            rest.split_once('/').map_or("", |(_, path)| path)
        });
        if let Some((owner, queue)) = path.trim_start_matches('/').split_once('/') {
            set_account(owner, account);
            name = queue;
        } else {
            name = path;
        }
    }
    if service == "lambda" {
        return function(name, account);
    }
    if service == "dynamodb" {
        // Indexes and streams belong to their table.
        name = name.split('/').next().unwrap_or(name);
    }
    name.to_owned()
}

/// `report`, of `report:7`, `123456789012:function:report` and `function:report:live`.
fn function(text: &str, account: &mut Option<String>) -> String {
    let mut parts: Vec<&str> = text.split(':').collect();
    if let Some(at) = parts.iter().position(|p| *p == "function") {
        if let Some(owner) = at.checked_sub(1).and_then(|before| parts.get(before)) {
            set_account(owner, account);
        }
        parts.drain(..=at);
    }
    parts.first().map_or_else(String::new, |name| (*name).to_owned())
}

fn set_account(text: &str, account: &mut Option<String>) {
    if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
        account.get_or_insert_with(|| text.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        for (service, text, name, account) in [
            ("lambda", "report", "report", ""),
            ("lambda", "report:7", "report", ""),
            ("lambda", "function:report:live", "report", ""),
            ("lambda", "123456789012:function:report", "report", "123456789012"),
            (
                "lambda",
                "arn:aws:lambda:eu-west-1:123456789012:function:report:7",
                "report",
                "123456789012",
            ),
            (
                "dynamodb",
                "arn:aws:dynamodb:eu-west-1:123456789012:table/orders",
                "orders",
                "123456789012",
            ),
            (
                "dynamodb",
                "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/index/i",
                "orders",
                "123456789012",
            ),
            (
                "sns",
                "arn:aws:sns:eu-west-1:123456789012:news",
                "news",
                "123456789012",
            ),
            (
                "sqs",
                "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs",
                "jobs",
                "123456789012",
            ),
            ("sqs", "/123456789012/jobs", "jobs", "123456789012"),
            ("sqs", "jobs", "jobs", ""),
            ("s3", "arn:aws:s3:::b/k", "b/k", ""),
            (
                "iam",
                "arn:aws:iam::123456789012:role/service/x",
                "service/x",
                "123456789012",
            ),
            ("kms", "alias/x", "alias/x", ""),
        ] {
            let mut found = None;
            assert_eq!(plain(service, text, &mut found), name, "{text}");
            assert_eq!(found.unwrap_or_default(), account, "{text}");
        }
    }
}
