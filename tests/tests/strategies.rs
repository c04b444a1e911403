//! `nixply strategies` with git revisions, which a real Nix builds.

use std::fs;
use std::process::Command;

use nixply_tests::{Output, Private, harness, run, tiny};
use serde_json::Value;

/// A repository with an image and a tool. Each revision has a tag.
struct Repository<'n> {
    nix: &'n Private,
}

impl<'n> Repository<'n> {
    fn new(nix: &'n Private) -> Self {
        fs::create_dir(nix.directory().join("project")).unwrap();
        let repository = Self { nix };
        repository.git(&["init", "--quiet"]);
        let image = |version: &str| {
            let library = r#"library = sh "library" "echo 1234567890 > $out";"#;
            let app = format!(r#"app = sh "app-{version}" "echo {version} ${{library}} > $out";"#);
            let image = r#"image = buildImage { name = "app"; config.Cmd = [ app ]; }"#;
            tiny(nix, &format!("let {library} {app} in {{ inherit app; {image}; }}"))
        };
        repository.commit("v1", "default.nix", &image("1"));
        repository.commit("v2", "README.md", "Of no image.");
        repository.commit("v3", "default.nix", "throw \"not today\"");
        repository.commit("v4", "default.nix", &image("2"));
        repository
    }

    fn git(&self, words: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]);
        run(command.args(words).current_dir(self.nix.directory().join("project"))).ok()
    }

    fn commit(&self, tag: &str, file: &str, text: &str) {
        fs::write(self.nix.directory().join("project").join(file), text).unwrap();
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "-m", tag]);
        self.git(&["tag", tag]);
    }

    fn study(&self, words: &[&str]) -> Output {
        let mut command = self.nix.nixply();
        command.args(["strategies", "--file", "default.nix", "--strategy", "single"]).args(words);
        run(command.current_dir(self.nix.directory().join("project")))
    }
}

#[test]
fn git_revisions_form_a_history() {
    let nix = harness!().private();
    let repository = Repository::new(&nix);
    let words =
        ["--git-revisions", "v1..v4", "--installable", "image", "--installable", "app", "--format", "json"];
    let output = repository.study(&words);
    let broken = repository.git(&["rev-parse", "--short=12", "v3"]);
    let warning = format!("warning: skipping revision {}: Nix cannot build ", broken.trim());
    assert!(output.stderr.contains(&warning) && output.stderr.contains("not today"), "{}", output.stderr);
    let report: Value = serde_json::from_str(&output.ok()).unwrap();
    let history = &report["histories"][0];
    assert_eq!(
        (&history["history"], &history["images"]),
        (&"project".into(), &serde_json::json!(["app", "image"]))
    );
    let names = ["v1", "v4"].map(|tag| repository.git(&["rev-parse", "--short=12", tag]).trim().to_owned());
    assert_eq!(history["releases"], serde_json::json!(names));
    // The spec itself is in no image; both have the app and the library.
    assert_eq!((&history["paths"], &history["floor"]["layersChanged"]), (&2.into(), &1.0.into()));

    assert_eq!(repository.git(&["status", "--porcelain"]), "", "the repository must not change");
    assert_eq!(repository.git(&["rev-parse", "--abbrev-ref", "HEAD"]).lines().count(), 1);
}

#[test]
fn unusable_revisions_are_reported_by_name() {
    let nix = harness!().private();
    let repository = Repository::new(&nix);
    let error =
        |words: &[&str]| repository.study(&[&["--quiet", "--installable", "image"], words].concat()).fails();
    let missing = error(&["--git-revisions", "v1..v9"]);
    assert!(
        missing.starts_with("error: ") && missing.contains("project has no revision \"v9\""),
        "{missing}"
    );
    let broken = error(&["--git-revisions", "v3..v3"]);
    let expected = "error: cannot build any of 1 revision\nhint: run nix build in a checkout of one of them to see the reason\n";
    assert!(broken.ends_with(expected), "{broken}");
    let unchanged = error(&["--git-revisions", "v1..v2"]);
    assert!(
        unchanged.ends_with("project: it has 1 release, and nothing moves before the second\n"),
        "{unchanged}"
    );
    let elsewhere = error(&["--git-revisions", "v1..v2", "/"]);
    assert!(elsewhere.starts_with("error: /: fatal: not a git repository"), "{elsewhere}");
}
