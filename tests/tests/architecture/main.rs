//! Tests that the source tree keeps the rules in the section "Layer rules" of docs/architecture.md. They read the lists of
//! crates, modules, imports and directories from that section.

mod command_line;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use serde_json::Value;

use self::sources::{Segments, Sources, files, root};

/// Maximum number of files of a crate that may use one another in a cycle.
const MAX_CYCLE: usize = 3;

/// Crates that may have a larger cycle, each with the reason.
const LARGER_CYCLES: [(&str, &str); 1] =
    [("nixply-ffi", "cxx: the bridge names the functions that it exports, and they name the bridge's types")];

/// Maximum number of public names of a crate in `packer/`: see [`Sources::public_names`].
const MAX_PUBLIC_NAMES: usize = 60;

/// Maximum number of lines of a file that states no reason for more.
const MAX_LINES: usize = 500;

/// Words before the reason, which is in the first 20 lines of a longer file.
const REASON: &str = "More than 500 lines: ";

/// A member of the workspace.
struct Member {
    name: String,
    directory: PathBuf,
    /// Its dependencies, each with its kind: `normal`, `dev` or `build`.
    dependencies: Vec<(String, String)>,
}

fn members() -> Vec<Member> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let output = cargo
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let member = |package: &Value| Member {
        name: text(&package["name"]),
        directory: PathBuf::from(text(&package["manifest_path"])).parent().unwrap().to_path_buf(),
        dependencies: package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|of| (text(&of["name"]), of["kind"].as_str().unwrap_or("normal").to_owned()))
            .collect(),
    };
    metadata["packages"].as_array().unwrap().iter().map(member).collect()
}

/// Returns the rows of the first code block after `heading` in the section "Layer rules": the first word of each row, and the
/// other words.
fn rules(heading: &str) -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let section = text.split("\n## Layer rules\n").nth(1).expect("the page has \"Layer rules\"");
    let section = section.split("\n## ").next().unwrap();
    let after = section.split(heading).nth(1).unwrap_or_else(|| panic!("the section has no {heading:?}"));
    let block = after
        .split("```text\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("it has a code block");
    block
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            (words.next().unwrap(), words.collect())
        })
        .collect()
}

/// Returns the crates in `packer/`, each with its modules in the order of the rules.
fn rows_of_packer() -> Vec<(Member, Vec<String>)> {
    let rows: BTreeMap<_, _> = rules("**Modules**").into_iter().collect();
    let members: Vec<Member> =
        members().into_iter().filter(|member| member.directory.starts_with(root().join("packer"))).collect();
    assert_eq!(members.len(), rows.len(), "**Modules** must have a row for each crate in packer/");
    let row = |member: Member| {
        let row =
            rows.get(&member.name).unwrap_or_else(|| panic!("**Modules** has no row for {}", member.name));
        (member, row.clone())
    };
    members.into_iter().map(row).collect()
}

/// Fails with the list of all violations.
fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "violations of docs/architecture.md, \"Layer rules\":\n{}", wrong.join("\n"));
}

#[test]
fn crates_depend_only_on_allowed_crates() {
    let members = members();
    let ours: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let in_packer: BTreeSet<String> = rows_of_packer().into_iter().map(|(member, _)| member.name).collect();
    let allowed: BTreeMap<_, _> = rules("**Crates**").into_iter().collect();
    let mut wrong = Vec::new();
    for member in &members {
        let Some(allowed) = allowed.get(&member.name) else {
            wrong.push(format!("{} is not listed", member.name));
            continue;
        };
        for (dependency, kind) in &member.dependencies {
            // Tests of any crate may use the crates in packer/.
            let is_allowed =
                allowed.contains(dependency) || (kind == "dev" && in_packer.contains(dependency.as_str()));
            if ours.contains(dependency.as_str()) && !is_allowed {
                wrong.push(format!("{} depends on {dependency} ({kind})", member.name));
            }
        }
    }
    wrong.extend(
        allowed
            .keys()
            .filter(|name| !ours.contains(name.as_str()))
            .map(|name| format!("{name} is not a crate")),
    );
    assert_none(&wrong);
}

#[test]
fn module_cycles_are_small() {
    let mut wrong = Vec::new();
    for member in members() {
        let sources = Sources::read(&member.directory.join("src"));
        let edges: BTreeMap<&Segments, BTreeMap<Segments, String>> =
            sources.modules().map(|(name, _)| (name, sources.used_modules(name))).collect();
        let names: Vec<&Segments> = edges.keys().copied().collect();
        let number = |name: &Segments| names.iter().position(|found| *found == name);
        let mut graph = DiGraph::<(), ()>::new();
        let nodes: Vec<NodeIndex> = names.iter().map(|_| graph.add_node(())).collect();
        for (from, targets) in &edges {
            for to in targets.keys() {
                graph.add_edge(nodes[number(from).unwrap()], nodes[number(to).unwrap()], ());
            }
        }
        let cycles = tarjan_scc(&graph).into_iter();
        let cycles = cycles.map(|cycle| cycle.into_iter().map(NodeIndex::index).collect::<Vec<_>>());
        let cycles: Vec<_> = cycles.filter(|cycle| cycle.len() > MAX_CYCLE).collect();
        if LARGER_CYCLES.iter().any(|(name, _)| *name == member.name) {
            continue;
        }
        for cycle in cycles {
            let mut lines =
                vec![format!("{}: {} files use one another in a cycle:", member.name, cycle.len())];
            for from in &cycle {
                for (to, path) in &edges[names[*from]] {
                    if number(to).is_some_and(|to| cycle.contains(&to)) {
                        let file = |name: &Segments| &sources.module(name).unwrap().file;
                        lines.push(format!("  {} uses {} ({path})", file(names[*from]), file(to)));
                    }
                }
            }
            wrong.push(lines.join("\n"));
        }
    }
    assert_none(&wrong);
}

#[test]
fn modules_use_only_the_modules_before_them() {
    let mut wrong = Vec::new();
    for (member, order) in rows_of_packer() {
        let sources = Sources::read(&member.directory.join("src"));
        let place = |module: &String| order.iter().position(|found| found == module);
        for (name, module) in sources.modules().filter(|(name, _)| !name.is_empty()) {
            let Some(from) = place(&name[0]) else {
                wrong.push(format!("{} of {} is not listed", name[0], member.name));
                continue;
            };
            for (to, path) in sources.used_modules(name) {
                // The root only re-exports items, so no module imports from it.
                let to = to.first().map_or(Some(usize::MAX), place);
                if to.is_none_or(|to| to > from) {
                    wrong.push(format!("{}: {} uses {path}", member.name, module.file));
                }
            }
        }
        let absent = order.iter().filter(|name| sources.module(&[(**name).clone()]).is_none());
        wrong.extend(absent.map(|name| format!("{name} is not a module of {}", member.name)));
    }
    assert_none(&wrong);
}

#[test]
fn no_directory_has_forbidden_imports() {
    let mut wrong = Vec::new();
    for member in members() {
        let sources = Sources::read(&member.directory.join("src"));
        for (_, module) in sources.modules() {
            let file = member.directory.join("src").join(&module.file);
            let file = file.strip_prefix(root()).unwrap().display().to_string();
            let forbidden: Vec<String> = rules("**Imports**")
                .into_iter()
                .filter(|(directory, _)| file.starts_with(&format!("{directory}/")) || directory == "*")
                .flat_map(|(_, forbidden)| forbidden)
                .collect();
            for path in sources.paths(module) {
                let path = path.join("::");
                let hit =
                    |forbidden: &&String| path == **forbidden || path.starts_with(&format!("{forbidden}::"));
                if let Some(forbidden) = forbidden.iter().find(hit) {
                    wrong.push(format!("{file} uses {path} ({forbidden} is forbidden there)"));
                }
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn library_messages_name_no_flags_or_commands() {
    let mut wrong = Vec::new();
    let commands = command_line::commands();
    for (directory, _) in rules("**Messages**") {
        let src = root().join(&directory);
        let sources = Sources::read(&src);
        assert!(sources.modules().count() > 0, "{directory} has no module");
        for (_, module) in sources.modules() {
            for text in module.texts() {
                if let Some(found) = command_line::named_in(&text, &commands) {
                    wrong.push(format!("{directory}/{} names `{found}`: {text:?}", module.file));
                }
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn only_allowed_crates_have_restricted_dependencies() {
    let mut wrong = Vec::new();
    for (dependency, allowed) in rules("**Dependencies**") {
        for member in members() {
            let uses = member.dependencies.iter().any(|(name, kind)| *name == dependency && kind != "dev");
            if uses && !allowed.contains(&member.name) {
                wrong.push(format!("{} depends on {dependency}", member.name));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn long_files_state_the_reason() {
    let mut wrong = Vec::new();
    for extension in ["rs", "cc", "hh", "nix"] {
        for file in files(root(), extension) {
            let text = fs::read_to_string(&file).unwrap();
            let lines = text.lines().count();
            let name = file.strip_prefix(root()).unwrap().display().to_string();
            let is_long = lines > MAX_LINES && !text.lines().take(20).any(|line| line.contains(REASON));
            if is_long {
                wrong.push(format!("{name} has {lines} lines"));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn crates_in_packer_have_small_interfaces() {
    for (member, _) in rows_of_packer() {
        let names = Sources::read(&member.directory.join("src")).public_names();
        let count = names.len();
        assert!(
            count <= MAX_PUBLIC_NAMES,
            "{} has {count} public names, at most {MAX_PUBLIC_NAMES} are allowed: {names:#?}",
            member.name
        );
    }
}
