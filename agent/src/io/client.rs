//! How an OAuth 2.0 client shows who it is to a token endpoint.

use zeroize::Zeroizing;

use super::{
    assertion::{self, NoKey},
    form::{Form, basic},
};

/// What it shows it by.
pub enum Key<'a> {
    /// `client_secret_basic`, or `client_secret_post` where the endpoint wants only that.
    Secret {
        /// The secret.
        secret: &'a str,
        /// The methods that the endpoint says it knows.
        methods: Option<&'a [String]>,
    },
    /// `private_key_jwt`.
    Private {
        /// The key.
        pem: &'a str,
        /// Its `kid`.
        id: Option<&'a str>,
        /// The algorithms that the endpoint says it knows.
        accepted: Option<&'a [String]>,
    },
}

/// Adds who we are to the form, or gives the `Authorization` header's value.
///
/// # Errors
/// When the private key cannot sign.
pub fn authenticate(
    form: &mut Form,
    client: &str,
    key: &Key<'_>,
    endpoint: &str,
    now: i64,
) -> Result<Option<Zeroizing<String>>, NoKey> {
    match key {
        Key::Secret { secret, methods } => {
            let has = |method| methods.is_some_and(|all| all.iter().any(|one| one == method));
            if methods.is_none() || has("client_secret_basic") || !has("client_secret_post") {
                return Ok(Some(basic(client, secret)));
            }
            form.add("client_id", client);
            form.add("client_secret", secret);
        }
        Key::Private { pem, id, accepted } => {
            let signed = assertion::sign(pem, *id, client, endpoint, *accepted, now)?;
            form.add("client_id", client);
            form.add("client_assertion_type", assertion::TYPE);
            form.add("client_assertion", &signed);
        }
    }
    Ok(None)
}
