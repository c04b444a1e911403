//! Ctrl-C while an image is packed: the process ends soon and leaves no files.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nixply_tests::{Private, Running, harness, plugin_harness};

/// Maximum time between the signal and the end of the process. Much longer than an interrupt takes (one frame at
/// the highest level, seconds on a busy machine), and much shorter than the interrupted packing.
const SOON: Duration = Duration::from_secs(20);

/// A single incompressible file that takes at least a minute to pack.
const SLOW: &str = r#"rec {
    big = sh "big" "head -c 200000000 /dev/urandom > $out";
    slow = (builtins.nixplyImage { name = "slow"; compression = "zstd:19"; layers = [ { deps = [ big ]; } ]; }).outPath;
    fast = buildImage { name = "fast"; layers = [ { deps = [ big ]; } ]; };
  }"#;

/// Returns the names in a directory.
fn names(directory: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(name).collect();
    names.sort();
    names
}

/// Lets a program work for a moment (packing 200 MB at level 19 takes much longer), then sends the signal.
fn interrupt(
    command: &mut Command,
    signal: &str,
    mut working: impl FnMut(&Running) -> bool,
) -> nixply_tests::Output {
    let mut running = Running::start(command);
    running.wait_until(Duration::from_secs(60), &mut working);
    let mut ticks = 0;
    running.wait_until(Duration::from_secs(60), |_| {
        ticks += 1;
        ticks > 50
    });
    running.signal(signal);
    running.finish(SOON)
}

#[test]
fn interrupted_nix_prints_its_own_message() {
    let nix = plugin_harness!().private();
    let file = nix.file("x.nix", SLOW);
    let link = nix.directory().join("big");
    nixply_tests::run(nix.command("nix-build").arg(&file).args(["-A", "big", "-o"]).arg(link)).ok();
    let temporary = nix.directory().join("temporary");
    fs::create_dir(&temporary).unwrap();
    let before = nix.listing();
    for jobs in ["1", "2"] {
        let mut command = nix.command("nix");
        command.args(["eval", "--option", "nixply-jobs", jobs, "-f"]).arg(&file).arg("slow");
        command.env("TMPDIR", &temporary);
        let output = interrupt(&mut command, "INT", |nix| nix.stderr().contains("packing image 'slow'"));
        assert_eq!(output.stdout, "");
        assert!(output.stderr.contains("error: interrupted by the user"), "{}", output.stderr);
        assert!(!output.stderr.contains("cannot pack"), "{}", output.stderr);
        // Some versions of Nix raise the signal again after cleaning up.
        assert!(output.code.is_none_or(|code| code != 0), "{:?}", output.code);
        assert_eq!(nix.listing(), before);
        assert_eq!(names(&temporary), [""; 0]);
        assert_eq!(cached(&nix), [""; 0]);
    }
}

/// Returns the cache's layer entries, which must not include an incomplete layer.
fn cached(nix: &Private) -> Vec<String> {
    let directory = nix.root.join("cache/nixply/layers");
    if directory.exists() { names(&directory) } else { Vec::new() }
}

/// Builds an image with the file that is slow to compress, but without compression, and returns its spec.
fn spec(nix: &Private) -> String {
    let file = nix.file("x.nix", SLOW);
    let link = nix.directory().join("fast");
    nixply_tests::run(nix.command("nix-build").arg(&file).args(["-A", "fast", "-o"]).arg(link)).ok()
}

#[test]
fn layout_is_complete_or_absent() {
    let nix = harness!().private();
    let spec = spec(&nix);
    let directory = nix.directory().join("layouts");
    fs::create_dir(&directory).unwrap();
    for signal in ["INT", "TERM"] {
        let mut command = nix.nixply();
        command
            .args(["layout", "--quiet", "--jobs", "2", "--compression", "zstd:19", &spec])
            .arg(directory.join("layout"));
        let output = interrupt(&mut command, signal, |_| !names(&directory).is_empty());
        assert_eq!((output.code, output.stdout.as_str()), (Some(130), ""), "{signal}: {}", output.stderr);
        assert_eq!(output.stderr, "error: interrupted\n");
        assert_eq!(names(&directory), [""; 0], "{signal}");
    }
    // An existing layout is unchanged.
    let layout = directory.join("layout");
    let mut command = nix.nixply();
    nixply_tests::run(command.args(["layout", "--tag", "first", &spec]).arg(&layout)).ok();
    let before = (names(&directory), names(&layout), names(&layout.join("blobs/sha256")));
    let index = fs::read(layout.join("index.json")).unwrap();
    let mut command = nix.nixply();
    command.args(["layout", "--compression", "zstd:19", &spec]).arg(&layout);
    let output =
        interrupt(&mut command, "INT", |_| names(&layout.join("blobs/sha256")).len() > before.2.len());
    assert_eq!(output.code, Some(130), "{}", output.stderr);
    assert_eq!((names(&directory), names(&layout), names(&layout.join("blobs/sha256"))), before);
    assert_eq!(fs::read(layout.join("index.json")).unwrap(), index);
}

#[test]
fn build_output_is_complete_or_absent() {
    let nix = harness!().private();
    let file = nix.file("x.nix", SLOW);
    let link = nix.directory().join("big");
    let big = nixply_tests::run(nix.command("nix-build").arg(&file).args(["-A", "big", "-o"]).arg(link)).ok();
    let directory = nix.directory().join("output");
    fs::create_dir(&directory).unwrap();
    let request = nix.directory().join("request.json");
    let text = format!(
        r#"{{ "arch": "amd64", "compression": "zstd:19", "layers": [ {{ "deps": [ "{big}" ] }} ] }}"#
    );
    fs::write(&request, text).unwrap();
    let mut command = nix.nixply();
    command.args(["build", "-o"]).arg(directory.join("image.json")).arg(&request);
    let output = interrupt(&mut command, "INT", |_| true);
    assert_eq!(output.code, Some(130), "{}", output.stderr);
    assert!(output.stderr.ends_with("error: interrupted\n"), "{}", output.stderr);
    assert_eq!(names(&directory), [""; 0]);
    assert_eq!(cached(&nix), [""; 0]);
}
