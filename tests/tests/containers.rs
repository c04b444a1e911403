//! The containers module: options, their types and defaults, and what is made of them. Without running anything.

use nixply_tests::{Nix, harness};
use serde_json::{Value, json};

/// `config` of an environment with these modules.
fn config(modules: &str, of: &str) -> String {
    format!(
        r#"let
            evaluated = import {}/nix/evaluate.nix {{
              inherit pkgs;
              self = {}/examples/containers/artifacts;
              modules = [ {{ nixply.package = nixply; nixply.usePlugin = false; }} {modules} ];
            }};
            inherit (evaluated) config options extendModules;
            lib = pkgs.lib;
        in {of}"#,
        Nix::repository().display(),
        Nix::repository().display(),
    )
}

/// A container's attributes as JSON, and the image's config.
const SHOWN: &str = r#"
    (c: {
      inherit (c) name version workingDir registry defaultCopyArgs maxLayers enableLayerDeduplication isBuilding fromImage reference;
      startupCommand = c.startupCommand;
      entrypoint = builtins.length c.entrypoint;
      layers = map (layer: builtins.removeAttrs layer [ "perms" "copyToRoot" ] // {
        copyToRoot = builtins.length layer.copyToRoot;
        perms = map (perm: builtins.removeAttrs perm [ "path" ]) layer.perms;
      }) c.layers;
    })
"#;

/// The table of options, row by row (N4).
#[test]
fn options_have_devenvs_defaults() {
    let nix = harness!();
    let shown = nix.eval(&config("{ containers.web = { }; }", &format!("{SHOWN} config.containers.web")));
    let perm =
        json!({"regex": null, "mode": "0744", "uid": 1000, "gid": 1000, "uname": "user", "gname": "user"});
    assert_eq!(
        shown,
        json!({
            "name": "devenv-shell-web", "version": "latest", "workingDir": "/env", "registry": "docker-daemon:",
            "defaultCopyArgs": [], "maxLayers": 1, "enableLayerDeduplication": true, "isBuilding": false, "fromImage": null,
            "reference": "devenv-shell-web:latest", "startupCommand": null, "entrypoint": 1,
            "layers": [{
                "deps": [], "copyToRoot": 1, "reproducible": true, "maxLayers": 1, "ignore": null, "perms": [perm]
            }],
        })
    );
    let names = nix.eval(&config(
        r#"{ name = "project"; containers.web = { }; containers.named.name = "own"; }"#,
        "lib.mapAttrs (_: c: c.name) config.containers",
    ));
    assert_eq!(
        names,
        json!({"web": "project-web", "named": "own", "shell": "shell", "processes": "processes"})
    );
    let text = nix.eval(&config("", "config.containers.shell.startupCommand"));
    assert!(text.as_str().unwrap().ends_with("/bin/bash"), "{text}");
}

#[test]
fn every_option_is_described() {
    let nix = harness!();
    let bare = nix.eval(&config(
        "",
        r#"map (option: option.name) (builtins.filter
             (option: !(option ? description) && builtins.match "_module.*" option.name == null)
             (lib.optionAttrSetToDocList options))"#,
    ));
    assert_eq!(bare, json!([]));
}

#[test]
fn the_reference_of_options_is_what_they_say() {
    let nix = harness!();
    let page = Nix::repository().join("docs/reference/options.md");
    let made = nix.eval(&format!(
        "import {}/nix/modules/reference.nix {{ inherit pkgs; }}",
        Nix::repository().display()
    ));
    assert_eq!(
        std::fs::read_to_string(page).unwrap(),
        made.as_str().unwrap(),
        "docs/reference/options.md is stale: write it with `cargo xtask docs` and commit it"
    );
}

/// Rows E1 to E3.
#[test]
fn is_building_is_true_where_it_should_be() {
    let nix = harness!();
    let of = |of: &str| nix.eval(&config("{ containers.web = { }; }", of));
    let flags = "c: { any = c.container.isBuilding; each = lib.mapAttrs (_: c: c.isBuilding) c.containers; }";
    let none = json!({"any": false, "each": {"processes": false, "shell": false, "web": false}});
    assert_eq!(of(&format!("({flags}) config")), none);
    // What depends on it, in each container's own evaluation.
    let modules = r#"
        ({ pkgs, config, lib, ... }: {
          containers.web = { };
          env.ANY = lib.boolToString config.container.isBuilding;
          env.WEB = lib.boolToString config.containers.web.isBuilding;
          env.SHELL_TOO = lib.boolToString config.containers.shell.isBuilding;
        })"#;
    let environment = |name: &str| {
        nix.eval(&config(
            modules,
            &format!(
                r#"let c = (extendModules {{ modules = [ {{
                       container.isBuilding = lib.mkForce true; containers.{name}.isBuilding = lib.mkForce true; }} ]; }}).config;
                   in [ c.env.ANY c.env.WEB c.env.SHELL_TOO c.devenv.root c.devenv.dotfile c.devenv.tmpdir c.devenv.runtime
                        (c.containers.{name}.derivation.drvPath == config.containerBuilds.{name}.derivation.drvPath) ]"#
            ),
        ))
    };
    let rest = ["/env", "/env/.devenv", "/tmp", "/tmp/devenv"];
    for (name, web, shell) in
        [("web", "true", "false"), ("shell", "false", "true"), ("processes", "false", "false")]
    {
        let mut expected: Vec<Value> = vec!["true".into(), web.into(), shell.into()];
        expected.extend(rest.map(Value::from));
        expected.push(true.into());
        assert_eq!(environment(name), Value::Array(expected), "{name}");
    }
    let outside = nix.eval(&config(modules, "[ config.env.ANY config.env.WEB config.devenv.root ]"));
    assert_eq!(outside[0], "false");
    assert_ne!(outside[2], "/env");

    // The variable.
    let expression = nixply_tests::expression(&nix, &config("", &format!("({flags}) config")));
    let mut command = nix.command("nix");
    command.args(["eval", "--impure", "--json", "--expr", &expression]).env("DEVENV_CONTAINER", "mine");
    let said: Value = serde_json::from_str(&nixply_tests::run(&mut command).ok()).unwrap();
    assert_eq!(said, json!({"any": true, "each": {"mine": true, "processes": false, "shell": false}}));
}

/// Trap 2, D2: null works everywhere that the types allow it.
#[test]
fn null_is_a_value() {
    let nix = harness!();
    let spec = |web: &str| {
        let path = nix.build(&config(
            &format!("{{ containers.web = {web}; }}"),
            "config.containerBuilds.web.derivation",
        ));
        (path.clone(), serde_json::from_str::<Value>(&std::fs::read_to_string(path).unwrap()).unwrap())
    };
    let (path, image) = spec(
        "{ copyToRoot = null; maxLayers = null; version = null; startupCommand = null; fromImage = null; }",
    );
    assert_eq!(image["image-config"].get("Cmd"), None);
    let reference = nix.eval(&config(
        "{ containers.web.version = null; containers.web.copyToRoot = null; }",
        "config.containers.web.reference",
    ));
    let hash = reference.as_str().unwrap().strip_prefix("devenv-shell-web:").unwrap().to_owned();
    assert!(hash.len() == 32 && hash.chars().all(|c| c.is_ascii_alphanumeric()), "{hash}");
    assert!(path.to_str().unwrap().ends_with("-image-devenv-shell-web.json"));
    let (_, plain) = spec("{ copyToRoot = [ ]; startupCommand = null; }");
    assert_eq!(plain["layers"], image["layers"]);
    let script = nix.build(&config("{ containers.web.version = null; }", "config.containers.web.copyScript"));
    let script = std::fs::read_to_string(script).unwrap();
    assert!(script.contains("devenv-shell-web:") && !script.contains("web:latest"), "{script}");
}

#[test]
fn startup_commands_are_text_packages_or_lists() {
    let nix = harness!();
    let command = |value: &str| {
        let path = nix.build(&config(
            &format!("{{ containers.web = {{ copyToRoot = null; startupCommand = {value}; }}; }}"),
            "config.containerBuilds.web.derivation",
        ));
        let spec: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        spec["image-config"]["Cmd"].clone()
    };
    assert_eq!(command(r#""a 'b' $C""#), json!(["a 'b' $C"]));
    assert_eq!(command(r#"[ "-f" "/a b" ]"#), json!(["-f", "/a b"]));
    let package = command("pkgs.hello");
    assert!(package[0].as_str().unwrap().ends_with("/bin/hello"), "{package}");
    let script = command(r#"(pkgs.writeShellScript "script" "echo")"#);
    assert!(script[0].as_str().unwrap().ends_with("-script"), "{script}");
}

/// N5: where what is copied comes to lie, in a home layer that is the user's.
#[test]
fn copy_to_root_takes_folders_files_and_lists() {
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
    // What an image has of its own stays; links stay links; odd names are names.
    let odd = r#"(pkgs.runCommand "odd" { } ''
        mkdir -p $out/bin "$out/a folder"; touch $out/-dash $out/.hidden "$out/a folder/x y"; ln -s /nowhere $out/link
    '')"#;
    assert_eq!(
        homes(odd),
        [
            "-dash -> /env/-dash .hidden -> /env/.hidden a folder -> /env/a folder env env/-dash env/.hidden env/a folder \
          env/a folder/x y env/bin env/link -> /nowhere link -> /env/link"
        ]
    );
    // The project itself, named: what tools keep there is none of it, or each image would have its predecessor in it.
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at(".devenv/gc")).unwrap();
    std::fs::create_dir_all(at("dist")).unwrap();
    std::fs::write(at("dist/file"), "").unwrap();
    std::os::unix::fs::symlink("/nowhere", at("result")).unwrap();
    std::os::unix::fs::symlink("dist", at("link")).unwrap();
    let all = "dist -> /env/dist env env/dist env/dist/file env/link -> dist link -> /env/link";
    assert_eq!(homes(&format!("{}/.", folder.path().display())), [all]);
    // A link to a folder would lead nowhere.
    let linked = nix.try_build(&config(
        &format!("{{ containers.web.copyToRoot = {}; }}", at("link").display()),
        "(lib.last config.containerBuilds.web.layers).copyToRoot",
    ));
    assert!(linked.fails().contains("/link is a link to a folder: name the folder that it leads to"));
    // The whole project is in the home folder alone.
    let whole = nix.try_build(&config(
        "{ containers.web = { }; }",
        "(lib.last config.containerBuilds.web.layers).copyToRoot",
    ));
    let whole = std::path::PathBuf::from(whole.ok());
    assert!(whole.join("env/dist/mybinary").is_file() && !whole.join("dist").exists());
}

/// Links to files stay links, whatever they lead to, and wherever the project is.
#[test]
fn copy_to_root_link_stays_a_link() {
    let nix = harness!();
    let homes = |value: &str| {
        nix.try_build(&config(
            &format!("{{ containers.web.copyToRoot = {value}; }}"),
            "(lib.last config.containerBuilds.web.layers).copyToRoot",
        ))
    };
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().canonicalize().unwrap();
    let at = |name: &str| real.join(name);
    std::fs::create_dir_all(at("folder/deep")).unwrap();
    for file in ["real.txt", "folder/real.txt", ".hidden"] {
        std::fs::write(at(file), "content\n").unwrap();
    }
    let links = [
        ("link.txt", "real.txt"),
        ("dangling", "nowhere"),
        ("out", "folder/real.txt"),
        ("absolute", "/nowhere/file"),
        ("a link", "real.txt"),
        (".dot", ".hidden"),
        ("twice", "link.txt"),
    ];
    for (name, to) in
        links.iter().chain(&[("to-folder", "folder"), ("to-root", "/"), ("via-link", "to-folder")])
    {
        std::os::unix::fs::symlink(to, at(name)).unwrap();
    }
    let text = |name: &str| format!("\"{}/{name}\"", real.display());
    for (name, to) in links {
        // As text, and as a path where its name is one.
        let path = (!name.contains(' ')).then(|| text(name).replace('"', ""));
        for value in path.into_iter().chain([text(name), format!("[ {} ]", text(name))]) {
            let home = std::path::PathBuf::from(homes(&value).ok());
            let link = home.join("env").join(name);
            assert_eq!(std::fs::read_link(link).unwrap(), std::path::Path::new(to), "{value}");
            assert_eq!(std::fs::read_dir(home.join("env")).unwrap().count(), 1, "{value}");
            assert!(home.join(name).is_symlink(), "{value}");
        }
    }
    for name in ["to-folder", "to-root", "via-link"] {
        let said = homes(&text(name)).fails();
        let expected = format!(
            "copyToRoot: {}/{name} is a link to a folder: name the folder that it leads to",
            real.display()
        );
        assert!(said.contains(&expected), "{said}");
    }
    // On the way to it, links are as good as folders.
    let home = std::path::PathBuf::from(homes(&text("to-folder/real.txt")).ok());
    assert_eq!(std::fs::read_to_string(home.join("env/real.txt")).unwrap(), "content\n");
    let home = std::path::PathBuf::from(homes(&text("to-folder/deep")).ok());
    assert_eq!(std::fs::read_dir(home.join("env")).unwrap().count(), 0);
    // A project in the store, as a flake is.
    let stored = format!(
        "builtins.unsafeDiscardStringContext (builtins.path {{ path = {}; name = \"source\"; filter = path: type: type != \"unknown\"; }})",
        real.display()
    );
    for name in ["link.txt", "dangling", "real.txt", "folder/real.txt"] {
        let home = std::path::PathBuf::from(homes(&format!("(/. + ({stored}) + \"/{name}\")")).ok());
        let copied = home.join("env").join(std::path::Path::new(name).file_name().unwrap());
        assert_eq!(copied.is_symlink(), !name.ends_with("real.txt"), "{name}");
    }
    let said = homes(&format!("(/. + ({stored}) + \"/to-folder\")")).fails();
    assert!(said.contains("/to-folder is a link to a folder"), "{said}");
    // What is no file.
    let said = homes(&text("missing")).fails();
    assert!(said.contains(&format!("copyToRoot: {}/missing does not exist", real.display())), "{said}");
    nixply_tests::run(std::process::Command::new("mkfifo").arg(at("fifo"))).ok();
    let said = homes(&text("fifo")).fails();
    assert!(said.contains("/fifo is neither a file, a folder nor a link"), "{said}");
}

/// Several arguments are a program and its own; one is shell code. Either way the exit code is the command's.
#[test]
fn arguments_of_run_reach_their_program_as_they_are() {
    let nix = harness!();
    let entrypoint = nix.build(&format!(
        r#"import {}/nix/modules/containers/entrypoint.nix {{
             inherit pkgs;
             enter = pkgs.writeText "enter" ''
               export GREETING="good  morning" PS1="prompt> " PATH=/bin:/usr/bin
               greet() {{ echo "$GREETING, $1"; }}; export -f greet
               set -- of the hook
             '';
           }}"#,
        Nix::repository().display()
    ));
    let said = |arguments: &[&str]| {
        let said = nixply_tests::run(std::process::Command::new(&entrypoint).args(arguments));
        (said.code, said.stdout)
    };
    let says = |text: &str| (Some(0), text.to_owned());
    assert_eq!(said(&["sh", "-c", "exit 7"]), (Some(7), String::new()));
    assert_eq!(said(&["printf", "<%s>", "a  b"]), says("<a  b>"));
    let odd = [
        "printf",
        "<%s>",
        "",
        " ",
        "$GREETING",
        "${GREETING}",
        "-x",
        "--",
        "a\nb",
        "it's",
        "\"",
        "*",
        "`id`",
        "\\",
    ];
    let expected: String = odd[2..].iter().map(|word| format!("<{word}>")).collect();
    assert_eq!(said(&odd), says(&expected));
    assert_eq!(said(&["sh", "-c", "echo \"$1 $GREETING\"", "sh", "$HOME"]), says("$HOME good  morning\n"));
    assert_eq!(said(&["sh", "-c", "kill -9 $$"]).0, Some(137));
    assert_eq!(said(&["sh", "-c", "kill -TERM $$"]).0, Some(143));
    assert_eq!((said(&["nosuch", "program"]).0, said(&["/tmp", "x"]).0), (Some(127), Some(126)));
    assert_eq!((said(&["-c", "exit 7"]).0, said(&["", "x"]).0), (Some(127), Some(127)));
    // Builtins, and functions of the environment.
    assert_eq!(said(&["exit", "3"]).0, Some(3));
    assert_eq!(said(&["greet", "all  of you"]), says("good  morning, all  of you\n"));
    assert_eq!(said(&["env", "printenv", "PS1"]), says("prompt> \n"));
    // One is code, with its positional parameters for itself.
    assert_eq!(said(&["exit 7"]).0, Some(7));
    assert_eq!(
        said(&["printf '<%s>' \"$GREETING\" $#; for n in 1 2; do echo $n; done"]),
        says("<good  morning><0>1\n2\n")
    );
    assert_eq!(said(&["kill -9 $$"]).0, Some(137));
    assert_eq!((said(&["-x"]).0, said(&[""]), said(&[])), (Some(127), says(""), says("")));
}

/// Layers in the order from the bottom up, each without what those below it have.
#[test]
fn layers_lie_in_order_and_share_nothing() {
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
    // glibc, bash, the environment, the command, the home folder, the Nix database.
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

    // Not told from each other, but from the environment.
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

/// N6, and a base image's own files are not hidden by links.
#[test]
fn base_images_lie_below() {
    let nix = harness!();
    let base = r#"let base = (drop_in false).nix2container.buildImage {
        name = "base"; copyToRoot = pkgs.runCommand "base" { } "mkdir -p $out/mybinary; touch $out/mybinary/of-base"; }; in "#;
    let dist = format!("{}/examples/containers/artifacts/dist", Nix::repository().display());
    let modules = format!("{{ containers.web = {{ fromImage = base; copyToRoot = {dist}; }}; }}");
    let path = nix.build(&format!("{base}{}", config(&modules, "config.containerBuilds.web.derivation")));
    let spec: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let first = &spec["layers"][0]["paths"][0]["path"];
    assert!(first.as_str().unwrap().ends_with("-base"), "{first}");
    // The function is an argument of modules.
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

/// A derivation with a stdenv: its functions, arrays and variables of any text are there when the environment is entered.
#[test]
fn shells_are_entered_as_nix_develop_does() {
    let nix = harness!();
    let built = nix.build(
        &r#"let
            stdenv = pkgs.writeTextDir "setup" ''
              export PATH=${pkgs.coreutils}/bin''${PATH:+:$PATH}
              greet() { echo "greetings, $1"; }
              list=(one "two words" $'new\nline')
              declare -A map=([key]="a 'b' \"c\"" [other]='$d')
              readonly fixed=1
              unset never; declare -x nothing
            '';
            shell = derivation {
              name = "shell"; inherit (pkgs) system; inherit stdenv;
              builder = "${pkgs.bash}/bin/bash"; args = [ "-c" "exit 1" ];
              text = "it's \"quoted\"\n\${HOME} `x` \\ end "; HOME = "/homeless"; TMPDIR = "/nowhere";
              shellHook = "hooked=$((1 + 1)); greet hook";
              outputs = [ "out" "dev" ];
            };
            enter = import REPOSITORY/nix/modules/containers/shell-environment.nix { inherit pkgs shell; };
        in pkgs.writeScript "try" ''
          #!${pkgs.bash}/bin/bash
          export HOME=/env PATH=/before:${pkgs.coreutils}/bin
          source ${enter}
          printf '<%s>' "$text" "''${list[@]}" "''${map[key]}" "''${map[other]}" "$hooked" "$HOME" "$IN_NIX_SHELL"
          echo; greet you
          case $PATH in ${pkgs.coreutils}/bin:*/before:*) echo path;; *) echo "$PATH";; esac
          [ "$TMPDIR" = "$TMP" ] && [ -d "$TMPDIR" ] && rmdir "$TMPDIR" && echo temporary
          [ -z "''${fixed+x}" ] && echo free
        ''"#
        .replace("REPOSITORY", &Nix::repository().display().to_string()),
    );
    let said = nixply_tests::run(&mut std::process::Command::new(built)).ok();
    assert_eq!(
        said,
        "greetings, hook\n<it's \"quoted\"\n${HOME} `x` \\ end ><one><two words><new\nline><a 'b' \"c\"><$d><2></env><impure>\n\
         greetings, you\npath\ntemporary\nfree"
    );
}

/// honcho would pass over them.
#[test]
fn processes_that_honcho_cannot_name_are_an_error() {
    let nix = harness!();
    let said =
        nix.try_build(&config(r#"{ processes."web.api".exec = "serve"; }"#, "config.procfileScript")).fails();
    assert!(
        said.contains("processes.\"web.api\": honcho takes names of letters, digits, '_' and '-'"),
        "{said}"
    );
    let missing = r#"{ process.manager.implementation = "process-compose"; processes.a.exec = "a"; }"#;
    let said = nix.try_build(&config(missing, "config.procfileScript")).fails();
    assert!(
        said.contains("this nixpkgs has no process-compose: set process.managers.process-compose.package"),
        "{said}"
    );
}

/// A stop before the processes are started: they are not, and what is to be done at the end is done.
#[test]
fn a_stop_during_before_runs_after() {
    let nix = harness!();
    let script = nix.build(&config(
        r#"{ processes.web.exec = "echo started";
             process.manager.before = "echo before; sleep 600; echo more"; process.manager.after = "echo after $code"; }"#,
        "config.procfileScript",
    ));
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let mut running = nixply_tests::Running::start(&mut std::process::Command::new(&script));
        running.wait_until(std::time::Duration::from_secs(60), |running| running.stdout() == "before\n");
        // To all of the container, as its first process passes it on.
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

/// An image for another system is packed on the one that the program is for.
#[test]
fn images_for_other_systems_are_packed_here() {
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

/// What process-compose is told, where it is the manager.
#[test]
fn process_compose_gets_a_file() {
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
