//! The rules: what `[mask]` says, compiled once and shared by all bodies.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use aws_lc_rs::hmac;
use regex_automata::{meta, util::syntax};

use super::{
    Counts, Format, Masker,
    classes::{Builtin, CREDENTIAL_HEADERS, FIELDS},
    coding::Coding,
    columns::Columns,
    detect::{Active, Literals},
    names::Names,
    out::Out,
    segment::Core,
    strategy::Value,
};
use crate::{
    config::{self, Strategy},
    model::{ClassId, ClassSet, ClassTable, Reason},
};

/// The longest match of an operator's pattern, in bytes.
const PATTERN_MAX: usize = 256;
/// The most characters that `partial` keeps.
const KEEP_MAX: usize = 16;

/// Why `[mask]` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MaskError {
    /// A class that does not exist.
    #[error("[mask] {key}: there is no data class '{class}'")]
    UnknownClass {
        /// Where it is named.
        key: &'static str,
        /// The name.
        class: String,
    },
    /// A name that a class cannot have.
    #[error("[mask]: '{class}' is no name for a data class: lower-case letters, digits and '_', at most 64")]
    ClassName {
        /// The name.
        class: String,
    },
    /// More classes than there can be.
    #[error("[mask]: more than {} data classes", ClassTable::MAX)]
    TooManyClasses,
    /// A pattern that is no regular expression.
    #[error("[[mask.class]] '{class}': {message}")]
    Pattern {
        /// The class.
        class: String,
        /// What is wrong.
        message: String,
    },
    /// A pattern that can match the empty string, or more than 256 bytes.
    #[error(
        "[[mask.class]] '{class}': the pattern must match at least 1 and at most {PATTERN_MAX} bytes: write {{1,64}} for + and *"
    )]
    PatternLength {
        /// The class.
        class: String,
    },
    /// A pattern bound to the start or the end of the text, which a stream does not have.
    #[error("[[mask.class]] '{class}': the pattern must not use ^, $, \\A or \\z")]
    PatternAnchor {
        /// The class.
        class: String,
    },
    /// A path of a JSON field that cannot be one.
    #[error(
        "[[mask.field]] '{class}': '{path}' is no key or path: at most 8 parts, not '*' alone, no empty part"
    )]
    Path {
        /// The class.
        class: String,
        /// The path.
        path: String,
    },
    /// A database column that cannot be one.
    #[error(
        "[[mask.field]] '{class}': '{column}' is no column: write column, table.column or schema.table.column, with '*' for a whole part but not for all of them"
    )]
    Column {
        /// The class.
        class: String,
        /// The column.
        column: String,
    },
    /// `keep_last` is too large.
    #[error("[mask] keep_last is at most {KEEP_MAX}")]
    KeepLast,
    /// The searcher for literals could not be built.
    #[error("[mask]: {0}")]
    Searcher(#[from] aho_corasick::BuildError),
}

impl MaskError {
    /// The reason, from the closed set: without masking rules nothing can be decided.
    #[must_use]
    pub fn reason(&self) -> Reason {
        Reason::PolicyError
    }
}

/// An operator's pattern.
#[derive(Debug)]
pub(super) struct Custom {
    pub(super) class: ClassId,
    pub(super) pattern: meta::Regex,
}

/// Compiled masking rules; immutable, shared by all bodies.
#[derive(Debug)]
pub struct MaskRules {
    table: ClassTable,
    pub(super) builtin: [Option<ClassId>; Builtin::ALL.len()],
    strategies: Vec<Strategy>,
    pub(super) keep_last: usize,
    pub(super) key: hmac::Key,
    pub(super) json: Names,
    pub(super) form: Names,
    headers: HashMap<Box<str>, ClassId>,
    columns: Columns,
    pub(super) custom: Vec<Custom>,
    pub(super) literals: Literals,
}

impl MaskRules {
    /// Compiles `[mask]`. `key` is the host's secret for [`Strategy::Hash`].
    ///
    /// # Errors
    /// When a class is unknown or misnamed, or a pattern or path cannot be used.
    pub fn new(config: &config::Mask, key: &[u8; 32]) -> Result<Self, MaskError> {
        if config.keep_last > KEEP_MAX {
            return Err(MaskError::KeepLast);
        }
        let names = class_names(config)?;
        let table =
            ClassTable::new(names.iter().map(|n| Arc::from(n.as_str()))).ok_or(MaskError::TooManyClasses)?;
        let mut strategies = vec![config.strategy; table.len()];
        for class in &config.class {
            if let (Some(id), Some(strategy)) = (table.id(&class.name), class.strategy) {
                strategies[usize::from(id.0)] = strategy;
            }
        }
        for (name, strategy) in &config.strategies {
            match table.id(name) {
                Some(id) => strategies[usize::from(id.0)] = *strategy,
                None if is_builtin(name) => {}
                None => return Err(unknown("strategies", name)),
            }
        }
        let mut rules = Self {
            builtin: Builtin::ALL.map(|b| table.id(b.name())),
            table,
            strategies,
            keep_last: config.keep_last,
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            json: Names::default(),
            form: Names::default(),
            headers: HashMap::new(),
            columns: Columns::default(),
            custom: Vec::new(),
            literals: Literals::new()?,
        };
        // The operator's fields first: of two classes of a key the first one counts.
        for field in &config.field {
            rules.add_field(field)?;
        }
        rules.add_builtin_fields();
        for class in &config.class {
            if let Some(id) = rules.table.id(&class.name) {
                let pattern = compile(class)?;
                rules.custom.push(Custom { class: id, pattern });
            }
        }
        Ok(rules)
    }

    fn add_field(&mut self, field: &config::MaskField) -> Result<(), MaskError> {
        let Some(class) = self.table.id(&field.class) else {
            // A built-in class that is switched off.
            return Ok(());
        };
        let wrong = |path: &String| MaskError::Path {
            class: field.class.clone(),
            path: path.clone(),
        };
        for path in &field.json {
            if !self.json.add(path, class) {
                return Err(wrong(path));
            }
        }
        for name in &field.form {
            if name.contains('.') || !self.form.add(name, class) {
                return Err(wrong(name));
            }
        }
        for name in &field.header {
            self.headers.insert(name.to_ascii_lowercase().into(), class);
        }
        for column in &field.column {
            if !self.columns.add(column, class) {
                return Err(MaskError::Column {
                    class: field.class.clone(),
                    column: column.clone(),
                });
            }
        }
        Ok(())
    }

    fn add_builtin_fields(&mut self) {
        for (builtin, names) in FIELDS {
            if let Some(class) = self.builtin[*builtin as usize] {
                for name in *names {
                    self.json.add(name, class);
                    self.form.add(name, class);
                    self.columns.add(name, class);
                }
            }
        }
    }

    /// The classes in force.
    #[must_use]
    pub fn classes(&self) -> &ClassTable {
        &self.table
    }

    /// All classes in force, as a set.
    #[must_use]
    pub fn all(&self) -> ClassSet {
        self.table.iter().map(|(id, _)| id).collect()
    }

    /// The class of a database column by its name: the operator's rules first, then the built-in field names.
    #[must_use]
    pub fn column(&self, schema: &str, relation: &str, column: &str) -> Option<ClassId> {
        self.columns.class(schema, relation, column)
    }

    /// The class of a value at a key, of those in the set, by the rules for JSON keys without a path.
    #[must_use]
    pub fn key(&self, classes: ClassSet, key: &[u8]) -> Option<ClassId> {
        let symbol = self.json.find(key, Coding::Plain, false);
        self.json.class(symbol, &[], classes)
    }

    /// The built-in class `derived`: of values computed from others; `None` when it is switched off.
    #[must_use]
    pub fn derived(&self) -> Option<ClassId> {
        self.builtin[Builtin::Derived as usize]
    }

    /// How values of a class are masked.
    #[must_use]
    pub fn strategy(&self, class: ClassId) -> Strategy {
        self.strategies
            .get(usize::from(class.0))
            .copied()
            .unwrap_or(Strategy::Redact)
    }

    pub(super) fn name(&self, class: ClassId) -> &str {
        // `credential_header` is masked in what is stored even where the operator switched it off.
        self.table
            .name(class)
            .map_or(Builtin::CredentialHeader.name(), |n| n)
    }

    /// Masks a short text such as an error message.
    #[must_use]
    pub fn mask_text<'a>(
        self: &Arc<Self>,
        classes: ClassSet,
        text: &'a str,
        counts: &mut Counts,
    ) -> Cow<'a, str> {
        let mut masker = Masker::new(self.clone(), classes, Format::Text);
        let masked = masker.scan_whole(text.as_bytes());
        counts.merge(masker.counts());
        masked.map_or(Cow::Borrowed(text), |m| Cow::Owned(text_of(m)))
    }

    /// Masks a query string (without the `?`) or a form.
    #[must_use]
    pub fn mask_query<'a>(
        self: &Arc<Self>,
        classes: ClassSet,
        query: &'a str,
        counts: &mut Counts,
    ) -> Cow<'a, str> {
        let mut masker = Masker::new(self.clone(), classes, Format::Form);
        let masked = masker.scan_whole(query.as_bytes());
        counts.merge(masker.counts());
        masked.map_or(Cow::Borrowed(query), |m| Cow::Owned(text_of(m)))
    }

    /// Masks the path of a URL, percent-encoded as it is.
    #[must_use]
    pub fn mask_path<'a>(
        self: &Arc<Self>,
        classes: ClassSet,
        path: &'a str,
        counts: &mut Counts,
    ) -> Cow<'a, str> {
        let mut core = Core::new(self.clone(), Active::new(self, classes));
        let mut out = Out::Lazy {
            input: path.as_bytes(),
            same: 0,
            out: None,
        };
        core.segment(path.as_bytes(), Coding::Percent, true, &mut out);
        counts.merge(&core.counts);
        match out {
            Out::Lazy {
                out: Some(masked), ..
            } => Cow::Owned(text_of(masked)),
            _ => Cow::Borrowed(path),
        }
    }

    /// Masks a header's value, by its name or by what is in it; `None` when it stays as it is. Credential headers
    /// are left to [`Self::record_header`]: without them the exchange would not work.
    #[must_use]
    pub fn mask_header_value(
        self: &Arc<Self>,
        classes: ClassSet,
        name: &str,
        value: &[u8],
        counts: &mut Counts,
    ) -> Option<Vec<u8>> {
        if let Some(class) = self
            .headers
            .get(&*name.to_ascii_lowercase())
            .filter(|c| classes.contains(**c))
        {
            counts.add(*class);
            return Some(self.whole(*class, value));
        }
        if is_credential(name) {
            return None;
        }
        let mut masker = Masker::new(self.clone(), classes, Format::Text);
        let masked = masker.scan_whole(value);
        counts.merge(masker.counts());
        masked
    }

    /// A header's value as it is stored: credentials are masked whatever policy reveals. `None` when it carries
    /// none. The scheme of an `Authorization` (RFC 9110 11.4) stays.
    #[must_use]
    pub fn record_header(&self, name: &str, value: &[u8]) -> Option<Vec<u8>> {
        if !is_credential(name) {
            return None;
        }
        let class = self.builtin[Builtin::CredentialHeader as usize].unwrap_or(ClassId(u8::MAX));
        let mut masked = Vec::new();
        let scheme = name
            .to_ascii_lowercase()
            .ends_with("authorization")
            .then(|| memchr::memchr(b' ', value));
        let scheme = scheme.flatten().filter(|n| {
            value[..*n]
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || *b == b'-')
        });
        let rest = scheme.map_or(0, |n| n + 1);
        masked.extend_from_slice(&value[..rest]);
        masked.extend_from_slice(&self.whole(class, &value[rest..]));
        Some(masked)
    }

    /// Appends what stands in the place of a whole value; nothing under [`Strategy::Null`]. The caller counts it.
    pub fn mask_value(&self, class: ClassId, value: &[u8], out: &mut Vec<u8>) {
        let mut masked = Value::new(self, class);
        masked.feed(self, value);
        masked.write(self, out);
    }

    /// A keyed hash of a value: the same on this host for the same class and value, and nothing to anyone without
    /// the key.
    #[must_use]
    pub fn pseudonym(&self, class: ClassId, value: &[u8]) -> [u8; 16] {
        let mut context = hmac::Context::with_key(&self.key);
        // Another domain than that of [`Strategy::Hash`] for text.
        context.update(b"pseudonym\0");
        context.update(self.name(class).as_bytes());
        context.update(&[0]);
        context.update(value);
        let mut hash = [0; 16];
        for (to, from) in hash.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        hash
    }

    fn whole(&self, class: ClassId, text: &[u8]) -> Vec<u8> {
        let mut masked = Vec::new();
        self.mask_value(class, text, &mut masked);
        masked
    }
}

fn text_of(masked: Vec<u8>) -> String {
    String::from_utf8(masked).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

fn is_credential(name: &str) -> bool {
    CREDENTIAL_HEADERS.iter().any(|h| h.eq_ignore_ascii_case(name))
}

fn is_builtin(name: &str) -> bool {
    Builtin::ALL.iter().any(|b| b.name() == name)
}

fn unknown(key: &'static str, class: &str) -> MaskError {
    MaskError::UnknownClass {
        key,
        class: class.into(),
    }
}

/// The names of all classes in force: built-in ones that are on, then the operator's.
fn class_names(config: &config::Mask) -> Result<Vec<String>, MaskError> {
    for (key, list) in [("disable", &config.disable), ("enable", &config.enable)] {
        if let Some(name) = list.iter().find(|n| !is_builtin(n)) {
            return Err(unknown(key, name));
        }
    }
    let on = |b: &Builtin| {
        let named = |list: &[String]| list.iter().any(|n| n == b.name());
        !named(&config.disable) && (!b.off_by_default() || named(&config.enable))
    };
    let mut names: Vec<String> = Builtin::ALL
        .iter()
        .filter(|b| on(b))
        .map(|b| b.name().into())
        .collect();
    let own = config
        .field
        .iter()
        .map(|f| &f.class)
        .chain(config.class.iter().map(|c| &c.name));
    for name in own {
        let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        // What injected secrets are counted under is no class that policy could reveal.
        let reserved = name == super::INJECTED_SECRET;
        if name.is_empty() || name.len() > 64 || !name.bytes().all(valid) || reserved {
            return Err(MaskError::ClassName { class: name.clone() });
        }
        if !is_builtin(name) && !names.contains(name) {
            names.push(name.clone());
        }
    }
    Ok(names)
}

fn compile(class: &config::MaskClass) -> Result<meta::Regex, MaskError> {
    let wrong = |message: String| MaskError::Pattern {
        class: class.name.clone(),
        message,
    };
    let syntax = syntax::Config::new().unicode(false).utf8(false);
    let parsed = syntax::parse_with(&class.pattern, &syntax).map_err(|e| wrong(e.to_string()))?;
    let properties = parsed.properties();
    if properties.minimum_len().is_none_or(|n| n == 0)
        || properties.maximum_len().is_none_or(|n| n > PATTERN_MAX)
    {
        return Err(MaskError::PatternLength {
            class: class.name.clone(),
        });
    }
    if properties.look_set().contains_anchor() {
        return Err(MaskError::PatternAnchor {
            class: class.name.clone(),
        });
    }
    let config = meta::Config::new()
        .utf8_empty(false)
        .nfa_size_limit(Some(4 << 20))
        .hybrid_cache_capacity(1 << 20);
    meta::Regex::builder()
        .configure(config)
        .syntax(syntax)
        .build_from_hir(&parsed)
        .map_err(|e| wrong(e.to_string()))
}
