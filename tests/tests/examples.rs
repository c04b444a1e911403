//! The examples, and the README's copy of one.

use std::fs;

use nixply_tests::{Nix, harness};

#[test]
fn the_readme_shows_the_example_as_it_is() {
    let read = |file: &str| fs::read_to_string(Nix::repository().join(file)).unwrap();
    let readme = read("README.md");
    let shown =
        readme.split("```nix\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of Nix");
    // The README's first line stands for the file's comment and its function head.
    let body = |text: &str| text[text.find("builtins.nixplyImage").expect("it is one")..].to_owned();
    assert_eq!(body(shown), body(&read("examples/python.nix")));
    assert!(shown.lines().count() <= 16, "an example of 15 lines");
}

#[test]
fn the_python_example_builds() {
    let nix = harness!();
    if nix.plugin.is_none() {
        nixply_tests::skipped("the example is for the plugin, which this Nix does not take");
        return;
    }
    let example = Nix::repository().join("examples/python.nix");
    let built = nix.build(&format!("import {} {{ inherit pkgs; }}", example.display()));
    let spec: serde_json::Value = serde_json::from_str(&fs::read_to_string(built).unwrap()).unwrap();
    assert_eq!(spec["layers"].as_array().unwrap().len(), 20);
    let program = spec["image-config"]["Entrypoint"][0].as_str().unwrap();
    assert!(program.ends_with("/bin/python3"), "{program}");
}
