//! Signing in from a terminal.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::client::{AskError, Client};
use crate::{
    clock::Clock,
    config::{self, Config},
    console::text::one_line,
    identity::{DevicePoll, SignIn, SignInTerms, Timing},
};

pub(super) async fn login(
    client: &Client,
    roots: Option<&Path>,
    config: Option<&Config>,
) -> Result<(), AskError> {
    let terms: SignInTerms = client.get_openly("/v1/approvals/sign-in").await?;
    let max_age = terms.max_age;
    let issuer = issuer(&terms, roots, config);
    let secret = config.and_then(|c| c.approvals.client_secret_file.clone());
    let sign_in = SignIn::new(&issuer, terms, secret, Timing::default())
        .map_err(|e| AskError::Failed(e.to_string()))?;
    let mut code = sign_in.device().await?;
    eprintln!("Open   {}", code.verification_uri);
    eprintln!("Enter  {}", code.user_code);
    if let Some(whole) = &code.verification_uri_complete {
        eprintln!("or open {whole}");
    }
    eprintln!("Waiting for you to finish there ...");
    let until = Instant::now() + Duration::from_secs(code.expires_in.min(3600));
    let token = loop {
        tokio::time::sleep(code.pause()).await;
        if Instant::now() >= until {
            return Err(AskError::Failed(
                "the code was not used in time; try again".into(),
            ));
        }
        match sign_in.poll(&code).await? {
            DevicePoll::Pending => {}
            DevicePoll::SlowDown => code.slow_down(),
            DevicePoll::Done(token) => break token,
        }
    };
    // What the daemon would refuse is better refused now.
    let now = Clock::System.now_seconds();
    let approver = sign_in.verify(&token, now, "cli", None).await?;
    let age = i64::try_from(max_age).unwrap_or(i64::MAX);
    let ends_at = approver
        .expires_at
        .min(approver.authenticated_at.saturating_add(age));
    client.store.save(&token, ends_at)?;
    eprintln!(
        "You are {} ({}), in {}. The sign-in counts for {}.",
        one_line(&approver.name),
        one_line(&approver.subject),
        if approver.groups.is_empty() {
            "no group".into()
        } else {
            one_line(&approver.groups.join(", "))
        },
        humantime::format_duration(Duration::from_secs(
            u64::try_from(ends_at.saturating_sub(now)).unwrap_or(0)
        ))
    );
    Ok(())
}

pub(super) fn logout(client: &Client) -> Result<(), AskError> {
    if client.store.remove()? {
        eprintln!("You are signed out here.");
    } else {
        eprintln!("You were not signed in.");
    }
    Ok(())
}

/// The issuer as this host's configuration has it, or as the page says.
fn issuer(terms: &SignInTerms, roots: Option<&Path>, config: Option<&Config>) -> config::Issuer {
    let configured = config.and_then(|config| {
        let name = config.approvals.issuer.as_ref()?;
        config
            .issuer
            .iter()
            .find(|i| i.name == *name && i.url == terms.issuer)
    });
    if let Some(issuer) = configured {
        return issuer.clone();
    }
    config::Issuer {
        name: "approvers".into(),
        url: terms.issuer.clone(),
        audience: terms.client_id.clone(),
        groups_claim: "groups".into(),
        ca_file: roots.map(Path::to_path_buf),
        algorithms: ["RS256", "PS256", "ES256", "ES384", "EdDSA"]
            .map(String::from)
            .into(),
        required_claims: std::collections::BTreeMap::new(),
        skew: Duration::from_secs(30),
    }
}
