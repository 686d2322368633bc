//! What else a statement's names resolve to.
