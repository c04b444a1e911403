//! Damaged stores, with and without --check-store.

mod stores;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use stores::{World, said, set_mode};

/// A NAR records only one bit of a file's mode, but a layer records all twelve.
#[test]
fn check_store_reports_wrong_file_modes() {
    let world = World::new(1000, "zstd:1");
    let truth = world.built(&["--no-cache", "--check-store"]);
    let (file, directory) = (world.file("b"), world.directory_of("b"));
    for (path, modes, right) in [
        (&file, &[0o4444, 0o2444, 0o1444, 0o644, 0o664, 0o400, 0o440, 0o446][..], 0o444),
        (&directory, &[0o777, 0o775, 0o1755, 0o2755, 0o4555, 0o700, 0o750], 0o555),
    ] {
        for mode in modes {
            set_mode(path, *mode);
            let built = world.build(&["--check-store"]);
            let (code, out, error) = said(&built);
            assert_eq!((code, out), (Some(1), ""), "{mode:o}");
            let start = format!("error: mode {mode:04o} in the store differs from the mode that Nix sets");
            assert!(error.starts_with(&start), "{error}");
            let named = path.strip_prefix(world.directory.path()).unwrap().display();
            assert!(error.trim_end().ends_with(&format!(": {named}")), "{error}");
            assert_eq!(
                world.build(&["--no-cache"]).status.code(),
                Some(0),
                "mode {mode:o} is no error without the check"
            );
        }
        set_mode(path, right);
    }
    assert_eq!(world.built(&["--no-cache", "--check-store"]), truth);
}

/// In a copied store, all directories have mode 0755. Regression: if only some directories had it, the build succeeded with another
/// digest.
#[test]
fn check_store_treats_all_directory_modes_alike() {
    let world = World::new(1000, "zstd:1");
    let top = world.directory_of("b");
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
        let starts =
            "error: mode 0755 in the store differs from the mode that Nix sets, 0555 for all directories;";
        match named {
            Some(name) => assert!(error.starts_with(starts) && error.ends_with(name), "{error}"),
            // The directory is not in the archive that the closure describes.
            None => {
                assert!(error.starts_with("error: store path is damaged: "), "{error}")
            }
        }
    }
    set_mode(&top, 0o755);
    fs::remove_dir(&below).unwrap();
    // A single directory of any mode is accepted.
    assert_eq!(world.build(&["--check-store", "--no-cache"]).status.code(), Some(0));
}

/// If a byte changes while the program reads the store, the result is an error or the right image, and the cache contains only
/// right content.
#[test]
fn check_store_race_never_changes_the_digest() {
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
                    panic!("exit code {code:?}, wrong digest or unexpected error: {error}");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(right + refused, 24);
    assert_eq!(world.built(&[]), truth, "the cache contains no damaged content");
}
