//! A plugin in a Nix for which it was not built disables itself with one message.

use std::process::Command;

use nixply_tests::{Nix, harness, needs, plugin_harness, run};

/// Runs `nix eval` of this Nix with a plugin, which may be for another Nix.
fn eval_with(nix: &Nix, plugin: &str, expression: &str) -> nixply_tests::Output {
    let mut command: Command = nix.bare_command("nix", &format!("plugin-files = {plugin}\n"));
    run(command.args(["eval", "--impure", "--json", "--expr", expression]))
}

#[test]
fn plugin_for_another_nix_prints_one_line_and_is_disabled() {
    let nix = harness!();
    let plugin = needs!("NIXPLY_TEST_OTHER_PLUGIN");
    if plugin.is_empty() {
        nixply_tests::skipped(
            "no plugin for another Nix has been built; cargo xtask test --nix all builds two",
        );
        return;
    }
    for (expression, value) in [
        ("1 + 1", "2"),
        ("builtins ? nixplyImage", "false"),
        ("builtins ? nixplyPlan", "false"),
        // Other evaluation works: parsing, the store, JSON.
        ("builtins.fromJSON (builtins.readFile (builtins.toFile \"x\" \"[3]\"))", "[3]"),
    ] {
        let output = eval_with(&nix, &plugin, expression);
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        assert_eq!(output.stdout.trim_end(), value, "{expression}");
        let lines: Vec<_> = output.stderr.lines().filter(|line| line.contains("nixply")).collect();
        let [line] = lines[..] else { panic!("{expression}:\n{}", output.stderr) };
        assert!(line.starts_with("warning: nixply: plugin not loaded: it was built for Nix "), "{line}");
        assert!(
            line.ends_with("; build it for this Nix, or use the functions in nix/ with usePlugin = false"),
            "{line}"
        );
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
        match nix.name.as_str() {
            "sid" => assert!(line.contains(", but this nix exports no symbols for plugins"), "{line}"),
            _ => {
                let version = run(nix.bare_command("nix", "").arg("--version")).ok();
                let version = version.split_whitespace().last().unwrap().to_owned();
                assert!(line.contains(&format!(", but this is Nix {version}; ")), "{line}");
            }
        }
    }
}

#[test]
fn builder_frontend_works_with_a_disabled_plugin() {
    let nix = harness!();
    let plugin = needs!("NIXPLY_TEST_OTHER_PLUGIN");
    if plugin.is_empty() {
        nixply_tests::skipped(
            "no plugin for another Nix has been built; cargo xtask test --nix all builds two",
        );
        return;
    }
    let other = Nix { plugin: Some(plugin.into()), ..nix.clone() };
    let image = "{ name = \"declined\"; layers = [ { deps = [ (builtins.toFile \"f\" \"\") ]; } ]; }";
    // build-image.nix checks the evaluator and finds no plugin.
    let body = format!(
        "import {}/nix/build-image.nix {{ builder = \"${{builtins.path {{ path = {}; name = \"nixply\"; }}}}\"; }} {image}",
        Nix::repository().display(),
        nix.cli.display()
    );
    assert_eq!(other.build(&body), nix.build(&format!("buildImage {image}")));
}

#[test]
fn matching_plugin_loads_silently() {
    let nix = plugin_harness!();
    let plugin = nix.plugin.as_ref().unwrap().display().to_string();
    let output = eval_with(
        &nix,
        &plugin,
        "[ (builtins ? nixplyImage) (builtins ? nixplyPlan) (builtins ? __nixplyImage) ]",
    );
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
    assert_eq!(output.stdout.trim_end(), "[true,true,false]");
    // The same in pure evaluation.
    let mut command = nix.command("nix");
    let output = run(command.args(["eval", "--json", "--expr", "builtins ? nixplyImage"]));
    assert_eq!((output.code, output.stderr.as_str(), output.stdout.trim_end()), (Some(0), "", "true"));
}
