//! OSCAL: the report as an assessment-results document of NIST's model.
//!
//! The same records, questions and assessment plan give the same document, to the byte: ids are UUIDs of version 5 over
//! what they stand for, and times are those of the records, not of the clock.

mod model;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use model::{
    Actor, AssessmentResult, AssessmentResults, BackMatter, Base64, Component, ControlId, ControlSelection,
    Document, Finding, Implemented, ImportAp, InventoryItem, LocalDefinitions, Metadata, ObjectiveStatus,
    Observation, Origin, Prop, Related, RelevantEvidence, Resource, ReviewedControls, State, Subject, Target,
};
use uuid::Uuid;

use super::{Answer, Assessed, Evidence, Status};
use crate::ledger::tree::sha256;

/// The version of the model that documents follow.
pub const OSCAL_VERSION: &str = "1.1.3";

/// The name space of this program's own properties. It is a name, not an address: nothing is ever found there (RFC 2606).
const NS: &str = "https://portcullis.invalid/ns/oscal";
/// The name space of ids.
const IDS: Uuid = Uuid::from_u128(0x7d0e_5f38_92ab_4c6e_9d41_6a0c_53e1_b87f);

/// The assessment plan that the results belong to.
#[derive(Clone, Copy, Debug)]
pub enum Plan<'a> {
    /// None: the document says so.
    None,
    /// Where it is, a URI reference.
    At(&'a str),
}

/// The report as an OSCAL document, JSON.
///
/// # Errors
/// Never in practice: the model has text keys only.
pub fn oscal(evidence: &Evidence, plan: Plan<'_>) -> Result<String, serde_json::Error> {
    let writer = Writer::new(evidence);
    let mut document = writer.document(plan);
    // A document of other content is another document, by OSCAL's rules.
    let content = serde_json::to_vec(&document)?;
    document.assessment_results.uuid = writer.id("document", &hex::encode(sha256(&[&content])));
    let mut text = serde_json::to_string_pretty(&document)?;
    text.push('\n');
    Ok(text)
}

struct Writer<'a> {
    e: &'a Evidence,
    ids: Uuid,
}

impl<'a> Writer<'a> {
    fn new(e: &'a Evidence) -> Self {
        let of = |text: &Option<String>| text.clone().unwrap_or_default();
        let range = &e.range;
        let what = [
            e.head.origin.clone(),
            e.head.root.clone(),
            of(&range.since),
            of(&range.until),
            of(&range.workload),
        ];
        Self {
            e,
            ids: Uuid::new_v5(&IDS, what.join("\n").as_bytes()),
        }
    }

    fn id(&self, kind: &str, what: &str) -> Uuid {
        Uuid::new_v5(&self.ids, format!("{kind}\n{what}").as_bytes())
    }

    fn host(&self) -> &str {
        let origin = &self.e.head.origin;
        origin.strip_prefix("portcullis/").unwrap_or(origin)
    }

    fn document(&self, plan: Plan<'_>) -> Document {
        let no_plan = self.id("resource", "no assessment plan");
        let mut resources = vec![self.head_resource()];
        let import_ap = match plan {
            Plan::At(href) => ImportAp {
                href: href.into(),
                remarks: None,
            },
            Plan::None => {
                resources.push(Resource {
                    uuid: no_plan,
                    title: "No assessment plan".into(),
                    description: "These results were computed without an OSCAL assessment plan. What was asked is in \
                                  the results themselves: the controls reviewed, and the query of each observation."
                        .into(),
                    base64: None,
                });
                ImportAp {
                    href: format!("#{no_plan}"),
                    remarks: Some(
                        "There is no assessment plan; the resource says what stands in its place.".into(),
                    ),
                }
            }
        };
        for control in &self.e.controls {
            for answer in control.queries.iter().filter(|a| !a.columns.is_empty()) {
                resources.push(self.rows_resource(control, answer));
            }
        }
        Document {
            assessment_results: AssessmentResults {
                uuid: Uuid::nil(),
                metadata: self.metadata(),
                import_ap,
                results: vec![self.result()],
                back_matter: BackMatter { resources },
            },
        }
    }

    fn metadata(&self) -> Metadata {
        Metadata {
            title: format!("Evidence from the records of host {}", line(self.host())),
            last_modified: self.e.as_of.clone(),
            version: line(&format!("{}.{}", self.e.head.entries, &self.e.head.root.get(..16).unwrap_or("0"))),
            oscal_version: OSCAL_VERSION,
            props: vec![own("tool", &self.e.tool)],
            remarks: "Times are those of the records, so that the same records give the same document: last-modified \
                      and collected are the time of the newest record. A satisfied objective means that rows support \
                      the claim and none speaks against it; the remarks of each finding say what an assessor must get \
                      elsewhere."
                .into(),
        }
    }

    fn head_resource(&self) -> Resource {
        let head = &self.e.head;
        Resource {
            uuid: self.id("resource", "tree head"),
            title: "Signed tree head".into(),
            description: format!(
                "The head of the hash tree that the records are in: {} records, root {}. A C2SP signed note; the key \
                 that verifies it is {}.",
                head.entries,
                text(&head.root),
                text(&head.key)
            ),
            base64: (!head.checkpoint.is_empty()).then(|| Base64 {
                filename: "checkpoint.txt".into(),
                media_type: "text/plain",
                value: STANDARD.encode(&head.checkpoint),
            }),
        }
    }

    fn rows_resource(&self, control: &Assessed, answer: &Answer) -> Resource {
        let rows = serde_json::json!({
            "columns": answer.columns, "rows": answer.rows, "more": answer.more, "samples": answer.samples,
        });
        Resource {
            uuid: self.id("rows", &place(control, answer)),
            title: format!("Rows of {}", place(control, answer)),
            description: format!("{} of {} rows, as JSON.", answer.samples.len(), rows_of(answer)),
            base64: Some(Base64 {
                filename: format!("{}-{}.json", control.id, answer.name),
                media_type: "application/json",
                value: STANDARD.encode(rows.to_string()),
            }),
        }
    }

    fn result(&self) -> AssessmentResult {
        let (e, range) = (self.e, &self.e.range);
        let component = self.id("component", "portcullis");
        let host = self.id("inventory-item", self.host());
        let start = range.since.as_ref().or(range.oldest.as_ref()).unwrap_or(&e.as_of);
        let verdict = match &e.verdict.error {
            None => format!(
                "The records fit the signed tree head of {} records.",
                e.head.checkpoint_entries
            ),
            Some(error) => format!("The records did not verify, and were not asked: {}", text(error)),
        };
        let scope = range.workload.as_deref().map_or_else(
            || "all workloads".into(),
            |w| format!("workload {}, and what concerns the whole host", text(w)),
        );
        AssessmentResult {
            uuid: self.id("result", ""),
            title: format!("Records of {}", line(&e.head.origin)),
            description: format!("Computed from {} records of {scope}. {verdict}", range.records),
            start: start.min(&e.as_of).clone(),
            end: e.as_of.clone(),
            props: vec![
                own("tree-root", &e.head.root),
                own("tree-size", &e.head.entries.to_string()),
                own("verified", if e.verdict.verified { "true" } else { "false" }),
                own("key", &e.head.key),
            ],
            local_definitions: LocalDefinitions {
                components: vec![Component {
                    uuid: component,
                    kind: "software",
                    title: "Portcullis",
                    description: "A host agent that decides, masks and records what the processes of AI agents do.",
                    props: vec![own("version", env!("CARGO_PKG_VERSION"))],
                    status: State { state: "operational" },
                }],
                inventory_items: vec![InventoryItem {
                    uuid: host,
                    description: format!("Host {}", text(self.host())),
                    props: vec![own("host", self.host())],
                    implemented_components: vec![Implemented {
                        component_uuid: component,
                    }],
                }],
            },
            reviewed_controls: self.reviewed(),
            observations: self.observations(component, host),
            findings: e.controls.iter().map(|c| self.finding(c)).collect(),
        }
    }

    fn reviewed(&self) -> ReviewedControls {
        let ids = self.e.controls.iter().map(|c| ControlId {
            control_id: control_id(&c.id),
        });
        ReviewedControls {
            control_selections: vec![ControlSelection {
                description: "The controls that questions were put to the records for.",
                include_controls: ids.collect(),
            }],
        }
    }

    fn observations(&self, component: Uuid, host: Uuid) -> Vec<Observation> {
        let head = self.id("resource", "tree head");
        let mut all = Vec::new();
        for control in &self.e.controls {
            for answer in &control.queries {
                let mut evidence = vec![RelevantEvidence {
                    href: format!("#{head}"),
                    description: format!(
                        "The signed head of the tree that the rows were computed under, root {}.",
                        text(&self.e.head.root)
                    ),
                }];
                if !answer.columns.is_empty() {
                    evidence.push(RelevantEvidence {
                        href: format!("#{}", self.id("rows", &place(control, answer))),
                        description: format!("{} of the rows.", answer.samples.len()),
                    });
                }
                all.push(Observation {
                    uuid: self.id("observation", &place(control, answer)),
                    title: line(&answer.question),
                    description: described(control, answer),
                    props: vec![
                        own("query", &place(control, answer)),
                        own("view", &answer.view),
                        own("rows", &answer.rows.to_string()),
                        own(
                            "rows-are",
                            if answer.exception { "exceptions" } else { "support" },
                        ),
                    ],
                    // The rows are computed by running a query, and what they hold was examined, not interviewed.
                    methods: vec!["EXAMINE", "TEST"],
                    types: vec![if answer.exception {
                        "finding"
                    } else {
                        "control-objective"
                    }],
                    origins: vec![Origin {
                        actors: vec![Actor {
                            kind: "tool",
                            actor_uuid: component,
                        }],
                    }],
                    subjects: vec![Subject {
                        subject_uuid: host,
                        kind: "inventory-item",
                    }],
                    relevant_evidence: evidence,
                    collected: self.e.as_of.clone(),
                    remarks: format!("```sql\n{}\n```", answer.sql.replace("```", "` ` `")),
                });
            }
        }
        all
    }

    fn finding(&self, control: &Assessed) -> Finding {
        let (state, reason) = match control.status {
            Status::Supported => ("satisfied", "pass"),
            Status::Exceptions => ("not-satisfied", "fail"),
            Status::NoRows | Status::Failed | Status::Unverified => ("not-satisfied", "other"),
        };
        let related = control.queries.iter().map(|answer| Related {
            observation_uuid: self.id("observation", &place(control, answer)),
        });
        let elsewhere: Vec<String> = control
            .not_shown
            .iter()
            .map(|s| format!("- {}", text(s)))
            .collect();
        Finding {
            uuid: self.id("finding", &control.id),
            title: line(&format!("{} {}", control.id, control.title)),
            description: text(&control.claim),
            target: Target {
                kind: "objective-id",
                target_id: objective(&control_id(&control.id)),
                status: ObjectiveStatus {
                    state,
                    reason,
                    remarks: format!("{}. {}", control.status.headline(), control.status.meaning()),
                },
            },
            related_observations: related.collect(),
            remarks: format!("What this does not show:\n\n{}", elsewhere.join("\n")),
        }
    }
}

fn place(control: &Assessed, answer: &Answer) -> String {
    format!("{}/{}", control.id, answer.name)
}

fn rows_of(answer: &Answer) -> String {
    let more = if answer.more { "more than " } else { "" };
    format!("{more}{}", answer.rows)
}

fn described(control: &Assessed, answer: &Answer) -> String {
    if control.status == Status::Unverified {
        return "The question was not put to the records, because they did not verify.".into();
    }
    match &answer.error {
        Some(error) => format!("The question could not be answered: {}", text(error)),
        None if answer.exception => format!(
            "{} rows, each of which speaks against the claim or needs an explanation.",
            rows_of(answer)
        ),
        None => format!("{} rows.", rows_of(answer)),
    }
}

/// `AC-2(1)` is `ac-2.1` in NIST's catalogue; other ids are made tokens in the same way.
fn control_id(id: &str) -> String {
    id.to_ascii_lowercase().replace('(', ".").replace(')', "")
}

/// The assessment objective of a control in NIST's catalogue.
fn objective(control: &str) -> String {
    format!("{control}_obj")
}

fn own(name: &'static str, value: &str) -> Prop {
    Prop {
        name,
        ns: NS,
        value: line(value),
    }
}

/// One line of text that is not empty, as titles and values have to be.
fn line(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
        .collect();
    if words.is_empty() {
        "none".into()
    } else {
        words.join(" ")
    }
}

/// Text for a place that takes Markdown: nothing of it is markup.
fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.trim().chars() {
        if matches!(
            c,
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '!' | '|' | '~' | '{' | '}'
        ) {
            out.push('\\');
        }
        out.push(c);
    }
    if out.is_empty() { "none".into() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_catalogue() {
        assert_eq!(control_id("AC-2(1)"), "ac-2.1");
        assert_eq!(objective(&control_id("AU-10")), "au-10_obj");
        assert_eq!(line(" a\n\tb\u{85}c "), "a b c");
        assert_eq!(line(""), "none");
        assert_eq!(text("<b>*x*</b>"), "\\<b\\>\\*x\\*\\</b\\>");
    }
}
