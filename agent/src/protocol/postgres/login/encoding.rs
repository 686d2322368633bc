//! Encodings in which a statement can be read byte by byte.
//!
//! In some, the second byte of a character may be that of an ASCII character: a backslash or a quote to one reader,
//! half a letter to the other (CVE-2006-2313). Text in them is not carried.

/// The encodings that only clients use because of that, and their aliases, as the server compares names.
const UNSAFE: [&str; 16] = [
    "sjis",
    "shiftjis",
    "mskanji",
    "win932",
    "windows932",
    "shiftjis2004",
    "big5",
    "win950",
    "windows950",
    "gbk",
    "win936",
    "windows936",
    "uhc",
    "win949",
    "windows949",
    "gb18030",
];

/// Whether every byte below 128 is that ASCII character, and nothing else, in an encoding of this name.
#[must_use]
pub fn is_ascii_safe(name: &str) -> bool {
    // The server looks at letters and digits only, whatever their case.
    let bare: String = name
        .bytes()
        .filter(u8::is_ascii_alphanumeric)
        .map(|b| char::from(b.to_ascii_lowercase()))
        .collect();
    bare != "johab" && !UNSAFE.contains(&&*bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_the_server_reads_them() {
        for safe in [
            "UTF8",
            "utf-8",
            "LATIN1",
            "SQL_ASCII",
            "EUC_JP",
            "WIN1252",
            "MULE_INTERNAL",
        ] {
            assert!(is_ascii_safe(safe), "{safe}");
        }
        for no in [
            "SJIS",
            "Shift_JIS",
            "shift-jis_2004",
            "Windows-932",
            "BIG5",
            "big 5",
            "GBK",
            "UHC",
            "GB18030",
            "JOHAB",
            "'sjis'",
        ] {
            assert!(!is_ascii_safe(no), "{no}");
        }
    }
}
