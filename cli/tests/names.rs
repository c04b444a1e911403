//! Names from untrusted documents: paths of closures and specs, names in lock files and of images, files in requests. Each is
//! checked before anything is read or written, and the error names the document and the place.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nixply_oci::Digest;
use serde_json::{Value, json};

const A: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-app";

/// A directory with a store of one path, its closure and a request.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        let directory = Self(tempfile::tempdir().unwrap());
        let app = directory.path().join("store").join(A.rsplit('/').next().unwrap());
        fs::create_dir_all(&app).unwrap();
        fs::write(app.join("app"), "app").unwrap();
        directory.put("closure.json", &json!([{"path": A, "narSize": 1000}]));
        directory.put("request.json", &json!({"name": "app", "arch": "amd64", "config": {"Cmd": [A]}}));
        directory
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn put(&self, name: &str, value: &Value) {
        fs::write(self.path().join(name), value.to_string()).unwrap();
    }

    /// Writes a spec whose layer has the fields of `more`.
    fn put_spec(&self, name: &str, more: &Value) {
        let digest = Digest::of(b"layer");
        let mut layer = json!({"digest": digest, "size": 5, "diff_ids": digest, "mediatype": "m"});
        layer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.put(name, &json!({"version": 1, "layers": [layer], "image-config": {}}));
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nixply"));
        command.args(line.split(' ')).current_dir(self.path()).stdin(Stdio::null()).env_clear();
        command.env("HOME", self.path()).env("NIXPLY_SKOPEO", "/bin/true").env("PATH", "/nonexistent");
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Runs a command that fails with this exit code and leaves standard output empty. Returns its error line and hints.
    fn fails(&self, line: &str, code: i32) -> String {
        error_of(&self.run(line), line, code)
    }
}

fn error_of(output: &Output, line: &str, code: i32) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(code), &b""[..]), "{line}: {said}");
    said
}

/// Paths that are not store paths of `/nix/store`.
const BAD_PATHS: [&str; 7] = [
    "/etc/passwd",
    "/nix/store/../../etc/passwd",
    "/nix/store/app",
    "/gnu/store/0123456789abcdfghijklmnpqrsvwxyz-app",
    "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-app/bin",
    "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a\0b",
    "",
];

#[test]
fn every_command_checks_closures_and_names_the_entry() {
    let directory = Directory::new();
    directory.put_spec("old.json", &json!({"paths": [{"path": A}]}));
    directory.put_spec("new.json", &json!({"paths": [{"path": A}]}));
    let hash = json!({"path": A, "narHash": "sha256:0"});
    let bad =
        BAD_PATHS.iter().flat_map(|path| [json!({"path": path}), json!({"path": A, "references": [path]})]);
    for entry in bad.chain([hash]) {
        directory.put("bad.json", &json!([{"path": A, "narSize": 1}, entry]));
        for line in [
            "plan request.json --closure bad.json",
            "build request.json --closure bad.json -o out.json",
            "explain request.json --closure bad.json",
            "explain new.json --closure bad.json",
            "diff old.json new.json --old-closure bad.json --new-closure closure.json",
            "diff old.json new.json --old-closure closure.json --new-closure bad.json",
            "strategies bad.json",
            "nix-database bad.json out",
        ] {
            let said = directory.fails(line, 1);
            assert!(said.starts_with("error: bad.json, entry 1"), "{line}, {entry}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
    // If the closure lacks a path, the error names the closure, not the request.
    let lib = A.replace("-app", "-lib");
    directory.put("bad.json", &json!([{"path": A, "narSize": 1, "references": [lib]}]));
    for line in ["plan request.json --closure bad.json", "explain request.json --closure bad.json"] {
        let said = directory.fails(line, 1);
        assert!(
            said.starts_with(&format!("error: bad.json: {lib} is not in the closure, although")),
            "{said}"
        );
    }
    // By path, as newer versions of Nix print it.
    directory.put("bad.json", &json!({A: {"narSize": 1}, "/etc/passwd": {}}));
    let said = directory.fails("plan request.json --closure bad.json", 1);
    let expected = "error: bad.json, entry 1: store path \"/etc/passwd\" is not valid: it is not in the store \
                    /nix/store\n";
    assert_eq!(said, expected);
    assert!(!directory.path().join("out").exists() && !directory.path().join("out.json").exists());
}

#[test]
fn invalid_names_in_lock_files_are_errors() {
    let directory = Directory::new();
    let plan = "plan request.json --closure closure.json --lock lock.json";
    let good = || {
        json!({
            "version": 1, "release": 1, "images": {"app": 1},
            "layers": [{"images": ["app"], "paths": ["app"]}],
            "paths": {"app": {"path": "0123456789abcdfghijklmnpqrsvwxyz-app"}},
        })
    };
    directory.put("lock.json", &good());
    assert!(directory.run(plan).status.success());
    for name in ["../../../etc/x", "", ".", "..", "{}", "a\0b"] {
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut lock = good();
            change(&mut lock);
            lock
        };
        for (place, lock) in [
            ("images", changed(&|lock| lock["images"][name] = json!(1))),
            ("layers[0].images[0]", changed(&|lock| lock["layers"][0]["images"][0] = json!(name))),
            (
                "layers[0].paths[0]",
                changed(&|lock| lock["layers"][0]["paths"][0] = json!(format!("{name}#"))),
            ),
            ("paths", changed(&|lock| lock["paths"][format!("{name}@")] = lock["paths"]["app"].clone())),
            ("paths.\"app\".path", changed(&|lock| lock["paths"]["app"]["path"] = json!(name))),
        ] {
            directory.put("lock.json", &lock);
            for line in [plan, "plan request.json --closure closure.json --lock lock.json --update"] {
                let said = directory.fails(line, 1);
                assert!(said.starts_with(&format!("error: lock file lock.json, {place} ")), "{said}");
                assert!(said.contains(" is not valid: expected "), "{said}");
            }
            assert_eq!(fs::read_to_string(directory.path().join("lock.json")).unwrap(), lock.to_string());
        }
    }
}

#[test]
fn invalid_image_names_in_fleets_are_errors() {
    let directory = Directory::new();
    let plan = "plan --images fleet.json --closure closure.json --lock lock.json --update";
    let image = json!({"arch": "amd64", "config": {"Cmd": [A]}});
    for name in ["", ".", "..", "../x", ".-x", "-x", "{}", "a /b", "a/", "a//b"] {
        directory.put("fleet.json", &json!({"web": image, name: image}));
        let said = directory.fails(plan, 1);
        let expected = format!("error: fleet.json: image {name:?} is not valid: expected letters, digits");
        assert!(said.starts_with(&expected), "{said}");
    }
    directory.put("fleet.json", &json!({}));
    assert!(
        directory
            .fails(plan, 1)
            .starts_with("error: fleet.json: object of images is not valid: it needs at least one image")
    );
    assert!(!directory.path().join("lock.json").exists());
    // The names in a single request are checked before the base image is read.
    for (key, name) in
        [("name", "."), ("name", ".."), ("tag", "."), ("tag", ".-x"), ("tag", ".."), ("name", "a/../b")]
    {
        let mut request = image.clone();
        (request[key], request["fromImage"]) = (json!(name), json!("/nonexistent"));
        directory.put("bad.json", &request);
        let said = directory.fails("build bad.json --closure closure.json -o out.json", 1);
        let thing = if key == "name" { "image name" } else { "tag" };
        assert!(
            said.starts_with(&format!("error: bad.json: {thing} {name:?} is not valid: expected")),
            "{said}"
        );
    }
}

#[test]
fn specs_with_invalid_paths_are_errors_for_reading_commands() {
    let directory = Directory::new();
    for path in ["/etc/passwd", "/nix/store/../../etc", "/nix/store/app", "../x", "", "/nix/store/a\0b"] {
        directory.put_spec("image.json", &json!({"paths": [{"path": A}, {"path": path}]}));
        for line in [
            "inspect image.json",
            "inspect --json image.json",
            "cache import image.json",
            "diff image.json image.json",
        ] {
            let said = directory.fails(line, 1);
            assert!(
                said.starts_with(
                    "error: image.json: layers[0].paths[1].path must be a store path, as in /nix/store/"
                ),
                "{said}"
            );
        }
    }
    for file in ["", "/a\0b"] {
        directory.put_spec("image.json", &json!({"layer-path": file}));
        for line in [
            "inspect image.json",
            "layout image.json out --allow-outside-store",
            "skopeo copy nix:image.json dir:out",
        ] {
            let said = directory.fails(line, 1);
            assert!(
                said.contains("image.json: layers[0].layer-path ") && said.contains("the name of a file"),
                "{said}"
            );
        }
    }
}

#[test]
fn errors_about_files_in_requests_name_the_key() {
    let directory = Directory::new();
    let missing = A.replace("-app", "-missing");
    for (request, what) in [
        (json!({"fromImage": missing}), "fromImage (the base image's spec)"),
        (json!({"fromImage": "/nonexistent\0"}), "fromImage (the base image's spec)"),
        (json!({"lock": missing}), "lock (a lock file)"),
        (json!({"layers": [{"prebuilt": missing}]}), "layers[0].prebuilt (layers)"),
    ] {
        let mut request = request;
        request["arch"] = json!("amd64");
        directory.put("bad.json", &request);
        let said = directory.fails("plan bad.json --closure closure.json --real-store-dir store", 1);
        assert!(said.starts_with(&format!("error: bad.json: cannot read {what}: ")), "{said}");
        assert!(said.contains("missing") || said.contains("nonexistent"), "{said}");
    }
}

#[test]
fn invalid_names_on_the_command_line_are_usage_errors() {
    let directory = Directory::new();
    directory.put("image.json", &json!({"version": 1, "layers": []}));
    for (line, expected) in [
        ("serve image.json --listen 0.0.0.0:0", "error: 0.0.0.0:0 can be reached from other machines"),
        ("serve image.json --name A+B", "error: invalid value 'A+B' for '--name <NAME[:TAG]>': expected"),
        ("serve image.json --name a:.x", "error: invalid value 'a:.x' for '--name <NAME[:TAG]>': expected"),
        ("serve image.json --name ..", "error: invalid value '..' for '--name <NAME[:TAG]>': expected"),
        ("serve image.json --name localhost:5000/a", "error: --name localhost:5000/a: "),
        ("serve image.json image.json --name a --name a", "error: two images are called a:latest"),
        ("layout image.json out --tag a/b", "error: invalid value 'a/b' for '--tag <TAG>': expected"),
        ("layout image.json out --tag .-x", "error: invalid value '.-x' for '--tag <TAG>': expected"),
        (
            "layout image.json out --store-dir store",
            "error: invalid value 'store' for '--store-dir <DIR>': expected an absolute",
        ),
        (
            "plan request.json --store-dir ../store",
            "error: invalid value '../store' for '--store-dir <DIR>': expected an absolute",
        ),
        (
            "explain request.json --store-dir store",
            "error: invalid value 'store' for '--store-dir <DIR>': expected an absolute",
        ),
        (
            "diff image.json image.json --store-dir store",
            "error: invalid value 'store' for '--store-dir <DIR>': expected",
        ),
        (
            "nix-database closure.json out --store-dir store",
            "error: invalid value 'store' for '--store-dir <DIR>': expected",
        ),
        (
            "cache verify --store --store-dir store",
            "error: invalid value 'store' for '--store-dir <DIR>': expected",
        ),
        ("skopeo copy nix: dir:out", "error: nix: must be followed by the path of an image spec"),
        ("container build ..", "error: container name \"..\": expected letters, digits"),
        ("container run .-x", "error: container name \".-x\": expected letters, digits"),
        ("container lock ../x", "error: container name \"../x\": expected letters, digits"),
    ] {
        let said = directory.fails(line, 2);
        assert!(said.starts_with(expected), "{line}: {said}");
    }
    let said = directory.fails("serve image.json --listen 0.0.0.0:0", 2);
    assert!(
        said.ends_with("\nhint: pass --allow-remote to serve the images to other machines too\n"),
        "{said}"
    );
    let line = "layout image.json out --tag";
    for tag in ["a b", ""] {
        let output = directory.command(line).arg(tag).output().unwrap();
        assert!(error_of(&output, line, 2).contains("for '--tag <TAG>'"), "{output:?}");
    }
    assert!(!directory.path().join("out").exists());
}

#[test]
fn errors_name_an_unusable_temporary_directory() {
    let directory = Directory::new();
    directory.put("image.json", &json!({"version": 1, "layers": []}));
    let why = ": No such file or directory";
    for (line, what) in [
        ("serve image.json", "write packed layers to the directory"),
        ("skopeo inspect nix:image.json", "write temporary files to"),
        ("skopeo copy nix:image.json dir:out", "write temporary files to"),
    ] {
        let said =
            error_of(&directory.command(line).env("TMPDIR", "/nonexistent").output().unwrap(), line, 2);
        let expected = format!("error: cannot {what} /nonexistent (from TMPDIR){why}");
        assert!(said.starts_with(&expected) && !said.contains(".tmp"), "{line}: {said}");
    }
    let said = directory.fails("serve image.json --scratch-dir gone", 2);
    assert!(
        said.starts_with(&format!("error: cannot write packed layers to the directory gone{why}")),
        "{said}"
    );
}

#[test]
#[allow(clippy::print_stderr, reason = "a part that is left out is seen")]
fn errors_name_an_unwritable_layout_directory() {
    let directory = Directory::new();
    directory.put("image.json", &json!({"version": 1, "layers": []}));
    // A directory of the kernel, which root cannot write either.
    for out in ["/proc/out", "/proc/a/out"] {
        let said = directory.fails(&format!("layout image.json {out}"), 2);
        assert!(said.contains("/proc") && !said.contains("scratch"), "{said}");
    }
    if rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED in part: root can write to every directory");
        return;
    }
    assert!(directory.run("layout image.json out").status.success());
    fs::set_permissions(directory.path().join("out/blobs/sha256"), fs::Permissions::from_mode(0o555))
        .unwrap();
    let said = directory.fails("layout image.json out --tag other", 2);
    assert!(said.contains("out/blobs/sha256: Permission denied") && !said.contains("scratch"), "{said}");
}

#[test]
fn values_that_runtimes_reject_are_warnings() {
    let directory = Directory::new();
    let config = json!({"Cmd": [A], "Env": ["a"], "ExposedPorts": {"80/foo": {}}});
    directory.put("doubtful.json", &json!({"arch": "amd64", "config": config}));
    let output = directory.run("plan doubtful.json --closure closure.json");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    for warning in ["config.Env[0] \"a\" is not NAME=value", "config.ExposedPorts \"80/foo\" is not a port"] {
        assert!(said.contains(&format!("warning: {warning}")), "{said}");
    }
}

#[test]
fn empty_health_check_clears_the_inherited_one() {
    let directory = Directory::new();
    let base = A.replace("-app", "-base.json");
    let spec = json!({"version": 1, "layers": [], "image-config": {"User": "u", "Healthcheck": {"Test": ["CMD", "/x"]}}});
    let store = directory.path().join("store");
    fs::write(store.join(base.rsplit('/').next().unwrap()), spec.to_string()).unwrap();
    let built = |more: Value| {
        let mut request =
            json!({"arch": "amd64", "fromImage": base, "inheritConfig": true, "config": {"Cmd": [A]}});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        directory.put("request.json", &request);
        let output =
            directory.run("build request.json --closure closure.json --real-store-dir store --no-cache");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["image-config"].clone()
    };
    assert_eq!(built(json!({}))["Healthcheck"], json!({"Test": ["CMD", "/x"]}));
    assert_eq!(built(json!({"healthcheck": null}))["Healthcheck"], json!({"Test": ["CMD", "/x"]}));
    let cleared = built(json!({"healthcheck": {}}));
    assert_eq!((&cleared["User"], cleared.get("Healthcheck")), (&json!("u"), None));
    let own = built(json!({"healthcheck": {}, "fromImage": null, "inheritConfig": false}));
    assert_eq!(own.get("Healthcheck"), None);
}
