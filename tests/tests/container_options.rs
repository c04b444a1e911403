//! The options of containers: their types, defaults and descriptions.

use nixply_tests::modules::config;
use nixply_tests::{Nix, harness};
use serde_json::{Value, json};

/// A Nix function that returns a container's attributes in a form that is compared as JSON.
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

/// Checks the default of each option.
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
                "deps": [], "copyToRoot": 1, "reproducible": true, "maxLayers": 1, "ignore": [], "perms": [perm]
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
fn every_option_has_a_description() {
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
fn options_reference_is_up_to_date() {
    let nix = harness!();
    let page = Nix::repository().join("docs/reference/options.md");
    let made = nix.eval(&format!(
        "import {}/docs/reference/options.nix {{ inherit pkgs; }}",
        Nix::repository().display()
    ));
    assert_eq!(
        std::fs::read_to_string(page).unwrap(),
        made.as_str().unwrap(),
        "docs/reference/options.md is stale: write it with `cargo xtask docs` and commit it"
    );
}

/// `isBuilding` is true only in the evaluation that builds a container, and with `DEVENV_CONTAINER`.
#[test]
fn is_building_is_true_only_for_the_built_container() {
    let nix = harness!();
    let of = |of: &str| nix.eval(&config("{ containers.web = { }; }", of));
    let flags = "c: { any = c.container.isBuilding; each = lib.mapAttrs (_: c: c.isBuilding) c.containers; }";
    let none = json!({"any": false, "each": {"processes": false, "shell": false, "web": false}});
    assert_eq!(of(&format!("({flags}) config")), none);
    // Values that depend on `isBuilding`, in each container's own evaluation.
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

    // The environment variable DEVENV_CONTAINER sets `isBuilding` too.
    let expression = nixply_tests::expression(&nix, &config("", &format!("({flags}) config")));
    let mut command = nix.command("nix");
    command.args(["eval", "--impure", "--json", "--expr", &expression]).env("DEVENV_CONTAINER", "mine");
    let shown: Value = serde_json::from_str(&nixply_tests::run(&mut command).ok()).unwrap();
    assert_eq!(shown, json!({"any": true, "each": {"mine": true, "processes": false, "shell": false}}));
}

#[test]
fn null_is_accepted_where_the_type_allows_it() {
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
fn startup_command_is_text_a_package_or_a_list() {
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
