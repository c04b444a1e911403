//! Tests that every processor produces the same bytes. Codecs and hashes select code by the processor's
//! features, and a build on another machine must yield the same digests.
//!
//! The program runs under qemu as several processors, and its output is compared with the output on this
//! machine. qemu 7.2 (bookworm's) supports AVX2 and BMI2, but neither AVX-512 nor SHA extensions. If this
//! machine has those, the comparison covers them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use nixply_packer::Codec;
use nixply_tests::{needs, run, skip, skipped};
use serde_json::json;

/// Emulated processors, each with more features that codecs or hashes use: only SSE2; SSE4.2; PCLMULQDQ; AVX2
/// and BMI2; everything that qemu supports.
const PROCESSORS: [&str; 5] = ["qemu64", "Nehalem", "Westmere", "Haswell", "max"];

/// One level per search method: libdeflate's fastest, greedy, lazy, twice lazy and near-optimal; zstd's fast,
/// double fast, greedy, lazy, binary tree and optimal.
const SEARCH_METHODS: [(&str, &[i64]); 2] = [("gzip", &[1, 4, 6, 9, 12]), ("zstd", &[1, 3, 5, 7, 13, 19])];

/// Returns every codec with these levels, or with its lowest, default and highest level.
fn codecs() -> BTreeSet<String> {
    let with = |name: &str, level| Codec::with_level_near(name, level).unwrap().to_string();
    let levels = |codec: Codec| -> Vec<String> {
        match SEARCH_METHODS.iter().find(|(name, _)| *name == codec.name()) {
            Some((name, levels)) => levels.iter().map(|level| with(name, Some(*level))).collect(),
            None => [Some(1), None, Some(i64::MAX)].map(|level| with(codec.name(), level)).into(),
        }
    };
    Codec::all().flat_map(levels).collect()
}

const STORE_PATH: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-mixed";

/// Creates a store path with every kind of content that codecs treat differently. One file is longer than a
/// frame.
fn make_store(store: &Path, program: &Path) {
    let directory = store.join(&STORE_PATH["/nix/store/".len()..]);
    fs::create_dir_all(&directory).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(directory.join(name), bytes).unwrap();
    let mut state = 1u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    // Machine code and symbols of the program.
    let program = fs::read(program).unwrap();
    let third = program.len() / 3;
    write("code", &program[third..third + 300_000]);
    let words = ["store", "layer", "frame", "digest", "closure", "registry", "reference", "of", "the", "a"];
    let text: String = (0..60_000).map(|_| format!("{} ", words[random() as usize % words.len()])).collect();
    write("text", text.as_bytes());
    write("noise", &(0..12_500).flat_map(|_| random().to_le_bytes()).collect::<Vec<u8>>());
    // Periodic records, and distant repetitions.
    let records: Vec<u8> =
        (0..20_000u64).flat_map(|at| [at.to_le_bytes(), (random() & 0xff).to_le_bytes()].concat()).collect();
    write("records", &records);
    let mut long = vec![0; (4 << 20) + 100_000];
    for at in (0..long.len()).step_by(70_001) {
        let length = text.len().min(long.len() - at).min(5000);
        long[at..at + length].copy_from_slice(&text.as_bytes()[..length]);
    }
    write("long", &long);
}

/// Returns all files below a directory, by name. In a cache, the names and contents of entries include blake3
/// hashes, and the contents include the compressed frames.
fn tree(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![directory.to_path_buf()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => directories.push(path),
                false => {
                    let name = path.strip_prefix(directory).unwrap().display().to_string();
                    files.insert(name, fs::read(&path).unwrap());
                }
            }
        }
    }
    files
}

/// Packs with every codec. Returns the specs, with their digests, and the cache's content.
fn pack(directory: &Path, program: &Path, processor: Option<&str>) -> BTreeMap<String, Vec<u8>> {
    let own = directory.join(processor.unwrap_or("native"));
    let mut made = BTreeMap::new();
    for codec in codecs() {
        let mut command = match processor {
            None => Command::new(program),
            Some(processor) => {
                let mut command = Command::new("qemu-x86_64");
                command.args(["-cpu", processor]).arg(program);
                command
            }
        };
        command.env_remove("NIX_STORE_DIR");
        command.arg("build").arg(directory.join(format!("{codec}.json")));
        command.args(["--jobs", "1", "--closure"]).arg(directory.join("closure.json"));
        command
            .arg("--real-store-dir")
            .arg(directory.join("store"))
            .arg("--cache-dir")
            .arg(own.join("cache"));
        made.insert(codec, run(&mut command).ok().into_bytes());
    }
    made.extend(tree(&own.join("cache")));
    // The file depends on the time.
    made.remove("trimmed");
    made
}

#[test]
fn every_processor_produces_the_same_bytes() {
    let program = needs!("NIXPLY_TEST_CLI");
    if !cfg!(target_arch = "x86_64") {
        return skipped("the emulated processors are x86-64 processors");
    }
    if Command::new("qemu-x86_64").arg("--version").output().is_err() {
        return skip("this test needs qemu-x86_64 (apt-get install qemu-user)");
    }
    let directory = tempfile::tempdir().unwrap();
    make_store(&directory.path().join("store"), program.as_ref());
    let closure = json!([{"path": STORE_PATH, "references": [], "narHash": "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=", "narSize": 1}]);
    fs::write(directory.path().join("closure.json"), closure.to_string()).unwrap();
    for codec in codecs() {
        let request = json!({"layers": [{"deps": [STORE_PATH]}], "arch": "amd64", "compression": codec});
        fs::write(directory.path().join(format!("{codec}.json")), request.to_string()).unwrap();
    }
    let expected = pack(directory.path(), program.as_ref(), None);
    // One spec per codec, and one segment per codec except none.
    let segments = expected.keys().filter(|name| name.starts_with("segments/")).count();
    assert_eq!(segments, codecs().len() - 1, "{:?}", expected.keys());
    std::thread::scope(|scope| {
        for processor in PROCESSORS {
            let (directory, program, expected) = (directory.path(), program.as_ref(), &expected);
            scope.spawn(move || {
                let made = pack(directory, program, Some(processor));
                let names: Vec<_> = made.keys().collect();
                assert_eq!(names, expected.keys().collect::<Vec<_>>(), "{processor}");
                let differs = made.iter().find(|(name, bytes)| expected[*name] != **bytes);
                assert_eq!(differs.map(|(name, _)| name), None, "{processor} produces different bytes");
            });
        }
    });
}
