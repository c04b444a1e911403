//! Completions, man pages and the reference contain everything that `--help` does.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

fn nixply(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_nixply")).args(arguments).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the long options of each command, from its help. The name of a subcommand starts with its parent's.
fn options() -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    let mut parents = vec![String::new()];
    while let Some(parent) = parents.pop() {
        // skopeo's command passes on everything, including --help.
        if parent == "skopeo" {
            all.insert(parent, Vec::new());
            continue;
        }
        let help = nixply(&parent.split_whitespace().chain(["--help"]).collect::<Vec<_>>());
        let below =
            help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        // Descriptions of a command continue on indented lines.
        let below =
            below.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
        parents.extend(
            below.filter(|name| *name != "help").map(|name| format!("{parent} {name}").trim().to_owned()),
        );
        let options = help.lines().filter(|line| line.trim_start().starts_with('-'));
        let names = options.filter_map(|line| line.split_once("--")?.1.split([' ', ',', '[']).next());
        let names = names.filter(|name| !["help", "version"].contains(name)).map(String::from).collect();
        all.insert(parent, names);
    }
    // At least one of each kind, so that the test cannot pass with an empty list.
    assert!(all["build"].contains(&"quiet".to_owned()) && all["build"].contains(&"cache-dir".to_owned()));
    assert!(all["cache gc"].contains(&"cache-limit".to_owned()) && all.contains_key("cache"), "{all:?}");
    assert!(!all.contains_key("builder") && !all.contains_key("man"), "{all:?}");
    all
}

#[test]
fn completions_have_all_commands_and_options() {
    for shell in ["bash", "zsh", "fish"] {
        let script = nixply(&["completions", shell]);
        for (command, options) in options() {
            for word in command.split(' ').chain(options.iter().map(String::as_str)) {
                assert!(script.contains(word), "{shell}: {command}: {word}");
            }
        }
        // If the shell is installed, it must parse the script without an error.
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("script");
        fs::write(&file, script).unwrap();
        match Command::new(shell).arg("-n").arg(&file).stdin(Stdio::null()).output() {
            Ok(output) => assert!(output.status.success() && output.stderr.is_empty(), "{output:?}"),
            Err(error) => assert!(shell != "bash", "{error}"),
        }
    }
}

/// Returns bash's completions of a command line.
fn offered(line: &str) -> Vec<String> {
    let script = r#"
        source <("$1" completions bash)
        COMP_WORDS=($2) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _nixply nixply "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let output = Command::new("bash")
        .args(["--norc", "-c", script, "bash", env!("CARGO_BIN_EXE_nixply"), line])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(String::from).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    assert_eq!(offered("nixply lay"), ["layout"]);
    assert_eq!(offered("nixply cache im"), ["import"]);
    assert_eq!(offered("nixply build --qui"), ["--quiet"]);
    assert_eq!(offered("nixply completions z"), ["zsh"]);
}

#[test]
fn each_command_has_a_man_page() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("new/man");
    assert_eq!(nixply(&["man", "--dir", pages.to_str().unwrap()]), "");
    let page = |command: &str| fs::read_to_string(pages.join(format!("{command}.1"))).unwrap();
    assert_eq!(page("nixply"), nixply(&["man"]));
    for (command, options) in options() {
        let name = format!("nixply {command}").trim().replace(' ', "-");
        let text = page(&name).replace("\\-", "-");
        assert!(text.contains(&format!(".TH {name} 1")), "{text}");
        for option in options {
            assert!(text.contains(&format!("--{option}")), "{name}: {option}");
        }
    }
    assert!(page("nixply-layout").contains("NIXPLY_CACHE_DIR"), "man pages list environment variables");
    for name in ["nixply", "nixply-layout"] {
        let text = page(name);
        assert!(text.contains(".SH \"EXIT STATUS\"\n.TP\n\\fB0\\fR\nsuccess\n"), "{text}");
        assert!(text.contains("\\fB141\\fR\n") && !text.contains(".SH EXTRA"), "{text}");
    }
    let names: Vec<_> = fs::read_dir(&pages).unwrap().map(|page| page.unwrap().file_name()).collect();
    assert_eq!(names.len(), options().len(), "{names:?}");

    let output =
        Command::new(env!("CARGO_BIN_EXE_nixply")).args(["man", "--dir", "/dev/null/man"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(2)
            && error.starts_with("error: cannot write man pages to /dev/null/man: ")
    );
}

#[test]
fn the_reference_has_all_commands_and_options() {
    let reference = nixply(&["reference"]);
    let all = options();
    let has_others = |parent: &str| all.keys().any(|name| name.starts_with(&format!("{parent} ")));
    for (command, options) in all.iter().filter(|(command, _)| !command.is_empty() && !has_others(command)) {
        let begin =
            reference.find(&format!("\n## nixply {command}\n")).unwrap_or_else(|| panic!("{command}"));
        let section = reference[begin + 1..].split("\n## ").next().unwrap();
        for option in options {
            assert!(section.contains(&format!("`--{option}")), "{command}: {option}");
        }
    }
    assert!(!reference.contains("builder"), "the hidden command builder is left out");
    for code in ["| 0 | success |", "| 2 | wrong arguments", "| 130 | interrupted", "| 141 |"] {
        assert!(reference.contains(code), "{code}");
    }
    let help = nixply(&["--help"]);
    assert!(help.contains("\nExit codes:\n  0    success\n"), "{help}");
}
