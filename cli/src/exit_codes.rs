//! The exit codes: one table, which `nixply --help`, the man pages and docs/reference/cli.md show.

use std::fmt::Write;

/// Success, help and version included.
pub(crate) const FINE: u8 = 0;
/// An error that the user can fix.
pub(crate) const USERS: u8 = 1;
/// Wrong arguments, or an error of the machine.
pub(crate) const MACHINES: u8 = 2;
/// A signal has ended the program.
pub(crate) const INTERRUPTED: u8 = 130;
/// The reader of the output has gone. Shells give this code to a program that SIGPIPE has ended.
pub(crate) const UNREAD: u8 = 141;

/// What each means.
pub(crate) const MEANINGS: [(u8, &str); 5] = [
    (FINE, "success"),
    (
        USERS,
        "an error that the user can fix, as in a request, a closure or a project; a store path that is missing or damaged",
    ),
    (
        MACHINES,
        "wrong arguments, or an error of the machine: output that cannot be written, a full disk, a limit that is reached",
    ),
    (INTERRUPTED, "interrupted by a signal (of SIGTERM, nixply container makes 143)"),
    (UNREAD, "the reader of the output has gone, as head has when it has seen enough; there is no message"),
];

/// The codes of others.
pub(crate) const PASSED_ON: &str = "nixply container run and copy, and nixply skopeo, exit with the code of the program that \
                                    they run. Under the name nix2container, every error is a 1, as nix2container has it.";

/// The table for `--help`.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit codes:\n");
    for (code, meaning) in MEANINGS {
        let _ = writeln!(text, "  {code:<4} {meaning}");
    }
    text + "\n" + PASSED_ON
}

/// The table for Markdown.
pub(crate) fn markdown() -> String {
    let mut text = String::from("| Exit code | |\n|---|---|\n");
    for (code, meaning) in MEANINGS {
        let _ = writeln!(text, "| {code} | {meaning} |");
    }
    text + "\n" + PASSED_ON
}

/// The section for man pages.
pub(crate) fn roff() -> String {
    let mut text = String::from(".SH \"EXIT STATUS\"\n");
    for (code, meaning) in MEANINGS {
        let _ = writeln!(text, ".TP\n\\fB{code}\\fR\n{meaning}");
    }
    text + ".PP\n" + PASSED_ON + "\n"
}
