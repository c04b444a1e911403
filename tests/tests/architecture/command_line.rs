//! Finds flags and commands of the program `nixply` in texts.

use std::fs;

use super::sources::root;

/// Other programs, whose flags every message may name.
const OTHER_PROGRAMS: [&str; 3] = ["nix", "nix-store", "skopeo"];

/// Returns the program's commands, such as `plan` and `cache`, from docs/reference/cli.md, which is generated.
pub(super) fn commands() -> Vec<String> {
    let page = fs::read_to_string(root().join("docs/reference/cli.md")).unwrap();
    let titles = page.lines().filter_map(|line| line.strip_prefix("## nixply "));
    let mut commands: Vec<String> = titles.map(|title| title.split(' ').next().unwrap().to_owned()).collect();
    commands.dedup();
    assert!(commands.len() > 10, "{commands:?}");
    commands
}

/// Returns the first flag or command of nixply that a text names. A flag belongs to another program if it follows that program's
/// name, with only other flags and at most one other word between them, as in `nix path-info --json --recursive`.
pub(super) fn named_in(text: &str, commands: &[String]) -> Option<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "-_=".contains(letter);
    let (mut before, mut owner, mut words_since) = ("", false, 0);
    for word in text.split_whitespace() {
        let name = word.trim_start_matches(|letter| !is_part(letter));
        let name = name.split(|letter| !is_part(letter)).next().unwrap_or_default();
        // A name of one letter is a CSS variable, such as `--c`.
        let is_flag = name
            .strip_prefix("--")
            .is_some_and(|rest| rest.len() > 1 && rest.starts_with(|c: char| c.is_ascii_lowercase()));
        if OTHER_PROGRAMS.contains(&name) {
            (owner, words_since) = (true, 0);
        } else if is_flag && !owner {
            return Some(name.to_owned());
        } else if !is_flag {
            words_since += 1;
            owner &= words_since < 2;
        }
        if before == "nixply" && commands.iter().any(|command| command == name) {
            return Some(format!("nixply {name}"));
        }
        // Punctuation and a closing backquote end a command line.
        let is_end = word.ends_with([',', ';', ':', '.', ')', '`']);
        owner &= !is_end;
        before = if is_end { "" } else { name };
    }
    None
}

#[test]
fn flags_belong_to_the_program_before_them() {
    let commands = ["plan", "cache"].map(str::to_owned);
    for (text, expected) in [
        ("pass --store-dir DIR", Some("--store-dir")),
        ("omit `--platform`, or name the index", Some("--platform")),
        ("or (with --max-layers=3)", Some("--max-layers=3")),
        ("serve without --private", Some("--private")),
        ("run nix build and pass --json", Some("--json")),
        ("run nix-store --verify-path, or pass --check-store", Some("--check-store")),
        ("copy it with skopeo, then pass --json", Some("--json")),
        ("make it with `nixply plan`", Some("nixply plan")),
        ("nixply cache stat shows it", Some("nixply cache")),
        ("run nix-store --verify-path on it and build again", None),
        ("it has no sizes: nix path-info --json --recursive writes them", None),
        ("decrypt it, as with skopeo copy --decryption-key", None),
        ("another version of nixply made the spec", None),
        ("made by nixply, plan 3 of the cache", None),
        ("a -- b, 1--2, --{name}, -r--r--r--, --c: red", None),
    ] {
        assert_eq!(named_in(text, &commands).as_deref(), expected, "{text}");
    }
}
