//! The class of access of an operation: `context.access` and `context.complete`.

use crate::model::{Access, Operation, Value};

/// The class of access, and whether the codec is sure that it understood everything.
///
/// HTTP goes by method (RFC 9110 section 9.2.1, RFC 5789). The bias is upwards: an unknown method is `admin`, and
/// whatever is not complete is at least a write. A protocol other than HTTP says it itself, in its record's members
/// `access` and `complete`; one that says nothing is `admin` and not complete.
#[must_use]
pub fn access(operation: &Operation) -> (Access, bool) {
    let record = match &operation.context.1 {
        Value::Record(record) => Some(record),
        _ => None,
    };
    let member = |name| record.and_then(|r| r.get(name));
    let said = match member("complete") {
        Some(Value::Bool(complete)) => Some(*complete),
        _ => None,
    };
    let (access, complete) = if operation.action == "http:request" {
        let access = match member("method") {
            Some(Value::String(method)) => of_method(method),
            _ => Access::Admin,
        };
        (access, said.unwrap_or(true))
    } else {
        let access = match member("access") {
            Some(Value::String(word)) if &**word == "read" => Access::Read,
            Some(Value::String(word)) if &**word == "write" => Access::Write,
            _ => Access::Admin,
        };
        (access, said.unwrap_or(false))
    };
    if complete {
        (access, true)
    } else {
        (access.max(Access::Write), false)
    }
}

/// Methods are case-sensitive (RFC 9110 section 9.1), so that `get` is an unknown one.
fn of_method(method: &str) -> Access {
    match method {
        "GET" | "HEAD" | "OPTIONS" => Access::Read,
        "POST" | "PUT" | "PATCH" => Access::Write,
        _ => Access::Admin,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixture, *};

    #[test]
    fn http_goes_by_method() {
        for (method, expected) in [
            ("GET", Access::Read),
            ("HEAD", Access::Read),
            ("POST", Access::Write),
            ("PATCH", Access::Write),
            ("DELETE", Access::Admin),
            ("get", Access::Admin),
            ("TRACE", Access::Admin),
        ] {
            let operation = fixture::request(method, "api.internal", "/a");
            assert_eq!(access(&operation), (expected, true), "{method}");
        }
    }

    #[test]
    fn incomplete_is_at_least_a_write() {
        let mut operation = fixture::request("GET", "api.internal", "/a");
        let Value::Record(record) = &mut operation.context.1 else {
            panic!("no record");
        };
        record.insert("complete", false.into());
        assert_eq!(access(&operation), (Access::Write, false));
    }

    #[test]
    fn a_protocol_that_says_nothing_is_admin() {
        let operation = fixture::connect("10.0.0.5:5432");
        assert_eq!(access(&operation), (Access::Admin, false));
    }
}
