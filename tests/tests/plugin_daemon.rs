//! The plugin when the evaluator does not own the store: with a daemon, for an unprivileged user, in a chroot
//! store.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nixply_tests::{NOBODY, Nix, Private, Running, plugin_harness, run};
use serde_json::Value;

/// A store with a daemon, and the home directory of a user.
struct Served {
    nix: Private,
    home: PathBuf,
    _daemon: Running,
}

impl Served {
    fn start(nix: &Nix) -> Self {
        let nix = nix.private();
        // Nix 2.35 reads the directory before the daemon has created it.
        fs::create_dir(nix.store_dir()).unwrap();
        let mut daemon = Running::start(&mut nix.command("nix-daemon"));
        let socket = nix.root.join("var/daemon-socket/socket");
        daemon.wait_until(Duration::from_secs(30), |_| socket.exists());
        let home = nix.directory().join("home");
        fs::create_dir(&home).unwrap();
        if is_root() {
            chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        // The user may have no access to the repository.
        let function = Nix::repository().join("nix/build-image.nix");
        fs::copy(function, nix.directory().join("build-image.nix")).unwrap();
        Self { nix, home, _daemon: daemon }
    }

    /// Returns a command that runs as `nobody`, or as the current user if that is not root.
    fn user(&self, mut command: Command) -> Command {
        command.env("NIX_REMOTE", "daemon").env("HOME", &self.home).env_remove("XDG_CACHE_HOME");
        command.current_dir(&self.home);
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Returns a `nix` command that runs as the user.
    fn nix(&self, args: &[&str]) -> Command {
        let mut command = self.user(self.nix.command("nix"));
        command.args(args);
        command
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

const IMAGE: &str = r#"rec {
    base = sh "base" "echo base > $out";
    a = sh "a" "mkdir $out; echo ${base} > $out/a";
    arguments = { name = "daemon"; config.Cmd = [ "${base}" ]; copyToRoot = [ a ]; compression = "zstd"; };
    image = builtins.nixplyImage arguments;
    data = { inherit (image) imageId manifestDigest; spec = builtins.readFile image.outPath; };
    built = import ./build-image.nix { builder = "builtin:nixply"; args = [ ]; usePlugin = false; } arguments;
    paths = { a = "${a}"; base = "${base}"; };
  }"#;

#[test]
fn unprivileged_user_builds_an_image_through_the_daemon() {
    let served = Served::start(&plugin_harness!());
    let file = served.nix.file("x.nix", IMAGE).display().to_string();
    let result = served.home.join("result");
    run(served.nix(&["build", "-f", &file, "image", "--out-link"]).arg(&result)).ok();
    let data = run(&mut served.nix(&["eval", "--json", "-f", &file, "data"])).ok();
    let data: Value = serde_json::from_str(&data).unwrap();
    assert_eq!(data["spec"], fs::read_to_string(&result).unwrap());
    // The spec belongs to the store, not to the user.
    let spec = run(&mut served.nix(&["eval", "--raw", "-f", &file, "image.outPath"])).ok();
    assert_eq!(fs::metadata(spec).unwrap().uid(), fs::metadata("/proc/self").unwrap().uid());
    let layout = served.home.join("layout");
    let mut command = served.user(served.nix.nixply());
    let printed = run(command.arg("layout").arg(&result).arg(&layout)).ok();
    assert_eq!(data["manifestDigest"], printed);
    assert_eq!(
        fs::metadata(layout.join("index.json")).unwrap().uid(),
        fs::metadata(&served.home).unwrap().uid()
    );
    // Root's build yields the same result.
    let root = served.nix.eval_file(Path::new(&file), "data").ok();
    assert_eq!(serde_json::from_str::<Value>(&root).unwrap(), data);
}

#[test]
fn daemon_packs_in_the_builtin_builder() {
    let nix = plugin_harness!();
    if !nix.has_builtin_builders() {
        return nixply_tests::skipped("plugins of this Nix cannot register a builder");
    }
    let served = Served::start(&nix);
    let file = served.nix.file("x.nix", IMAGE).display().to_string();
    let result = served.home.join("result");
    run(served.nix(&["build", "-f", &file, "built", "--out-link"]).arg(&result)).ok();
    let data = run(&mut served.nix(&["eval", "--json", "-f", &file, "data"])).ok();
    let data: Value = serde_json::from_str(&data).unwrap();
    assert_eq!(data["spec"], fs::read_to_string(&result).unwrap());
    run(&mut served.nix(&["build", "-f", &file, "built", "--no-link", "--rebuild"])).ok();
}

#[test]
fn unreadable_file_is_reported_by_name() {
    if !is_root() {
        return nixply_tests::skipped("only root can run Nix as another user");
    }
    let served = Served::start(&plugin_harness!());
    let file = served.nix.file("x.nix", IMAGE).display().to_string();
    run(&mut served.nix(&["build", "-f", &file, "a", "--no-link"])).ok();
    let paths = run(&mut served.nix(&["eval", "--json", "-f", &file, "paths"])).ok();
    let paths: Value = serde_json::from_str(&paths).unwrap();
    let secret = format!("{}/a", paths["a"].as_str().unwrap());
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    let before = served.nix.images();
    let output = run(&mut served.nix(&["eval", "-f", &file, "image.outPath"]));
    let error = output.fails();
    assert!(error.contains("cannot pack image 'daemon': cannot "), "{error}");
    assert!(error.contains(&format!("{secret}: Permission denied")), "{error}");
    assert!(error.contains(&format!("at {file}:")), "{error}");
    assert_eq!(served.nix.images(), before);
}

#[test]
fn unwritable_cache_does_not_fail_the_build() {
    let served = Served::start(&plugin_harness!());
    let file = served.nix.file("x.nix", IMAGE).display().to_string();
    let cache = served.nix.directory().join("not-writable");
    fs::create_dir(&cache).unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o555)).unwrap();
    let option = cache.display().to_string();
    let arguments = ["eval", "--option", "nixply-cache-dir", &option, "--raw", "-f", &file, "image.outPath"];
    let output = run(&mut served.nix(&arguments));
    assert!(output.code == Some(0) && !output.stderr.contains("not-writable"), "{}", output.stderr);
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 0);
}

#[test]
fn chroot_store_paths_are_read_from_their_real_location() {
    let nix = plugin_harness!().private();
    let file = nix.file("x.nix", &IMAGE.replace("built =", "outside = buildImage arguments; built ="));
    let chroot = nix.directory().join("chroot");
    let store = chroot.display().to_string();
    let within = |args: &[&str]| {
        let mut command = nix.command("nix");
        for variable in ["NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR"] {
            command.env_remove(variable);
        }
        command.args(args).args(["--store", &store, "-f"]).arg(&file);
        command
    };
    run(within(&["build", "--no-link"]).arg("image")).ok();
    let spec = run(within(&["eval", "--raw"]).arg("image.outPath")).ok();
    assert!(spec.starts_with("/nix/store/"), "{spec}");
    assert!(!Path::new(&spec).exists(), "the machine's own /nix/store has {spec}");
    let real = chroot.join(&spec[1..]);
    let text = fs::read_to_string(&real).unwrap();
    run(within(&["build", "--no-link"]).arg("outside")).ok();
    let outside = run(within(&["eval", "--raw"]).arg("outside.outPath")).ok();
    assert_eq!(fs::read_to_string(chroot.join(&outside[1..])).unwrap(), text);
    let manifest = run(within(&["eval", "--raw"]).arg("image.manifestDigest")).ok();
    let mut layout = Command::new(&nix.cli);
    layout.args(["layout", "--store-dir", "/nix/store", "--real-store-dir"]).arg(chroot.join("nix/store"));
    assert_eq!(run(layout.arg(&real).arg(nix.directory().join("layout"))).ok(), manifest);
}

#[test]
fn store_without_files_is_refused() {
    let nix = plugin_harness!().private();
    let file = nix.file("x.nix", "(builtins.nixplyImage { name = \"x\"; }).outPath");
    let mut command = nix.command("nix");
    let error = run(command.args(["eval", "--store", "dummy://", "-f"]).arg(&file)).fails();
    let want = "has no files on this machine: use a local store or its daemon, or build the image in a derivation \
                (nix/build-image.nix with usePlugin = false)";
    assert!(error.contains("builtins.nixplyImage reads store paths, but the store 'dummy"), "{error}");
    assert!(error.contains(want), "{error}");
}
