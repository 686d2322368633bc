//! A transcript as text.

use std::io::{self, Write};

use super::{
    plain,
    transcript::{Copy, Received, Sent, Table, Transcript},
};

/// The most characters of a cell.
const CELL_MAX: usize = 100;

pub(super) fn print(transcript: &Transcript, out: &mut impl Write) -> io::Result<()> {
    for sent in &transcript.sent {
        match sent {
            Sent::Statement { text, prepared_as } => {
                if let Some(name) = prepared_as.as_ref().filter(|n| !n.is_empty()) {
                    writeln!(out, "  > prepare {}:", plain(name))?;
                }
                for line in text.lines() {
                    writeln!(out, "  > {}", plain(line))?;
                }
            }
            Sent::Parameters { statement, values } => {
                if !statement.is_empty() {
                    writeln!(out, "  > execute {}", plain(statement))?;
                }
                for (n, value) in values.iter().enumerate() {
                    writeln!(out, "  > ${} = {}", n + 1, cell(value.as_deref()))?;
                }
            }
            Sent::Copy(copy) => print_copy(copy, '>', out)?,
        }
    }
    for received in &transcript.received {
        match received {
            Received::Table(table) => print_table(table, out)?,
            Received::Copy(copy) => print_copy(copy, '<', out)?,
            Received::Done { tag } => writeln!(out, "  < {}", plain(tag))?,
            Received::Suspended => writeln!(out, "  < more rows are there")?,
            Received::Message { severity, code, text } => {
                writeln!(out, "  < {} {}: {}", plain(severity), plain(code), plain(text))?
            }
        }
    }
    if transcript.cut {
        writeln!(out, "  the record ends here, in the middle")?;
    }
    Ok(())
}

fn print_table(table: &Table, out: &mut impl Write) -> io::Result<()> {
    let mut shown = comfy_table::Table::new();
    shown.load_style(comfy_table::presets::ASCII_MARKDOWN);
    if !table.columns.is_empty() {
        shown.set_header(table.columns.iter().map(|c| cell(Some(&c.name))));
    }
    for row in &table.rows {
        shown.add_row(row.iter().map(|value| cell(value.as_deref())));
    }
    for line in shown.to_string().lines() {
        writeln!(out, "  {line}")?;
    }
    let left = table.total - table.rows.len() as u64;
    if left > 0 {
        writeln!(out, "  ... and {left} more of {} rows (--rows)", table.total)?;
    }
    Ok(())
}

fn print_copy(copy: &Copy, mark: char, out: &mut impl Write) -> io::Result<()> {
    for line in &copy.lines {
        writeln!(out, "  {mark} {}", cell(Some(line)))?;
    }
    writeln!(
        out,
        "  {mark} COPY data: {} messages, {} bytes",
        copy.messages, copy.bytes
    )
}

/// A value on one line, cut where it is long.
fn cell(value: Option<&str>) -> String {
    let Some(value) = value else {
        return "NULL".into();
    };
    let mut text: String = value.chars().take(CELL_MAX).collect();
    if text.len() < value.len() {
        text.push_str("...");
    }
    plain(&text).replace('\t', " ")
}
