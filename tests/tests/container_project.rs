//! Projects of `nixply container`: the files that are copied, git, results and plugins.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use nixply_tests::{Project, harness, needs, run};
use serde_json::Value;

const HELLO: &str = r#"{ processes.hello.exec = "echo Hello"; }"#;

/// A container that copies a symlink of the project contains the symlink.
#[test]
fn copied_links_remain_links() {
    let nix = harness!();
    let project = Project::new(
        &nix,
        r#"{ name = "example"; containers.prod = { copyToRoot = ./link.txt; startupCommand = "ls -l /env"; }; }"#,
    );
    project.write("real.txt", "content\n");
    std::os::unix::fs::symlink("real.txt", project.path().join("link.txt")).unwrap();
    let spec: Value = serde_json::from_str(&fs::read_to_string(project.build("prod")).unwrap()).unwrap();
    let layers = spec["layers"].as_array().unwrap();
    let mut paths = layers.iter().flat_map(|layer| layer["paths"].as_array().into_iter().flatten());
    let home = paths.find_map(|path| path["path"].as_str().filter(|path| path.ends_with("-container-home")));
    let link = Path::new(home.expect("there is a home layer")).join("env/link.txt");
    assert_eq!(fs::read_link(link).unwrap(), Path::new("real.txt"));
}

/// A plugin for another version of Nix prints one line, and the container is built without it.
#[test]
fn plugins_for_another_nix_are_skipped_with_a_message() {
    let nix = harness!();
    let other = needs!("NIXPLY_TEST_OTHER_PLUGIN");
    if other.is_empty() {
        return nixply_tests::skipped("only one Nix is set up");
    }
    let project = Project::new(&nix, HELLO);
    let mut command = project.nixply(["container", "build", "shell"]);
    project.prepare_with(&mut command, &format!("plugin-files = {other}\n"));
    let said = run(&mut command);
    assert!(
        said.stderr.contains("warning: nixply: plugin not loaded: it was built for Nix "),
        "{}",
        said.stderr
    );
    let spec = said.ok();
    assert_eq!(fs::read(spec).unwrap(), fs::read(project.build("shell")).unwrap());
}

#[test]
fn missing_remote_builder_is_an_error_with_a_hint() {
    let nix = harness!();
    let project = Project::new(
        &nix,
        r#"{ lib, ... }: { containers.far.derivation = lib.mkForce (derivation {
            name = "far"; system = "riscv64-linux"; builder = "/bin/sh"; }); }"#,
    );
    let said = project.container("build far --system x86_64-linux").fails();
    assert!(said.contains("riscv64-linux"), "{said}");
    let hint = "hint: building for another system needs a remote builder: see `builders` in nix.conf\n";
    assert!(said.ends_with(hint), "{said}");
}

/// Files that git ignores, and git's own directory, may be secret.
#[test]
fn ignored_files_are_not_copied() {
    let nix = harness!();
    let project = Project::new(&nix, "{ }");
    project.write(".gitignore", "secret\nbuild/\n");
    for file in ["secret", "build/output", "directory/kept", "new file"] {
        project.write(file, file);
    }
    run(Command::new("git").args(["init", "--quiet"]).current_dir(project.path())).ok();
    run(Command::new("git")
        .args(["add", ".gitignore", "devenv.nix", "directory"])
        .current_dir(project.path()))
    .ok();
    let home = |project: &Project| {
        let spec = fs::read_to_string(project.build("shell")).unwrap();
        let spec: Value = serde_json::from_str(&spec).unwrap();
        let layers = spec["layers"].as_array().unwrap();
        let paths = layers.iter().flat_map(|layer| layer["paths"].as_array().into_iter().flatten());
        let home =
            paths.map(|path| path["path"].as_str().unwrap()).find(|path| path.ends_with("-container-home"));
        let home = Path::new(home.expect("there is a home layer")).join("env");
        let mut found = run(Command::new("find").arg(".").args(["-type", "f"]).current_dir(home)).ok();
        found.push('\n');
        let mut found: Vec<String> = found.lines().map(str::to_owned).collect();
        found.sort();
        found
    };
    assert_eq!(home(&project), ["./.gitignore", "./devenv.nix", "./directory/kept", "./new file"]);
    // Submodules are part of the project.
    let other = Project::new(&nix, "{ }");
    let git = |directory: &Path, arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]);
        run(git.args(arguments).current_dir(directory)).ok();
    };
    git(other.path(), &["init", "--quiet"]);
    git(other.path(), &["add", "."]);
    git(other.path(), &["commit", "--quiet", "--message", "one"]);
    git(project.path(), &["submodule", "--quiet", "add", other.path().to_str().unwrap(), "sub"]);
    assert_eq!(
        home(&project),
        [
            "./.gitignore",
            "./.gitmodules",
            "./devenv.nix",
            "./directory/kept",
            "./new file",
            "./sub/devenv.nix"
        ]
    );
    fs::remove_dir_all(project.path().join("sub")).unwrap();
    fs::remove_file(project.path().join(".gitmodules")).unwrap();
    // Without git, all files are copied except those of tools, such as .devenv.
    fs::remove_dir_all(project.path().join(".git")).unwrap();
    assert_eq!(
        home(&project),
        ["./.gitignore", "./build/output", "./devenv.nix", "./directory/kept", "./new file", "./secret"]
    );
}

/// If git cannot list the project's files, nothing is copied. Environment variables that git sets for hooks have no effect.
#[test]
fn git_failures_are_errors() {
    let nix = harness!();
    let project = Project::new(&nix, "{ }");
    project.write(".gitignore", "secret\n.devenv\n");
    project.write("secret", "a secret");
    run(Command::new("git").args(["init", "--quiet"]).current_dir(project.path())).ok();
    run(Command::new("git").args(["add", "."]).current_dir(project.path())).ok();
    let spec = project.build("shell");
    let mut hooked = project.nixply(["container", "build", "shell"]);
    hooked.env("GIT_DIR", "/nowhere/.git").env("GIT_INDEX_FILE", "/nowhere/index").env("GIT_PREFIX", "x/");
    assert_eq!(run(&mut hooked).ok(), spec.to_str().unwrap());
    // The user's own DEVENV_CONTAINER has no effect either.
    let mut named = project.nixply(["container", "build", "shell"]);
    assert_eq!(run(named.env("DEVENV_CONTAINER", "processes")).ok(), spec.to_str().unwrap());

    fs::write(project.path().join(".git/index"), "damaged").unwrap();
    let said = project.container("build shell");
    assert_eq!((said.code, &*said.stdout), (Some(1), ""));
    assert!(
        said.stderr.contains("error: cannot list the files of ") && said.stderr.contains("index"),
        "{}",
        said.stderr
    );
}

/// The links in .devenv that protect results from garbage collection are ignored by git and replaced by each build.
#[test]
fn links_to_results_are_replaced() {
    let nix = harness!();
    let project = Project::new(&nix, "{ }");
    let spec = project.build("shell");
    assert_eq!(fs::read_to_string(project.path().join(".devenv/.gitignore")).unwrap(), "*\n");
    let link = project.path().join(".devenv/gc/container-shell-derivation");
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/nowhere", &link).unwrap();
    assert_eq!(project.build("shell"), spec);
    assert_eq!(fs::read_link(&link).unwrap(), spec);
    fs::remove_file(&link).unwrap();
    fs::write(&link, "a file").unwrap();
    let said = project.container("build shell");
    assert!(said.stderr.contains("warning: ") && said.stderr.contains("is not a link"), "{}", said.stderr);
    assert_eq!(
        (said.ok(), fs::read_to_string(&link).unwrap()),
        (spec.display().to_string(), "a file".into())
    );
}

/// The nearest directory with a devenv.nix or a flake.nix is the project, whichever of the two it has.
#[test]
fn the_nearest_project_is_used() {
    let nix = harness!();
    let project = Project::new(&nix, r#"{ name = "outer"; containers.a.copyToRoot = null; }"#);
    project.write("inner/devenv.nix", r#"{ name = "inner"; containers.a.copyToRoot = null; }"#);
    fs::create_dir_all(project.path().join("inner/deep")).unwrap();
    let mut command = project.nixply(["container", "build", "a"]);
    assert!(
        run(command.current_dir(project.path().join("inner/deep"))).ok().ends_with("-image-inner-a.json")
    );
    project.write("inner/flake/flake.nix", "{ outputs = _: throw \"the flake's\"; }");
    let mut command = project.nixply(["container", "build", "a"]);
    let said = run(command.current_dir(project.path().join("inner/flake"))).fails();
    assert!(!project.path().join("inner/flake/.devenv").exists() && said.contains("flake"), "{said}");
}

#[test]
fn init_creates_an_environment_that_builds() {
    let nix = harness!();
    let project = Project::empty(&nix);
    let said = run(&mut project.nixply(["init"]));
    assert!(said.stderr.contains("nixply container run hello"), "{}", said.stderr);
    said.ok();
    let spec = project.build("hello");
    assert!(spec.to_str().unwrap().ends_with("-hello.json"), "{}", spec.display());
    let before = fs::read_to_string(project.path().join("devenv.nix")).unwrap();
    let inode = fs::metadata(project.path().join("devenv.nix")).unwrap().ino();
    let refused = run(&mut project.nixply(["init"])).fails();
    assert_eq!(
        refused,
        "error: ./devenv.nix already exists\nhint: edit it, or pass another directory; nothing was changed\n"
    );
    assert_eq!(fs::read_to_string(project.path().join("devenv.nix")).unwrap(), before);
    assert_eq!(fs::metadata(project.path().join("devenv.nix")).unwrap().ino(), inode);
}

/// Builds the same image with the plugin and in a derivation.
#[test]
fn plugin_and_derivation_make_the_same_container() {
    let nix = nixply_tests::plugin_harness!();
    let project = Project::new(&nix, HELLO);
    for name in ["shell", "processes"] {
        let packed = fs::read(project.build(name)).unwrap();
        let mut command = project.nixply(["container", "build", name]);
        project.prepare_with(&mut command, "");
        let derived = run(&mut command).ok();
        assert_eq!(fs::read(&derived).unwrap(), packed, "{name}");
        assert_ne!(
            derived,
            project.build(name).to_str().unwrap(),
            "the plugin and a derivation make different paths"
        );
    }
}
