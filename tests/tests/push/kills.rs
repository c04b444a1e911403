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
    // From the start of a push to after its end, in steps that differ in each round.
    let pause = |round: u64| Duration::from_millis(round * 37 % 240);
    let repositories = directory.path().join("registry/docker/registry/v2/repositories");
    // Returns the digest of the old image, in a repository without the blobs of other images.
    let fresh = |at: usize| {
        std::fs::remove_dir_all(repositories.join("killed")).unwrap();
        let old = (at + 1) % images.len();
        run(&mut push(old)).ok();
        assert_eq!(whole(&registry, "killed", "1"), digests[old]);
        &digests[old]
    };
    let mut ends = [0; 2];
    for round in 0..2 * kills {
        let at = usize::try_from(round).unwrap() % images.len();
        let old = fresh(at);
        let mut child = push(at).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(pause(round));
        if round < kills {
            child.kill().unwrap();
        } else {
            own.restart();
        }
        let output = child.wait_with_output().unwrap();
        let (found, new) = (whole(&registry, "killed", "1"), &digests[at]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(&found == new || &found == old && !output.status.success(), "round {round}: {stderr}");
        ends[usize::from(&found == new)] += 1;
    }
    // Kills came before and after the tag was written.
    assert!(kills < KILLS || ends[0] > 0 && ends[1] > 0, "{ends:?}");
}
