//! What reports look like, whatever was recorded.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    world::{HOSTILE, day},
    *,
};

async fn sample() -> Evidence {
    let world = day().await;
    world.close();
    report(&world, &options(controls::controls()))
}

#[tokio::test]
async fn html_shows_what_was_recorded_as_text() {
    let page = html(&sample().await).unwrap();
    assert!(!page.contains("<script") && !page.contains(HOSTILE));
    assert!(!page.contains(['\u{202e}', '\u{1b}']));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;?q=&#39;&quot;&amp;x=\\u{202e}\\u{1b}[31m"));
    // On its own: it loads nothing and runs nothing.
    for loader in [
        "src=",
        "@import",
        "url(",
        "<link",
        "<iframe",
        "javascript:",
        "http-equiv=\"refresh",
    ] {
        assert!(!page.contains(loader), "{loader}");
    }
    // Each place that is pointed to is there, once.
    let ids: Vec<&str> = page
        .split(" id=\"")
        .skip(1)
        .map(|p| p.split('"').next().unwrap())
        .collect();
    let unique: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len());
    for target in page
        .split("href=\"#")
        .skip(1)
        .map(|p| p.split('"').next().unwrap())
    {
        assert!(unique.contains(target), "{target}");
    }
    for control in controls::controls() {
        assert!(page.contains(&format!(">{}</a></th>", control.id)));
    }
}

#[tokio::test]
async fn oscal_is_the_same_each_time() {
    let report = sample().await;
    let text = oscal(&report, Plan::None).unwrap();
    let later = Evidence {
        made_at: "2030-01-01T00:00:00.000000000Z".into(),
        ..report.clone()
    };
    assert_eq!(oscal(&later, Plan::None).unwrap(), text);
    let planned = oscal(&report, Plan::At("https://plans.internal/ap.json")).unwrap();
    let [text, planned]: [Value; 2] = [text, planned].map(|t| serde_json::from_str(&t).unwrap());
    let [text, planned] = [&text["assessment-results"], &planned["assessment-results"]];
    assert_ne!(text["uuid"], planned["uuid"]);
    assert_eq!(text["results"], planned["results"]);
    assert_eq!(planned["import-ap"]["href"], "https://plans.internal/ap.json");
    let none = text["import-ap"]["href"]
        .as_str()
        .unwrap()
        .strip_prefix('#')
        .unwrap();
    let resources = text["back-matter"]["resources"].as_array().unwrap();
    assert!(
        resources
            .iter()
            .any(|r| r["uuid"] == none && r["title"] == "No assessment plan")
    );

    // Each id is there once, and each reference leads to one.
    let mut ids = BTreeSet::new();
    let mut references = Vec::new();
    walk(text, &mut |key, value| match (key, value.as_str()) {
        ("uuid", Some(id)) => assert!(ids.insert(id.to_owned()), "{id} is there twice"),
        (key, Some(id)) if key.ends_with("-uuid") => references.push(id.to_owned()),
        ("href", Some(href)) => references.extend(href.strip_prefix('#').map(String::from)),
        _ => {}
    });
    assert!(
        ids.iter()
            .all(|id| uuid::Uuid::parse_str(id).unwrap().get_version_num() == 5)
    );
    assert!(references.len() > 200 && references.iter().all(|r| ids.contains(r)));
    let findings = text["results"][0]["findings"].as_array().unwrap();
    assert_eq!(findings.len(), controls::controls().len());
    assert_eq!(findings[0]["target"]["target-id"], "ac-2_obj");
    assert_eq!(findings[0]["target"]["status"]["state"], "satisfied");
}

fn walk(value: &Value, see: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                see(key, value);
                walk(value, see);
            }
        }
        Value::Array(list) => list.iter().for_each(|v| walk(v, see)),
        _ => {}
    }
}

#[tokio::test]
async fn csv_has_each_value_once() {
    let report = sample().await;
    let text = csv(&report);
    let cells: usize = report
        .controls
        .iter()
        .flat_map(|c| &c.queries)
        .map(|q| {
            if q.samples.is_empty() {
                1
            } else {
                q.samples.len() * q.columns.len()
            }
        })
        .sum();
    assert_eq!(text.matches("\r\n").count(), 1 + 19 + cells);
    assert!(text.contains(&format!(",root,{}\r\n", report.head.root)));
    assert!(text.contains("\"https://api.internal/<script>alert(1)</script>?q='\"\"&x="));
}
