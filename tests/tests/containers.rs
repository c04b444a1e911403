//! The contents of containers: copied files, layers and processes. No test here runs an engine.

use nixply_tests::modules::config;
use nixply_tests::{Nix, harness};
use serde_json::Value;

/// Checks the destination of copied files, in a home layer that belongs to the user.
#[test]
fn copy_to_root_accepts_directories_files_and_lists() {
    let nix = harness!();
    let homes = |value: &str| {
        let built = nix.try_build(&config(
            &format!("{{ containers.web.copyToRoot = {value}; }}"),
            "(lib.last config.containerBuilds.web.layers).copyToRoot",
        ));
        let built = built.ok();
        let list = |home: &str| {
            let mut find = std::process::Command::new("find");
            find.args([
                home,
                "-mindepth",
                "1",
                "(",
                "-type",
                "l",
                "-printf",
                "%P -> %l\\n",
                "-o",
                "-printf",
                "%P\\n",
                ")",
            ]);
            let found = nixply_tests::run(&mut find).ok();
            let mut found: Vec<String> = found.lines().map(str::to_owned).collect();
            found.sort();
            found.join(" ")
        };
        built.lines().map(list).collect::<Vec<_>>()
    };
    let dist = format!("{}/examples/containers/artifacts/dist", Nix::repository().display());
    assert_eq!(homes(&dist), ["env env/mybinary mybinary -> /env/mybinary"]);
    assert_eq!(homes(&format!("{dist}/mybinary")), ["env env/mybinary mybinary -> /env/mybinary"]);
    assert_eq!(
        homes(&format!("[ {dist} (pkgs.writeText \"a-file\" \"\") ]")),
        ["env env/mybinary mybinary -> /env/mybinary", "a-file -> /env/a-file env env/a-file"]
    );
    assert_eq!(homes("null"), ["env"]);
    // The image's own directories stay, links stay links, and unusual names are kept.
    let odd = r#"(pkgs.runCommand "odd" { } ''
        mkdir -p $out/bin "$out/a directory"; touch $out/-dash $out/.hidden "$out/a directory/x y"; ln -s /nowhere $out/link
    '')"#;
    assert_eq!(
        homes(odd),
        [
            "-dash -> /env/-dash .hidden -> /env/.hidden a directory -> /env/a directory env env/-dash env/.hidden env/a directory \
          env/a directory/x y env/bin env/link -> /nowhere link -> /env/link"
        ]
    );
    // If `copyToRoot` names the project itself, the files of tools are excluded. Otherwise each image would
    // contain the previous image.
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::create_dir_all(at(".devenv/gc")).unwrap();
    std::fs::create_dir_all(at("dist")).unwrap();
    std::fs::write(at("dist/file"), "").unwrap();
    std::os::unix::fs::symlink("/nowhere", at("result")).unwrap();
    std::os::unix::fs::symlink("dist", at("link")).unwrap();
    let all = "dist -> /env/dist env env/dist env/dist/file env/link -> dist link -> /env/link";
    assert_eq!(homes(&format!("{}/.", directory.path().display())), [all]);
    // A link to a directory is an error, because it would dangle in the image.
    let linked = nix.try_build(&config(
        &format!("{{ containers.web.copyToRoot = {}; }}", at("link").display()),
        "(lib.last config.containerBuilds.web.layers).copyToRoot",
    ));
    assert!(linked.fails().contains("/link is a link to a directory; name the directory itself"));
    // By default, the whole project is copied, but only to the home directory.
    let whole = nix.try_build(&config(
        "{ containers.web = { }; }",
        "(lib.last config.containerBuilds.web.layers).copyToRoot",
    ));
    let whole = std::path::PathBuf::from(whole.ok());
    assert!(whole.join("env/dist/mybinary").is_file() && !whole.join("dist").exists());
}

/// Links to files stay links, whatever their target and wherever the project is.
#[test]
fn copy_to_root_keeps_links_to_files() {
    let nix = harness!();
    let homes = |value: &str| {
        nix.try_build(&config(
            &format!("{{ containers.web.copyToRoot = {value}; }}"),
            "(lib.last config.containerBuilds.web.layers).copyToRoot",
        ))
    };
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().canonicalize().unwrap();
    let at = |name: &str| real.join(name);
    std::fs::create_dir_all(at("directory/deep")).unwrap();
    for file in ["real.txt", "directory/real.txt", ".hidden"] {
        std::fs::write(at(file), "content\n").unwrap();
    }
    let links = [
        ("link.txt", "real.txt"),
        ("dangling", "nowhere"),
        ("out", "directory/real.txt"),
        ("absolute", "/nowhere/file"),
        ("a link", "real.txt"),
        (".dot", ".hidden"),
        ("twice", "link.txt"),
    ];
    for (name, to) in
        links.iter().chain(&[("to-directory", "directory"), ("to-root", "/"), ("via-link", "to-directory")])
    {
        std::os::unix::fs::symlink(to, at(name)).unwrap();
    }
    let text = |name: &str| format!("\"{}/{name}\"", real.display());
    for (name, to) in links {
        // Passes the path as a string, and also as a Nix path if its name allows that.
        let path = (!name.contains(' ')).then(|| text(name).replace('"', ""));
        for value in path.into_iter().chain([text(name), format!("[ {} ]", text(name))]) {
            let home = std::path::PathBuf::from(homes(&value).ok());
            let link = home.join("env").join(name);
            assert_eq!(std::fs::read_link(link).unwrap(), std::path::Path::new(to), "{value}");
            assert_eq!(std::fs::read_dir(home.join("env")).unwrap().count(), 1, "{value}");
            assert!(home.join(name).is_symlink(), "{value}");
        }
    }
    for name in ["to-directory", "to-root", "via-link"] {
        let said = homes(&text(name)).fails();
        let expected = format!(
            "copyToRoot: {}/{name} is a link to a directory; name the directory itself",
            real.display()
        );
        assert!(said.contains(&expected), "{said}");
    }
    // Links to directories are followed within a path.
    let home = std::path::PathBuf::from(homes(&text("to-directory/real.txt")).ok());
    assert_eq!(std::fs::read_to_string(home.join("env/real.txt")).unwrap(), "content\n");
    let home = std::path::PathBuf::from(homes(&text("to-directory/deep")).ok());
    assert_eq!(std::fs::read_dir(home.join("env")).unwrap().count(), 0);
    // A project in the store, as in a flake.
    let stored = format!(
        "builtins.unsafeDiscardStringContext (builtins.path {{ path = {}; name = \"source\"; filter = path: type: type != \"unknown\"; }})",
        real.display()
    );
    for name in ["link.txt", "dangling", "real.txt", "directory/real.txt"] {
        let home = std::path::PathBuf::from(homes(&format!("(/. + ({stored}) + \"/{name}\")")).ok());
        let copied = home.join("env").join(std::path::Path::new(name).file_name().unwrap());
        assert_eq!(copied.is_symlink(), !name.ends_with("real.txt"), "{name}");
    }
    let said = homes(&format!("(/. + ({stored}) + \"/to-directory\")")).fails();
    assert!(said.contains("/to-directory is a link to a directory"), "{said}");
    // Neither a file nor a directory.
    let said = homes(&text("missing")).fails();
    assert!(said.contains(&format!("copyToRoot: {}/missing does not exist", real.display())), "{said}");
    nixply_tests::run(std::process::Command::new("mkfifo").arg(at("fifo"))).ok();
    let said = homes(&text("fifo")).fails();
    assert!(said.contains("/fifo is not a file, a directory or a link"), "{said}");
}

/// Layers are ordered from the bottom up. Each layer omits the paths of the layers below it.
#[test]
fn layers_are_ordered_and_share_no_paths() {
    let nix = harness!();
    let layers = |web: &str| {
        let path = nix.build(&config(
            &format!("{{ containers.web = {{ copyToRoot = null; {web} }}; }}"),
            "config.containerBuilds.web.derivation",
        ));
        let spec: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let paths = |layer: &Value| {
            let paths = layer["paths"].as_array().cloned().unwrap_or_default();
            paths
                .iter()
                .map(|path| {
                    path["path"].as_str().unwrap()[nix.store_dir().to_str().unwrap().len() + 34..].to_owned()
                })
                .collect::<Vec<_>>()
        };
        spec["layers"].as_array().unwrap().iter().map(paths).collect::<Vec<_>>()
    };
    let has = |layer: &[String], name: &str| layer.iter().any(|path| path.starts_with(name));
    let found = layers(
        r#"startupCommand = "${pkgs.hello}/bin/hello"; layers = [ { deps = [ pkgs.glibc ]; } { deps = [ pkgs.bash ]; } ];"#,
    );
    // glibc, bash, the environment, the command, the home directory, the Nix database.
    assert_eq!(found.len(), 6, "{found:?}");
    assert!(has(&found[0], "glibc") && !has(&found[0], "bash"), "{found:?}");
    assert!(has(&found[1], "bash") && !has(&found[1], "glibc"), "{found:?}");
    assert!(
        has(&found[2], "entrypoint") && has(&found[2], "container-root") && !has(&found[2], "bash"),
        "{found:?}"
    );
    assert_eq!((found[3].len(), has(&found[3], "hello")), (1, true), "{found:?}");
    assert_eq!(
        (&found[4][..], &found[5][..]),
        (&["container-home".to_owned()][..], &["nix-database".to_owned()][..])
    );
    let all: Vec<&String> = found.iter().flatten().collect();
    let mut once = all.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), all.len(), "{all:?}");

    // Layers may share paths with each other, but not with the environment.
    let apart = layers(
        r#"enableLayerDeduplication = false; layers = [ { deps = [ pkgs.glibc ]; } { deps = [ pkgs.bash ]; } ];"#,
    );
    assert!(has(&apart[0], "glibc") && has(&apart[1], "glibc") && has(&apart[1], "bash"), "{apart:?}");
    assert!(!has(&apart[2], "glibc"), "{apart:?}");
    let several = layers("maxLayers = 5;");
    assert_eq!(several.len(), 7, "{several:?}");
    let grouped = layers(
        r#"maxLayers = 3; groups = [ { depsOf = { name = "bash-.*"; }; } { name = "container-root"; } ];"#,
    );
    assert_eq!((grouped.len(), &grouped[1][..]), (5, &["container-root".to_owned()][..]), "{grouped:?}");
    assert!(
        has(&grouped[0], "bash-") && has(&grouped[0], "glibc") && !has(&grouped[2], "bash-"),
        "{grouped:?}"
    );
    let no_home = layers("layers = lib.mkForce [ ];");
    assert!(!no_home.iter().any(|layer| has(layer, "container-home")), "{no_home:?}");
}

/// The base image's layers come first, and links do not hide the base image's files.
#[test]
fn base_image_layers_come_first() {
    let nix = harness!();
    let base = r#"let base = (drop_in false).nix2container.buildImage {
        name = "base"; copyToRoot = pkgs.runCommand "base" { } "mkdir -p $out/mybinary; touch $out/mybinary/of-base"; }; in "#;
    let dist = format!("{}/examples/containers/artifacts/dist", Nix::repository().display());
    let modules = format!("{{ containers.web = {{ fromImage = base; copyToRoot = {dist}; }}; }}");
    let path = nix.build(&format!("{base}{}", config(&modules, "config.containerBuilds.web.derivation")));
    let spec: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let first = &spec["layers"][0]["paths"][0]["path"];
    assert!(first.as_str().unwrap().ends_with("-base"), "{first}");
    // `nix2container` is an argument of modules.
    let argument = nix.eval(&config(
        r#"({ nix2container, ... }: { containers.web.fromImage = nix2container.buildImage { name = "argument"; }; })"#,
        "config.containers.web.fromImage.imageName",
    ));
    assert_eq!(argument, "argument");
    let home = nix.build(&format!(
        "{base}{}",
        config(&modules, "builtins.head (lib.last config.containerBuilds.web.layers).copyToRoot")
    ));
    assert!(home.join("env/mybinary").is_file() && home.join("mybinary").symlink_metadata().is_err());
}

/// honcho would silently ignore a process with such a name.
#[test]
fn process_names_that_honcho_ignores_are_an_error() {
    let nix = harness!();
    let said =
        nix.try_build(&config(r#"{ processes."web.api".exec = "serve"; }"#, "config.procfileScript")).fails();
    assert!(
        said.contains(
            "processes.\"web.api\": with honcho, a process name must consist of letters, digits, '_' and '-'"
        ),
        "{said}"
    );
    let missing = r#"{ process.manager.implementation = "process-compose"; processes.a.exec = "a"; }"#;
    let said = nix.try_build(&config(missing, "config.procfileScript")).fails();
    assert!(
        said.contains(
            "this nixpkgs has no package process-compose; set process.managers.process-compose.package"
        ),
        "{said}"
    );
}

/// If a signal arrives during `before`, the processes do not start, but the commands in `after` run.
#[test]
fn signal_during_before_still_runs_after() {
    let nix = harness!();
    let script = nix.build(&config(
        r#"{ processes.web.exec = "echo started";
             process.manager.before = "echo before; sleep 600; echo more"; process.manager.after = "echo after $code"; }"#,
        "config.procfileScript",
    ));
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let mut running = nixply_tests::Running::start(&mut std::process::Command::new(&script));
        running.wait_until(std::time::Duration::from_secs(60), |running| running.stdout() == "before\n");
        // To the whole group, as the container's first process does.
        running.signal(signal);
        let said = running.finish(std::time::Duration::from_secs(60));
        assert_eq!(
            (said.code, &*said.stdout),
            (Some(code), &*format!("before\nafter {code}\n")),
            "{}",
            said.stderr
        );
    }
}

#[test]
fn images_for_other_systems_are_packed_on_this_one() {
    let nix = harness!();
    let built = nix.eval(&format!(
        r#"let
            hostPlatform = {{ system = "riscv64-linux"; go.GOARCH = "riscv64"; }};
            foreign = pkgs // {{ stdenv = pkgs.stdenv // {{ inherit hostPlatform; }}; }};
            inherit (import {}/nix/nix2container {{ pkgs = foreign; inherit nixply; usePlugin = false; }}) nix2container;
        in [ (nix2container.buildImage {{ name = "a"; }}).system (nix2container.buildLayer {{ }}).system pkgs.system ]"#,
        Nix::repository().display()
    ));
    assert_eq!((&built[0], &built[1]), (&built[2], &built[2]));
}

#[test]
fn process_compose_gets_its_configuration_file() {
    let nix = harness!();
    let script = nix.build(&config(
        r#"{
            process.manager.implementation = "process-compose";
            process.managers.process-compose.package = pkgs.writeShellScriptBin "process-compose" "cat \"$4\"" // {
              meta.mainProgram = "process-compose"; };
            processes.web = { exec = "serve"; process-compose.availability.restart = "on_failure"; };
        }"#,
        "config.procfileScript",
    ));
    let said: Value =
        serde_json::from_str(&nixply_tests::run(&mut std::process::Command::new(script)).ok()).unwrap();
    let web = &said["processes"]["web"];
    assert_eq!(web["availability"]["restart"], "on_failure");
    let command = web["command"].as_str().unwrap().strip_prefix("exec ").unwrap();
    assert!(std::fs::read_to_string(command).unwrap().ends_with("\nserve\n\n"));
}
