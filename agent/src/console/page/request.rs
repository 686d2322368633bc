//! One request: everything there is to know for an answer, and the answer.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use serde::Deserialize;
use uuid::Uuid;

use super::{Form, Frame, Page, SignedIn, done, foreign, render, when::When};
use crate::{
    approval::{Answer, Scope, State as Stands, View},
    console::{refusal::Refusal, session::Session},
};

/// Lengths of a time-boxed grant that are offered, in minutes.
const MINUTES: [u64; 7] = [5, 15, 30, 60, 120, 240, 480];

#[derive(Template)]
#[template(path = "request.html")]
struct RequestPage {
    frame: Frame,
    v: Arc<View>,
    open: bool,
    asked: When,
    expires: When,
    waits_until: Option<When>,
    ended: Option<When>,
    context: String,
    needs: Vec<Need>,
    answers: Vec<Said>,
    shapes: Vec<String>,
    minutes: Vec<(u64, String)>,
    /// Why this approver cannot answer.
    barred: Option<String>,
    reason: String,
    problem: String,
    done: &'static str,
}

struct Need {
    policy: String,
    groups: String,
    quorum: u8,
    have: usize,
    met: bool,
    by: String,
}

struct Said {
    name: String,
    groups: String,
    approve: bool,
    reason: String,
    via: String,
    at: When,
}

pub(super) async fn show(
    State(page): State<Page>,
    SignedIn(session): SignedIn,
    Path(id): Path<Uuid>,
    query: RawQuery,
) -> Response {
    let Some(view) = page.desk.parts().approvals.get(id) else {
        return gone(&page);
    };
    let said = [
        ("approved", "Your yes is on record."),
        ("denied", "Your no is on record."),
    ];
    let said = done(&query, &said);
    render(
        StatusCode::OK,
        &request_page(&page, &session, view, said, "", String::new()),
    )
}

fn gone(page: &Page) -> Response {
    page.message(
        StatusCode::NOT_FOUND,
        "Not here any more",
        "There is no request of this id in this run of the agent. What became of it is in the history.",
        ("/history", "History"),
    )
}

fn request_page(
    page: &Page,
    session: &Session,
    v: Arc<View>,
    done: &'static str,
    reason: &str,
    problem: String,
) -> RequestPage {
    let now = page.now();
    let when = |text: &Option<String>| text.as_deref().map(|text| When::new(text, now));
    let most = page.desk.grant_minutes();
    let mut minutes: Vec<_> = MINUTES.into_iter().filter(|m| *m <= most).collect();
    if minutes.is_empty() && most > 0 {
        minutes.push(most);
    }
    RequestPage {
        frame: page.frame(Some(session), ""),
        open: v.state == Stands::Open,
        asked: When::new(&v.asked_at, now),
        expires: When::new(&v.expires_at, now),
        waits_until: when(&v.waits_until),
        ended: when(&v.ended_at),
        context: serde_json::to_string_pretty(&v.context).unwrap_or_default(),
        needs: v.requirements.iter().map(need).collect(),
        answers: v.answers.iter().map(|a| said(a, now)).collect(),
        shapes: if most > 0 { v.shapes.clone() } else { Vec::new() },
        minutes: minutes.into_iter().map(|m| (m, length(m))).collect(),
        barred: barred(session, &v),
        reason: reason.into(),
        problem,
        done,
        v,
    }
}

fn length(minutes: u64) -> String {
    if minutes.is_multiple_of(60) {
        format!("{} h", minutes / 60)
    } else {
        format!("{minutes} min")
    }
}

fn need(r: &crate::approval::RequirementView) -> Need {
    Need {
        policy: r.policy.clone(),
        groups: r.groups.join(" or "),
        quorum: r.quorum,
        have: r.approved_by.len(),
        met: r.approved_by.len() >= usize::from(r.quorum),
        by: r.approved_by.join(", "),
    }
}

fn said(a: &crate::approval::AnswerView, now: i64) -> Said {
    Said {
        name: a.name.clone(),
        groups: a.groups.join(", "),
        approve: a.approve,
        reason: a.reason.clone(),
        via: a.via.clone(),
        at: When::new(&a.at, now),
    }
}

/// What can be said before they try; the answer itself is checked again where it counts.
fn barred(session: &Session, v: &View) -> Option<String> {
    let approver = &session.approver;
    let asked: Vec<&str> = v
        .requirements
        .iter()
        .flat_map(|r| r.groups.iter().map(String::as_str))
        .collect();
    if !approver.groups.iter().any(|group| asked.contains(&&**group)) {
        return Some(format!(
            "It takes somebody of {}. You are in none of these.",
            asked.join(", ")
        ));
    }
    let own = *approver.subject == *v.subject || v.on_behalf_of.as_deref() == Some(&approver.subject);
    if own {
        return Some("It is asked in your name, and nobody answers their own request.".into());
    }
    if v.answers.iter().any(|a| *a.approver == *approver.subject) {
        return Some("You have answered. It takes somebody else, too.".into());
    }
    None
}

#[derive(Deserialize)]
pub(super) struct AnswerForm {
    csrf: String,
    verdict: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    count: usize,
    #[serde(default)]
    minutes: Option<u32>,
}

impl AnswerForm {
    fn read(&self) -> Result<Answer, Refusal> {
        let wrong = |what: &str| Refusal::Malformed(format!("the form's {what} cannot be read"));
        let approve = match self.verdict.as_str() {
            "approve" => true,
            "deny" => false,
            _ => return Err(wrong("verdict")),
        };
        let scope = match (approve, self.scope.as_str()) {
            (false, _) | (true, "" | "once") => Scope::Once,
            (true, "waiting") => Scope::Waiting { count: self.count },
            (true, other) => {
                let shape = other.strip_prefix("grant-").and_then(|n| n.parse().ok());
                Scope::Grant {
                    shape: shape.ok_or_else(|| wrong("scope"))?,
                    minutes: self.minutes.ok_or_else(|| wrong("minutes"))?,
                }
            }
        };
        Ok(Answer {
            approve,
            reason: self.reason.clone(),
            scope,
        })
    }
}

pub(super) async fn answer(
    State(page): State<Page>,
    SignedIn(session): SignedIn,
    Path(id): Path<Uuid>,
    Form(form): Form<AnswerForm>,
) -> Response {
    if let Some(refused) = foreign(&page, &session, &form.csrf) {
        return refused;
    }
    let approvals = &page.desk.parts().approvals;
    let answered = match form.read() {
        Ok(answer) => {
            let word = if answer.approve { "approved" } else { "denied" };
            let done = approvals.answer(id, &session.approver, answer).await;
            done.map(|_| word).map_err(Refusal::from)
        }
        Err(refusal) => Err(refusal),
    };
    match answered {
        // See other: loading the page again answers nothing twice.
        Ok(word) => Redirect::to(&format!("/requests/{id}?done={word}")).into_response(),
        Err(refusal) => match approvals.get(id) {
            Some(view) => {
                let problem = format!("Nothing was done: {refusal}");
                let again = request_page(&page, &session, view, "", &form.reason, problem);
                render(refusal.status(), &again)
            }
            None => gone(&page),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::console::{testing, text::is_hidden};

    #[test]
    fn whatever_a_workload_wrote_is_text() {
        let view = testing::view(testing::HOSTILE);
        let now = 1_795_242_600;
        let page = RequestPage {
            frame: Frame {
                who: Some(testing::HOSTILE.into()),
                ..Frame::default()
            },
            open: true,
            asked: When::new(testing::HOSTILE, now),
            expires: When::new(&view.expires_at, now),
            waits_until: None,
            ended: None,
            context: serde_json::to_string_pretty(&view.context).unwrap(),
            needs: view.requirements.iter().map(need).collect(),
            answers: view.answers.iter().map(|a| said(a, now)).collect(),
            shapes: view.shapes.clone(),
            minutes: vec![(5, length(5)), (120, length(120))],
            barred: None,
            reason: testing::HOSTILE.into(),
            problem: testing::HOSTILE.into(),
            done: "",
            v: Arc::new(view),
        };
        let text = page.render().unwrap();
        for bad in ["<script", "<img", "onerror=\"", "\" onload", "</textarea><"] {
            assert!(!text.contains(bad), "{bad} in {text}");
        }
        assert!(!text.contains(is_hidden), "{text}");
        assert!(
            text.matches("&lt;script&gt;").count() > 15 && text.contains("\\u{202e}"),
            "{text}"
        );
        assert!(text.contains("5 min") && text.contains("2 h"));
    }
}
