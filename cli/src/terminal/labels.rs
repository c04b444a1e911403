//! What a message is, in colours where they are wanted: NO_COLOR, CLICOLOR_FORCE and TERM are heeded, as clap does.

use std::fmt::Display;
use std::io;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

use super::say;

/// Says what went wrong.
pub(crate) fn error(message: impl Display) {
    labelled(AnsiColor::Red, "error", message);
}

/// Says what may be wrong.
pub(crate) fn warning(message: impl Display) {
    labelled(AnsiColor::Yellow, "warning", message);
}

/// Says what can be done about it.
pub(crate) fn hint(message: impl Display) {
    labelled(AnsiColor::Cyan, "hint", message);
}

fn labelled(colour: AnsiColor, label: &str, message: impl Display) {
    let plain = AutoStream::choice(&io::stderr()) == ColorChoice::Never;
    let style = if plain { Style::new() } else { colour.on_default().bold() };
    say(format!("{style}{label}:{style:#} {message}"));
}
