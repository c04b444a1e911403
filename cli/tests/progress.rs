//! Progress of packing: bars on a terminal, otherwise lines, nothing with --quiet.

mod terminal;

use std::fs;
use std::process::{Command, Output};

use self::terminal::Running;

/// Makes a directory with a store of some files of 4 MB, each a layer, and one file of the given size.
struct World(tempfile::TempDir);

impl World {
    fn new(large: u64) -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        let directory = world.0.path();
        fs::create_dir(directory.join("store")).unwrap();
        let (mut closure, mut layers) = (Vec::new(), Vec::new());
        for name in ["a", "b", "c"] {
            let file = format!("{}-{name}", name.repeat(32));
            let size = if name == "c" { large } else { 4_000_000 };
            fs::File::create(directory.join("store").join(&file)).unwrap().set_len(size).unwrap();
            let hash = format!("sha256:{}", "0".repeat(64));
            let info = format!(r#"{{"narHash": "{hash}", "narSize": {size}, "references": []}}"#);
            closure.push(format!(r#""/nix/store/{file}": {info}"#));
            layers.push(format!(r#"{{"deps": ["/nix/store/{file}"]}}"#));
        }
        fs::write(directory.join("closure.json"), format!("{{{}}}", closure.join(","))).unwrap();
        let request = format!(r#"{{"compression": "zstd", "layers": [{}]}}"#, layers.join(","));
        fs::write(directory.join("request.json"), request).unwrap();
        world
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nixply"));
        command.args(arguments).args(["--real-store-dir", "store", "--jobs", "2"]);
        command.env("NIXPLY_CACHE_DIR", self.0.path().join("cache")).current_dir(self.0.path());
        command
    }

    fn build(&self, flags: &[&str]) -> Command {
        self.command(
            &[&["build", "request.json", "--closure", "closure.json", "-o", "image.json"], flags].concat(),
        )
    }

    fn layout(&self, flags: &[&str]) -> Command {
        self.command(&[&["layout", "image.json", "out"], flags].concat())
    }
}

fn said(output: &Output) -> (Option<i32>, &str) {
    (output.status.code(), std::str::from_utf8(&output.stderr).unwrap())
}

#[test]
fn packed_layers_are_lines_without_a_terminal() {
    let world = World::new(4_000_000);
    let output = world.build(&[]).output().unwrap();
    let lines = "1 of 3 layers packed, 4.0 MB\n2 of 3 layers packed, 8.0 MB\n3 of 3 layers packed, 12.0 MB\n";
    assert_eq!(said(&output), (Some(0), &*format!("{lines}3 layers: 3 packed (12.0 MB)\n")));
    let output = world.build(&[]).output().unwrap();
    assert_eq!(said(&output), (Some(0), "3 layers: none packed, 3 reused\n"));

    // A layout needs the bytes of the layers, which the build did not keep.
    let output = world.layout(&[]).output().unwrap();
    assert_eq!(said(&output), (Some(0), &*format!("{lines}3 layers: 3 packed (12.0 MB)\n")));
    assert!(output.stdout.starts_with(b"sha256:"));
    let output = world.layout(&[]).output().unwrap();
    assert_eq!(said(&output), (Some(0), "3 layers: none packed, 3 reused\n"));
}

#[test]
fn quiet_prints_only_errors() {
    let world = World::new(4_000_000);
    for flags in [&["--quiet"], &["-q"]] {
        assert_eq!(said(&world.build(flags).output().unwrap()), (Some(0), ""));
        assert_eq!(said(&world.layout(flags).output().unwrap()), (Some(0), ""));
    }
    let (status, screen, _) = Running::start(&mut world.build(&["--quiet", "--no-cache"])).end();
    assert_eq!((status.code(), &*screen), (Some(0), ""));
    fs::remove_file(world.0.path().join("store").join(format!("{}-a", "a".repeat(32)))).unwrap();
    let output = world.build(&["--quiet", "--no-cache"]).output().unwrap();
    let (code, error) = said(&output);
    assert!(code == Some(1) && error.starts_with("error: store path does not exist"), "{error}");
}

#[test]
fn bars_disappear_from_the_terminal() {
    let world = World::new(400_000_000);
    let (status, screen, seen) = Running::start(&mut world.build(&["--no-cache"])).end();
    assert_eq!((status.code(), &*screen), (Some(0), "3 layers: 3 packed (408.0 MB)"));
    let of = |line: &str, parts: &[&str]| {
        seen.iter()
            .flat_map(|screen| screen.lines())
            .any(|shown| shown.starts_with(line) && parts.iter().all(|part| shown.contains(part)))
    };
    assert!(of("layer 3 ", &["=>", "B of 400.0 MB", "B/s", " left"]), "{seen:?}");
    assert!(of("2 of 3 layers ", &["=>", "B of 408.0 MB", "B/s", " left"]), "{seen:?}");
    let most = seen.iter().map(|screen| screen.lines().count()).max();
    assert!(most <= Some(3), "at most two active layers and the total: {seen:?}");
}

#[test]
fn errors_and_warnings_replace_bars() {
    let world = World::new(400_000_000);
    fs::remove_file(world.0.path().join("store").join(format!("{}-b", "b".repeat(32)))).unwrap();
    let (status, screen, seen) = Running::start(&mut world.build(&["--no-cache"])).end();
    assert!(seen.iter().any(|screen| screen.contains("layer 3 ")), "{seen:?}");
    assert_eq!(status.code(), Some(1));
    assert!(screen.starts_with("error: store path does not exist") && !screen.contains("layer"), "{screen}");
}

#[test]
fn interrupt_clears_the_bars() {
    let world = World::new(40_000_000_000);
    let mut running = Running::start(&mut world.build(&["--no-cache"]));
    running.until("2 of 3 layers");
    let pid = rustix::process::Pid::from_child(&running.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let (status, screen, _) = running.end();
    assert_eq!((status.code(), &*screen), (Some(130), "error: interrupted"));
}

#[test]
fn dumb_terminals_get_lines() {
    let world = World::new(4_000_000);
    let mut command = world.build(&["--no-cache"]);
    let mut running = Running::start(command.env("TERM", "dumb"));
    running.until("3 layers: 3 packed (12.0 MB)");
    assert!(running.end().1.starts_with("1 of 3 layers packed, 4.0 MB\n"));
}
