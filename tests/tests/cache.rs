//! The cache as users see it: which files a build reads, and `nixply cache`.

use std::fs;
use std::path::{Path, PathBuf};

use nixply_tests::{Private, harness, run};

/// A store with a store path of three files, a request for an image with that path, and a cache.
struct World {
    nix: Private,
    request: PathBuf,
    cache: PathBuf,
}

impl World {
    fn new(nix: &nixply_tests::Nix) -> Self {
        let nix = nix.private();
        let file = nix.file(
            "x.nix",
            r#"let a = sh "a" "mkdir $out; for i in 1 2 3; do echo $i > $out/$i; done"; b = sh "b" "echo ${a} > $out"; in {
              text = builtins.toJSON { compression = "gzip"; maxLayers = 2; config.Env = [ "B=${b}" ]; };
              inherit b;
            }"#,
        );
        nix.build_file(&file, "b", "b").ok();
        let text: String = serde_json::from_str(&nix.eval_file(&file, "text").ok()).unwrap();
        let (request, cache) = (nix.directory().join("request.json"), nix.directory().join("own-cache"));
        fs::write(&request, text).unwrap();
        Self { nix, request, cache }
    }

    fn build(&self) -> String {
        let mut command = self.nix.nixply();
        command.arg("build").arg(&self.request).arg("--cache-dir").arg(&self.cache);
        run(&mut command).ok()
    }

    fn cache(&self, verb: &[&str]) -> nixply_tests::Output {
        run(self.nix.nixply().arg("cache").args(verb).arg("--cache-dir").arg(&self.cache))
    }
}

/// Returns strace's lines about the files below a directory that a build opens.
fn opened(world: &World, below: &Path) -> Vec<String> {
    let trace = world.nix.directory().join("trace");
    let mut command = std::process::Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=open,openat", "-o"]).arg(&trace).arg(&world.nix.cli);
    command.arg("build").arg(&world.request).arg("--cache-dir").arg(&world.cache);
    command.env("PATH", format!("{}:{}", world.nix.bin.display(), std::env::var("PATH").unwrap()));
    run(command.envs(world.nix.environment(""))).ok();
    let trace = fs::read_to_string(trace).unwrap();
    trace.lines().filter(|line| line.contains(below.to_str().unwrap())).map(str::to_owned).collect()
}

#[test]
fn unchanged_build_opens_no_store_files() {
    let world = World::new(&harness!());
    let store = world.nix.store_dir();
    let first = opened(&world, &store);
    assert!(first.iter().any(|line| line.contains("-b\"")), "{first:?}");
    assert_eq!(opened(&world, &store), [""; 0]);
}

/// Returns a layer as specs without compression have it.
fn plain_layer() -> String {
    let digest = format!("sha256:{}", "0".repeat(64));
    format!(r#"{{"digest": "{digest}", "size": 1024, "diff_ids": "{digest}", "mediatype": ""}}"#)
}

#[test]
fn cache_is_shown_checked_and_emptied() {
    let world = World::new(&harness!());
    let spec = world.build();
    let stat = world.cache(&["stat"]).ok();
    assert!(stat.starts_with("segments         2  "), "{stat}");
    assert!(stat.ends_with(&format!(" of 10.0 GB in {}", world.cache.display())), "{stat}");
    assert_eq!(world.cache(&["verify"]).ok(), "6 entries are intact, 0 were damaged");

    let segments = world.cache.join("segments");
    let directory = fs::read_dir(&segments).unwrap().next().unwrap().unwrap().path();
    let segment = fs::read_dir(directory).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[0] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let verified = world.cache(&["verify"]);
    assert_eq!(verified.code, Some(1));
    let said = format!("removed {}\n5 entries are intact, 1 were damaged\n", segment.display());
    assert_eq!(verified.stdout, said);
    assert!(
        verified.stderr.starts_with("error: the cache had damaged entries, which were removed"),
        "{}",
        verified.stderr
    );
    assert_eq!(world.build(), spec);

    let file = world.nix.directory().join("former.json");
    fs::write(&file, &spec).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(world.cache(&["import", file]).ok(), format!("imported 2 layers of {file}"));
    let plain = world.nix.directory().join("plain.json");
    fs::write(&plain, r#"{"version": 1, "layers": [LAYER]}"#.replace("LAYER", &plain_layer())).unwrap();
    let refused = world.cache(&["import", plain.to_str().unwrap()]);
    let message = format!("error: cannot import any layer of {}\nhint: build", plain.display());
    assert!(refused.code == Some(1) && refused.stderr.starts_with(&message), "{}", refused.stderr);

    let gone = world.cache(&["gc", "--cache-limit", "0B"]).ok();
    assert!(gone.ends_with(&format!(" removed from {}", world.cache.display())), "{gone}");
    assert!(world.cache(&["stat"]).ok().starts_with("segments         0        0 B"));
    assert_eq!(world.build(), spec);
    let wrong = world.cache(&["gc", "--cache-limit", "much"]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
}

/// The error names the same hash as Nix's own archive (`nix-store --dump`), for a path with files of every kind
/// and names whose order is easy to get wrong.
#[test]
fn check_store_detects_a_damaged_path() {
    let nix = harness!();
    let private = nix.private();
    let file = private.file(
        "x.nix",
        r#"let a = sh "a" ''
            mkdir -p $out/bin $out/empty/b; cd $out; echo x > bin/x; chmod +x bin/x; echo -n > nothing; ln -s ../x empty/link
            echo a > a-; echo b > a.b; mkdir a; echo c > a/c; echo "with space" > "a b"
          ''; b = sh "b" "echo ${a} > $out"; in {
          text = builtins.toJSON { compression = "zstd"; config.Env = [ "B=${b}" ]; };
          image = builtins.nixplyImage { name = "checked"; config.Env = [ "B=${b}" ]; };
          inherit b;
        }"#,
    );
    private.build_file(&file, "b", "b").ok();
    let text: String = serde_json::from_str(&private.eval_file(&file, "text").ok()).unwrap();
    let request = private.directory().join("request.json");
    fs::write(&request, text).unwrap();
    let cache = private.directory().join("checked");
    let build = || {
        run(private.nixply().args(["build", "--check-store"]).arg(&request).arg("--cache-dir").arg(&cache))
    };
    let spec = build().ok();
    run(private.nixply().args(["cache", "gc", "--cache-limit", "0", "--cache-dir"]).arg(&cache)).ok();

    let name = private.listing().into_iter().find(|name| name.ends_with("-a")).unwrap();
    let path = private.store_dir().join(name);
    let mode = |mode: &str| run(std::process::Command::new("chmod").arg(mode).arg(path.join("bin/x"))).ok();
    mode("444");
    let error = build().fails();
    let mut dump = private.command("nix-store");
    let dumped = dump.arg("--dump").arg(&path).output().unwrap().stdout;
    let found = nixply_oci::Digest::of(&dumped);
    let start =
        format!("error: store path is damaged: the hash of its archive is {found}, but Nix recorded sha256:");
    assert!(error.contains(&start), "{error}");
    let end = format!("repair it with nix-store --repair-path and build again: {}", path.display());
    assert!(error.contains(&end), "{error}");
    if private.plugin.is_some() {
        let mut command = private.command("nix");
        command.args([
            "eval",
            "--option",
            "nixply-check-store",
            "true",
            "--option",
            "nixply-cache-dir",
            "none",
        ]);
        let error = run(command.arg("-f").arg(&file).arg("image.imageId")).fails();
        assert!(error.contains(&start["error: ".len()..]), "{error}");
    }
    mode("555");
    assert_eq!(build().ok(), spec);
}

/// The closure of a real program has links, deep directories and unusual names.
#[test]
fn check_store_accepts_intact_paths() {
    let nix = harness!();
    let directory = tempfile::tempdir().unwrap();
    let request = directory.path().join("request.json");
    let path = nix.build("pkgs.python3");
    fs::write(&request, format!(r#"{{"config": {{"Cmd": ["{}/bin/python3"]}}}}"#, path.display())).unwrap();
    let build =
        |flags: &[&str]| run(nix.nixply().args(["build", "--no-cache"]).args(flags).arg(&request)).ok();
    assert_eq!(build(&["--check-store"]), build(&[]));
}
