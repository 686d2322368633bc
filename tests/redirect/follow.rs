//! Tags are followed as cgroups come and go.

use portcullis::{
    model::WorkloadName,
    redirect::{Source, Tag, TagEvent, Tags, cgroup, tags},
};
use tokio::sync::mpsc::Receiver;

use crate::guard::{Cgroup, DEADLINE};

fn name(text: &str) -> WorkloadName {
    WorkloadName::new(text).unwrap()
}

/// Follows only what `below` a cgroup of the test matches: `(pattern, workload)`.
fn follow(top: &Cgroup, patterns: &[(&str, &str)]) -> (Vec<Tag>, Receiver<TagEvent>) {
    let mount = cgroup::find_mount().unwrap();
    let below = top.0.strip_prefix(&mount).unwrap().display().to_string();
    let patterns = patterns
        .iter()
        .map(|(pattern, workload)| (name(workload), format!("/{below}/{pattern}")));
    let (present, events) = Tags::start(&mount, patterns.collect()).unwrap();
    let present = present.into_iter().filter(|tag| tag.path.starts_with(&top.0));
    (present.collect(), events)
}

/// The next event of this test's cgroups; other tests have theirs in the same tree.
async fn event(top: &Cgroup, events: &mut Receiver<TagEvent>) -> TagEvent {
    tokio::time::timeout(DEADLINE, async {
        loop {
            let event = events.recv().await.unwrap();
            let (TagEvent::Added(tag) | TagEvent::Removed { tag, .. }) = &event;
            if tag.path.starts_with(&top.0) {
                return event;
            }
        }
    })
    .await
    .expect("no event came")
}

#[tokio::test]
async fn cgroups_are_followed_as_they_come_and_go() {
    let top = Cgroup::new();
    let early = Cgroup::below(&top.0, "deploy-0");
    let (present, mut events) = follow(&top, &[("deploy-*", "deploy"), ("*/inner", "inner")]);
    assert_eq!(present.len(), 1);
    assert_eq!((&present[0].path, present[0].source), (&early.0, Source::Config));

    // A whole branch at once: the inner one may be there before the outer is watched.
    for round in 0..50 {
        let outer = Cgroup::below(&top.0, "deploy-1");
        let inner = Cgroup::below(&outer.0, "inner");
        for (path, workload) in [(&outer.0, "deploy"), (&inner.0, "inner")] {
            let TagEvent::Added(tag) = event(&top, &mut events).await else {
                panic!("round {round}: not added");
            };
            assert_eq!((&tag.path, &tag.workload), (path, &name(workload)));
            assert_eq!(tag.id, cgroup::id(path).unwrap());
        }
        drop((inner, outer));
        for _ in 0..2 {
            let event = event(&top, &mut events).await;
            assert!(matches!(event, TagEvent::Removed { gone: true, .. }), "{event:?}");
        }
    }
    Cgroup::below(&top.0, "other");
}

#[tokio::test]
async fn the_attribute_tags_and_outlives_the_agent() {
    let top = Cgroup::new();
    let cgroup = Cgroup::below(&top.0, "agent-7");
    let (present, mut events) = follow(&top, &[]);
    assert!(present.is_empty());
    tags::set(&cgroup.0, &name("by-hand")).unwrap();
    let TagEvent::Added(tag) = event(&top, &mut events).await else {
        panic!("not added");
    };
    assert_eq!((&tag.workload, tag.source), (&name("by-hand"), Source::Attribute));
    drop(events);

    // The next agent finds it, and over a pattern.
    let (present, mut events) = follow(&top, &[("agent-*", "by-config")]);
    assert_eq!(present, std::slice::from_ref(&tag));
    assert_eq!(tags::get(&cgroup.0).unwrap(), Some(name("by-hand")));
    let mount = portcullis::redirect::cgroup::find_mount().unwrap();
    assert!(tags::list(&mount).contains(&(cgroup.0.clone(), name("by-hand"))));

    // Another workload's, in one step.
    tags::set(&cgroup.0, &name("another")).unwrap();
    let changed = event(&top, &mut events).await;
    assert!(
        matches!(&changed, TagEvent::Added(tag) if tag.workload == name("another")),
        "{changed:?}"
    );
    // Without the attribute the pattern holds; again in one step.
    tags::remove(&cgroup.0).unwrap();
    tags::remove(&cgroup.0).unwrap();
    let changed = event(&top, &mut events).await;
    assert!(
        matches!(&changed, TagEvent::Added(tag) if tag.source == Source::Config),
        "{changed:?}"
    );
}

#[tokio::test]
async fn an_attribute_taken_away_untags() {
    let top = Cgroup::new();
    let (_, mut events) = follow(&top, &[]);
    tags::set(&top.0, &name("w")).unwrap();
    assert!(matches!(event(&top, &mut events).await, TagEvent::Added(_)));
    tags::remove(&top.0).unwrap();
    let event = event(&top, &mut events).await;
    assert!(
        matches!(event, TagEvent::Removed { gone: false, .. }),
        "{event:?}"
    );
}
