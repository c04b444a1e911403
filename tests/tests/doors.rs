//! The doors give the same bytes: plugin, builder and program.

use std::fs;

use nixply_tests::{Nix, expression, harness, run};

/// An image with everything that can differ between doors.
const IMAGE: &str = r#"{
    name = "Doors";
    config = { entrypoint = [ "${pkgs.hello}/bin/hello" ]; Env = [ "A=<&>" ]; Labels.x = "é"; };
    copyToRoot = [ pkgs.bash ];
    layers = [ { deps = [ pkgs.coreutils ]; maxLayers = 3; metadata = { created_by = "test"; }; } ];
    perms = [ { path = pkgs.bash; regex = "bin/bash$"; mode = "0755"; uid = 1000; gid = null; uname = "u"; } ];
    maxLayers = 4;
    created = "2024-05-13T09:31:10Z";
    compression = "COMPRESSION";
}"#;

#[test]
fn plugin_and_builder_give_the_same_spec() {
    let nix = harness!();
    for compression in ["none", "gzip", "zstd"] {
        let image = IMAGE.replace("COMPRESSION", compression);
        let builder = fs::read_to_string(nix.build(&format!("buildImage {image}"))).unwrap();
        assert!(builder.contains("\"created\": \"2024-05-13T09:31:10Z\""));
        if nix.plugin.is_some() {
            let plugin = fs::read_to_string(nix.build(&format!("builtins.nixplyImage {image}"))).unwrap();
            assert_eq!(plugin, builder, "{compression}");
        }
    }
    let _ = (Nix::repository(), expression(&nix, ""), run(&mut nix.nixply()));
}
