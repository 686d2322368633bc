//! Approvals: what is held for humans, what they said, and what that lets pass.

mod view;

pub use view::{
    Answer, AnswerView, BreakGlassView, FloodView, GrantView, Overview, RequirementView, Scope, State, View,
};
