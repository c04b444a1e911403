//! What the program makes of a store, a cache and documents that others have changed or put something else in the place of.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nixply_packer::digest::Digest;
use rustix::fs::{CWD, FileType, FlockOperation, Mode, mknodat};

const NAMES: [&str; 2] = ["a", "b"];

/// What catches a program that waits for ever.
const HANGS: Duration = Duration::from_secs(120);

/// A store of two folders with a file in each, and a request for an image of them.
struct World {
    folder: tempfile::TempDir,
    size: usize,
}

/// The archive of a folder with one file in it, by the book.
fn archive(content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut word = |word: &[u8]| {
        bytes.extend((word.len() as u64).to_le_bytes());
        bytes.extend(word);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    };
    let text = "nix-archive-1 ( type directory entry ( name file node ( type regular contents";
    text.split(' ').for_each(|part| word(part.as_bytes()));
    word(content);
    [")", ")", ")"].iter().for_each(|part| word(part.as_bytes()));
    bytes
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn path(name: &str) -> String {
    format!("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-{name}")
}

impl World {
    fn new(size: usize, codec: &str) -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap(), size };
        let mut closure = serde_json::Map::new();
        for name in NAMES {
            fs::create_dir_all(world.file(name).parent().unwrap()).unwrap();
            fs::write(world.file(name), world.content(name)).unwrap();
            set_mode(&world.file(name), 0o444);
            set_mode(&world.folder_of(name), 0o555);
            let hash = Digest::of(&archive(&world.content(name))).to_string();
            let info = serde_json::json!({"narHash": hash, "narSize": size, "references": []});
            closure.insert(path(name), info);
        }
        fs::write(world.at("closure.json"), serde_json::Value::Object(closure).to_string()).unwrap();
        let request = serde_json::json!({"compression": codec, "layers": [{"deps": NAMES.map(path)}]});
        fs::write(world.at("request.json"), request.to_string()).unwrap();
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.at("store").join(path(name).rsplit('/').next().unwrap()).join("file")
    }

    fn folder_of(&self, name: &str) -> PathBuf {
        self.file(name).parent().unwrap().into()
    }

    fn content(&self, name: &str) -> Vec<u8> {
        name.repeat(self.size).into_bytes()
    }

    /// Writes a byte into the middle of b's file.
    fn put(&self, byte: u8) {
        set_mode(&self.file("b"), 0o644);
        let file = File::options().write(true).open(self.file("b")).unwrap();
        file.write_all_at(&[byte], self.size as u64 / 2).unwrap();
        set_mode(&self.file("b"), 0o444);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nixply"));
        command.args(arguments).env("NIXPLY_CACHE_DIR", self.at("cache")).current_dir(self.folder.path());
        command
    }

    fn nixply(&self, arguments: &[&str]) -> Output {
        finish(self.command(arguments))
    }

    fn build(&self, flags: &[&str]) -> Output {
        let input = ["build", "request.json", "--closure", "closure.json", "--real-store-dir", "store", "-q"];
        self.nixply(&[&input, flags].concat())
    }

    fn built(&self, flags: &[&str]) -> String {
        let built = self.build(flags);
        assert_eq!((built.status.code(), said(&built).2), (Some(0), ""), "{flags:?}");
        said(&built).1.to_owned()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in NAMES {
            // Its file cannot be removed otherwise.
            let _ = fs::set_permissions(self.folder_of(name), Permissions::from_mode(0o755));
        }
    }
}

/// Runs a program to its end, which must come.
fn finish(mut command: Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begin.elapsed() > HANGS {
            child.kill().unwrap();
            panic!("it does not end: {command:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, &str, &str) {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn modes(folder: &Path, found: &mut Vec<(u32, PathBuf)>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        found.push((fs::symlink_metadata(&entry).unwrap().mode() & 0o7777, entry.clone()));
        if entry.is_dir() {
            modes(&entry, found);
        }
    }
}

/// An archive knows one bit of a file's mode; a layer has all twelve.
#[test]
fn fault_check_store_modes_are_errors_that_name_the_file() {
    let world = World::new(1000, "zstd:1");
    let truth = world.built(&["--no-cache", "--check-store"]);
    let (file, folder) = (world.file("b"), world.folder_of("b"));
    for (path, modes, right) in [
        (&file, &[0o4444, 0o2444, 0o1444, 0o644, 0o664, 0o400, 0o440, 0o446][..], 0o444),
        (&folder, &[0o777, 0o775, 0o1755, 0o2755, 0o4555, 0o700, 0o750], 0o555),
    ] {
        for mode in modes {
            set_mode(path, *mode);
            let built = world.build(&["--check-store"]);
            let (code, out, error) = said(&built);
            assert_eq!((code, out), (Some(1), ""), "{mode:o}");
            let start = format!("error: mode {mode:04o} is not one that Nix leaves in the store");
            assert!(error.starts_with(&start), "{error}");
            let named = path.strip_prefix(world.folder.path()).unwrap().display();
            assert!(error.trim_end().ends_with(&format!(": {named}")), "{error}");
            assert_eq!(world.build(&["--no-cache"]).status.code(), Some(0), "without the check: {mode:o}");
        }
        set_mode(path, right);
    }
    assert_eq!(world.built(&["--no-cache", "--check-store"]), truth);
}

/// A copied store has 0755 everywhere. Where only some directories have it, the digest was another one, with exit code 0.
#[test]
fn fault_check_store_modes_are_the_same_for_all_directories() {
    let world = World::new(1000, "zstd:1");
    let top = world.folder_of("b");
    let below = top.join("more");
    set_mode(&top, 0o755);
    fs::create_dir(&below).unwrap();
    for (top_mode, below_mode, named) in [
        (0o555, 0o755, Some("-b/more\n")),
        (0o755, 0o555, Some("-b\n")),
        (0o755, 0o755, None),
        (0o555, 0o555, None),
    ] {
        set_mode(&top, top_mode);
        set_mode(&below, below_mode);
        let built = world.build(&["--check-store", "--no-cache"]);
        let (code, _, error) = said(&built);
        assert_eq!(code, Some(1), "{error}");
        let starts = "error: mode 0755 is not one that Nix leaves in the store, which is 0555 for all directories here;";
        match named {
            Some(name) => assert!(error.starts_with(starts) && error.ends_with(name), "{error}"),
            // The directory is not in the archive that the closure knows.
            None => {
                assert!(error.starts_with("error: store path is damaged: "), "{error}")
            }
        }
    }
    set_mode(&top, 0o755);
    fs::remove_dir(&below).unwrap();
    // Of one alone nobody can tell.
    assert_eq!(world.build(&["--check-store", "--no-cache"]).status.code(), Some(0));
}

/// A byte that changes while the store is read: an error or the right image, and nothing else in the cache either.
#[test]
fn fault_check_store_race_never_gives_another_digest() {
    let world = World::new(16 << 20, "zstd:1");
    let truth = world.built(&["--no-cache"]);
    let (stop, mut right, mut refused) = (AtomicBool::new(false), 0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            set_mode(&world.file("b"), 0o644);
            let file = File::options().write(true).open(world.file("b")).unwrap();
            set_mode(&world.file("b"), 0o444);
            let mut wait = 1;
            while !stop.load(Ordering::Relaxed) {
                for byte in [b"x", b"b"] {
                    file.write_all_at(byte, world.size as u64 / 2).unwrap();
                    wait = wait * 7 % 31;
                    thread::sleep(Duration::from_millis(wait));
                }
            }
            file.write_all_at(b"b", world.size as u64 / 2).unwrap();
        });
        for _ in 0..24 {
            let _ = fs::remove_dir_all(world.at("cache"));
            let built = world.build(&["--check-store"]);
            let (code, out, error) = said(&built);
            match code {
                Some(0) if out == truth => right += 1,
                Some(1) if error.contains("store path is damaged") => refused += 1,
                _ => {
                    stop.store(true, Ordering::Relaxed);
                    panic!("{code:?}, wrong digests: {error}");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(right + refused, 24);
    assert_eq!(world.built(&[]), truth, "nothing of it is in the cache");
}

#[test]
fn fault_cache_remembers_damage_until_the_store_is_checked() {
    for codec in ["none", "gzip:1", "zstd:1"] {
        let world = World::new(6_000_000, codec);
        let truth = world.built(&["--no-cache"]);
        world.put(b'x');
        let wrong = world.built(&[]);
        assert_ne!(wrong, truth, "the store is trusted");
        world.put(b'b');
        assert_eq!(world.built(&["--check-store"]), truth, "{codec}");
        assert_eq!(world.built(&[]), truth, "{codec}: it has taken the other's place");
        // What was checked is known again.
        fs::remove_dir_all(world.at("store")).unwrap();
        assert_eq!(world.built(&["--check-store"]), truth, "{codec}");
    }
}

#[test]
fn a_cache_is_compared_with_the_store() {
    let world = World::new(50_000, "zstd:1");
    let truth = world.built(&["--no-cache"]);
    world.put(b'x');
    assert_ne!(world.built(&[]), truth);
    world.put(b'b');
    let verify = || world.nixply(&["cache", "verify", "--store", "--real-store-dir", "store"]);
    let verified = verify();
    let (code, out, error) = said(&verified);
    assert_eq!(code, Some(1), "{out} {error}");
    assert!(out.contains("it differs from the store\n"), "{out}");
    assert!(out.contains("compared 2 segments with the store: 1 are the same, 1 differ\n"), "{out}");
    assert!(error.starts_with("error: 1 segments in the cache differed from the store"), "{error}");
    assert_eq!(world.built(&[]), truth);
    let again = verify();
    assert_eq!(said(&again).0, Some(0), "{again:?}");
    assert!(said(&again).1.contains(": 2 are the same, 0 differ\n"), "{again:?}");
    world.put(b'x');
    let damaged = verify();
    assert_eq!(said(&damaged).0, Some(1));
    assert!(said(&damaged).1.contains(": store path is damaged: "), "{damaged:?}");
    fs::remove_dir_all(world.at("store")).unwrap();
    let gone = verify();
    assert_eq!(said(&gone).0, Some(0));
    assert!(
        said(&gone).1.ends_with("\nkept 1 segments whose store paths are no longer in the store\n"),
        "{gone:?}"
    );
}

/// Whatever lies in the place of the cache's record, and whoever holds its lock.
#[test]
fn fault_cache_marker_stops_no_build() {
    let world = World::new(1000, "zstd:1");
    let truth = world.built(&[]);
    let marker = world.at("cache/trimmed");
    fifo(&world.at("fifo"));
    let places: [(&str, &dyn Fn()); 6] = [
        ("a FIFO", &|| fifo(&marker)),
        ("a link to a FIFO", &|| symlink("../fifo", &marker).unwrap()),
        ("a link to nothing", &|| symlink("nothing", &marker).unwrap()),
        ("a socket", &|| drop(std::os::unix::net::UnixListener::bind(&marker).unwrap())),
        ("a folder", &|| fs::create_dir(&marker).unwrap()),
        ("a folder that is not empty", &|| fs::create_dir_all(marker.join("x")).unwrap()),
    ];
    for (what, place) in places {
        let _ = fs::remove_file(&marker).or_else(|_| fs::remove_dir_all(&marker));
        place();
        assert_eq!(world.built(&[]), truth, "{what}");
        assert_eq!(world.nixply(&["cache", "gc"]).status.code(), Some(0), "{what}");
        let replaced = fs::symlink_metadata(&marker).unwrap().is_file();
        assert_eq!(replaced, what != "a folder that is not empty", "{what}");
    }
    assert!(!world.at("cache/nothing").exists(), "no link is followed");
    fs::remove_dir_all(&marker).unwrap();
    world.built(&[]);
    let held = File::open(&marker).unwrap();
    rustix::fs::flock(&held, FlockOperation::LockExclusive).unwrap();
    for flags in [&[][..], &["--no-cache"], &["--cache-limit", "0"]] {
        assert_eq!(world.built(flags), truth, "another process has it: {flags:?}");
    }
}

/// Special files, links and folders in the place of entries and of the folders that they are in.
#[test]
fn whatever_lies_in_the_cache_stops_no_command() {
    let world = World::new(1000, "zstd:1");
    let truth = world.built(&[]);
    fs::create_dir(world.at("others")).unwrap();
    fs::write(world.at("others/file"), "mine").unwrap();
    let entries = || {
        let mut found = Vec::new();
        modes(&world.at("cache"), &mut found);
        found.into_iter().map(|(_, path)| path).filter(|path| path.is_file()).collect::<Vec<_>>()
    };
    let places: [&dyn Fn(&Path); 4] = [
        &fifo,
        &|path| symlink("/dev/zero", path).unwrap(),
        &|path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
        &|path| fs::create_dir(path).unwrap(),
    ];
    for place in places {
        for entry in entries().iter().filter(|path| !path.ends_with("trimmed")) {
            fs::remove_file(entry).unwrap();
            // Names of sockets are short.
            let short = world.at("s");
            place(&short);
            fs::rename(&short, entry).unwrap();
        }
        assert_eq!(world.built(&[]), truth);
        for verb in ["stat", "gc"] {
            assert_eq!(world.nixply(&["cache", verb]).status.code(), Some(0));
        }
        world.nixply(&["cache", "verify"]);
        let verified = world.nixply(&["cache", "verify"]);
        assert_eq!(said(&verified).0, Some(0), "the first has mended it: {verified:?}");
        assert_eq!(world.built(&[]), truth);
    }
    for kind in ["segments", "layers"] {
        fs::remove_dir_all(world.at("cache").join(kind)).unwrap();
    }
    fifo(&world.at("cache/layers"));
    symlink(world.folder.path(), world.at("cache/segments")).unwrap();
    assert_eq!(world.built(&[]), truth);
    assert_eq!(world.nixply(&["cache", "gc", "--cache-limit", "0"]).status.code(), Some(0));
    assert_eq!(fs::read_to_string(world.at("others/file")).unwrap(), "mine", "a link leads to no entries");
    let verified = world.nixply(&["cache", "verify"]);
    assert_eq!(said(&verified).0, Some(1), "{verified:?}");
    assert!(said(&verified).1.contains("/cache/segments\n"), "{verified:?}");
    assert_eq!(world.built(&[]), truth);
    assert!(world.at("cache/segments").join(".").is_dir());
    assert_eq!(fs::read_to_string(world.at("others/file")).unwrap(), "mine");
}

/// The layers of an image may be secret: a directory that is there already opens nothing by its mode.
#[test]
fn a_cache_is_its_users_alone_unless_they_share_it() {
    let world = World::new(1000, "zstd:1");
    for (mode, path) in build_into_new_cache(&world) {
        let wanted = if path.is_file() { 0o600 } else { 0o700 };
        assert_eq!(mode, wanted, "{}", path.display());
    }
    for (opened, file, folder) in [
        (0o755, 0o644, 0o755),
        (0o750, 0o640, 0o750),
        (0o700, 0o600, 0o700),
        (0o775, 0o644, 0o755),
        (0o1777, 0o644, 0o755),
    ] {
        for is_shared in [false, true] {
            let world = World::new(1000, "zstd:1");
            let cache = world.at("new/cache");
            fs::create_dir_all(&cache).unwrap();
            set_mode(&cache, opened);
            if is_shared {
                fs::write(cache.join("shared"), "").unwrap();
                set_mode(&cache.join("shared"), 0o644);
            }
            for (mode, path) in build_into_new_cache(&world).into_iter().skip(1) {
                let wanted = match (is_shared, path.is_file()) {
                    (_, true) if path.ends_with("shared") => 0o644,
                    (true, true) => file,
                    (true, false) => folder,
                    (false, true) => 0o600,
                    (false, false) => 0o700,
                };
                assert_eq!(mode, wanted, "{opened:o} {is_shared} {}", path.display());
            }
            let mut stat = Command::new(env!("CARGO_BIN_EXE_nixply"));
            stat.args(["cache", "stat"]).env("NIXPLY_CACHE_DIR", &cache);
            let stat = finish(stat);
            let told = match (opened & 0o022, is_shared) {
                (0, false) => "",
                (0, true) if opened == 0o700 => "",
                (0, true) => "other users can read its entries, because it has the file `shared`",
                _ => "other users can put files into it, which nixply does not use",
            };
            assert!(said(&stat).1.contains(told), "{opened:o} {is_shared} {stat:?}");
            assert_eq!(
                said(&stat).1.contains("other users"),
                !told.is_empty(),
                "{opened:o} {is_shared} {stat:?}"
            );
        }
    }
}

/// Builds with an umask that takes no rights of reading away. Gives the modes of the cache and of all that is in it.
fn build_into_new_cache(world: &World) -> Vec<(u32, PathBuf)> {
    let mut command = Command::new("sh");
    let script =
        r#"umask 022; exec "$0" build request.json --closure closure.json --real-store-dir store -q"#;
    command.args(["-c", script, env!("CARGO_BIN_EXE_nixply")]);
    command.env("NIXPLY_CACHE_DIR", world.at("new/cache")).current_dir(world.folder.path());
    assert_eq!(finish(command).status.code(), Some(0));
    let mut found = vec![(fs::metadata(world.at("new/cache")).unwrap().mode() & 0o7777, "cache".into())];
    modes(&world.at("new/cache"), &mut found);
    assert!(found.len() > 8, "{found:?}");
    found
}

/// An entry that another user could have written decides nothing: neither in the user's own cache nor in a shared one.
#[test]
fn entries_that_other_users_can_write_count_as_absent() {
    let world = World::new(1000, "zstd:1");
    let truth = world.built(&["--no-cache"]);
    world.put(b'x');
    let wrong = world.built(&[]);
    world.put(b'b');
    assert_eq!(world.built(&[]), wrong, "the cache is believed");
    let entries = || {
        let mut found = Vec::new();
        modes(&world.at("cache"), &mut found);
        found.into_iter().map(|(_, path)| path).filter(|path| path.is_file()).collect::<Vec<_>>()
    };
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    fs::rename(world.at("cache"), world.at("kept")).unwrap();
    // The caches as they were, with another mode or owner for each entry.
    let restore = |change: &dyn Fn(&Path)| {
        let _ = fs::remove_dir_all(world.at("cache"));
        let _ = fs::remove_dir_all(world.at("other"));
        let copy = Command::new("cp").args(["-a", "kept", "cache"]).current_dir(world.folder.path()).status();
        assert!(copy.unwrap().success());
        entries().iter().for_each(|path| change(path));
    };
    let with_shared = ["--cache-shared", "cache", "--cache-dir", "other"];
    for flags in [&[][..], &with_shared] {
        restore(&|_| {});
        assert_eq!(world.built(flags), wrong, "as it was: {flags:?}");
        for mode in [0o660, 0o606] {
            restore(&|path| set_mode(path, mode));
            assert_eq!(world.built(flags), truth, "{mode:o}: {flags:?}");
        }
        if is_root {
            restore(&|path| chown(path, Some(65534), None).unwrap());
            assert_eq!(world.built(flags), truth, "another user's: {flags:?}");
        }
    }
    // The owner of a shared directory is trusted with it.
    if is_root {
        restore(&|path| chown(path, Some(65534), None).unwrap());
        chown(world.at("cache"), Some(65534), None).unwrap();
        assert_eq!(world.built(&with_shared), wrong);
    }
}

/// `cache verify` looks at everything that lies below the directories of entries, and waits for nobody.
#[test]
fn what_is_no_entry_is_damage() {
    let world = World::new(1000, "zstd:1");
    let truth = world.built(&[]);
    fs::write(world.at("mine"), "mine").unwrap();
    let places: [&dyn Fn(&Path); 5] = [
        &fifo,
        &|path| symlink(world.at("mine"), path).unwrap(),
        &|path| symlink(world.folder.path(), path).unwrap(),
        &|path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
        &|path| fs::create_dir(path).unwrap(),
    ];
    for kind in ["segments", "layers", "states", "contents"] {
        // In the place of an entry, and of a directory of entries.
        for name in ["00/".to_owned() + &"0".repeat(62), "01".to_owned(), "02/other".to_owned()] {
            for (at, place) in places.iter().enumerate() {
                let path = world.at("cache").join(kind).join(&name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                place(&world.at("s"));
                fs::rename(world.at("s"), &path).unwrap();
                let verified = world.nixply(&["cache", "verify"]);
                let is_place = name == "01" && at == 4;
                let (code, out, _) = said(&verified);
                assert_eq!(code, Some(i32::from(!is_place)), "{kind}/{name} {at}: {verified:?}");
                let line = format!("removed {}\n", path.display());
                assert_eq!(out.contains(&line), !is_place, "{kind}/{name} {at}: {verified:?}");
                assert_eq!(fs::symlink_metadata(&path).is_ok(), is_place);
                assert_eq!(said(&world.nixply(&["cache", "verify"])).0, Some(0));
                let _ = fs::remove_dir(&path);
            }
        }
    }
    assert_eq!(fs::read_to_string(world.at("mine")).unwrap(), "mine");
    assert_eq!(world.built(&[]), truth);
}

/// What a shell puts in the place of a file.
#[test]
fn documents_may_be_links_and_pipes() {
    let world = World::new(1000, "zstd:1");
    let truth = world.built(&["--no-cache"]);
    symlink("request.json", world.at("result")).unwrap();
    fifo(&world.at("fifo"));
    let tail = r#"--closure closure.json --real-store-dir store -q --no-cache"#;
    for script in [
        format!(r#""$0" build result {tail}"#),
        format!(r#""$0" build - {tail} < request.json"#),
        format!(r#""$0" build /dev/stdin {tail} < request.json"#),
        format!(r#"(sleep 0.2; cat request.json) | "$0" build /dev/stdin {tail}"#),
        format!(r#"cat request.json | "$0" build - {tail}"#),
        format!(r#"(sleep 0.2; cat request.json > fifo) & "$0" build fifo {tail}; wait"#),
        format!(r#"cat request.json | "$0" build /dev/fd/0 {tail}"#),
    ] {
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_nixply")]).current_dir(world.folder.path());
        let built = finish(command);
        assert_eq!(said(&built), (Some(0), &truth[..], ""), "{script}");
    }
    let bash = Command::new("bash").arg("--version").output();
    if bash.is_ok() {
        let script = r#""$0" build <(cat request.json) --closure <(sleep 0.2; cat closure.json) --real-store-dir store -q --no-cache"#;
        let mut command = Command::new("bash");
        command.args(["-c", script, env!("CARGO_BIN_EXE_nixply")]).current_dir(world.folder.path());
        let built = finish(command);
        assert_eq!(said(&built), (Some(0), &truth[..], ""), "{script}");
    }
}

/// As a request, as a closure, as a spec, as a lock file.
#[test]
fn documents_that_have_no_end_or_no_writer_are_errors() {
    let world = World::new(1000, "zstd:1");
    fifo(&world.at("fifo"));
    let _socket = std::os::unix::net::UnixListener::bind(world.at("socket")).unwrap();
    for (name, why) in [
        ("fifo", "it is a FIFO, and nobody has written to it for 5 s"),
        ("/dev/zero", "is not text: it has a NUL byte"),
        ("socket", "it is a socket or device, not a regular file"),
        ("store", "is a directory, not a"),
    ] {
        let build = ["--real-store-dir", "store", "-q", "--no-cache"];
        let commands: [&[&str]; 6] = [
            &["build", name, "--closure", "closure.json"],
            &["build", "request.json", "--closure", name],
            &["plan", "request.json", "--closure", "closure.json", "--lock", name],
            &["inspect", name],
            &["cache", "import", name],
            &["strategies", name],
        ];
        let world = &world;
        // At the same time, for some of them wait.
        thread::scope(|scope| {
            for (at, command) in commands.into_iter().enumerate() {
                let arguments = if at < 2 { [command, &build].concat() } else { command.to_vec() };
                // A folder is a history, and a history may be compressed.
                if at < 5 || !["store", "/dev/zero"].contains(&name) {
                    scope.spawn(move || {
                        let output = world.nixply(&arguments);
                        let (code, _, error) = said(&output);
                        assert_ne!(code, Some(0), "{arguments:?}");
                        assert!(error.contains(why) && error.contains(name), "{arguments:?}: {error}");
                    });
                }
            }
        });
    }
}

/// Waiting for a document is no reason not to end.
#[test]
fn a_signal_ends_a_program_that_waits_for_a_document() {
    let world = World::new(1000, "zstd:1");
    fifo(&world.at("fifo"));
    let arguments = ["build", "fifo", "--closure", "closure.json"];
    let mut child = world.command(&arguments).stderr(Stdio::null()).spawn().unwrap();
    // A writer that never writes.
    let mut writer = File::options().write(true).open(world.at("fifo")).unwrap();
    writer.write_all(b"{").unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < HANGS, "it does not end");
        thread::sleep(Duration::from_millis(5));
    }
}
