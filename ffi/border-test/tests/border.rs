//! Tests of the border through C++ code that calls it.

use std::fs;
use std::time::{Duration, Instant};

use nixply_border_test::ffi;
use nixply_packer::ImageSpec;

const PATH: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-thing";

fn store() -> tempfile::TempDir {
    let store = tempfile::tempdir().unwrap();
    let thing = store.path().join("0123456789abcdfghijklmnpqrsvwxyz-thing");
    fs::create_dir_all(thing.join("bin")).unwrap();
    fs::write(thing.join("bin/thing"), vec![b'x'; 3 << 20]).unwrap();
    store
}

fn config() -> String {
    format!(r#"{{"Cmd":["{PATH}/bin/thing"],"Healthcheck":{{}}}}"#)
}

#[test]
fn build_returns_the_image_and_reports_progress() {
    let store = store();
    let outcome = ffi::build(store.path().to_str().unwrap(), PATH, &config(), false, 2);
    assert_eq!(outcome.error, "");
    let spec = ImageSpec::read(&outcome.spec, "spec").unwrap();
    assert_eq!(spec.layers[0].paths[0].path.as_str(), PATH);
    assert_eq!(spec.arch, "amd64");
    assert_eq!(outcome.references, [PATH]);
    assert_eq!(outcome.name, "thing", "the name is in lower case, as registries require");
    let manifest = nixply_documents::go_json::compact(&spec.manifest());
    assert_eq!(outcome.manifest, nixply_oci::Digest::of(&manifest).to_string());
    let size = spec.layers[0].size;
    assert_eq!(
        outcome.log,
        format!(
            "started 0 of 1000\nfinished 0 with {size}\nwarning config.Healthcheck is not part of OCI's image config and \
             is omitted from the image, as in nix2container: use the argument healthcheck\n"
        )
    );
    assert!(!outcome.called_elsewhere, "the observer is called only on the caller's thread");
}

#[test]
fn no_thread_outlives_the_call() {
    let threads = || fs::read_dir("/proc/self/task").unwrap().count();
    let store = store();
    // The test harness has other threads, which start and end. Only their number must not grow.
    let before = threads();
    for _ in 0..20 {
        ffi::build(store.path().to_str().unwrap(), PATH, &config(), false, 8);
    }
    assert!(threads() < before + 8, "{} threads, {before} before", threads());
}

#[test]
fn an_interrupt_ends_packing() {
    let store = tempfile::tempdir().unwrap();
    let thing = store.path().join("0123456789abcdfghijklmnpqrsvwxyz-thing");
    // An empty file of 1 TiB, which takes many minutes to hash.
    fs::File::create(thing).unwrap().set_len(1 << 40).unwrap();
    let begin = Instant::now();
    let outcome = ffi::build(store.path().to_str().unwrap(), PATH, &config(), true, 2);
    assert_eq!(outcome.error, "interrupted");
    // A generous limit: without the interrupt, packing takes many minutes.
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn an_interrupt_ends_planning() {
    assert_eq!(ffi::plan_chain(100_000, true), "interrupted");
    assert_eq!(ffi::plan_chain(300, false), "100");
}

#[test]
fn closure_entries_outside_the_store_are_errors() {
    let error =
        |entry: &str, hash: &str| ffi::plan_with_entry(PATH, entry, hash).unwrap_err().what().to_owned();
    assert_eq!(
        error("/etc/shadow", ""),
        "closure: store path \"/etc/shadow\" is not valid: expected a 32-character hash, a dash and a name, and nothing \
         below it"
    );
    let other = "/nix/store/123456789abcdfghijklmnpqrsvwxyz0-other";
    assert!(
        error(other, "sha256:0")
            .starts_with(&format!("closure, hash of {other} is not valid: expected a SHA-256"))
    );
    let known = "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
    let twice = error(PATH, &format!("sha256:{}", "0".repeat(64)));
    assert!(twice.contains("two entries with different hashes") && twice.contains(known), "{twice}");
    ffi::plan_with_entry(PATH, other, known).unwrap();
}

#[test]
fn errors_arrive_as_exceptions_with_their_causes() {
    let store = store();
    let real = store.path().to_str().unwrap();
    let error = |config: &str| ffi::build(real, PATH, config, false, 1).error;
    assert_eq!(error(r#"{"Cmd":1}"#), "request: config.Cmd must be a list of texts, not the number 1");
    assert!(
        error("{").starts_with("request is not complete: it ends in the middle of an object"),
        "{}",
        error("{")
    );
    fs::remove_dir_all(store.path().join("0123456789abcdfghijklmnpqrsvwxyz-thing")).unwrap();
    assert!(
        error(&config()).starts_with("store path does not exist: it was never realised"),
        "{}",
        error(&config())
    );
    let error = ffi::plan(real, PATH, "best", "").unwrap_err();
    assert!(error.what().starts_with("request: strategy must be one of min-churn"), "{}", error.what());
    let error = ffi::plan(real, PATH, "", r#"[{"depsOf":["x"]}]"#).unwrap_err();
    assert!(error.what().starts_with("groups[0].depsOf[0]: store path \"x\""), "{}", error.what());
}

#[test]
fn plans_and_builders_have_the_results_of_the_packer() {
    let store = store();
    let real = store.path().to_str().unwrap();
    assert_eq!(ffi::plan(real, PATH, "", "").unwrap(), format!("{PATH} 1000\n"));
    assert_eq!(ffi::plan(real, PATH, "", r#"[{"roots":true}]"#).unwrap(), format!("{PATH} 1000\n"));
    let config_path = "/nix/store/123456789abcdfghijklmnpqrsvwxyz0-config.json";
    fs::write(store.path().join("123456789abcdfghijklmnpqrsvwxyz0-config.json"), config()).unwrap();
    let out = store.path().join("out");
    let built = |attrs: &str| {
        ffi::builder(attrs, real).unwrap();
        fs::read_to_string(&out).unwrap()
    };
    let output = out.display();
    let attrs = format!(
        r#"{{"outputs":{{"out":"{output}"}},"request":{{"arch":"amd64"}},"configFile":"{config_path}","closure":[
            {{"path":"{PATH}","references":[]}},{{"path":"{config_path}","references":["{PATH}"]}}]}}"#
    );
    assert_eq!(built(&attrs), ffi::build(real, PATH, &config(), false, 2).spec);
    let attrs = format!(r#"{{"outputs":{{"out":"{output}"}},"config":{}}}"#, config());
    assert_eq!(built(&attrs), config());
    let error = ffi::builder(r#"{"outputs":{"out":"/o"},"request":{"nmae":1}}"#, real).unwrap_err();
    assert!(error.what().contains("cannot have the key `nmae`; did you mean `name`?"), "{}", error.what());
}

#[test]
fn arguments_describe_the_schema_to_cpp() {
    for (place, shown) in [
        ("", " object"),
        ("name", " plain"),
        ("copyToRoot", " list"),
        ("layers", " list"),
        ("layers[0]", " object"),
        ("layers[0].deps[3]", ""),
        ("layers[0].metadata.author", " plain"),
        ("config", " object list config"),
        ("config.whatever", " object list config"),
        ("healthcheck", " object config"),
        ("annotations", " object"),
        ("annotations.x", " plain"),
        ("groups[0]", " object list"),
        ("perms[0].regex", ""),
        ("maxLayers", ""),
    ] {
        assert_eq!(ffi::describe(place), shown, "{place}");
    }
}

#[test]
fn checks_and_root_paths_of_requests_need_no_store() {
    let error = |request: &str| ffi::check(request).unwrap_err().what().to_owned();
    assert_eq!(error(r#"{"nmae":1}"#), "builtins.test cannot have the key `nmae`; did you mean `name`?");
    assert_eq!(
        error(r#"{"layers":[{},{"perms":[{"path":"/p","mode":3}]}]}"#),
        "builtins.test: layers[1].perms[0].mode must be text, not the number 3"
    );
    assert!(
        error(r#"{"name":"a b"}"#).starts_with("builtins.test: image name"),
        "{}",
        error(r#"{"name":"a b"}"#)
    );
    ffi::check(
        r#"{"name":"x","layers":[{"deps":["/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9"]}]}"#,
    )
    .unwrap();
    let request = r#"{"copyToRoot":"/a","layers":[{"deps":["/b"],"ignore":["/c"]}],"config":{"Cmd":["/d"]}}"#;
    assert_eq!(ffi::roots(request).unwrap(), "copyToRoot /a\nlayers[0].deps[0] /b\n");
    assert!(ffi::roots("{").is_err());
}
