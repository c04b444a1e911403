//! Compares `auto-layer` with the output of nixpkgs' `pkgs/build-support/docker/auto-layer.py` (at 2ff66c69) for a closure of
//! 77 paths: `golden/auto-layer/`. The script orders layers with closures of one size by the arbitrary order of Python's sets;
//! the golden files order them by their primary paths' names.

use std::fs;
use std::path::Path;

use nixply_planning::plan::{Options, plan};
use nixply_planning::{Closure, Strategy};

#[test]
fn auto_layer_makes_the_same_layers_as_nixpkgs() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/auto-layer");
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
    let closure = Closure::from_json(&read("closure.json")).unwrap();
    assert_eq!(closure.len(), 77);
    for max_layers in [1, 5, 20, 60, 100] {
        let options = Options { strategy: Strategy::AutoLayer, max_layers, ..Options::default() };
        let planned = plan(&closure, &options).unwrap();
        let planned: Vec<Vec<&str>> =
            planned.iter().map(|layer| layer.iter().map(|path| path.path.as_str()).collect()).collect();
        let expected: Vec<Vec<String>> =
            serde_json::from_str(&read(&format!("expected-{max_layers}.json"))).unwrap();
        assert_eq!(planned, expected, "{max_layers} layers");
    }
}
