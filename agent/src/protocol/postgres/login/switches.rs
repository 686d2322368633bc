//! `options` of a startup message: switches for the server process (PostgreSQL, "postgres", `-c` and `--`).

/// What the switches set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// Names in lower case and values, in order; a later one wins.
    pub settings: Vec<(String, String)>,
    /// Whether there was nothing else in them.
    pub complete: bool,
}

impl Switches {
    /// Reads them as the server does: split at white space, a backslash keeps the next character.
    #[must_use]
    pub fn parse(options: &str) -> Self {
        let mut found = Self {
            settings: Vec::new(),
            complete: true,
        };
        let words = split(options);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let setting = if word == "-c" {
                words.next().map(String::as_str)
            } else {
                word.strip_prefix("--").or_else(|| word.strip_prefix("-c"))
            };
            match setting.and_then(|s| s.split_once('=')) {
                Some((name, value)) if !name.is_empty() => {
                    // A dash in a name counts as an underscore.
                    let name = name.replace('-', "_").to_ascii_lowercase();
                    found.settings.push((name, value.to_owned()));
                }
                _ => found.complete = false,
            }
        }
        found
    }
}

/// The server's `pg_split_opts`.
fn split(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut characters = options.chars().peekable();
    loop {
        while characters.next_if(|c| is_space(*c)).is_some() {}
        if characters.peek().is_none() {
            return words;
        }
        let mut word = String::new();
        while let Some(c) = characters.next_if(|c| !is_space(*c)) {
            match c {
                // One at the very end stands for nothing.
                '\\' => word.extend(characters.next()),
                _ => word.push(c),
            }
        }
        words.push(word);
    }
}

/// `isspace` of the C locale.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches() {
        for (options, settings, complete) in [
            ("", &[][..], true),
            ("-c a=b", &[("a", "b")][..], true),
            (
                " -cA=b  --c-d=e=f\t-c g=",
                &[("a", "b"), ("c_d", "e=f"), ("g", "")],
                true,
            ),
            (r"-c search_path=a\ b\\c", &[("search_path", r"a b\c")], true),
            ("-c a", &[], false),
            ("-c", &[], false),
            ("-e", &[], false),
            ("-ec a=b", &[], false),
            ("-- a=b", &[], false),
            ("-c a=b -d 5", &[("a", "b")], false),
            ("word", &[], false),
            ("-c a=b\\", &[("a", "b")], true),
        ] {
            let found = Switches::parse(options);
            let settings: Vec<_> = settings
                .iter()
                .map(|(n, v)| (n.to_string(), v.to_string()))
                .collect();
            assert_eq!(found, Switches { settings, complete }, "{options:?}");
        }
    }
}
