//! Checks during evaluation: the Rust and the Nix of a nixpkgs, and the options of a devenv.nix with their
//! values.

use std::fs;

use nixply_packer::Codec;
use nixply_planning::Strategy;
use nixply_tests::{Nix, harness, run};
use serde_json::{Value, json};

/// Returns the path of a file of the repository, for a Nix expression.
fn file(name: &str) -> String {
    Nix::repository().join(name).display().to_string()
}

/// Returns an expression that calls nix/package.nix or nix/plugin.nix with the arguments that a nixpkgs with
/// this Rust, Nix and system passes.
fn package(file_name: &str, rust: &str, nix: &str, system: &str, more: &str) -> String {
    format!(
        r#"let
             call = import {file_name};
             lib = import {lib} // {{ platforms = {{ unix = [ ]; linux = [ ]; }}; }};
             platform = {{
               system = "{system}";
               isLinux = lib.hasSuffix "-linux" "{system}";
               canExecute = _: true;
               extensions.sharedLibrary = ".so";
             }};
             given = {{
               inherit lib;
               stdenv = {{ hostPlatform = platform; buildPlatform = platform; }};
               rustPlatform.buildRustPackage = args: args.version;
               rustc.version = "{rust}";
               nix = {{ {nix} }};
               installShellFiles = null; pkg-config = null; boost = null; nlohmann_json = null;
             }};
           in call (builtins.intersectAttrs (builtins.functionArgs call) given // {{ {more} }})"#,
        file_name = file(file_name),
        lib = file("tests/packages/lib.nix"),
    )
}

const NIX: &str = r#"pname = "nix"; version = "2.31.5";"#;

#[test]
fn nixpkgs_with_an_old_rust_is_refused_with_a_release_to_use() {
    let nix = harness!();
    for name in ["nix/package.nix", "nix/plugin.nix"] {
        for version in ["1.77.2", "1.87.0"] {
            let error = nix.eval_plain(&package(name, version, NIX, "x86_64-linux", "")).fails();
            let expected = format!(
                "nixply: compiling nixply needs Rust 1.88 or later, but this nixpkgs has Rust {version}: use nixpkgs 25.11, the first release with it"
            );
            assert!(error.contains(&expected), "{error}");
        }
        for version in ["1.88.0", "1.95.0"] {
            let got = nix.eval_plain(&package(name, version, NIX, "x86_64-linux", "")).ok();
            assert!(got.contains(env!("CARGO_PKG_VERSION")), "{got}");
        }
    }
}

#[test]
fn nixpkgs_versions_and_systems_without_a_plugin_are_refused() {
    let nix = harness!();
    let plugin = |package_of: &str, system: &str, more: &str| {
        nix.eval_plain(&package("nix/plugin.nix", "1.95.0", package_of, system, more))
    };
    let range = nix.eval_plain(&format!(
        "with import {}; \"${{builtins.concatStringsSep \", \" others}} and ${{oldest}} to ${{newest}}\"",
        file("nix/nix-versions.nix")
    ));
    let range: String = serde_json::from_str(&range.ok()).unwrap();
    for (package_of, expected) in [
        (
            r#"pname = "lix"; version = "2.95.2";"#,
            "there is no plugin for lix 2.95.2: it is for Nix itself, RANGE",
        ),
        (r#"pname = "determinate-nix"; version = "3.8.5";"#, "there is no plugin for determinate-nix 3.8.5"),
        (r#"name = "snix-0.1.0";"#, "there is no plugin for snix 0.1.0"),
        (
            r#"pname = "nix"; version = "2.18.9";"#,
            "the plugin has not been tested with Nix 2.18.9: it is for RANGE",
        ),
        (r#"pname = "nix"; version = "2.9.2";"#, "not been tested with Nix 2.9.2"),
        (r#"pname = "nix"; version = "2.80.0";"#, "not been tested with Nix 2.80.0"),
        (
            r#"pname = "nix"; version = "2.99.0pre20270101_0123abc";"#,
            "not been tested with Nix 2.99.0pre20270101_0123abc",
        ),
    ] {
        let expected = &expected.replace("RANGE", &range);
        let error = plugin(package_of, "x86_64-linux", "").fails();
        assert!(error.contains(&format!("nixply-plugin: {expected}")) || error.contains(expected), "{error}");
        assert!(error.contains("nixply-plugin.override { nix = pkgs.nixVersions.nix_2_31; }"), "{error}");
        assert!(error.contains("usePlugin = false"), "{error}");
    }
    for version in ["2.8.0", "2.24.0", "2.26.3", "2.31.5", "2.34.7", "2.35pre20260619_f8bb823a"] {
        let got = plugin(&format!("pname = \"nix\"; version = \"{version}\";"), "aarch64-linux", "").ok();
        assert!(got.contains(version), "{got}");
    }
    let got = plugin(r#"pname = "nix"; version = "2.99.0";"#, "x86_64-linux", "allowUntried = true;").ok();
    assert!(got.contains("2.99.0"), "{got}");
    for system in ["aarch64-darwin", "x86_64-darwin"] {
        let error = plugin(NIX, system, "allowUntried = true;").fails();
        assert!(
            error.contains(&format!("nixply-plugin: there is no plugin for {system}, only for Linux")),
            "{error}"
        );
    }
    // docs/nix-versions.md has the same list.
    let listed = nix
        .eval_plain(&format!("with import {}; [ oldest newest others ]", file("nix/nix-versions.nix")))
        .ok();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let page = fs::read_to_string(file("docs/nix-versions.md")).unwrap();
    let range = format!("| {} to {} |", listed[0].as_str().unwrap(), listed[1].as_str().unwrap());
    assert!(page.contains(&range), "{range}");
    for other in listed[2].as_array().unwrap() {
        assert!(page.contains(&format!("| {} (", other.as_str().unwrap())), "{other}");
    }
}

/// nixpkgs checks the version of Nix itself, but its message has no remedy.
#[test]
fn nixpkgs_for_a_newer_nix_is_refused_with_a_remedy() {
    let nix = harness!();
    let directory = tempfile::tempdir().unwrap();
    let lib = directory.path().join("lib");
    fs::create_dir(&lib).unwrap();
    fs::write(directory.path().join("default.nix"), "abort \"nixpkgs' own words\"").unwrap();
    let check = || {
        nix.eval_plain(&format!(
            "toString (import {} {})",
            file("nix/requirements.nix"),
            directory.path().display()
        ))
    };
    check().ok();
    fs::write(lib.join("minver.nix"), "\"2.3.17\"").unwrap();
    check().ok();
    fs::write(lib.join("minver.nix"), "\"99.1\"").unwrap();
    let error = check().fails();
    assert!(error.contains("needs Nix 99.1, and this is Nix 2."), "{error}");
    assert!(error.contains("use Nix 2.18 or later, or an older nixpkgs"), "{error}");
    fs::write(
        lib.join("minfeatures.nix"),
        "{ missing = [ { description = \"`builtins.nixVersion` reports at least 99.2\"; condition = false; } ]; }",
    )
    .unwrap();
    let error = check().fails();
    assert!(
        error.contains("needs `builtins.nixVersion` reports at least 99.2, and this is Nix 2."),
        "{error}"
    );
    // The functions and `nixply container` check `<nixpkgs>`.
    for expression in [
        format!("(import {} {{ }}).nixply", file("default.nix")),
        format!(
            "(import {} {{ root = {:?}; file = {:?}; name = \"shell\"; program = \"/bin/true\"; }}).container.spec",
            file("nix/container-interface.nix"),
            directory.path().display().to_string(),
            file("examples/containers/shell/devenv.nix"),
        ),
    ] {
        let mut command = nix.bare_command("nix", "");
        command.env("NIX_PATH", format!("nixpkgs={}", directory.path().display()));
        let error = run(command.args(["eval", "--impure", "--json", "--expr", &expression])).fails();
        assert!(error.contains("reports at least 99.2, and this is Nix 2."), "{expression}: {error}");
    }
    fs::write(lib.join("minfeatures.nix"), "{ missing = [ ]; }").unwrap();
    check().ok();
}

/// Options that only devenv has, and the messages about them.
#[test]
fn nixpkgs_options_of_devenv_refer_to_devenv() {
    let nix = harness!();
    let directory = tempfile::tempdir().unwrap();
    let environment = directory.path().join("devenv.nix");
    let evaluated = |text: &str| {
        fs::write(&environment, text).unwrap();
        nix.try_eval(&format!(
            r#"map (container: container.derivation.drvPath) (builtins.attrValues (import {} {{
                 inherit pkgs;
                 self = {};
                 modules = [ {} {{ nixply.package = nixply; nixply.usePlugin = false; }} ];
               }}).config.containerBuilds)"#,
            file("nix/evaluate.nix"),
            directory.path().display(),
            environment.display(),
        ))
    };
    let place = format!("of {}: ", environment.display());
    for (text, option) in [
        ("services.postgres.enable = true;", "services.postgres"),
        ("languages.rust.enable = true;", "languages.rust"),
        ("languages.python.venv.enable = true;", "languages.python.venv"),
        ("languages.python.version = \"3.11\";", "languages.python.version"),
        ("pre-commit.hooks.nixfmt.enable = true;", "pre-commit"),
        ("git-hooks.hooks.nixfmt.enable = true;", "git-hooks"),
        ("tasks.\"app:build\".exec = \"make\";", "tasks"),
        ("dotenv.enable = true;", "dotenv"),
        ("process.managers.overmind.enable = true;", "process.managers.overmind"),
        ("processes.web.exec = \"serve\"; processes.web.ready.http.get.port = 80;", "processes.web.ready"),
    ] {
        let said = evaluated(&format!("{{ ... }}: {{ {text} }}")).fails();
        assert!(
            said.contains(&format!(
                "nixply: cannot use the option `{option}` {place}it is an option of devenv"
            )),
            "{said}"
        );
        assert!(
            said.contains(
                "use devenv itself, with nixply's module for containers: see docs/guides/devenv.md"
            ),
            "{said}"
        );
        assert!(!said.contains("Did you mean"), "{said}");
    }
    // The message lists all options if one is missing.
    let said = evaluated("{ languages.rust.enable = true; }").fails();
    assert!(
        said.contains("they support go, java, javascript, lua, perl, php, python, ruby in `languages`."),
        "{said}"
    );
    // A typo is recognized.
    for (text, meant) in [
        ("pakages = [ ];", "packages"),
        ("languages.pyton.enable = true;", "languages.python"),
        ("processes.web.exce = \"serve\";", "processes.web.exec"),
        ("scripts.hi.exec = \"echo\"; scripts.hi.descripton = \"\";", "scripts.hi.description"),
    ] {
        let said = evaluated(&format!("{{ {text} }}")).fails();
        assert!(said.contains(&format!("{place}unknown option, did you mean `{meant}`?")), "{said}");
    }
    let said = evaluated("{ nobodys.option = 1; }").fails();
    assert!(said.contains(&format!("cannot use the option `nobodys` {place}nixply's own modules do not support it. If it is an option of devenv, use")), "{said}");
    // Options that depend on the environment are accepted unchanged.
    for text in [
        "{ config, lib, ... }: { languages = lib.optionalAttrs (!config.container.isBuilding) { python.enable = true; }; }",
        "{ config, lib, ... }: { process.manager = lib.optionalAttrs config.container.isBuilding { before = \"true\"; }; }",
        "{ config, lib, ... }: { packages = lib.optionals (!config.container.isBuilding) [ (throw \"\") ]; }",
    ] {
        evaluated(text).ok();
    }
}

/// An invalid option value is reported once, before anything is built.
#[test]
fn nixpkgs_option_values_are_checked_during_evaluation() {
    let nix = harness!();
    let container = |text: &str| {
        nix.try_eval(&format!(
            r#"(import {} {{
                 inherit pkgs;
                 self = {};
                 modules = [ {{ nixply.package = nixply; nixply.usePlugin = false; containers.web = {{ {text} }}; }} ];
               }}).config.containerBuilds.web.derivation.drvPath"#,
            file("nix/evaluate.nix"),
            file("examples/containers/artifacts"),
        ))
    };
    let codecs = Codec::forms();
    for (text, option, expected) in [
        ("compression = \"zip\";", "compression", &*codecs),
        ("compression = \"zstd:20\";", "compression", "zstd:1 to zstd:19"),
        ("compression = \"none:1\";", "compression", "zstd:1 to zstd:19"),
        (
            "strategy = \"sise\";",
            "strategy",
            "\"min-churn\", \"popularity\", \"auto-layer\", \"size\", \"single\", \"per-path\"",
        ),
        ("maxLayers = 0;", "maxLayers", "integer between 1 and 1000000"),
        ("layers = [ { maxLayers = -1; } ];", "layers.*.maxLayers", "integer between 1 and 1000000"),
    ] {
        let error = container(text).fails();
        let last = option.rsplit('.').next().unwrap();
        assert!(
            error.contains("containers.web.") && error.contains(&format!("{last}' is not of type")),
            "{text}: {error}"
        );
        assert!(error.contains(expected), "{text}: {error}");
        assert_eq!(error.matches("is not of type").count(), 1, "{text}: {error}");
    }
    for text in
        ["compression = \"zstd:19\";", "compression = \"gzip:012\";", "compression = null; maxLayers = null;"]
    {
        container(text).ok();
    }
    for (body, expected) in [
        (
            "buildImage { name = \"a\"; compression = \"zip\"; }",
            "nixply: buildImage: argument `compression` must be one of none, gzip, zstd, ",
        ),
        (
            "buildLayer { compression = \"zstd:99\"; }",
            "nixply: buildLayer: argument `compression` must be one of none, gzip",
        ),
        (
            "buildLayer { strategy = \"sise\"; }",
            "nixply: buildLayer: argument `strategy` must be one of min-churn, popularity, auto-layer, ",
        ),
    ] {
        let error = nix
            .try_eval(&format!(
                "let inherit ((drop_in false).nix2container) buildImage buildLayer; in ({body}).drvPath"
            ))
            .fails();
        assert!(error.contains(&expected.replace("\\\"", "\"")), "{body}: {error}");
    }
    // The builder frontend reports wrong values during evaluation, before Nix builds anything.
    for (arguments, expected) in [
        (
            "compression = \"zip\";",
            format!("argument `compression` must be {codecs}, got the string \"zip\""),
        ),
        ("maxLayers = \"3\";", "argument `maxLayers` must be a whole number from 1 to".into()),
        ("strategy = \"min-chrun\";", "argument `strategy` must be one of min-churn, ".into()),
        ("labels.a = 1;", "argument `labels.a` must be a string, got 1".into()),
        (
            "layers = [ { } { dep = [ ]; } ];",
            "unknown attribute `layers[1].dep`, expected one of copyToRoot, ".into(),
        ),
        (
            "layers = [ { perms = [ { path = pkgs.hello; uid = -1; } ]; } ];",
            "argument `layers[0].perms[0].uid` must be a whole number from 0 to".into(),
        ),
        (
            "healthcheck.tets = \"a\";",
            "unknown attribute `healthcheck.tets`, expected one of interval".into(),
        ),
    ] {
        let error = nix.try_eval(&format!("(buildImage {{ name = \"a\"; {arguments} }}).drvPath")).fails();
        assert!(error.contains(&format!("nixply: nix/build-image.nix: {expected}")), "{arguments}: {error}");
    }
}

/// The lists of codecs and strategies in nix/arguments.nix equal those of the packer.
#[test]
fn nixpkgs_lists_match_the_packer() {
    let nix = harness!();
    let strategies = nix.eval_plain(&format!("(import {}).image.strategy.values", file("nix/arguments.nix")));
    let strategies: Value = serde_json::from_str(&strategies.ok()).unwrap();
    let names: Vec<_> = Strategy::ALL.iter().map(|strategy| strategy.name()).collect();
    assert_eq!(strategies, json!(names));
    let mut texts = vec![
        "none".to_owned(),
        "none:1".into(),
        "zip".into(),
        String::new(),
        "zstd:".into(),
        "zstd:+3".into(),
        " gzip".into(),
    ];
    for codec in Codec::all().map(Codec::name) {
        texts.push(codec.into());
        texts.extend((0..=25).map(|level| format!("{codec}:{level}")));
        texts.push(format!("{codec}:007"));
    }
    let matches = nix.eval_plain(&format!(
        "map (text: builtins.match (import {}).image.compression.pattern text != null) (builtins.fromJSON {})",
        file("nix/arguments.nix"),
        serde_json::to_string(&serde_json::to_string(&texts).unwrap()).unwrap()
    ));
    let matches: Vec<bool> = serde_json::from_str(&matches.ok()).unwrap();
    for (text, matches) in texts.iter().zip(matches) {
        assert_eq!(text.parse::<Codec>().is_ok(), matches, "{text}");
    }
    let levels = nix.eval_plain(&format!("(import {}).codecLevels", file("nix/arguments.nix")));
    let levels: Value = serde_json::from_str(&levels.ok()).unwrap();
    for (codec, highest) in levels.as_object().unwrap() {
        let parses = |level: u64| format!("{codec}:{level}").parse::<Codec>().is_ok();
        let highest = highest.as_u64().unwrap();
        assert!(parses(highest) && !parses(highest + 1), "{codec}");
    }
}
