//! What admins write, and what auditors are handed: any text is taken or refused, and nothing ends the program.

use std::path::Path;

use anyhow::{Result, ensure};
use portcullis::{
    config,
    ledger::{canonical, note},
    policy,
};

use super::Target;

pub struct Configuration;

impl Target for Configuration {
    fn name(&self) -> &'static str {
        "config"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        vec![
            b"[host]\ndata_dir = \"/d\"\n[[issuer]]\nname = \"a\"\nurl = \"https://i\"\naudience = \"x\"\nskew = \"30s\"\n\
              [[workload]]\nname = \"w\"\nissuer = \"a\"\ntoken_file = \"/t\"\n[limits]\nhead_bytes = 65536\n"
                .to_vec(),
            b"[mask]\nstrategy = \"partial\"\n[[mask.class]]\nname = \"x\"\npattern = \"EMP-[0-9]{6}\"\n".to_vec(),
        ]
    }

    fn check(&mut self, input: &[u8], _random: u64) -> Result<()> {
        let text = String::from_utf8_lossy(input);
        let _either = config::parse(Path::new("portcullis.toml"), &text);
        Ok(())
    }
}

pub struct Policy;

impl Target for Policy {
    fn name(&self) -> &'static str {
        "policy"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        vec![e2e::site::POLICY.into(), b"@approval(\"oncall\")\nforbid (principal, action in [Action::\"write\"], resource) unless { context has approval };".to_vec()]
    }

    fn check(&mut self, input: &[u8], _random: u64) -> Result<()> {
        let text = String::from_utf8_lossy(input);
        let file = policy::File {
            path: "fuzz.cedar".into(),
            name: "fuzz.cedar".into(),
            text: text.into_owned(),
        };
        let _either = policy::PolicySet::new(&[file]);
        Ok(())
    }
}

/// Entry bodies and checkpoints of an export that somebody made up.
pub struct Evidence;

impl Target for Evidence {
    fn name(&self) -> &'static str {
        "evidence"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        vec![
            br#"{"action":"http:request","at":"2026-01-02T03:04:05.000000006Z","id":"x","kind":"operation","n":12,"v":1}"#.to_vec(),
            "portcullis/host\n12\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n\u{2014} portcullis/host AAAAAAAA\n".into(),
        ]
    }

    fn check(&mut self, input: &[u8], _random: u64) -> Result<()> {
        let text = String::from_utf8_lossy(input);
        if canonical::check(&text).is_ok() {
            let value = serde_json::from_str::<serde_json::Value>(&text)?;
            ensure!(
                canonical::to_string(&value) == text,
                "canonical, and written otherwise: {value}"
            );
        }
        let _either = note::VerifierKey::parse(&text);
        Ok(())
    }
}
