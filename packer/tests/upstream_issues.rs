//! Issues that users of nix2container reported and that concern the packer: one test for each issue without a test elsewhere.

mod trees;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::AtomicBool;

use nixply_packer::image::layout;
use nixply_packer::{Control, ImageRequest, ImageSpec, Layer, Packer, Packing};
use nixply_planning::{Closure, PathInfo, Store};
use serde_json::{Value, json};

use self::trees::Tree;

const A: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a";
const B: &str = "/nix/store/123456789abcdfghijklmnpqrsvwxyz0-b";

/// Headers of an image's files by their names: mode, owner, group, size.
type Headers = HashMap<String, (u32, u64, u64, String, String, u64)>;

struct World {
    directory: tempfile::TempDir,
    store: Store,
}

impl World {
    /// Creates a store with these files: path, name, and text or, after an arrow, a symlink's target.
    fn new(files: &[(&str, &str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store { dir: "/nix/store".into(), real_dir: directory.path().join("store") };
        for (path, name, text) in files {
            let file = store.real_file(path).join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            match text.strip_prefix("-> ") {
                Some(target) => symlink(target, file).unwrap(),
                None => Tree::File { text: (*text).into(), mode: 0o444 }.write(&file),
            }
        }
        Self { directory, store }
    }

    fn build(&self, request: &Value) -> ImageSpec {
        let info = |path: &&str| PathInfo {
            path: path.parse().unwrap(),
            references: Vec::new(),
            nar_hash: String::new(),
            nar_size: 0,
        };
        let stop = AtomicBool::new(false);
        let request = ImageRequest::from_json(&request.to_string(), "request").unwrap();
        let closure = Closure::new([A, B].iter().map(info));
        request
            .build(&closure, &Packing::new(&self.store, &Packer::new(2), &Control::new(&stop, &())))
            .unwrap()
            .spec
    }

    /// Returns the headers in all layers of an image.
    fn headers(&self, request: &Value) -> Headers {
        let (spec, out) = (self.build(request), self.directory.path().join("layout"));
        let stop = AtomicBool::new(false);
        layout::write(
            &spec,
            &out,
            "t",
            None,
            &Packing::new(&self.store, &Packer::new(2), &Control::new(&stop, &())),
        )
        .unwrap();
        let mut headers = Headers::new();
        for layer in &spec.layers {
            let blob = fs::File::open(out.join("blobs/sha256").join(layer.digest.hex())).unwrap();
            for entry in tar::Archive::new(blob).entries().unwrap() {
                let entry = entry.unwrap();
                let header = entry.header();
                let name = |name: Result<Option<&str>, _>| name.unwrap().unwrap().to_owned();
                headers.insert(
                    entry.path().unwrap().display().to_string(),
                    (
                        header.mode().unwrap(),
                        header.uid().unwrap(),
                        header.gid().unwrap(),
                        name(header.username()),
                        name(header.groupname()),
                        header.size().unwrap(),
                    ),
                );
            }
        }
        headers
    }
}

fn root(mode: u32, size: u64) -> (u32, u64, u64, String, String, u64) {
    (mode, 0, 0, "root".into(), "root".into(), size)
}

/// Symlinks have mode 0755 on macOS and 0777 on Linux: the archive always has 0777.
#[test]
fn nix2container_23_symlinks_have_one_mode() {
    let world = World::new(&[(A, "link", "-> file"), (A, "file", "x")]);
    let headers = world.headers(&json!({"arch": "amd64", "copyToRoot": A}));
    assert_eq!(headers["/link"], root(0o777, 0));
    assert_eq!(headers["/file"], root(0o444, 1));
}

/// Files that rules match have the owners from the rules; all others belong to root. /nix can belong to a user (#51).
#[test]
fn nix2container_44_51_owners_follow_the_rules() {
    let world = World::new(&[(A, "nix/var/db", "x"), (A, "home/me/file", "y"), (B, "f", "z")]);
    let request = json!({
        "arch": "amd64", "copyToRoot": A, "layers": [{"deps": B}],
        "perms": [
            {"path": A, "regex": "/nix", "mode": "0755", "uid": 1000, "gid": 100},
            {"path": A, "regex": "/home/me", "uid": 7, "gid": 8, "uname": "me", "gname": "us"},
        ],
    });
    // The path's own name also contains "/nix": unanchored rules match all of it.
    let headers = world.headers(&request);
    let of = |name: &str| headers[name].clone();
    assert_eq!(of("/home/me/file"), (0o755, 7, 8, "me".into(), "us".into(), 1));
    assert_eq!(of("/nix/var/db"), (0o755, 1000, 100, "root".into(), "root".into(), 1));
    assert_eq!(of(&format!("{B}/f")), root(0o444, 1), "the rules do not apply to files of another path");
}

/// Trees at the root are merged: each program is in the image.
#[test]
fn nix2container_55_trees_at_the_root_are_merged() {
    let world = World::new(&[(A, "bin/a", "1"), (A, "share/x", "2"), (B, "bin/b", "3")]);
    let headers = world.headers(&json!({"arch": "amd64", "copyToRoot": [A, B]}));
    let mut names: Vec<&str> = headers.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["/", "/bin", "/bin/a", "/bin/b", "/share", "/share/x"]);
}

/// The packer writes an empty list for no layers, and reads nix2container's null.
#[test]
fn nix2container_209_an_image_without_layers_has_an_empty_list() {
    assert_eq!(Layer::write_all(&[]), b"[]");
    assert_eq!(Layer::read_all("null", "it").unwrap(), []);
    let world = World::new(&[]);
    let spec = world.build(&json!({"arch": "amd64"}));
    let json = String::from_utf8(spec.write()).unwrap();
    assert!(json.contains("\"layers\": []"), "{json}");
    let theirs = json.replace("\"layers\": []", "\"layers\": null");
    assert_eq!(ImageSpec::read(&theirs, "it").unwrap(), spec);
}
