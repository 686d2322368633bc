//! Where each output column of a statement comes from.
