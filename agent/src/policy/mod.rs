//! Policy: Cedar, with one schema, validated strictly when it is loaded.
//!
//! - No policy that permits: denied. A policy that fails: denied.
//! - Cedar is linear in policies, so a set is cut at load and a question meets only those policies whose scope can
//!   match (`index`). Cedar sees only those members of the context that policies can see (`shape`).
//! - A set is immutable and replaced as a whole; a wrong one never replaces a good one (`store`).
//! - Whether a data class is masked is the same question, with the action `reveal`.

mod access;
mod aws;
mod cache;
mod classes;
mod context;
mod database;
mod decide;
mod error;
mod example;
mod explain;
#[cfg(test)]
mod fixture;
mod index;
mod names;
mod query;
mod question;
mod rule;
mod schema;
mod set;
mod shadow;
mod shape;
mod source;
mod store;
#[cfg(test)]
mod tests;

pub use access::access;
pub use aws::Call as AwsCall;
pub use cache::DecisionCache;
pub use database::{Login, Statement, of_verbs};
pub use error::{PolicyError, Problem};
pub use example::{Example, ExampleError, Expect, examples};
pub use explain::{Explanation, Policy as ExplainedPolicy, inputs};
pub use names::{Features, Lookup, NameQuery, Recent, kind, written};
pub use query::{Approval, ApprovalScope, Principal, Query};
pub use question::{Answer, Asked, Question, QuestionError};
pub use rule::Rule;
pub use schema::TEXT as SCHEMA;
pub use set::PolicySet;
pub use source::File;
pub use store::{Change, PolicyStore, Status};
