//! Maskers: the same output wherever the input is cut, JSON stays JSON, nothing is held back without bound.

use std::sync::Arc;

use anyhow::{Result, ensure};
use portcullis::{
    config,
    mask::{Format, HOLD_MAX, MaskRules, Masker},
};

use super::{Target, cut};

pub struct Mask {
    name: &'static str,
    rules: Arc<MaskRules>,
    format: Format,
}

impl Mask {
    pub fn json() -> Result<Self> {
        Self::new("mask-json", Format::Json)
    }

    pub fn form() -> Result<Self> {
        Self::new("mask-form", Format::Form)
    }

    pub fn text() -> Result<Self> {
        Self::new("mask-text", Format::Text)
    }

    fn new(name: &'static str, format: Format) -> Result<Self> {
        let field = config::MaskField {
            class: "secret".into(),
            column: Vec::new(),
            json: vec!["password".into(), "card.*.cvc".into()],
            header: Vec::new(),
            form: vec!["password".into()],
        };
        let config = config::Mask {
            field: vec![field],
            ..config::Mask::default()
        };
        Ok(Self {
            name,
            rules: Arc::new(MaskRules::new(&config, &[7; 32])?),
            format,
        })
    }

    fn mask(&self, pieces: &[&[u8]]) -> Result<Vec<u8>> {
        let mut masker = Masker::new(Arc::clone(&self.rules), self.rules.all(), self.format);
        let mut out = Vec::new();
        for piece in pieces {
            masker.push(piece, &mut out);
            ensure!(masker.held() <= HOLD_MAX, "{} bytes are held back", masker.held());
        }
        masker.finish(&mut out);
        Ok(out)
    }
}

impl Target for Mask {
    fn name(&self) -> &'static str {
        self.name
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        [
            r#"{"customers":[{"id":1,"email":"ada@example.com","ssn":"219-09-9999","password":"x","n":[1.5e3,null,true]}]}"#,
            r#"{"card":[{"cvc":123},{"cvc":"1\"23"}],"text":"call +1 202 555 0143 or ada\u0040example.com \ud83d\ude00"}"#,
            "name=Ada+Lovelace&email=ada%40example.com&password=x%26y&card=4111+1111+1111+1111&empty=&=",
            "postgres://bot:hunter2@db.internal:5432/app GB82 WEST 1234 5698 7654 32, AKIAIOSFODNN7EXAMPLE\n4111-1111-1111-1111",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U ghp_0123456789abcdefghijABCDEFGHIJ012345",
            "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----\ndata: {\"email\":\"a@b.example\"}\n\n",
        ]
        .iter()
        .map(|s| s.as_bytes().to_vec())
        .collect()
    }

    fn check(&mut self, input: &[u8], random: u64) -> Result<()> {
        let whole = self.mask(&[input])?;
        let (one, rest) = cut(input, random);
        let (two, three) = cut(rest, random >> 32);
        let cut = self.mask(&[one, two, three])?;
        ensure!(
            cut == whole,
            "cut at {} and {}: {:?} instead of {:?}",
            one.len(),
            one.len() + two.len(),
            String::from_utf8_lossy(&cut),
            String::from_utf8_lossy(&whole)
        );
        if self.format == Format::Json && serde_json::from_slice::<serde_json::Value>(input).is_ok() {
            ensure!(
                serde_json::from_slice::<serde_json::Value>(&whole).is_ok(),
                "JSON before, and not after: {:?}",
                String::from_utf8_lossy(&whole)
            );
        }
        Ok(())
    }
}
