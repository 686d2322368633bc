//! What the session's database says of its relations: looked up through the session, kept for a while.
