//! Labelled messages, coloured like clap's: NO_COLOR, CLICOLOR_FORCE and TERM decide.

use std::fmt::Display;
use std::io;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use nixply_documents::wording;

use super::pass;

/// Prints an error. Line breaks remain: only messages of other programs contain them.
pub(crate) fn error(message: impl Display) {
    let message = message.to_string();
    let lines: Vec<_> = message.lines().map(wording::line).collect();
    labelled(AnsiColor::Red, "error", &lines.join("\n"));
}

/// Prints a warning.
pub(crate) fn warning(message: impl Display) {
    labelled(AnsiColor::Yellow, "warning", &wording::line(&message.to_string()));
}

/// Prints a hint.
pub(crate) fn hint(message: impl Display) {
    labelled(AnsiColor::Cyan, "hint", &wording::line(&message.to_string()));
}

fn labelled(colour: AnsiColor, label: &str, message: &str) {
    let plain = AutoStream::choice(&io::stderr()) == ColorChoice::Never;
    let style = if plain { Style::new() } else { colour.on_default().bold() };
    pass(format!("{style}{label}:{style:#} {message}"));
}
