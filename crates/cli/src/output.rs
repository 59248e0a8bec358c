//! What commands print: tables for people, JSON for scripts.
//!
//! Standard output may be closed by its reader at any time. [`Out`] turns that into [`OutputClosed`], which the binary
//! takes for a silent end. The type is our own because a broken pipe may also be a connection to a node.

use std::io::{self, BufWriter, ErrorKind, Stdout, Write};
use std::os::fd::AsRawFd;

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

/// The form of a command's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OutputFormat {
    /// Columns for people.
    #[default]
    Table,
    /// JSON for scripts.
    Json,
}

/// The reader of standard output has gone away.
#[derive(Debug, thiserror::Error)]
#[error("standard output was closed")]
pub struct OutputClosed;

/// Standard output, buffered.
#[derive(Debug)]
pub struct Out {
    writer: BufWriter<Stdout>,
}

impl Default for Out {
    fn default() -> Self {
        Self { writer: BufWriter::new(io::stdout()) }
    }
}

impl Out {
    /// Writes a line at once.
    ///
    /// # Errors
    /// [`OutputClosed`], or the output cannot be written; so for every method.
    pub fn line(&mut self, line: &str) -> anyhow::Result<()> {
        self.write(line.as_bytes())?;
        self.write(b"\n")?;
        self.flush()
    }

    /// Writes text at once.
    pub fn text(&mut self, text: &str) -> anyhow::Result<()> {
        self.write(text.as_bytes())?;
        self.flush()
    }

    /// Writes a value as readable JSON, with a line end.
    pub fn json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        self.line(&serde_json::to_string_pretty(value)?)
    }

    /// Writes a table at once.
    pub fn table(&mut self, table: &Table) -> anyhow::Result<()> {
        self.text(&table.to_string())
    }

    /// Puts bytes into the buffer; [`Out::flush`] makes them seen.
    pub fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        checked(self.writer.write_all(bytes))
    }

    /// Writes what is in the buffer.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        checked(self.writer.flush())
    }
}

impl Out {
    /// Notices that the reader has gone away without writing anything, for commands that wait for something to print.
    pub fn check_open(&self) -> anyhow::Result<()> {
        let mut asked = libc::pollfd { fd: self.writer.get_ref().as_raw_fd(), events: 0, revents: 0 };
        // SAFETY: poll writes into the one pollfd, which lives on this stack. It returns at once.
        let answers = unsafe { libc::poll(&raw mut asked, 1, 0) };
        if answers == 1 && asked.revents & libc::POLLERR != 0 {
            return Err(OutputClosed.into());
        }
        Ok(())
    }
}

fn checked(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        other => other.context("cannot write to standard output"),
    }
}

/// On which side of its column a cell stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// Aligned columns under a head. Cells must not contain line ends.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with the given heads; a head that begins with `>` has its column on the right, as numbers want it.
    #[must_use]
    pub fn new(heads: &[&'static str]) -> Self {
        let column = |head: &&'static str| match head.strip_prefix('>') {
            Some(head) => (head, Side::Right),
            None => (*head, Side::Left),
        };
        Self { columns: heads.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row of as many cells as there are columns.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "a cell per column");
        self.rows.push(cells);
    }

    fn widths(&self) -> Vec<usize> {
        let width = |(i, (head, _)): (usize, &(&str, Side))| {
            let cells = self.rows.iter().map(|row| row[i].chars().count());
            cells.chain([head.chars().count()]).max().unwrap_or(0)
        };
        self.columns.iter().enumerate().map(width).collect()
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let widths = self.widths();
        let heads: Vec<String> = self.columns.iter().map(|(head, _)| (*head).to_owned()).collect();
        for row in std::iter::once(&heads).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), (_, side)) in row.iter().zip(&widths).zip(&self.columns) {
                line += &match side {
                    Side::Left => format!("{cell:<width$}  "),
                    Side::Right => format!("{cell:>width$}  "),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A number, or `-` where there is none.
pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Values with commas between them, or `-` when there are none.
pub(crate) fn list<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let text = values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(",");
    if text.is_empty() { "-".to_owned() } else { text }
}

/// `1 record`, `2 records`.
pub(crate) fn count(number: u64, what: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{number} {what}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_have_no_tail() {
        let mut table = Table::new(&["NAME", ">LAG", "STATE"]);
        table.row(vec!["a".into(), "7".into(), "ok".into()]);
        table.row(vec!["größer".into(), "12345".into(), "-".into()]);
        assert_eq!(
            table.to_string(),
            "NAME      LAG  STATE\n\
             a           7  ok\n\
             größer  12345  -\n"
        );
    }

    #[test]
    fn small_words() {
        assert_eq!((count(1, "record"), count(0, "record")), ("1 record".to_owned(), "0 records".to_owned()));
        assert_eq!((list([1, 2]), list([0_u8; 0])), ("1,2".to_owned(), "-".to_owned()));
        assert_eq!((or_dash(Some(3)), or_dash(None::<u8>)), ("3".to_owned(), "-".to_owned()));
    }
}
