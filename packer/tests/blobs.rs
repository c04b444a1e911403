//! Blobs are independent of the number of threads and decodable by common tools, and layouts are valid.

mod trees;

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use nixply_packer::image::layout;
use nixply_packer::request::BuiltImage;
use nixply_packer::{Codec, Control, FRAME_BYTES, ImageRequest, LayerPath, Packer, Packing};
use nixply_planning::{Closure, PathInfo, PlannedPath, Store};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use self::trees::Memory;

const A: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a";
const B: &str = "/nix/store/123456789abcdfghijklmnpqrsvwxyz0-b";

/// Returns pseudorandom bytes that compress to about half of their size.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 60) as u8
    };
    (0..length).map(|_| b'a' + next()).collect()
}

/// Creates two store paths; the first spans several frames.
fn store() -> (tempfile::TempDir, Store, Closure) {
    let temporary = tempfile::tempdir().unwrap();
    let store = Store { dir: "/nix/store".into(), real_dir: temporary.path().into() };
    let write = |path: &str, name: &str, bytes: &[u8]| {
        let file = store.real_file(path).join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    };
    write(A, "big", &noise(2 * FRAME_BYTES + 12_345, 1));
    write(A, "bin/a", &noise(511, 2));
    write(A, "bin/empty", b"");
    write(B, "bin/b", &noise(FRAME_BYTES - 512, 3));
    let info = |path: &str, references: &[&str]| PathInfo {
        path: path.parse().unwrap(),
        references: references.iter().map(|path| path.parse().unwrap()).collect(),
        nar_hash: String::new(),
        nar_size: 1,
    };
    let closure = Closure::new([info(A, &[]), info(B, &[A])]);
    (temporary, store, closure)
}

fn plain(blob: &[u8], codec: Codec) -> Vec<u8> {
    let mut out = Vec::new();
    match codec {
        Codec::None => out.extend_from_slice(blob),
        Codec::Gzip { .. } => drop(flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut out).unwrap()),
        Codec::Zstd { .. } => {
            out.reserve(32 << 20);
            zstd_safe::DCtx::create().decompress(&mut out, blob).unwrap();
        }
    }
    out
}

#[test]
fn bytes_do_not_depend_on_threads_and_decode_to_the_same_tar() {
    let (_temporary, store, _) = store();
    let path = |path: &str| PlannedPath { path: path.parse().unwrap(), options: None };
    let stop = AtomicBool::new(false);
    let pack = |threads: usize, codec: Codec| {
        let layers = [
            LayerPath::all(&[path(A), path(B)], &store).unwrap(),
            LayerPath::all(&[path(B)], &store).unwrap(),
            LayerPath::all(&[path(A)], &store).unwrap(),
        ];
        let sink = Memory::default();
        let packed = Packer::new(threads).pack(&layers, codec, &sink, &Control::new(&stop, &())).unwrap();
        (packed, [0, 1, 2].map(|layer| sink.blob(layer)))
    };
    let (tars, blobs) = pack(1, Codec::None);
    let fastest = |codec: Codec| Codec::with_level_near(codec.name(), Some(1)).unwrap();
    for codec in Codec::all().chain(Codec::all().map(fastest)) {
        let reference = pack(1, codec);
        for threads in [2, 8] {
            assert!(pack(threads, codec) == reference, "{codec} with {threads} threads");
        }
        for layer in 0..3 {
            let (packed, blob) = (&reference.0[layer], &reference.1[layer]);
            assert!(plain(blob, codec) == blobs[layer], "{codec} layer {layer}");
            assert_eq!(packed.diff_id, tars[layer].diff_id);
            assert_eq!(packed.digest.hex(), hex::encode(Sha256::digest(blob)));
            assert_eq!(packed.size, blob.len() as u64);
        }
    }
}

/// A store path's frames are the same in every layer: the cache of frames relies on it.
#[test]
fn a_paths_frames_do_not_depend_on_its_neighbours() {
    let (_temporary, store, _) = store();
    let stop = AtomicBool::new(false);
    let pack = |paths: &[&str]| {
        let planned: Vec<_> =
            paths.iter().map(|path| PlannedPath { path: path.parse().unwrap(), options: None }).collect();
        let sink = Memory::default();
        let layers = [LayerPath::all(&planned, &store).unwrap()];
        Packer::new(2).pack(&layers, "zstd".parse().unwrap(), &sink, &Control::new(&stop, &())).unwrap();
        sink.blob(0)
    };
    let (alone, together) = (pack(&[B]), pack(&[A, B]));
    // Parents and end blocks are separate frames. B's frames and the end blocks are the tail of both layers.
    let frames = |blob: &[u8]| {
        let mut rest = blob;
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let length = zstd_safe::find_frame_compressed_size(rest).unwrap();
            frames.push(rest[..length].to_vec());
            rest = &rest[length..];
        }
        frames
    };
    let (alone, together) = (frames(&alone), frames(&together));
    assert_eq!(together[0], alone[0], "the parents' frames are the same");
    assert_eq!(
        together[together.len() - (alone.len() - 1)..],
        alone[1..],
        "the frames of B and of the end blocks are the same"
    );
}

fn build(request: Value, store: &Store, closure: &Closure, threads: usize) -> BuiltImage {
    let stop = AtomicBool::new(false);
    let request = ImageRequest::from_json(&request.to_string(), "request").unwrap();
    request.build(closure, &Packing::new(store, &Packer::new(threads), &Control::new(&stop, &()))).unwrap()
}

fn request(compression: &str) -> Value {
    json!({
        "config": {"Cmd": [format!("{B}/bin/b")]}, "configRoots": [B], "maxLayers": 2, "arch": "amd64",
        "compression": compression,
    })
}

fn read_blob(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let bytes = fs::read(layout.join("blobs/sha256").join(digest)).unwrap();
    assert_eq!(hex::encode(Sha256::digest(&bytes)), digest);
    assert_eq!(bytes.len() as u64, descriptor["size"].as_u64().unwrap());
    bytes
}

#[test]
fn layouts_are_valid_with_every_codec() {
    let (temporary, store, closure) = store();
    let stop = AtomicBool::new(false);
    let out = temporary.path().join("layout");
    let mut tags = HashMap::new();
    let names = || Codec::all().map(Codec::name);
    for (in_spec, written) in
        names().flat_map(|name| [(name, None), (name, Some("none")), ("none", Some(name))])
    {
        let spec = build(request(in_spec), &store, &closure, 2).spec;
        let tag = format!("{in_spec}-{}", written.unwrap_or("spec"));
        let codec = written.map(|name| name.parse().unwrap());
        let packer = Packer::new(2);
        let done = layout::write(
            &spec,
            &out,
            &tag,
            codec,
            &Packing::new(&store, &packer, &Control::new(&stop, &())),
        )
        .unwrap();
        if written.is_none() {
            let recorded: Vec<_> = spec.layers.iter().map(|layer| (layer.digest, layer.size)).collect();
            let found: Vec<_> = done.layers.iter().map(|layer| (layer.digest, layer.size)).collect();
            assert_eq!(found, recorded, "the layout's blobs have the digests in the spec");
        }
        tags.insert(tag, done.manifest.to_string());
    }
    assert_eq!(fs::read(out.join("oci-layout")).unwrap(), br#"{"imageLayoutVersion":"1.0.0"}"#);
    let index: Value = serde_json::from_slice(&fs::read(out.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), tags.len());
    for entry in index["manifests"].as_array().unwrap() {
        let tag = entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap();
        assert_eq!(entry["digest"], tags[tag]);
        let manifest: Value = serde_json::from_slice(&read_blob(&out, entry)).unwrap();
        let config: Value = serde_json::from_slice(&read_blob(&out, &manifest["config"])).unwrap();
        let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
        assert_eq!(manifest["layers"].as_array().unwrap().len(), diff_ids.len());
        for (layer, diff_id) in manifest["layers"].as_array().unwrap().iter().zip(diff_ids) {
            let (_, suffix) = layer["mediaType"].as_str().unwrap().rsplit_once('.').unwrap();
            let codec = suffix.strip_prefix("tar+").unwrap_or("none");
            let tar = plain(&read_blob(&out, layer), codec.parse().unwrap());
            assert_eq!(format!("sha256:{}", hex::encode(Sha256::digest(&tar))), diff_id.as_str().unwrap());
            let entries = tar::Archive::new(&tar[..]).entries().unwrap().count();
            assert!(entries > 4, "{entries} entries");
        }
    }
    let leftovers = fs::read_dir(out.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(leftovers.into_iter().all(|name| name.len() == 64), "the directory has only blobs");
}

/// After a power failure, a disk may have a blob's size without its bytes.
#[test]
fn a_damaged_blob_in_a_layout_is_written_again() {
    let (temporary, store, closure) = store();
    let (stop, out) = (AtomicBool::new(false), temporary.path().join("layout"));
    let spec = build(request("gzip"), &store, &closure, 2).spec;
    let write = || {
        layout::write(
            &spec,
            &out,
            "t",
            None,
            &Packing::new(&store, &Packer::new(2), &Control::new(&stop, &())),
        )
        .unwrap()
    };
    write();
    let blob = out.join("blobs/sha256").join(spec.layers[0].digest.hex());
    let bytes = fs::read(&blob).unwrap();
    fs::write(&blob, vec![0; bytes.len()]).unwrap();
    write();
    assert_eq!(fs::read(&blob).unwrap(), bytes);
}

#[test]
fn a_layout_has_all_images_that_are_written_to_it_at_once() {
    let (temporary, store, closure) = store();
    let (stop, out) = (AtomicBool::new(false), temporary.path().join("layout"));
    let spec = build(request("none"), &store, &closure, 2).spec;
    std::thread::scope(|scope| {
        for at in 0..8 {
            let (spec, store, out, stop) = (&spec, &store, &out, &stop);
            scope.spawn(move || {
                let tag = format!("t{at}");
                layout::write(
                    spec,
                    out,
                    &tag,
                    None,
                    &Packing::new(store, &Packer::new(1), &Control::new(stop, &())),
                )
                .unwrap()
            });
        }
    });
    let index: Value = serde_json::from_slice(&fs::read(out.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 8);
    let mut names = fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.all(|name| !name.to_str().unwrap().starts_with('.')), "nothing is left beside the layout");
}

#[test]
fn specs_do_not_depend_on_threads() {
    let (_temporary, store, closure) = store();
    for compression in Codec::all().map(Codec::name) {
        let one = build(request(compression), &store, &closure, 1);
        assert_eq!(one.references.iter().map(|path| path.as_str()).collect::<Vec<_>>(), [A, B]);
        for threads in [2, 8] {
            assert_eq!(build(request(compression), &store, &closure, threads).json, one.json);
        }
    }
}

/// The image contains only the paths that the config names. nix2container does the same: its closure is that of a file with the
/// config.
#[test]
fn a_root_that_the_config_does_not_name_stays_out() {
    let (_temporary, store, closure) = store();
    let mut asked = request("none");
    asked["config"] = json!({"Cmd": [A]});
    let built = build(asked, &store, &closure, 1);
    let paths: Vec<_> =
        built.spec.layers.iter().flat_map(|layer| &layer.paths).map(|path| path.path.as_str()).collect();
    assert_eq!(paths, [A]);
}
