use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nixply_oci::DiffId;

use super::*;
use crate::cache::{Origin, SegmentKey};
use crate::compress::Codec;

fn segment(name: &str) -> SegmentKey {
    SegmentKey::new([(name, "hash", None)], Codec::None)
}

/// Size of each segment in these tests: a frame, its entry in the index, an origin and the footer.
const SEGMENT: u64 = 1000 + 40 + 27 + 56;

fn origin() -> Origin {
    Origin::new(Codec::None, std::iter::empty())
}

fn filled(directory: &Path) -> Cache {
    let cache = Cache::new(directory);
    for name in ["a", "b", "c"] {
        cache.new_segment(&segment(name), &origin()).unwrap().add(9, &[0; 1000]).unwrap().finish().unwrap();
    }
    cache.put_contents(DiffId::of(b"layer"), &[("/a".into(), "hash".into())].into());
    cache
}

fn used(cache: &Cache, name: &str, ago: u64) {
    let path = cache.entries().unwrap().into_iter().find(|entry| {
        entry.kind == Kind::Segments
            && segments::verify(
                &entry.path,
                &blake3::Hash::from_bytes(segment(name).as_bytes().try_into().unwrap()),
            )
    });
    let time = SystemTime::now() - Duration::from_secs(ago);
    fs::File::open(path.unwrap().path).unwrap().set_modified(time).unwrap();
}

#[test]
fn gc_evicts_the_least_recently_used_entries_first() {
    let directory = tempfile::tempdir().unwrap();
    let cache = filled(directory.path());
    let stat = cache.stat().unwrap();
    assert_eq!((stat[0].entries, stat[0].bytes), (3, 3 * SEGMENT));
    assert_eq!((stat[3].kind, stat[3].entries), (Kind::Contents, 1));
    for (name, ago) in [("a", 9000), ("b", 20_000), ("c", 10_000)] {
        used(&cache, name, ago);
    }
    assert!(cache.segment(&segment("b")).is_some(), "a use renews the entry");
    assert_eq!(cache.gc(u64::MAX).unwrap(), 0);
    assert_eq!(cache.gc(2500).unwrap(), SEGMENT);
    let there = ["a", "b", "c"].map(|name| cache.segment(&segment(name)).is_some());
    assert_eq!(there, [true, true, false]);
    assert!(cache.gc(0).unwrap() > 2000);
    assert!(cache.stat().unwrap().iter().all(|stat| stat.entries == 0));
    assert_eq!(Cache::new(directory.path().join("none")).stat().unwrap()[0].entries, 0);
}

/// Creates a separate cache for each process, as separate processes do.
#[test]
fn many_processes_that_write_little_keep_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let total = || Cache::new(directory.path()).stat().unwrap().iter().map(|stat| stat.bytes).sum::<u64>();
    let limit = 100_000;
    let mut trimmed = 0;
    for process in 0..300 {
        let cache = Cache::new(directory.path()).with_limit(limit);
        let (name, before) = (process.to_string(), total());
        cache.new_segment(&segment(&name), &origin()).unwrap().add(9, &[0; 1000]).unwrap().finish().unwrap();
        // Simulates that a third of the processes fail or are interrupted.
        if process % 3 > 0 {
            cache.trim();
        }
        drop(cache);
        assert!(total() < limit + limit / 20 + 3 * SEGMENT, "{process}: {}", total());
        trimmed += u32::from(total() < before);
    }
    assert!((10..60).contains(&trimmed), "trimmed {trimmed} times: not every process lists the entries");
}

#[test]
fn a_smaller_limit_applies_immediately() {
    let directory = tempfile::tempdir().unwrap();
    let entries = |cache: &Cache| cache.stat().unwrap()[0].entries;
    let cache = filled(directory.path());
    cache.trim();
    assert_eq!(entries(&cache), 3, "a trim below the limit evicts nothing");
    cache.clone().with_limit(3800).trim();
    assert_eq!(entries(&cache), 3, "a trim at most 5 % above the limit evicts nothing");
    cache.clone().with_limit(2500).trim();
    assert_eq!(
        entries(&cache),
        2,
        "a trim above the limit evicts entries, although nothing was written since"
    );
    cache.clone().with_limit(0).trim();
    assert_eq!(entries(&cache), 0);
    filled(directory.path()).with_limit(u64::MAX).trim();
    assert_eq!(entries(&cache), 3);
}

/// The file `trimmed`, with the size record, may have any content.
#[test]
fn an_unreadable_size_record_counts_as_absent() {
    let directory = tempfile::tempdir().unwrap();
    for text in ["", "{", r#"{"bytes":1}"#, r#"{"at":99999999999,"bytes":0,"written":0}"#] {
        let cache = filled(directory.path()).with_limit(0);
        fs::write(directory.path().join("trimmed"), text).unwrap();
        cache.trim();
        assert!(cache.stat().unwrap().iter().all(|stat| stat.entries == 0), "{text}");
    }
    let none = Cache::new(directory.path().join("none"));
    none.trim();
    drop(none);
    assert!(!directory.path().join("none").exists(), "trimming does not create a cache");
}

#[test]
fn damaged_entries_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let cache = filled(directory.path());
    assert_eq!(cache.verify().unwrap(), Verified { whole: 4, removed: vec![] });
    let mut damaged: Vec<PathBuf> = cache.entries().unwrap().into_iter().map(|entry| entry.path).collect();
    damaged.sort();
    for path in &damaged[..2] {
        let mut bytes = fs::read(path).unwrap();
        bytes[12] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    let verified = cache.verify().unwrap();
    assert_eq!((verified.whole, &verified.removed[..]), (2, &damaged[..2]));
    assert_eq!(cache.verify().unwrap(), Verified { whole: 2, removed: vec![] });
}

/// Another user could replace a directory that they can write with a link, after it is listed and before an entry is
/// removed.
#[test]
fn nothing_is_removed_if_other_users_can_write() {
    let directory = tempfile::tempdir().unwrap();
    let cache = filled(directory.path());
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let entries = || fs::read_dir(directory.path().join("segments")).unwrap().count();
    let before = entries();
    mode(directory.path(), 0o777);
    for error in [cache.gc(0).map(drop), cache.verify().map(drop)] {
        let text = error.unwrap_err().chain();
        assert!(text.contains("its mode is 0777; make it private with chmod 700"), "{text}");
    }
    cache.clone().with_limit(0).trim();
    mode(directory.path(), 0o1777);
    mode(&directory.path().join("segments"), 0o777);
    cache.gc(0).unwrap();
    assert_eq!((entries(), cache.stat().unwrap()[0].entries), (before, 0));
    mode(&directory.path().join("segments"), 0o700);
    assert_eq!(cache.stat().unwrap()[0].entries, 3);
    cache.gc(0).unwrap();
    assert_eq!(cache.stat().unwrap()[0].entries, 0);
}

#[test]
fn an_entry_removed_by_another_process_is_neither_whole_nor_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let cache = filled(directory.path());
    let entries = cache.entries().unwrap();
    let (damaged, evicted) = (entries[0].path.clone(), &entries[1].path);
    fs::write(&damaged, "").unwrap();
    fs::remove_file(evicted).unwrap();
    let verified = remove_damaged(entries).unwrap();
    assert_eq!(verified, Verified { whole: 2, removed: vec![damaged] });
}

#[test]
fn gc_removes_leftovers_from_directories_without_entries() {
    let directory = tempfile::tempdir().unwrap();
    let alone = directory.path().join("segments/00");
    fs::create_dir_all(&alone).unwrap();
    let left = alone.join(".nixply-scratch-aaaaaa");
    fs::write(&left, "").unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(9000);
    fs::File::open(&left).unwrap().set_modified(long_ago).unwrap();
    Cache::new(directory.path()).gc(u64::MAX).unwrap();
    assert!(!left.exists());
}

#[test]
fn verify_removes_other_files_at_the_paths_of_directories() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let directory = tempfile::tempdir().unwrap();
    let cache = filled(directory.path());
    assert_eq!(cache.verify().unwrap().removed, Vec::<PathBuf>::new());
    fs::create_dir_all(directory.path().join("layers")).unwrap();
    let (fifo, file) = (directory.path().join("contents/fifo"), directory.path().join("layers/ab"));
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    fs::write(&file, "").unwrap();
    assert_eq!(cache.verify().unwrap().removed, [fifo.clone(), file.clone()]);
    assert!(!fifo.exists() && !file.exists());
    assert_eq!(cache.verify().unwrap().removed, Vec::<PathBuf>::new());
}
