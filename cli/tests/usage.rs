//! Errors of the command line.

use std::process::{Command, Stdio};

use nixply_packer::Codec;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nixply"));
    command.args(arguments).env_clear().env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

fn said(arguments: &[&str]) -> String {
    let output = command(arguments).output().unwrap();
    assert!(matches!(output.status.code(), Some(1 | 2)) && output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn invalid_values_are_usage_errors() {
    let number = |most: &str| format!("expected a whole number from 1 to {most}");
    let codec = format!("expected {}", Codec::forms());
    for (arguments, value, option, why) in [
        (
            &["cache", "stat", "--cache-limit", "many"][..],
            "many",
            "--cache-limit <SIZE>",
            "expected a size such as 500MB or 20GiB, or a number of bytes".to_owned(),
        ),
        (&["plan", "r.json", "--max-layers", "-3"], "-3", "--max-layers <N>", number("1000000")),
        (&["build", "r.json", "--max-layers", "lots"], "lots", "--max-layers <N>", number("1000000")),
        (&["strategies", "x", "--max-layers", "5,-1"], "-1", "--max-layers <N,...>", number("65535")),
        (&["build", "r.json", "--max-layers", "1000001"], "1000001", "--max-layers <N>", number("1000000")),
        (
            &["build", "r.json", "--jobs", "-1"],
            "-1",
            "--jobs <N>",
            "expected a whole number of at least 0".to_owned(),
        ),
        (&["layout", "a", "b", "--compression", "xz"], "xz", "--compression <CODEC>", codec.clone()),
        (&["layout", "a", "b", "-c", "zstd:99"], "zstd:99", "--compression <CODEC>", codec.clone()),
        (
            &["serve", "a", "--compression", "xz"],
            "xz",
            "--compression <CODEC>",
            codec.replace("expected one of none", "expected auto or one of none"),
        ),
        (
            &["layout", "a", "b", "--compression", "zsdt:9"],
            "zsdt:9",
            "--compression <CODEC>",
            format!("{codec}; did you mean \"zstd:9\"?"),
        ),
        (
            &["serve", "a", "--listen", "80"],
            "80",
            "--listen <ADDR:PORT>",
            "expected an address of this machine and a port, such as 127.0.0.1:5000, [::1]:5000, or 127.0.0.1:0 for a free port"
                .to_owned(),
        ),
        (
            &["pull", "r.example/a", "a", "--plain-http", "http://r.example"],
            "http://r.example",
            "--plain-http <HOST[:PORT]>",
            "name only the host, perhaps with a port, as in registry.example:5000".to_owned(),
        ),
    ] {
        let said = said(arguments);
        let expected = format!("error: invalid value '{value}' for '{option}': {why}\n\n");
        assert!(said.starts_with(&expected), "{said}\n{expected}");
        assert_eq!(said.matches(value).count(), 1, "the message contains the value once: {said}");
        assert!(!said.contains("-- -"), "{said}");
    }
    for (value, suggestion) in [("zip", ""), ("min-chrun", "; did you mean \"min-churn\"?")] {
        let said = said(&["strategies", "x", "--strategy", value]);
        let expected =
            format!("error: invalid value '{value}' for '--strategy <NAME>': expected one of min-churn, ");
        assert!(said.starts_with(&expected), "{said}");
        assert!(said.contains(&format!(", min-churn+fleet{suggestion}\n\n")), "{said}");
    }
}

/// Misspelt commands get a suggestion, and commands of other tools get the equivalent.
#[test]
fn unknown_subcommands_get_suggestions() {
    let similar = |name: &str| format!("\n\n  tip: a similar subcommand exists: '{name}'\n\nUsage: ");
    for (arguments, wrong, then) in [
        (&["container", "rn", "shell"][..], "rn", similar("run")),
        (&["container", "biuld", "shell"], "biuld", similar("build")),
        (&["buidl", "x"], "buidl", similar("build")),
        (&["cache", "statt"], "statt", similar("stat")),
        (&["hlep"], "hlep", "\n\n  tip: `nixply --help` lists the commands\n\nUsage: ".to_owned()),
        (
            &["help", "--help"],
            "--help",
            "\n\n  tip: `nixply --help` lists the commands\n\nUsage: ".to_owned(),
        ),
        (
            &["help", "container", "--help"],
            "--help",
            "\n\n  tip: `nixply container --help` lists the commands\n\nUsage: ".to_owned(),
        ),
        (
            &["help", "build", "--help"],
            "--help",
            "\n\n  tip: `nixply build --help` describes the command\n\nUsage: ".to_owned(),
        ),
        (&["buildr"], "buildr", similar("build")),
        (&["refernce"], "refernce", "\n\n  tip: `nixply --help` lists the commands\n\nUsage: ".to_owned()),
        (&["run", "shell"], "run", "\n\n  tip: use `nixply container run shell`\n\nUsage: ".to_owned()),
    ] {
        let said = said(arguments);
        let expected = format!("error: unrecognized subcommand '{wrong}'{then}");
        assert!(said.starts_with(&expected), "{said}\n{expected}");
    }
}

#[test]
fn unknown_flags_with_names_of_request_arguments_get_a_tip() {
    for (command, flag, argument) in [
        ("build", "--compression", "compression"),
        ("plan", "--compression", "compression"),
        ("build", "--copy-to-root", "copyToRoot"),
    ] {
        let said = said(&[command, "r.json", flag, "zstd"]);
        let expected = format!(
            "error: unexpected argument '{flag}' found\n\n  tip: set the argument `{argument}` of the request\n\nUsage: "
        );
        assert!(said.starts_with(&expected), "{said}\n{expected}");
    }
    // Other unknown flags, and commands without a request.
    for arguments in [&["build", "r.json", "--comprension"][..], &["inspect", "i.json", "--compression"]] {
        let said = said(arguments);
        assert!(!said.contains("of the request"), "{said}");
    }
}

#[test]
fn usage_errors_ignore_options_from_the_environment() {
    let output = command(&["diff", "old.json"]).env("NIX_STORE_DIR", "/nix/store").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("Usage: nixply diff [OPTIONS] <OLD> <NEW>\n"), "{said}");
}

#[test]
fn completions_omit_hidden_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = command(&["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        let completes = |name: &str| {
            let forms = [format!("nixply,{name})"), format!("({name})"), format!("-a \"{name}\"")];
            forms.iter().any(|form| script.contains(form.as_str()))
        };
        assert!(output.status.success() && completes("inspect"), "{shell}");
        for hidden in ["builder", "reference", "man"] {
            assert!(!completes(hidden), "{shell}: {hidden}");
        }
    }
}

#[test]
fn plan_prints_that_an_image_has_no_layers() {
    let directory = tempfile::tempdir().unwrap();
    let put = |name: &str, content: &str| std::fs::write(directory.path().join(name), content).unwrap();
    put("r.json", r#"{"arch":"amd64","config":{"Cmd":["/bin/app"]}}"#);
    put("c.json", "[]");
    put("fleet.json", r#"{"a":{"arch":"amd64","config":{}},"b":{"arch":"amd64","config":{}}}"#);
    put("i.json", r#"{"version":1,"layers":[],"arch":"amd64"}"#);
    let run = |arguments: &[&str]| {
        let output = command(arguments).current_dir(directory.path()).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let none = "the image has no layers: the request names no store path\n";
    assert_eq!(run(&["plan", "r.json", "--closure", "c.json"]), none);
    assert_eq!(run(&["plan", "r.json", "--closure", "c.json", "--json"]), "[]\n");
    assert_eq!(
        run(&["plan", "--images", "fleet.json", "--closure", "c.json"]),
        format!("image a\n{none}image b\n{none}")
    );
    let shown = run(&["inspect", "i.json"]);
    assert!(shown.starts_with("the image has no layers\nimage id   sha256:"), "{shown}");
    assert!(shown.ends_with("total      0 B in 0 layers\n"), "{shown}");
    for arguments in [&["explain", "i.json", "--closure", "c.json"][..], &["diff", "i.json", "i.json"]] {
        assert!(!run(arguments).trim().is_empty(), "{arguments:?}");
    }
}
