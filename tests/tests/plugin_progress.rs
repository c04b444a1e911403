//! The plugin's progress and settings in Nix.

use nixply_tests::{Nix, Output, plugin_harness, run};
use serde_json::Value;

/// Nix's numbers of a result type and a log level, from its `logging.hh`.
const PROGRESS: u64 = 105;
const WARN: u64 = 1;

/// Returns the events of `--log-format internal-json`.
fn events(output: &Output) -> Vec<Value> {
    let events = output.stderr.lines().filter_map(|line| line.strip_prefix("@nix "));
    events.map(|event| serde_json::from_str(event).unwrap()).collect()
}

#[test]
fn packing_is_an_activity_with_progress() {
    let nix = plugin_harness!().private();
    let file = nix.file(
        "x.nix",
        r#"(builtins.nixplyImage {
          name = "Some/Name";
          compression = "zstd";
          layers = [ { deps = [ (builtins.toFile "low" "low") ]; } ];
          config.Entrypiont = [ ];
          copyToRoot = sh "top" "mkdir $out; head -c 30000000 /dev/urandom > $out/random";
        }).outPath"#,
    );
    let mut command = nix.command("nix");
    command.args(["eval", "--log-format", "internal-json", "-v", "-f"]).arg(file);
    let output = run(&mut command);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let events = events(&output);
    let starts = |text: &str| -> Vec<&Value> {
        events.iter().filter(|event| event["action"] == "start" && event["text"] == text).collect()
    };
    let of = |id: &Value, action: &str| -> Vec<&Value> {
        events.iter().filter(|event| event["action"] == action && event["id"] == *id).collect()
    };
    let [image] = starts("packing image 'Some/Name'")[..] else { panic!("{}", output.stderr) };
    let id = &image["id"];
    assert_eq!(of(id, "stop").len(), 1);
    let progress: Vec<(u64, u64)> = of(id, "result")
        .iter()
        .filter(|event| event["type"] == PROGRESS)
        .map(|event| (event["fields"][0].as_u64().unwrap(), event["fields"][1].as_u64().unwrap()))
        .collect();
    assert!(progress.len() >= 4, "{progress:?}");
    assert!(progress.is_sorted_by_key(|(done, _)| *done), "{progress:?}");
    assert!(progress.iter().all(|(done, expected)| done <= expected), "{progress:?}");
    let (done, expected) = progress.last().unwrap();
    assert_eq!(done, expected);
    assert!(*done >= 30_000_000, "{done}");
    // Each layer is a nested activity, which ends before the image's activity.
    let at = |wanted: &Value| events.iter().position(|event| event == wanted).unwrap();
    for layer in ["packing layer 1", "packing layer 2"] {
        let [start] = starts(layer)[..] else { panic!("{layer}: {}", output.stderr) };
        // Nix 2.8 does not report the parent.
        assert!(start["parent"].is_null() || start["parent"] == *id, "{start}");
        let [stop] = of(&start["id"], "stop")[..] else { panic!("{layer} has no end") };
        assert!(at(image) < at(start) && at(start) < at(stop) && at(stop) < at(of(id, "stop")[0]), "{layer}");
    }
    assert!(starts("packing layer 3").is_empty());
    let warnings: Vec<_> =
        events.iter().filter(|event| event["action"] == "msg" && event["level"] == WARN).collect();
    let [warning] = warnings[..] else { panic!("{warnings:?}") };
    assert!(warning["msg"].as_str().unwrap().contains("config.Entrypiont is not part of OCI's image config"));
}

#[test]
fn failure_ends_the_activity() {
    let nix = plugin_harness!().private();
    let file = nix.file("x.nix", "(builtins.nixplyImage { name = \"x\"; parents = [ 3 ]; }).outPath");
    let mut command = nix.command("nix");
    let output = run(command.args(["eval", "--log-format", "internal-json", "-v", "-f"]).arg(file));
    let events = events(&output);
    let start = events.iter().find(|event| event["text"] == "packing image 'x'").expect("packing starts");
    let stop = events.iter().find(|event| event["action"] == "stop" && event["id"] == start["id"]);
    assert!(stop.is_some(), "{}", output.fails());
}

/// Returns Nix's settings, with these options before the command and these flags after it.
fn settings(nix: &Nix, options: &[&str], flags: &[&str], config: &str) -> Output {
    let plugin = nix.plugin.as_ref().map(|path| format!("plugin-files = {}\n", path.display()));
    let shown = |words: &[&str]| {
        let mut command = nix.bare_command("nix", &format!("{config}{}", plugin.clone().unwrap_or_default()));
        run(command.args(options).args(words).args(flags))
    };
    let new = shown(&["config", "show"]);
    // The command has another name until 2.20, which later versions keep as an alias.
    if new.code == Some(0) { new } else { shown(&["show-config"]) }
}

#[test]
fn plugin_settings_are_settings_of_nix() {
    let nix = plugin_harness!();
    let jobs = |options: &[&str], config: &str| {
        let shown = settings(&nix, options, &[], config).ok();
        let lines: Vec<_> =
            shown.lines().filter(|line| line.starts_with("nixply-jobs ")).map(str::to_owned).collect();
        lines
    };
    assert_eq!(jobs(&[], ""), ["nixply-jobs = 0"]);
    assert_eq!(jobs(&["--option", "nixply-jobs", "3"], ""), ["nixply-jobs = 3"]);
    assert_eq!(jobs(&[], "nixply-jobs = 5\n"), ["nixply-jobs = 5"]);
    let wrong = settings(&nix, &["--option", "nixply-jobs", "many"], &[], "").fails();
    assert!(wrong.contains("setting 'nixply-jobs' has invalid value 'many'"), "{wrong}");
    let json: Value = serde_json::from_str(&settings(&nix, &[], &["--json"], "").ok()).unwrap();
    assert_eq!(json["nixply-jobs"]["value"], 0);
    assert_eq!(json["nixply-cache-dir"]["value"], "");
    let description = json["nixply-jobs"]["description"].as_str().unwrap();
    assert_eq!(description.trim_end(), "Number of threads that pack an image; 0 means one per core.");
    // Without the plugin, Nix does not know the setting.
    let bare = Nix { plugin: None, ..nix.clone() };
    assert!(!settings(&bare, &[], &[], "").ok().contains("nixply-jobs"));
}
