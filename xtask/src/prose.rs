//! Counts phrasing that the style page (docs/style.md) asks writers to avoid, in comments, documentation and help.

use std::collections::HashSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use regex::{Regex, RegexSet, RegexSetBuilder};
use xtask::host::{self, output, say};

/// A kind of text, with the share of its lines that may have a marker.
struct Kind {
    name: &'static str,
    /// Maximum, in percent.
    limit: f64,
    /// Whether a file belongs to this kind, by its path.
    takes: fn(&str) -> bool,
    /// Returns the prose of a file: line numbers and text without comment signs, code and links.
    lines: fn(&str) -> Vec<(usize, String)>,
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "Rust and C++ comments",
        limit: 1.0,
        takes: |path| has_extension(path, &["rs", "cc", "hh"]),
        lines: slash_comments,
    },
    Kind {
        name: "Nix, shell and Python comments",
        limit: 1.0,
        takes: |path| has_extension(path, &["nix", "sh", "py", "toml", "yml"]),
        lines: hash_comments,
    },
    Kind {
        name: "documentation",
        limit: 1.0,
        takes: |path| has_extension(path, &["md"]) && path != HELP,
        lines: markdown,
    },
    Kind { name: "help of the command line", limit: 1.0, takes: |path| path == HELP, lines: help },
];

/// The generated page with the help of all commands.
const HELP: &str = "docs/reference/cli.md";

/// Paths that are not counted: the style page shows old phrasing, and this file lists it.
const EXEMPT: [&str; 2] = ["docs/style.md", "xtask/src/prose.rs"];

/// Expressions that match old phrasing, ignoring case, and the advice for each. A line is what [`Kind::lines`] returns, so `^` is the
/// first word of the text. In November 2026 they matched 0.2 % of uv's comment lines and 0.3 % of ripgrep's, but 28 % of ours. An
/// expression that matches correct technical English ("determine which of the two ...", "in which") does not belong here.
const MARKERS: [(&str, &str); 50] = [
    // Clauses where a noun should be.
    (r"\b(whoever|whosoever|whatsoever)\b", "name the actor"),
    (r"\b(nobody|somebody)\b", "name the actor, or: no process, no caller"),
    (r"^what (?:[a-z']+ )*(?:[a-z']+s|is|are|was|has|had|have|can|to) [^?]*$", "start with a noun or a verb"),
    (r"^what [^?]*[.:]$", "start with a noun or a verb"),
    (r"[.;:(] what (?:is|are|was|it|a|an|the|they|[a-z]+) [^?]*$", "start with a noun"),
    (r"\b(?:of|with|by|from|than|but|without|beside|like|to) what\b", "use a noun"),
    (r"\bwho (?:looks?|reads?|asks?|waits?|wants?|calls?|takes?|gets?) ", "name the actor"),
    (r"\bwhat (?:others|comes|goes|becomes)\b", "use a noun"),
    (r"^how (?:many|much|far|large|old|often)\b[^?]*$", "Number of, Size of, Time until, Returns ..."),
    (r"^where (?:it|its|they|to [a-z]+) [^?]*$", "Path of, Directory of, Address of ..."),
    (r"\bfor whom\b|\bto whom\b|\bwhose (?:word|sake)\b", "name the actor"),
    // Inverted sentences.
    (r"(?:^|[.;:] )which of\b|\bwhich of (?:it|these|those)\b", "indices of, the ... that"),
    (r"(?:^|[,;:] )(?:of|upon) which\b", "start a new sentence"),
    (r"\bby which\b", "that, or: start a new sentence"),
    (
        r"\b(?:nothing|anything|something|what|much|more) of (?:it|them|that|these|this|those)\b",
        "none of, part of",
    ),
    (
        r"\b(?:that|which|it|what|this|who) (?:is|are|was|were) no(?: [a-km-z]| l[a-np-z]|[.,;:]|$)",
        "is not a",
    ),
    (r"\b(?:it|that|which|this|one|they|what) (?:is|are|was|were) none\b", "there is no ..., is not a ..."),
    (r"\banother [a-z]+ than\b", "a different, differs from"),
    (r"\bis another(?: one)?(?:[.,;:]|$)|\bare others\b", "differs"),
    (r"\bthere, too\b|\bhere, too\b", "also"),
    (r"(?:^|[.;:,] )there (?:it|they|that|this|its|the|nothing)\b", "put the subject first"),
    // Passive forms of saying.
    (
        r"\b(?:is|are|was|were|be|been|being) told\b|\btold (?:of|that|by|apart)\b",
        "is reported, is printed, distinguish",
    ),
    (r"\btells? (?:of|nothing|what|how)\b", "reports, names, shows"),
    (
        r"\b(?:is|are|be|been|was) said\b|\bhas to be said\b",
        "state who says it: the error names, the option sets",
    ),
    (r"\b(?:says?|say) (?:it|so|nothing|which|what|who)\b", "names, sets, states"),
    (r"\btakes? it that\b", "assumes"),
    (r"\b(?:own|others') words?\b", "message, text"),
    // Verbs and prepositions of another century.
    (r"\bupon\b", "on"),
    (r"\banew\b", "again"),
    (r"\bbesides\b", "also, as well"),
    (r"\bbeside\b", "next to, compared with"),
    (r"\bin (?:the )?place of\b|\bin (?:its|their) place\b", "instead of"),
    (r"\btakes? (?:the|its|their) place\b", "replaces"),
    (r"\bahead of (?:the|it|its|a|all|others)\b", "before"),
    (
        r"\b(?:lies|lay|lie)(?:[.,;:]|$)|\b(?:lies|lay|lie) (?:in|at|on|below|under|above|beside|there|here|before|behind|where|elsewhere|outside|near)\b",
        "is in, is at",
    ),
    (
        r"\bstands?(?:[.,;]|$)|\bstands? (?:in|at|there|before|behind|beside|alone|ahead|twice|where)\b",
        "is, is written",
    ),
    (
        r"\bof (?:its|their|his|one's|our|your) own(?:[.,;:)]|$| (?:and|as|at|below|by|for|in|of|on|so|that|to|which|with)\b)",
        "own, separate",
    ),
    (r"\bof others\b|\bothers'|\bothers have\b", "name them: other users', other images'"),
    (r"\bas (?:it|they) (?:is|are|was|were)(?:[.,;:)]|$)", "unchanged"),
    (r"\bas [a-z0-9']+ (?:has|have|takes?) (?:it|them)\b", "like"),
    (
        r"^(?:and )?gives\b|[,;:.] gives\b|\b(?:and|it|that) gives (?:the|its|a|an)\b",
        "Returns, prints, yields",
    ),
    (r"\bso (?:many|much)\b", "at most N, at least N"),
    (r"\b(?:is|are|be|was) had\b|\bto be had\b", "is available"),
    (r"\bbecomes? of\b", "happens to"),
    (r"\bof no use\b|\bof use\b", "unused, useless"),
    (r"\bdoors?\b", "frontend"),
    (r"\bfolders?\b", "directory"),
    (r"\bheed(?:s|ed)?\b|\bfor ever\b|\bby and by\b", "respect, forever"),
    (r"\b(?:is|are|was|were) to (?:be|have|come|go|make|do|get)\b", "must, will"),
    (r"\bwhere (?:there (?:is|are)|it is) (?:none|one|any)\b", "if"),
];

/// A line with a marker.
struct Found {
    path: String,
    line: usize,
    text: String,
    marker: usize,
}

/// Checks every kind against its limit. `list` prints each line with a marker, the files with most of them first.
pub(crate) fn check(list: bool) -> Result<()> {
    let markers = markers()?;
    let root = host::root();
    let files = output(Command::new("git").current_dir(&root).args(["ls-files"]))?;
    let mut over = Vec::new();
    for kind in &KINDS {
        let (mut all, mut found, mut seen) = (0_usize, Vec::new(), HashSet::new());
        for path in files.lines().filter(|path| (kind.takes)(path) && !exempt(path)) {
            // git also lists files that are deleted in the working directory.
            let Ok(bytes) = fs::read(root.join(path)) else { continue };
            let lines = (kind.lines)(&String::from_utf8_lossy(&bytes));
            for (line, text) in
                lines.into_iter().filter(|(_, text)| path != HELP || seen.insert(text.clone()))
            {
                all += 1;
                if let Some(marker) = markers.matches(&text).iter().next() {
                    found.push(Found { path: path.to_owned(), line, text, marker });
                }
            }
        }
        if list {
            print_worst_first(&mut found);
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of lines are small")]
        let share = 100.0 * found.len() as f64 / all.max(1) as f64;
        say(format!(
            "{}: {} of {all} lines have a marker, {share:.1} %, at most {:.1} % allowed",
            kind.name,
            found.len(),
            kind.limit
        ));
        if share > kind.limit {
            over.push(kind.name);
        }
    }
    if !over.is_empty() {
        bail!(
            "too many lines with phrasing that docs/style.md advises against: {}; list them with `cargo xtask lint --prose`",
            over.join(", ")
        );
    }
    Ok(())
}

fn markers() -> Result<RegexSet> {
    let expressions = MARKERS.iter().map(|(expression, _)| *expression);
    RegexSetBuilder::new(expressions)
        .case_insensitive(true)
        .build()
        .context("a marker is not a regular expression")
}

fn print_worst_first(found: &mut [Found]) {
    let counts = found.iter().fold(std::collections::HashMap::<_, usize>::new(), |mut counts, found| {
        *counts.entry(found.path.clone()).or_default() += 1;
        counts
    });
    found.sort_by(|a, b| (counts[&b.path], &a.path, a.line).cmp(&(counts[&a.path], &b.path, b.line)));
    for Found { path, line, text, marker } in found {
        println!("{path}:{line}: {text}  [{}]", MARKERS[*marker].1);
    }
}

fn exempt(path: &str) -> bool {
    EXEMPT.iter().any(|exempt| path.starts_with(exempt))
}

fn has_extension(path: &str, extensions: &[&str]) -> bool {
    path.rsplit_once('.').is_some_and(|(_, extension)| extensions.contains(&extension))
}

/// Returns the text of lines that are `//`, `///` or `//!` comments, without code blocks.
fn slash_comments(text: &str) -> Vec<(usize, String)> {
    comments(text, "//", &['/', '!'])
}

/// Returns the text of lines that are `#` comments, and of Python's docstrings.
fn hash_comments(text: &str) -> Vec<(usize, String)> {
    let mut lines = comments(text, "#", &['#']);
    lines.extend(docstrings(text));
    lines.sort();
    lines
}

/// Returns the text of strings in triple quotes that begin a line. Lines that are indented further than the first line are examples,
/// which it omits.
fn docstrings(text: &str) -> Vec<(usize, String)> {
    const QUOTES: &str = "\"\"\"";
    let mut indent = None;
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let is_within = indent.is_some();
        let own = line.len() - line.trim_start().len();
        let content = match line.trim_start().strip_prefix(QUOTES) {
            Some(rest) if !is_within => {
                indent = Some(own);
                rest
            }
            _ => line,
        };
        let Some(start) = indent else { continue };
        let (content, is_last) = match content.split_once(QUOTES) {
            Some((content, _)) => (content, true),
            None => (content, false),
        };
        let prose = content.trim();
        if (!is_within || own <= start) && is_prose(prose) {
            lines.push((number + 1, plain(prose)));
        }
        if is_last {
            indent = None;
        }
    }
    lines
}

fn comments(text: &str, sign: &str, more: &[char]) -> Vec<(usize, String)> {
    let mut code = false;
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let Some(comment) = line.trim_start().strip_prefix(sign) else {
            code = false;
            continue;
        };
        let comment = comment.trim_start_matches(more).trim();
        if comment.starts_with("```") {
            code = !code;
        } else if !code && !line.starts_with("#!") && is_prose(comment) {
            lines.push((number + 1, plain(comment)));
        }
    }
    lines
}

/// Returns the text of a Markdown page, without code blocks, measured tables and signs of headings, lists and quotes.
fn markdown(text: &str) -> Vec<(usize, String)> {
    let (mut code, mut generated) = (false, false);
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("```") {
            code = !code;
        } else if line.starts_with("<!--") {
            generated = line.contains(": begin");
        } else if !code && !generated && is_prose(line) {
            let line = line.trim_start_matches(['-', '*', '#', '>', '|', '.', ' ']);
            lines.push((
                number + 1,
                plain(line.trim_start_matches(|sign: char| sign.is_ascii_digit() || sign == '.').trim()),
            ));
        }
    }
    lines
}

/// Returns the descriptions in the tables and the list of the page with the commands' help.
fn help(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let row = line.strip_prefix("| ").and_then(|row| row.trim_end_matches([' ', '|']).rsplit_once(" | "));
        let item = line.strip_prefix("- [").and_then(|item| item.split_once("): "));
        if let Some((_, description)) = row.or(item)
            && is_prose(description)
        {
            lines.push((number + 1, plain(description)));
        }
    }
    lines
}

/// Returns whether a line has words. Rows of numbers and rulers have none.
fn is_prose(line: &str) -> bool {
    line.split_whitespace()
        .filter(|word| word.chars().filter(|sign| sign.is_ascii_lowercase()).count() > 1)
        .count()
        > 1
}

/// Returns the text without code spans and addresses.
fn plain(text: &str) -> String {
    let code_and_links =
        Regex::new(r"`[^`]*`|\]\([^)]*\)|https?://\S+").expect("a constant that the tests compile");
    code_and_links.replace_all(text, "`_`").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(text: &str) -> bool {
        markers().unwrap().is_match(text)
    }

    #[test]
    fn docstrings_are_prose_without_their_examples() {
        let script = [
            "#!/usr/bin/python3",
            "\"\"\"Makes a history.",
            "",
            "    make-history.py of one thing",
            "",
            "Whoever reads it decides.",
            "\"\"\"",
            "WORDS = \"\"\"not read here",
            "    nor here\"\"\"",
            "# Some comment.",
            "    \"\"\"Returns the entry.\"\"\"",
            "    return None",
        ];
        let lines = hash_comments(&script.join("\n"));
        let expected = [
            (2, "Makes a history."),
            (6, "Whoever reads it decides."),
            (10, "Some comment."),
            (11, "Returns the entry."),
        ];
        assert_eq!(lines, expected.map(|(number, text)| (number, text.to_owned())));
    }

    #[test]
    fn old_phrasing_has_a_marker() {
        for text in [
            "Tell nothing of how it goes; warnings and errors are told",
            "Whoever wrote the specs decides",
            "At most so many layers for them",
            "What a container runs is said in the same file",
            "Where it lies.",
            "How many paths there are.",
            "Gives the segment its place.",
            "takes it that a package changes the more often",
            "A store path that is no link",
            "The folder of the cache",
            "A file of another kind than the command expects",
        ] {
            assert!(matches(text), "{text}");
        }
    }

    #[test]
    fn plain_english_has_no_marker() {
        for text in [
            "Returns the layer's digest.",
            "The directory in which the cache keeps its entries.",
            "Determines which of the two codecs is smaller.",
            "There is no cache.",
            "It is no longer needed.",
            "What happens when the disk is full?",
            "The prefix stands for the registry's host.",
            "Where to start",
            "give them a secret.",
            "Evicts the least recently used entries until the cache fits its limit.",
        ] {
            assert!(!matches(text), "{text}");
        }
    }

    #[test]
    fn code_links_and_numbers_are_not_prose() {
        let page = "# The door\n\n```shell\nupon\n```\n| 1 | 2.0 |\n- See [`upon`](upon.md), upon https://upon.example\n";
        assert_eq!(markdown(page), [(1, "The door".to_owned()), (7, "See [`_``_`, upon `_`".to_owned())]);
        assert_eq!(
            slash_comments("let a = 1; // upon\n/// Of the `door`.\n"),
            [(2, "Of the `_`.".to_owned())]
        );
        let page =
            "| `-q` | Tell nothing of it |\n|---|---|\n- [`nixply build`](#nixply-build): Pack an image\n";
        assert_eq!(help(page), [(1, "Tell nothing of it".to_owned()), (3, "Pack an image".to_owned())]);
    }
}
