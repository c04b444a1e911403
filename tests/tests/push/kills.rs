//! Clients and registries that are killed: the tag always has the complete old or the complete new image.

use std::process::Stdio;
use std::time::Duration;

use nixply_tests::engines::{Directory, Image, Registry};
use nixply_tests::{harness, run};

use super::servers::Own;
use super::{HELLO, nixply, whole};

/// Number of kills of each side. NIXPLY_TEST_KILLS sets another one.
const KILLS: u64 = 20;

#[test]
fn killed_clients_and_registries_leave_a_whole_tag() {
    let nix = harness!();
    let kills = std::env::var("NIXPLY_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let (directory, home) = (Directory::new(), Directory::new());
    let mut own = Own::start(directory.path(), "", "");
    let registry = Registry { address: own.address.clone() };
    let images = ["zstd:1", "gzip:1", "zstd:2", "gzip:2"]
        .map(|codec| Image::build(&nix, "", &HELLO.replace("CODEC", codec)));
    let to = format!("{}/killed:1", own.address);
    let push = |at: usize| {
        let mut command = nixply(&nix, home.path());
        command.arg("push").arg(&images[at].spec).arg(&to).arg("--no-cache");
        command
    };
    let digests: Vec<String> = (0..images.len())
        .map(|at| {
            run(&mut push(at)).ok();
            whole(&registry, "killed", "1")
        })
        .collect();
    // Times from the start of a push to its end, in steps that differ in each round.
    let pause = |round: u64| Duration::from_millis(round * 37 % 240);
    let mut wholes = [0; 2];
    for round in 0..kills {
        let at = usize::try_from(round).unwrap() % images.len();
        // Blobs that no tag names would make each push trivial.
        std::fs::remove_dir_all(
            directory.path().join("registry/docker/registry/v2/repositories/killed/_layers"),
        )
        .unwrap();
        let old = whole_or_repaired(&registry, &mut push((at + images.len() - 1) % images.len()));
        let mut child = push(at).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(pause(round));
        child.kill().unwrap();
        child.wait().unwrap();
        let found = whole(&registry, "killed", "1");
        assert!(found == old || found == digests[at], "client, round {round}");
        wholes[0] += 1;
    }
    for round in 0..kills {
        let at = usize::try_from(round).unwrap() % images.len();
        let child = push(at).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(pause(round));
        own.restart();
        let output = child.wait_with_output().unwrap();
        let found = whole(&registry, "killed", "1");
        if output.status.success() {
            assert_eq!(found, digests[at], "registry, round {round}");
        }
        assert!(
            digests.contains(&found),
            "registry, round {round}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        wholes[1] += 1;
    }
    assert_eq!(wholes, [kills; 2]);
}

/// Pushes an image, whose blobs the repository has lost, and returns its digest.
fn whole_or_repaired(registry: &Registry, push: &mut std::process::Command) -> String {
    run(push).ok();
    whole(registry, "killed", "1")
}
