//! The source tree keeps the layer rules of docs/architecture.md. The rules that name crates, modules or imports are read from
//! there.

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

/// The most files of a crate that may use one another in a cycle.
const LARGEST_CYCLE: usize = 3;

/// Crates that may have a larger cycle, each with the reason.
const LARGER_CYCLES: [(&str, &str); 1] =
    [("nixply-ffi", "cxx: the bridge names the functions behind it, and they name the bridge's types")];

/// The most names that other crates can use of a crate in `packer/`: see [`Sources::public_names`].
const MOST_PUBLIC_NAMES: usize = 60;

/// The most lines of a file that does not say why it has more.
const MOST_LINES: usize = 500;

/// The first lines of a longer file give the reason after these words.
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

/// The rows of the code block that follows a heading line in the section "Layer rules": a name, and the words behind it.
fn rules(heading: &str) -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let section = text.split("\n## Layer rules\n").nth(1).expect("the section \"Layer rules\"");
    let section = section.split("\n## ").next().unwrap();
    let after = section.split(heading).nth(1).unwrap_or_else(|| panic!("{heading:?} in the section"));
    let block =
        after.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a code block");
    block
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            (words.next().unwrap(), words.collect())
        })
        .collect()
}

/// The crates in `packer/`, each with its modules in order.
fn rows_of_packer() -> Vec<(Member, Vec<String>)> {
    let rows: BTreeMap<_, _> = rules("**Modules**").into_iter().collect();
    let members: Vec<Member> =
        members().into_iter().filter(|member| member.directory.starts_with(root().join("packer"))).collect();
    assert_eq!(members.len(), rows.len(), "the crates in packer/ and the rows of **Modules**");
    let row = |member: Member| {
        let row = rows.get(&member.name).unwrap_or_else(|| panic!("{} has no row", member.name));
        (member, row.clone())
    };
    members.into_iter().map(row).collect()
}

/// Fails with the list of all violations.
fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "against docs/architecture.md, \"Layer rules\":\n{}", wrong.join("\n"));
}

#[test]
fn crates_depend_on_the_crates_below_them() {
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
            // Tests may look at what a crate below writes.
            let is_allowed =
                allowed.contains(dependency) || (kind == "dev" && in_packer.contains(dependency.as_str()));
            if ours.contains(dependency.as_str()) && !is_allowed {
                wrong.push(format!("{} depends on {dependency} ({kind})", member.name));
            }
        }
    }
    wrong.extend(
        allowed.keys().filter(|name| !ours.contains(name.as_str())).map(|name| format!("{name} is no crate")),
    );
    assert_none(&wrong);
}

#[test]
fn no_cycle_of_modules_is_large() {
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
        let cycles: Vec<_> = cycles.filter(|cycle| cycle.len() > LARGEST_CYCLE).collect();
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
fn modules_use_the_modules_before_them() {
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
        wrong.extend(absent.map(|name| format!("{name} is no module of {}", member.name)));
    }
    assert_none(&wrong);
}

#[test]
fn no_folder_imports_what_it_must_not() {
    let mut wrong = Vec::new();
    for member in members() {
        let sources = Sources::read(&member.directory.join("src"));
        for (_, module) in sources.modules() {
            let file = member.directory.join("src").join(&module.file);
            let file = file.strip_prefix(root()).unwrap().display().to_string();
            let forbidden: Vec<String> = rules("**Imports**")
                .into_iter()
                .filter(|(folder, _)| file.starts_with(&format!("{folder}/")) || folder == "*")
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
fn messages_of_libraries_name_no_command_line() {
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
fn crates_are_used_where_they_belong() {
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
fn long_files_say_why() {
    let mut wrong = Vec::new();
    for extension in ["rs", "cc", "hh", "nix"] {
        for file in files(root(), extension) {
            let text = fs::read_to_string(&file).unwrap();
            let lines = text.lines().count();
            let name = file.strip_prefix(root()).unwrap().display().to_string();
            let is_long = lines > MOST_LINES && !text.lines().take(20).any(|line| line.contains(REASON));
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
            count <= MOST_PUBLIC_NAMES,
            "{} has {count} public names, at most {MOST_PUBLIC_NAMES} are allowed: {names:#?}",
            member.name
        );
    }
}
