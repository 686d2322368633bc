//! Logins over in-memory streams, with a made-up server.
