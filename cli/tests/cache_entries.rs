//! Caches with damaged entries, entries of other users, and foreign files.

mod stores;

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::FlockOperation;
use stores::{World, fifo, finish, said, set_mode};

fn modes(directory: &Path, found: &mut Vec<(u32, PathBuf)>) {
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        found.push((fs::symlink_metadata(&entry).unwrap().mode() & 0o7777, entry.clone()));
        if entry.is_dir() {
            modes(&entry, found);
        }
    }
}

#[test]
fn cached_damage_is_found_by_check_store() {
    for codec in ["none", "gzip:1", "zstd:1"] {
        let world = World::new(6_000_000, codec);
        let truth = world.built(&["--no-cache"]);
        world.put(b'x');
        let wrong = world.built(&[]);
        assert_ne!(wrong, truth, "without --check-store, a damaged store path is packed");
        world.put(b'b');
        assert_eq!(world.built(&["--check-store"]), truth, "{codec}");
        assert_eq!(world.built(&[]), truth, "{codec}: the correct segment has replaced the damaged one");
        // The cache has all checked paths, so the build does not need the store.
        fs::remove_dir_all(world.at("store")).unwrap();
        assert_eq!(world.built(&["--check-store"]), truth, "{codec}");
    }
}

#[test]
fn cache_verify_compares_segments_with_the_store() {
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
    assert!(out.contains("compared 2 segments with the store: 1 are equal, 1 differ\n"), "{out}");
    assert!(error.starts_with("error: 1 cached segments differed from the store"), "{error}");
    assert_eq!(world.built(&[]), truth);
    let again = verify();
    assert_eq!(said(&again).0, Some(0), "{again:?}");
    assert!(said(&again).1.contains(": 2 are equal, 0 differ\n"), "{again:?}");
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

/// Special files instead of the cache's marker file, and another process that holds the marker's lock.
#[test]
fn unreadable_cache_marker_does_not_fail_builds() {
    let world = World::new(1000, "zstd:1");
    let truth = world.built(&[]);
    let marker = world.at("cache/trimmed");
    fifo(&world.at("fifo"));
    let places: [(&str, &dyn Fn()); 6] = [
        ("a FIFO", &|| fifo(&marker)),
        ("a link to a FIFO", &|| symlink("../fifo", &marker).unwrap()),
        ("a link to nothing", &|| symlink("nothing", &marker).unwrap()),
        ("a socket", &|| drop(std::os::unix::net::UnixListener::bind(&marker).unwrap())),
        ("a directory", &|| fs::create_dir(&marker).unwrap()),
        ("a directory that is not empty", &|| fs::create_dir_all(marker.join("x")).unwrap()),
    ];
    for (what, place) in places {
        let _ = fs::remove_file(&marker).or_else(|_| fs::remove_dir_all(&marker));
        place();
        assert_eq!(world.built(&[]), truth, "{what}");
        assert_eq!(world.nixply(&["cache", "gc"]).status.code(), Some(0), "{what}");
        let replaced = fs::symlink_metadata(&marker).unwrap().is_file();
        assert_eq!(replaced, what != "a directory that is not empty", "{what}");
    }
    assert!(!world.at("cache/nothing").exists(), "the link is not followed");
    fs::remove_dir_all(&marker).unwrap();
    world.built(&[]);
    let held = File::open(&marker).unwrap();
    rustix::fs::flock(&held, FlockOperation::LockExclusive).unwrap();
    for flags in [&[][..], &["--no-cache"], &["--cache-limit", "0"]] {
        assert_eq!(world.built(flags), truth, "another process holds the lock: {flags:?}");
    }
}

/// Special files, links and directories instead of entries and their directories.
#[test]
fn foreign_files_in_the_cache_do_not_fail_commands() {
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
            // Names of sockets must be short.
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
        assert_eq!(
            said(&verified).0,
            Some(0),
            "the first verification has removed the foreign files: {verified:?}"
        );
        assert_eq!(world.built(&[]), truth);
    }
    for kind in ["segments", "layers"] {
        fs::remove_dir_all(world.at("cache").join(kind)).unwrap();
    }
    fifo(&world.at("cache/layers"));
    symlink(world.directory.path(), world.at("cache/segments")).unwrap();
    assert_eq!(world.built(&[]), truth);
    assert_eq!(world.nixply(&["cache", "gc", "--cache-limit", "0"]).status.code(), Some(0));
    assert_eq!(
        fs::read_to_string(world.at("others/file")).unwrap(),
        "mine",
        "a linked directory is not part of the cache"
    );
    let verified = world.nixply(&["cache", "verify"]);
    assert_eq!(said(&verified).0, Some(1), "{verified:?}");
    assert!(said(&verified).1.contains("/cache/segments\n"), "{verified:?}");
    assert_eq!(world.built(&[]), truth);
    assert!(world.at("cache/segments").join(".").is_dir());
    assert_eq!(fs::read_to_string(world.at("others/file")).unwrap(), "mine");
}

/// Layers may be secret: the mode of an existing directory does not make new entries readable.
#[test]
fn caches_are_private_unless_shared() {
    let world = World::new(1000, "zstd:1");
    for (mode, path) in build_into_new_cache(&world) {
        let wanted = if path.is_file() { 0o600 } else { 0o700 };
        assert_eq!(mode, wanted, "{}", path.display());
    }
    for (opened, file, directory) in [
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
                    (true, false) => directory,
                    (false, true) => 0o600,
                    (false, false) => 0o700,
                };
                assert_eq!(mode, wanted, "{opened:o} {is_shared} {}", path.display());
            }
            let mut stat = Command::new(env!("CARGO_BIN_EXE_nixply"));
            stat.args(["cache", "stat"]).env("NIXPLY_CACHE_DIR", &cache);
            let stat = finish(stat);
            let summary = match (opened & 0o022, is_shared) {
                (0, false) => "",
                (0, true) if opened == 0o700 => "",
                (0, true) => "other users can read its entries, because it contains the file `shared`",
                _ => "other users can delete entries and add files, which nixply ignores",
            };
            assert!(said(&stat).1.contains(summary), "{opened:o} {is_shared} {stat:?}");
            assert_eq!(
                said(&stat).1.contains("other users"),
                !summary.is_empty(),
                "{opened:o} {is_shared} {stat:?}"
            );
        }
    }
}

/// Builds with a umask that keeps read permissions. Returns the modes of the cache and its files.
fn build_into_new_cache(world: &World) -> Vec<(u32, PathBuf)> {
    let mut command = Command::new("sh");
    let script =
        r#"umask 022; exec "$0" build request.json --closure closure.json --real-store-dir store -q"#;
    command.args(["-c", script, env!("CARGO_BIN_EXE_nixply")]);
    command.env("NIXPLY_CACHE_DIR", world.at("new/cache")).current_dir(world.directory.path());
    assert_eq!(finish(command).status.code(), Some(0));
    let mut found = vec![(fs::metadata(world.at("new/cache")).unwrap().mode() & 0o7777, "cache".into())];
    modes(&world.at("new/cache"), &mut found);
    assert!(found.len() > 8, "{found:?}");
    found
}

/// Entries that another user could have written are ignored, in the user's own cache and in a shared one.
#[test]
fn entries_writable_by_others_are_ignored() {
    let world = World::new(1000, "zstd:1");
    let truth = world.built(&["--no-cache"]);
    world.put(b'x');
    let wrong = world.built(&[]);
    world.put(b'b');
    assert_eq!(world.built(&[]), wrong, "the build uses the damaged entry");
    let entries = || {
        let mut found = Vec::new();
        modes(&world.at("cache"), &mut found);
        found.into_iter().map(|(_, path)| path).filter(|path| path.is_file()).collect::<Vec<_>>()
    };
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    fs::rename(world.at("cache"), world.at("kept")).unwrap();
    // The same caches, with another mode or owner for each entry.
    let restore = |change: &dyn Fn(&Path)| {
        let _ = fs::remove_dir_all(world.at("cache"));
        let _ = fs::remove_dir_all(world.at("other"));
        let copy =
            Command::new("cp").args(["-a", "kept", "cache"]).current_dir(world.directory.path()).status();
        assert!(copy.unwrap().success());
        entries().iter().for_each(|path| change(path));
    };
    let with_shared = ["--cache-shared", "cache", "--cache-dir", "other"];
    for flags in [&[][..], &with_shared] {
        restore(&|_| {});
        assert_eq!(world.built(flags), wrong, "entries with their own modes and owners are used: {flags:?}");
        for mode in [0o660, 0o606] {
            restore(&|path| set_mode(path, mode));
            assert_eq!(world.built(flags), truth, "{mode:o}: {flags:?}");
        }
        if is_root {
            restore(&|path| chown(path, Some(65534), None).unwrap());
            assert_eq!(world.built(flags), truth, "entries of another user are ignored: {flags:?}");
        }
    }
    // The owner of a shared directory is trusted.
    if is_root {
        restore(&|path| chown(path, Some(65534), None).unwrap());
        chown(world.at("cache"), Some(65534), None).unwrap();
        assert_eq!(world.built(&with_shared), wrong);
    }
}

/// `cache verify` looks at all files in the directories of entries, and never blocks.
#[test]
fn cache_verify_removes_foreign_files() {
    let world = World::new(1000, "zstd:1");
    let truth = world.built(&[]);
    fs::write(world.at("mine"), "mine").unwrap();
    let places: [&dyn Fn(&Path); 5] = [
        &fifo,
        &|path| symlink(world.at("mine"), path).unwrap(),
        &|path| symlink(world.directory.path(), path).unwrap(),
        &|path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
        &|path| fs::create_dir(path).unwrap(),
    ];
    for kind in ["segments", "layers", "states", "contents"] {
        // Instead of an entry, and instead of a directory of entries.
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
