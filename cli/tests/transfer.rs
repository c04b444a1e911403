//! The progress of `nixply skopeo copy` with NIXPLY_PROGRESS. A script replaces skopeo.

mod terminal;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use self::terminal::Running;

/// Writes its arguments to a file. Then, depending on the environment, reads the blobs WANTED, prints errors, and waits for a file.
const SKOPEO: &str = r#"#!/usr/bin/env bash
echo "$*" > arguments
[[ $* =~ --src-authfile=([^ ]+) ]] || exit 98
[[ $(< "${BASH_REMATCH[1]}") =~ \"auth\":\"([^\"]+)\" ]] || exit 97
secret=${BASH_REMATCH[1]}
[[ $* =~ docker://([0-9.]+):([0-9]+)/([^ ]+): ]] || exit 99
for digest in $WANTED; do
  exec 3<>"/dev/tcp/${BASH_REMATCH[1]}/${BASH_REMATCH[2]}"
  printf 'GET /v2/%s/blobs/%s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic %s\r\nConnection: close\r\n\r\n' "${BASH_REMATCH[3]}" "$digest" "$secret" >&3
  if [ -n "$SLOWLY" ]; then head -c 100000 <&3 >/dev/null; echo "it is slow" >&2; until [ -e "$SLOWLY" ]; do sleep 0.05; done; fi
  cat <&3 >/dev/null
done
exit "${CODE:-0}"
"#;

/// SHA-256 of 60 MB of each of `a`, `b` and `c`.
const LAYERS: [&str; 3] = [
    "sha256:8421b27f275fc5e9f6012c81a8ca796e60d28c7ab4f67cea7ccc78cc78d3a2e9",
    "sha256:d716c3ab6a09701a1fed46919882d76762367248b2f551b87255723069953e2e",
    "sha256:777935dcf5770c1b9c5f7bc8c319e747be42aa38504b1e896adf63aebeff1e48",
];

const TABLE: &str = "\
layer           size       sent
    1   60.0 MB                  already there  a.tar
    2   60.0 MB         60.0 MB  sent           b.tar
    3   60.0 MB                  already there  c.tar
3 layers, 180.0 MB; 1 sent (60.0 MB), 2 already there
";

/// A directory with an image of three layers, which are files like those of a base image.
struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        let directory = world.0.path();
        let skopeo = directory.join("skopeo");
        fs::write(&skopeo, SKOPEO).unwrap();
        fs::set_permissions(&skopeo, fs::Permissions::from_mode(0o755)).unwrap();
        let layers = ["a", "b", "c"].iter().zip(LAYERS).map(|(name, digest)| {
            let file = directory.join(format!("{name}.tar"));
            fs::write(&file, name.repeat(60_000_000)).unwrap();
            format!(
                r#"{{"digest": "{digest}", "size": 60000000, "diff_ids": "{digest}", "mediatype": "", "layer-path": "{}"}}"#,
                file.display()
            )
        });
        let layers = layers.collect::<Vec<_>>().join(",");
        fs::write(directory.join("image.json"), format!(r#"{{"version": 1, "layers": [{layers}]}}"#))
            .unwrap();
        world
    }

    /// Returns a copy command that reads the second layer.
    fn copy(&self, progress: &str, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nixply"));
        command.args(["skopeo", "copy"]).args(flags).args(["nix:image.json", "dir:out"]);
        command.env("NIXPLY_SKOPEO", self.0.path().join("skopeo")).env("NIXPLY_PROGRESS", progress);
        command.env("WANTED", LAYERS[1]).current_dir(self.0.path());
        command
    }

    /// Returns skopeo's arguments, without the port and the path of the auth file.
    fn arguments(&self) -> String {
        let arguments = fs::read_to_string(self.0.path().join("arguments")).unwrap();
        let (begin, rest) = arguments.split_once("127.0.0.1:").unwrap();
        let (begin, file) = begin.split_once("--src-authfile=").unwrap();
        let (_, after) = file.split_once(' ').unwrap();
        format!(
            "{begin}--src-authfile=FILE {after}HOST{}",
            rest.trim_start_matches(|digit: char| digit.is_ascii_digit())
        )
    }
}

fn said(output: &Output) -> (Option<i32>, &str, &str) {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn copy_prints_a_summary() {
    let world = World::new();
    for progress in ["bars", "1"] {
        let output = world.copy(progress, &[]).output().unwrap();
        let expected = format!("layer 2 of 3 sent, 60.0 MB\n{TABLE}");
        assert_eq!(said(&output), (Some(0), "", &*expected));
        let arguments =
            "copy --src-tls-verify=false --src-authfile=FILE --quiet docker://HOST/image:latest dir:out\n";
        assert_eq!(world.arguments(), arguments);
    }
    let output = world.copy("bars", &[]).env("WANTED", "").output().unwrap();
    assert!(said(&output).2.ends_with("3 layers, 180.0 MB; none sent, 3 already there\n"), "{output:?}");
}

#[test]
fn copy_prints_no_summary_by_default() {
    let world = World::new();
    for progress in ["", "0"] {
        assert_eq!(said(&world.copy(progress, &[]).output().unwrap()), (Some(0), "", ""));
        let arguments =
            "copy --src-tls-verify=false --src-authfile=FILE docker://HOST/image:latest dir:out\n";
        assert_eq!(world.arguments(), arguments);
    }
    // With skopeo's flag for quiet, there is no summary either.
    assert_eq!(said(&world.copy("bars", &["-aq"]).output().unwrap()), (Some(0), "", ""));
    assert!(world.arguments().contains(" docker://HOST") && world.arguments().contains(" -aq "));
}

#[test]
fn failed_copy_prints_no_summary() {
    let world = World::new();
    let output = world.copy("bars", &[]).env("CODE", "3").output().unwrap();
    assert_eq!(said(&output), (Some(3), "", "layer 2 of 3 sent, 60.0 MB\n"));
}

#[test]
fn skopeo_messages_appear_above_bars() {
    let world = World::new();
    let mut running = Running::start(world.copy("bars", &[]).env("SLOWLY", "go"));
    running.until("it is slow");
    running.until("layer 2 ");
    fs::write(world.0.path().join("go"), "").unwrap();
    let (status, screen, seen) = running.end();
    let table: Vec<_> = TABLE.lines().map(str::trim_end).collect();
    assert_eq!((status.code(), screen), (Some(0), format!("it is slow\n{}", table.join("\n"))));
    let both = seen.iter().any(|screen| {
        let lines: Vec<_> = screen.lines().collect();
        lines.len() == 3
            && lines[0] == "it is slow"
            && lines[1].starts_with("layer 2            [")
            && lines[1].contains("B of 60.0 MB")
            && lines[2].starts_with("0 layers sent")
    });
    assert!(both, "{seen:?}");
}

#[test]
fn interrupted_copy_leaves_no_files() {
    let world = World::new();
    let mut running = Running::start(world.copy("bars", &[]).env("SLOWLY", "never"));
    running.until("it is slow");
    running.until("layer 2 ");
    let pid = rustix::process::Pid::from_child(&running.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let (status, screen, _) = running.end();
    assert_eq!((status.signal(), &*screen), (Some(15), "it is slow"));
}
