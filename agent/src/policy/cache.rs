//! Decisions remembered on one connection.
//!
//! A key is the bytes of everything that the decision can depend on, and two keys are compared as a whole, so that a
//! remembered decision is the one that would be made. What no policy can see (see `shape`) is no part of it: where no
//! policy looks at the path, all paths of a host share one decision. Policy set, principal and class table are the
//! same for nearly all operations of a connection; when one of them changes, everything is forgotten.

use std::sync::Arc;

use super::{Approval, PolicySet, Principal, Query, access::access, shape::Shape};
use crate::model::{ClassTable, Decision, Value};

/// Decisions at once.
const ENTRIES: usize = 64;

/// Longer keys are not remembered.
const KEY_BYTES: usize = 2048;

/// Bytes of all keys together: what a workload can make a connection cost. Beyond it everything is forgotten.
const ALL_BYTES: usize = 16 * 1024;

/// The decisions made last on one connection. No locks: it belongs to whoever drives the connection.
#[derive(Default)]
pub struct DecisionCache {
    constant: Option<Constant>,
    /// A hash for each entry, together so that looking through them stays within few cache lines. Equal hashes say
    /// nothing; equal keys do.
    hashes: Vec<u64>,
    entries: Vec<(Box<[u8]>, Arc<Decision>)>,
    /// The entry to be replaced next.
    next: usize,
    /// Bytes of all keys.
    bytes: usize,
    key: Vec<u8>,
}

/// What all entries have in common.
struct Constant {
    generation: u64,
    principal: Principal,
    classes: ClassTable,
}

impl Constant {
    fn holds(&self, set: &PolicySet, query: &Query<'_>) -> bool {
        let (ours, theirs) = (&self.principal, query.principal);
        // Each comparison meets the same allocation first, and looks no further then.
        self.generation == set.generation()
            && self.classes == *query.classes
            && same(&ours.subject, &theirs.subject)
            && same(&ours.issuer, &theirs.issuer)
            && (Arc::ptr_eq(&ours.groups, &theirs.groups) || ours.groups == theirs.groups)
            && ours.workload == theirs.workload
    }
}

fn same(a: &Arc<str>, b: &Arc<str>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

impl DecisionCache {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What [`PolicySet::decide`] says, from memory where it was asked the same before.
    pub fn decide(&mut self, set: &PolicySet, query: &Query<'_>) -> Arc<Decision> {
        if !self.constant.as_ref().is_some_and(|c| c.holds(set, query)) {
            self.forget();
            self.constant = Some(Constant {
                generation: set.generation(),
                principal: query.principal.clone(),
                classes: query.classes.clone(),
            });
        }
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        let fits = write_key(set, query, &mut key);
        let decision = if fits && key.len() <= KEY_BYTES {
            self.look_up(set, query, &key)
        } else {
            Arc::new(set.decide(query))
        };
        key.clear();
        key.shrink_to(KEY_BYTES);
        self.key = key;
        decision
    }

    fn forget(&mut self) {
        self.hashes.clear();
        self.entries.clear();
        (self.next, self.bytes) = (0, 0);
    }

    fn look_up(&mut self, set: &PolicySet, query: &Query<'_>, key: &[u8]) -> Arc<Decision> {
        let hash = hash(key);
        for (at, _) in self.hashes.iter().enumerate().filter(|(_, h)| **h == hash) {
            if let Some((known, decision)) = self.entries.get(at)
                && **known == *key
            {
                return decision.clone();
            }
        }
        let decision = Arc::new(set.decide(query));
        let entry = (key.into(), decision.clone());
        if self.bytes + key.len() > ALL_BYTES {
            self.forget();
        }
        self.bytes += key.len();
        if self.entries.len() < ENTRIES {
            self.hashes.push(hash);
            self.entries.push(entry);
        } else {
            self.hashes[self.next] = hash;
            let old = std::mem::replace(&mut self.entries[self.next], entry);
            self.bytes -= old.0.len();
            self.next = (self.next + 1) % ENTRIES;
        }
        decision
    }
}

/// Eight bytes at a time, multiplied and folded. It only has to be quick: a workload that makes collisions slows down
/// its own connection by some comparisons.
fn hash(key: &[u8]) -> u64 {
    let mut state = key.len() as u64;
    let mut mix = |word: u64| {
        let product = u128::from(state ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        state = (product >> 64) as u64 ^ product as u64;
    };
    let mut words = key.chunks_exact(8);
    for word in &mut words {
        mix(word.try_into().map_or(0, u64::from_le_bytes));
    }
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    mix(u64::from_le_bytes(last));
    state
}

/// Writes the key, each part with its length or kind before it, so that no two inputs give the same bytes. False when
/// a value does not fit the schema: that is an error, and not remembered.
fn write_key(set: &PolicySet, query: &Query<'_>, out: &mut Vec<u8>) -> bool {
    let operation = query.operation;
    let Some(members) = set.contexts.get(operation.action) else {
        return false;
    };
    text(out, operation.action);
    text(out, operation.resource.kind);
    // Entities that no policy names are all alike. Keys have their high bits clear, so that 0xff ends the list.
    let resource = std::iter::once((operation.resource.kind, &operation.resource.id));
    for (kind, id) in resource.chain(operation.resource.parents.iter().map(|(k, id)| (*k, id))) {
        if let Some((key, _)) = set.names.get(kind, id) {
            out.extend_from_slice(&key.bytes());
        }
    }
    out.push(0xff);
    let (class, complete) = access(operation);
    out.extend_from_slice(&[class as u8, u8::from(complete)]);
    for (name, member) in members {
        match &**name {
            "time" => number(out, query.now_ns.div_euclid(1_000_000_000)),
            "process" => {
                number(out, i64::from(query.process.uid));
                let exe = query.process.exe.as_ref();
                optional(out, exe.map(|e| e.as_os_str().as_encoded_bytes()));
            }
            "destination" => destination(out, query),
            "approval" => approval(out, query.approval),
            // Derived from what is in the key already.
            "access" | "complete" | "class" | "operation" => {}
            protocol if protocol == operation.context.0 => {
                out.push(1);
                if !value(out, &operation.context.1, &member.shape) {
                    return false;
                }
            }
            _ => out.push(0),
        }
    }
    true
}

fn destination(out: &mut Vec<u8>, query: &Query<'_>) {
    let destination = &query.operation.destination;
    address(out, destination.address);
    number(out, i64::from(destination.port));
    out.push(u8::from(destination.name_verified));
    optional(out, destination.name.as_ref().map(|n| n.as_bytes()));
}

fn approval(out: &mut Vec<u8>, approval: Option<&Approval>) {
    out.push(u8::from(approval.is_some()));
    if let Some(approval) = approval {
        text(out, &approval.id);
        text(out, &approval.approver);
        text(out, &approval.group);
        number(out, approval.at_ns);
        for words in [&approval.approvers, &approval.groups] {
            length(out, words.len());
            words.iter().for_each(|w| text(out, w));
        }
        text(out, approval.scope.as_str());
    }
}

fn value(out: &mut Vec<u8>, value: &Value, shape: &Shape) -> bool {
    match (shape, value) {
        (Shape::Bool, Value::Bool(v)) => out.push(u8::from(*v)),
        (Shape::Long, Value::Long(v)) | (Shape::Time, Value::Time(v)) => number(out, *v),
        (Shape::String, Value::String(v)) => text(out, v),
        (Shape::Ip, Value::Ip(v)) => address(out, *v),
        (Shape::Set(of), Value::Set(items)) => {
            length(out, items.len());
            return items.iter().all(|i| self::value(out, i, of));
        }
        (Shape::Record(members), Value::Record(record)) => {
            // Both are sorted by name, so that one walk over both finds every member.
            let mut record = record.iter().peekable();
            for (name, member) in members {
                while record.next_if(|(key, _)| ***key < **name).is_some() {}
                match record.next_if(|(key, _)| ***key == **name) {
                    Some((_, value)) => {
                        out.push(1);
                        if !self::value(out, value, &member.shape) {
                            return false;
                        }
                    }
                    None => out.push(0),
                }
            }
        }
        _ => return false,
    }
    true
}

fn address(out: &mut Vec<u8>, address: std::net::IpAddr) {
    match address {
        std::net::IpAddr::V4(v4) => {
            out.push(4);
            out.extend_from_slice(&v4.octets());
        }
        std::net::IpAddr::V6(v6) => {
            out.push(6);
            out.extend_from_slice(&v6.octets());
        }
    }
}

fn length(out: &mut Vec<u8>, length: usize) {
    // No part of an operation comes near four gibibytes; one that did would be too long a key anyway.
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, part: &[u8]) {
    length(out, part.len());
    out.extend_from_slice(part);
}

fn text(out: &mut Vec<u8>, part: &str) {
    bytes(out, part.as_bytes());
}

fn optional(out: &mut Vec<u8>, part: Option<&[u8]>) {
    out.push(u8::from(part.is_some()));
    if let Some(part) = part {
        bytes(out, part);
    }
}

fn number(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(&number.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixture::{NOW, World, request, set, statement},
        *,
    };
    use crate::model::{Effect, Operation};

    fn key(set: &PolicySet, query: &Query<'_>) -> Vec<u8> {
        let mut key = Vec::new();
        assert!(write_key(set, query, &mut key));
        key
    }

    /// A set in which policies see everything.
    const EVERYTHING: &str = "permit(principal, action == Action::\"http:request\", resource)
        when { context.http == context.http && context.process == context.process
            && context.destination == context.destination && context.time == context.time };
        permit(principal, action == Action::\"http:request\", resource)
        when { context has approval && context.approval == context.approval };";

    fn record(operation: &mut Operation) -> &mut std::collections::BTreeMap<&'static str, Value> {
        match &mut operation.context.1 {
            Value::Record(record) => record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_input_that_policies_see_is_in_the_key() {
        let set = set(EVERYTHING);
        let world = World::default();
        let base = request("GET", "api.internal", "/a");
        let mut keys = vec![key(&set, &world.query(&base))];
        let changes: [fn(&mut Operation); 10] = [
            |o| drop(record(o).insert("method", "HEAD".into())),
            |o| drop(record(o).insert("path", "/b".into())),
            |o| drop(record(o).insert("query", "/a".into())),
            |o| drop(record(o).insert("content_type", "/a".into())),
            |o| drop(record(o).insert("complete", false.into())),
            |o| o.destination.port = 444,
            |o| o.destination.address = [0; 16].into(),
            |o| o.destination.name = None,
            |o| o.destination.name_verified = false,
            |o| o.resource.kind = "HttpHost",
        ];
        for change in changes {
            let mut operation = base.clone();
            change(&mut operation);
            keys.push(key(&set, &world.query(&operation)));
        }
        let mut later = world.query(&base);
        later.now_ns += 500_000_000;
        keys.push(key(&set, &later));
        let approval = Approval {
            id: "1".into(),
            approver: "a".into(),
            group: "g".into(),
            at_ns: NOW,
            approvers: ["a".into()].into(),
            groups: ["g".into()].into(),
            scope: super::super::ApprovalScope::Once,
        };
        let mut approved = world.query(&base);
        approved.approval = Some(&approval);
        keys.push(key(&set, &approved));
        for change in [
            |p: &mut crate::model::Process| p.uid = 0,
            |p: &mut crate::model::Process| p.exe = None,
        ] {
            let mut world = World::default();
            change(&mut world.process);
            keys.push(key(&set, &world.query(&base)));
        }
        let all = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all);
        // Within the same second nothing differs.
        let mut same = world.query(&base);
        same.now_ns += 499_999_999;
        assert!(keys.contains(&key(&set, &same)));
    }

    #[test]
    fn parts_cannot_be_shifted_into_each_other() {
        let set = set(EVERYTHING);
        let world = World::default();
        let mut one = request("GET", "api.internal", "/a");
        let mut two = one.clone();
        record(&mut one).extend([("path", "/ab".into()), ("query", "c".into())]);
        record(&mut two).extend([("path", "/a".into()), ("query", "bc".into())]);
        assert_ne!(key(&set, &world.query(&one)), key(&set, &world.query(&two)));
    }

    fn words(words: &[&str]) -> Value {
        Value::Set(words.iter().map(|w| (*w).into()).collect())
    }

    #[test]
    fn every_member_of_a_statement_is_in_the_key() {
        let set = set("permit(principal, action == Action::\"sql:statement\", resource)
            when { context.sql == context.sql };");
        let world = World::default();
        let base = statement();
        let mut keys = vec![key(&set, &world.query(&base))];
        let changes: [fn(&mut Operation); 22] = [
            |o| drop(record(o).insert("copied", words(&["us_ssn"]))),
            |o| drop(record(o).insert("unknown_functions", words(&["app.f"]))),
            |o| drop(record(o).insert("phase", "execute".into())),
            |o| drop(record(o).insert("verbs", words(&["select", "show"]))),
            |o| drop(record(o).insert("reads", words(&["public.orders"]))),
            |o| drop(record(o).insert("reads", words(&[]))),
            |o| drop(record(o).insert("writes", words(&["public.customers"]))),
            |o| drop(record(o).insert("read_schemas", words(&["app"]))),
            |o| drop(record(o).insert("write_schemas", words(&["app"]))),
            |o| drop(record(o).insert("columns", words(&["public.customers.id"]))),
            |o| drop(record(o).insert("sensitive", words(&["email"]))),
            |o| drop(record(o).insert("functions", words(&["pg_catalog.count"]))),
            // The same bytes, cut elsewhere.
            |o| drop(record(o).insert("functions", words(&["pg_catalog.countpg_catalog.lower"]))),
            |o| drop(record(o).insert("has_where", true.into())),
            |o| drop(record(o).insert("has_where", false.into())),
            |o| drop(record(o).insert("database", "svc".into())),
            |o| drop(record(o).insert("role", "app".into())),
            |o| drop(record(o).insert("transaction", "active".into())),
            |o| drop(record(o).insert("statements", 2.into())),
            |o| drop(record(o).insert("incomplete", words(&["dynamic"]))),
            |o| drop(record(o).insert("complete", false.into())),
            |o| drop(record(o).insert("access", "admin".into())),
        ];
        for change in changes {
            let mut operation = base.clone();
            change(&mut operation);
            keys.push(key(&set, &world.query(&operation)));
        }
        let all = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all);
        // A word moved from one set into the next one changes the key, too.
        let (mut one, mut two) = (base.clone(), base.clone());
        record(&mut one).extend([("reads", words(&["a", "b"])), ("read_schemas", words(&["c"]))]);
        record(&mut two).extend([("reads", words(&["a"])), ("read_schemas", words(&["b", "c"]))]);
        assert_ne!(key(&set, &world.query(&one)), key(&set, &world.query(&two)));
        // Members that the schema requires cannot be left out, nor be of another type: nothing is remembered then.
        let mut wrong = base.clone();
        record(&mut wrong).insert("verbs", Value::Set([1.into()].into()));
        assert!(!write_key(&set, &world.query(&wrong), &mut Vec::new()));
    }

    #[test]
    fn statements_that_policies_cannot_tell_apart_share_a_decision() {
        let set = set("permit(principal, action == Action::\"sql:statement\", resource)
            when { context.access == \"read\" && [\"public\"].containsAll(context.sql.read_schemas) };");
        let world = World::default();
        let one = statement();
        let mut two = statement();
        record(&mut two).extend([
            ("reads", words(&["public.orders"])),
            ("columns", words(&["public.orders.id"])),
            ("phase", "execute".into()),
            ("statements", 7.into()),
        ]);
        let mut cache = DecisionCache::new();
        let first = cache.decide(&set, &world.query(&one));
        assert_eq!(first.effect, Effect::Allow);
        assert!(Arc::ptr_eq(&first, &cache.decide(&set, &world.query(&two))));
        record(&mut two).insert("read_schemas", words(&["public", "secret"]));
        assert_eq!(cache.decide(&set, &world.query(&two)).effect, Effect::Deny);
        // Words given twice are another key, with the same decision.
        record(&mut two).insert("read_schemas", words(&["public", "public"]));
        assert_eq!(cache.decide(&set, &world.query(&two)).effect, Effect::Allow);
    }

    #[test]
    fn what_no_policy_sees_is_not_in_the_key() {
        let set = set(
            "permit(principal, action == Action::\"http:request\", resource in HttpHost::\"api.internal\")
            when { context.http.method == \"GET\" };",
        );
        let world = World::default();
        let (a, b) = (
            request("GET", "api.internal", "/a"),
            request("GET", "api.internal", "/b"),
        );
        assert_eq!(key(&set, &world.query(&a)), key(&set, &world.query(&b)));
        let other = request("GET", "other.internal", "/a");
        assert_ne!(key(&set, &world.query(&a)), key(&set, &world.query(&other)));
        let mut cache = DecisionCache::new();
        let (first, second) = (
            cache.decide(&set, &world.query(&a)),
            cache.decide(&set, &world.query(&b)),
        );
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(cache.decide(&set, &world.query(&other)).effect, Effect::Deny);
    }

    #[test]
    fn another_set_principal_or_class_table_forgets() {
        let allow =
            set("permit(principal in Group::\"readers\", action == Action::\"http:request\", resource);");
        let deny = set("");
        let mut world = World::default();
        let operation = request("GET", "api.internal", "/a");
        let mut cache = DecisionCache::new();
        assert_eq!(
            cache.decide(&allow, &world.query(&operation)).effect,
            Effect::Allow
        );
        assert_eq!(cache.decide(&deny, &world.query(&operation)).effect, Effect::Deny);
        let decision = cache.decide(&allow, &world.query(&operation));
        assert_eq!(decision.obligations.mask.iter().count(), 3);
        world.classes = ClassTable::new(["email".into()]).unwrap();
        let decision = cache.decide(&allow, &world.query(&operation));
        assert_eq!(decision.obligations.mask.iter().count(), 1);
        // An equal principal in another allocation forgets nothing; one without the group does.
        world.principal.groups = world.principal.groups.iter().cloned().collect();
        assert!(Arc::ptr_eq(
            &decision,
            &cache.decide(&allow, &world.query(&operation))
        ));
        world.principal.groups = ["others".into()].into();
        assert_eq!(
            cache.decide(&allow, &world.query(&operation)).effect,
            Effect::Deny
        );
    }

    #[test]
    fn memory_is_bounded() {
        let set = set(EVERYTHING);
        let world = World::default();
        let mut cache = DecisionCache::new();
        for n in 0..1000 {
            let operation = request("GET", "api.internal", &format!("/{n}"));
            cache.decide(&set, &world.query(&operation));
        }
        assert_eq!((cache.entries.len(), cache.hashes.len()), (ENTRIES, ENTRIES));
        let bytes = |cache: &DecisionCache| cache.entries.iter().map(|(k, _)| k.len()).sum::<usize>();
        assert_eq!(cache.bytes, bytes(&cache));
        for n in 0..100 {
            let operation = request("GET", "api.internal", &format!("/{n}{}", "x".repeat(1500)));
            cache.decide(&set, &world.query(&operation));
            assert!(cache.bytes == bytes(&cache) && cache.bytes <= ALL_BYTES);
        }
        let long = request("GET", "api.internal", &"x".repeat(100_000));
        let one = cache.decide(&set, &world.query(&long));
        assert!(!Arc::ptr_eq(&one, &cache.decide(&set, &world.query(&long))));
        assert!(cache.key.capacity() <= KEY_BYTES);
    }
}
