//! Typed values, masked so that they stay valid for their type.
