//! A disk that is full while an image is written.

use std::process::Command;

use nixply_tests::{harness, run};

/// Writes an image to a file system of one megabyte, in a mount namespace of the test's own.
#[test]
fn a_full_disk_is_named_and_nothing_is_half_written() {
    let nix = harness!();
    let image = nix.build(r#"buildImage { name = "full"; config.Cmd = [ "${pkgs.bash}/bin/bash" ]; }"#);
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
        mount -t tmpfs -o size=1m none "$1" || exit 99
        "$2" layout "$3" "$1/image" --store-dir "$4"
        code=$?
        ls -A "$1"
        exit "$code"
    "#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.arg(folder.path()).arg(&nix.cli).arg(&image).arg(nix.store_dir());
    let output = run(&mut command);
    assert_eq!(output.code, Some(2), "{output:?}");
    assert_eq!(output.stdout, "", "nothing is left in the folder");
    assert!(output.stderr.starts_with("error: no space left on the device"), "{}", output.stderr);
}
