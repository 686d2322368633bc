//! What policy said of an operation.

use std::{sync::Arc, time::Duration};

use super::{ClassSet, Reason};

/// The three answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It may go, with the obligations.
    Allow,
    /// It waits for a human of the named group.
    Hold,
    /// It may not.
    Deny,
}

impl Effect {
    /// The word in entries and errors.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Hold => "hold",
            Self::Deny => "deny",
        }
    }
}

/// What an allowed operation brings with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Obligations {
    /// Data classes that this principal may not see on this resource.
    pub mask: ClassSet,
}

/// Who must approve so that one policy does not forbid any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The policy.
    pub policy: Arc<str>,
    /// Approvers of any of these groups count.
    pub groups: Arc<[Arc<str>]>,
    /// How many different approvers it takes; at least one.
    pub quorum: u8,
}

/// What it takes to lift a hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HoldTerms {
    /// One for each policy; all of them must be met.
    pub requirements: Vec<Requirement>,
    /// How long the operation is held, where a policy says (`@hold`); the shortest, where several do.
    pub wait: Option<Duration>,
}

/// A decision that explains itself.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The answer.
    pub effect: Effect,
    /// Why, from a closed set.
    pub reason: Reason,
    /// A policy author's own words (`@reason`), first determining policy first.
    pub message: Option<Arc<str>>,
    /// Ids of the policies that determined it.
    pub policies: Arc<[Arc<str>]>,
    /// Controls that those policies carry (`@control`).
    pub controls: Arc<[Arc<str>]>,
    /// The approver groups asked for (`@approval`), for [`Effect::Hold`].
    pub approval: Arc<[Arc<str>]>,
    /// What it takes to lift it, for [`Effect::Hold`].
    pub hold: Option<Arc<HoldTerms>>,
    /// SHA-256 of the policy set, hex.
    pub policy_set: Arc<str>,
    /// What comes with an allow.
    pub obligations: Obligations,
}
