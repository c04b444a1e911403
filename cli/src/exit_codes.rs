//! The exit codes, in one table for `nixply --help`, the man pages and docs/reference/cli.md.

use std::fmt::Write;

/// Success, also for help and version.
pub(crate) const SUCCESS: u8 = 0;
/// An error that the user can fix.
pub(crate) const USER_ERROR: u8 = 1;
/// Wrong arguments, or an error of the machine.
pub(crate) const USAGE_OR_SYSTEM_ERROR: u8 = 2;
/// A signal has ended the program.
pub(crate) const INTERRUPTED: u8 = 130;
/// The reader has closed the output. Shells report this code for a program that SIGPIPE has ended.
pub(crate) const BROKEN_PIPE: u8 = 141;

/// Meaning of each code.
pub(crate) const MEANINGS: [(u8, &str); 5] = [
    (SUCCESS, "success"),
    (
        USER_ERROR,
        "an error that the user can fix, for example in a request, a closure or a project; a missing or damaged store path",
    ),
    (
        USAGE_OR_SYSTEM_ERROR,
        "wrong arguments, or an error of the machine: an output that cannot be written, a full disk, a resource limit",
    ),
    (INTERRUPTED, "interrupted by a signal (143 if SIGTERM ends nixply container)"),
    (BROKEN_PIPE, "the reader of the output has closed it, as head does; there is no message"),
];

/// Codes of other programs.
pub(crate) const PASSED_ON: &str = "nixply container run, nixply container copy and nixply skopeo exit with the code of the \
                                    program that they run. Under the name nix2container, every error has code 1, as in \
                                    nix2container itself.";

/// Returns the table for `--help`.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit codes:\n");
    for (code, meaning) in MEANINGS {
        let _ = writeln!(text, "  {code:<4} {meaning}");
    }
    text + "\n" + PASSED_ON
}

/// Returns the table for Markdown.
pub(crate) fn markdown() -> String {
    let mut text = String::from("| Exit code | |\n|---|---|\n");
    for (code, meaning) in MEANINGS {
        let _ = writeln!(text, "| {code} | {meaning} |");
    }
    text + "\n" + PASSED_ON
}

/// Returns the section for man pages.
pub(crate) fn roff() -> String {
    let mut text = String::from(".SH \"EXIT STATUS\"\n");
    for (code, meaning) in MEANINGS {
        let _ = writeln!(text, ".TP\n\\fB{code}\\fR\n{meaning}");
    }
    text + ".PP\n" + PASSED_ON + "\n"
}
