//! A spec names files of this machine: the program reads only those in the store, unless a flag allows others.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

const PATH: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a";

/// A directory with a store, whose only path is a file.
struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        fs::create_dir(world.0.path().join("store")).unwrap();
        fs::write(world.0.path().join("store").join(PATH.rsplit('/').next().unwrap()), "text").unwrap();
        fs::write(world.0.path().join("secret"), "secret").unwrap();
        world
    }

    /// Writes a spec with one layer, described by `what`.
    fn spec(&self, what: &str) {
        // sha256 of "text" and of "secret".
        let digest = match what.contains("secret") {
            true => "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b",
            false => "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1",
        };
        let layer = format!(
            r#"{{"digest": "sha256:{digest}", "size": 0, "diff_ids": "sha256:{digest}", "mediatype": "m", {what}}}"#
        );
        fs::write(self.0.path().join("image.json"), format!(r#"{{"version": 1, "layers": [{layer}]}}"#))
            .unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nixply"));
        command.args(arguments).env("NIXPLY_CACHE_DIR", self.0.path().join("cache"));
        command.current_dir(self.0.path());
        command
    }

    fn layout(&self, flags: &[&str]) -> Output {
        let command = ["layout", "image.json", "out", "--real-store-dir", "store", "--quiet"];
        self.command(&[&command, flags].concat()).output().unwrap()
    }

    /// Returns the server's first line: a reference, or an error.
    fn serve(&self, flags: &[&str]) -> (String, String) {
        let command = ["serve", "image.json", "--real-store-dir", "store"];
        let mut command = self.command(&[&command, flags].concat());
        let mut server = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut out, mut error) = (String::new(), String::new());
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut out).unwrap();
        BufReader::new(server.stderr.take().unwrap()).read_line(&mut error).unwrap();
        let _ = server.kill();
        server.wait().unwrap();
        (out, error)
    }

    /// Runs `nixply skopeo` with a skopeo that does nothing.
    fn skopeo(&self, verb: &str) -> Output {
        let mut command = self.command(&["skopeo", verb, "nix:image.json", "dir:out"]);
        command.env("NIXPLY_SKOPEO", "/bin/true").output().unwrap()
    }
}

fn error(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn layers_with_paths_outside_the_store_are_errors() {
    let world = World::new();
    for path in [
        "/etc",
        "/nix/store/../../etc",
        "/nix/store",
        "secret",
        &format!("{PATH}/../../secret"),
        &format!("{PATH}/b"),
    ] {
        world.spec(&format!(r#""paths": [{{"path": "{path}"}}]"#));
        let start = "error: image.json: layers[0].paths[0].path must be a store path, as in /nix/store/HASH-NAME, not ";
        for flags in [&[][..], &["--allow-outside-store"]] {
            let said = error(&world.layout(flags));
            assert!(said.starts_with(start) && said.contains(&format!("{path:?}")), "{said}");
            let (out, said) = world.serve(flags);
            assert!(out.is_empty() && said.starts_with(start), "{said}");
        }
        for verb in ["copy", "inspect"] {
            let said = error(&world.skopeo(verb));
            assert!(said.starts_with(start), "{said}");
        }
    }
    assert!(!world.0.path().join("out").exists(), "nothing is written");
}

#[test]
fn layer_files_outside_the_store_need_a_flag() {
    let world = World::new();
    world.spec(&format!(r#""layer-path": "{PATH}""#));
    assert_eq!(error(&world.layout(&[])), "");
    assert!(world.serve(&[]).0.ends_with("/image:latest\n"));

    let secret = world.0.path().join("secret");
    world.spec(&format!(r#""layer-path": "{}""#, secret.display()));
    let start =
        "error: image.json: layer 1 of the image spec is a file outside the store, so it is not read: ";
    let hint = "\nhint: pass --allow-outside-store";
    let said = error(&world.layout(&[]));
    assert!(said.starts_with(start) && said.contains(&*secret.to_string_lossy()), "{said}");
    assert!(said.contains(hint), "{said}");
    let (out, said) = world.serve(&[]);
    assert!(out.is_empty() && said.starts_with(start), "{said}");

    assert_eq!(error(&world.layout(&["--allow-outside-store"])), "");
    assert!(world.serve(&["--allow-outside-store"]).0.ends_with("/image:latest\n"));
    // skopeo needs no flag: the files stay with the user who can read them.
    for verb in ["copy", "inspect"] {
        assert_eq!(error(&world.skopeo(verb)), "", "{verb}");
    }
}

/// A spec in a store implies that store.
#[test]
fn default_store_is_that_of_the_spec() {
    let world = World::new();
    let directory = fs::canonicalize(world.0.path()).unwrap();
    let (store, file) = (directory.join("store"), PATH.rsplit('/').next().unwrap());
    let digest = "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1";
    let spec = |store: &std::path::Path| {
        format!(
            r#"{{"version": 1, "layers": [{{"digest": "sha256:{digest}", "size": 0, "diff_ids": "sha256:{digest}", "mediatype": "m",
                "paths": [{{"path": "{0}/{file}"}}], "layer-path": "{0}/{file}"}}]}}"#,
            store.display()
        )
    };
    let image = store.join("23456789abcdfghijklmnpqrsvwxyz01-image-x.json");
    fs::write(&image, spec(&store)).unwrap();
    std::os::unix::fs::symlink(&image, directory.join("result")).unwrap();
    let run = |arguments: &[&str], variable: Option<&str>| {
        let mut command = world.command(arguments);
        command.env_remove("NIX_STORE_DIR").envs(variable.map(|dir| ("NIX_STORE_DIR", dir)));
        command.output().unwrap()
    };
    let output = run(&["layout", "result", "out"], None);
    assert!(output.status.success(), "{}", error(&output));
    // A flag overrides that.
    let output = run(&["layout", "result", "out"], Some("/nix/store"));
    assert!(error(&output).contains("hint: pass --store-dir"), "{}", error(&output));
    // A spec elsewhere does not imply a store.
    fs::write(directory.join("image.json"), spec(&store)).unwrap();
    let output = run(&["layout", "image.json", "out"], None);
    assert!(error(&output).contains("hint: pass --store-dir"), "{}", error(&output));
    fs::write(&image, spec(&directory)).unwrap();
    let output = run(&["layout", "result", "out"], None);
    assert!(!output.status.success(), "the paths must be in the spec's store");
}
