//! Behaviour at the machine's limits: a full disk, few open files.

use std::fs;
use std::process::Command;

use nixply_tests::{harness, run, tiny};

/// Writes an image to a file system of one megabyte, in the test's own mount namespace.
#[test]
fn full_disk_is_reported_and_leaves_no_partial_files() {
    let nix = harness!();
    let image = nix.build(r#"buildImage { name = "full"; config.Cmd = [ "${pkgs.bash}/bin/bash" ]; }"#);
    let directory = tempfile::tempdir().unwrap();
    let script = r#"
        mount -t tmpfs -o size=1m none "$1" || exit 99
        "$2" layout "$3" "$1/image" --store-dir "$4"
        code=$?
        ls -A "$1"
        exit "$code"
    "#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.arg(directory.path()).arg(&nix.cli).arg(&image).arg(nix.store_dir());
    let output = run(&mut command);
    assert_eq!(output.code, Some(2), "{output:?}");
    assert_eq!(output.stdout, "", "the directory must be empty");
    assert!(output.stderr.starts_with("error: the disk or the user's quota is full; "), "{}", output.stderr);
}

/// Sixty nested directories (Nix allows 64 since 2.35), with files in them, and fewer allowed open files than
/// directories.
#[test]
fn deep_tree_needs_few_open_files() {
    let nix = harness!().private();
    let body = r#"let deep = sh "deep" ''
        mkdir $out; cd $out; at=0
        while [ $at -lt 60 ]; do mkdir b; echo $at > a; echo $at > c; cd b; at=$((at + 1)); done
      ''; in { inherit deep; image = buildImage { name = "deep"; layers = [ { deps = [ deep ]; } ]; }; }"#;
    let file = nix.directory().join("deep.nix");
    fs::write(&file, tiny(&nix, body)).unwrap();
    assert_eq!(nix.build_file(&file, "image", "image").ok(), "");
    let layout = nix.directory().join("layout");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 56; exec \"$@\"", "sh"]).arg(&nix.cli).arg("layout");
    command.arg(nix.directory().join("image")).arg(&layout).arg("--store-dir").arg(nix.store_dir());
    run(&mut command).ok();
    let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|blob| blob.unwrap().path());
    let layer = blobs.max_by_key(|blob| fs::metadata(blob).unwrap().len()).unwrap();
    let names = run(Command::new("tar").arg("-tPf").arg(layer)).ok();
    let count = |end: &str| names.lines().filter(|name| name.ends_with(end)).count();
    assert_eq!((count("/a"), count("/b"), count("/c")), (60, 60, 60));
}

/// The exit code of a failed write is 2, because the machine failed and not the input.
#[test]
fn unwritable_standard_output_is_an_error() {
    let nix = harness!();
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "echo '{\"arch\":\"amd64\"}' | \"$1\" build - --closure /dev/fd/3 3<<E > /dev/full\n[]\nE",
        "sh",
    ]);
    let output = run(command.arg(&nix.cli));
    assert_eq!(output.code, Some(2), "{output:?}");
    assert_eq!(output.stderr, "error: cannot write standard output: No space left on device (os error 28)\n");
}
