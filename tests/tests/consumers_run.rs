//! podman and Docker run images as requested. Each scenario runs with both engines.

use nixply_packer::Codec;
use nixply_tests::engines::{
    Directory, Docker, Engine, Image, Podman, Registry, skopeo, text, texts, unique,
};
use nixply_tests::{Nix, harness, needs, run};
use serde_json::{Value, json};

/// Defines a test per engine.
macro_rules! for_each_engine {
    ($($scenario:ident),* $(,)?) => {
        mod podman {
            use super::*;
            $(#[test] fn $scenario() { super::$scenario(&harness!(), &Podman::new()) })*
        }
        mod docker {
            use super::*;
            $(#[test] fn $scenario() {
                let nix = harness!();
                let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
                super::$scenario(&nix, &Docker::new(needs!("NIXPLY_TEST_DOCKER"), registry))
            })*
        }
    };
}

for_each_engine!(
    programs_run,
    config_is_applied,
    owners_and_modes_are_applied,
    copy_to_root_adds_bin_at_the_root,
    image_on_a_base_image_runs,
    image_with_a_hundred_layers_runs,
);

/// Programs print the expected output and exit with the expected code, and the engine shows nixply's image
/// ID.
fn programs_run(nix: &Nix, engine: &dyn Engine) {
    for (codec, created) in [("none", "2024-05-13T09:31:10Z"), ("gzip", "2025-01-02T03:04:05Z")] {
        let arguments = format!(
            r#"{{
                name = "programs";
                config.Env = [ "PATH=${{pkgs.hello}}/bin:${{pkgs.python3}}/bin:${{pkgs.bash}}/bin" ];
                maxLayers = 10;
                created = "{created}";
            }}"#
        );
        let image = Image::build(nix, "", &arguments);
        let reference = engine.load(&image, codec);
        assert_eq!(engine.run(&[&reference, "hello"]).ok(), "Hello, world!", "{codec}");
        let script = "import ssl, sqlite3, json, sys; print(json.dumps([6 * 7, sys.argv[1]])); sys.exit(9)";
        let python = engine.run(&[&reference, "python3", "-c", script, "a b"]);
        assert_eq!((python.code, python.stdout.trim()), (Some(9), r#"[42, "a b"]"#), "{}", python.stderr);
        let bash = engine.run(&[&reference, "bash", "-c", "echo out; echo err >&2; kill -TERM $$"]);
        assert_eq!((bash.stdout.trim(), bash.stderr.trim()), ("out", "err"));
        // The first process of a container ignores signals for which it has no handler.
        assert_eq!(bash.code, Some(0));
        assert_eq!(engine.run(&[&reference, "bash", "-c", "exit 77"]).code, Some(77));

        let known = engine.inspect(&reference);
        assert_eq!(text(&known["Id"]).trim_start_matches("sha256:"), &image.id()[7..]);
        assert_eq!(texts(&known["RootFS"]["Layers"]), image.diff_ids());
        assert_eq!(image.diff_ids().len(), 10);
        assert_eq!(known["Created"], created);
        assert_eq!((&known["Os"], text(&known["Architecture"])), (&"linux".into(), architecture()));
        // The image has only its closure, so there is no /bin/sh.
        let missing = engine.run(&[&reference, "/bin/sh"]);
        assert_eq!(missing.code, Some(127), "{}", missing.stderr);
    }
}

/// Returns Go's name of this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The engine applies every key of the config, written in lowercase or in OCI's spelling.
fn config_is_applied(nix: &Nix, engine: &dyn Engine) {
    const SPELLINGS: [[&str; 9]; 2] = [
        ["entrypoint", "cmd", "env", "user", "workingdir", "labels", "exposedports", "volumes", "stopsignal"],
        ["Entrypoint", "Cmd", "Env", "User", "WorkingDir", "Labels", "ExposedPorts", "Volumes", "StopSignal"],
    ];
    let image = |[entrypoint, cmd, env, user, dir, labels, ports, volumes, signal]: [&str; 9]| {
        let before = r#"let
            script = pkgs.writeShellScript "story" ''
              PATH=${pkgs.coreutils}/bin
              printf '<%s>' "$@"
              echo " $(id -u):$(id -g) $PWD $GREETING"
            '';
            work = pkgs.runCommand "work" { } "mkdir -p $out/srv/work";
        in"#;
        let arguments = format!(
            r#"{{
                name = "config";
                copyToRoot = [ work ];
                config = {{
                    {entrypoint} = [ "${{script}}" "first" ]; {cmd} = [ "two words" "" ];
                    {env} = [ "GREETING=hello, world" "EMPTY=" ]; {user} = "1234:4321"; {dir} = "/srv/work";
                    {labels} = {{ "org.example/a" = "b c"; }}; {ports}."80/tcp" = {{ }}; {volumes}."/data" = {{ }};
                    {signal} = "SIGINT";
                }};
            }}"#
        );
        Image::build(nix, before, &arguments)
    };
    let [lower, capital] = SPELLINGS.map(image);
    assert_eq!(lower.id(), capital.id());
    for image in [lower, capital] {
        let reference = engine.load(&image, "gzip");
        let plain = engine.run(&[&reference]).ok();
        assert_eq!(plain, "<first><two words><> 1234:4321 /srv/work hello, world");
        let changed =
            engine.run(&["--user", "5:6", "--workdir", "/", "--env", "GREETING=bye", &reference, "x"]);
        assert_eq!(changed.ok(), "<first><x> 5:6 / bye");
        let config = engine.inspect(&reference)["Config"].clone();
        for (key, value) in [
            ("Cmd", json!(["two words", ""])),
            ("Env", json!(["GREETING=hello, world", "EMPTY="])),
            ("User", json!("1234:4321")),
            ("WorkingDir", json!("/srv/work")),
            ("Labels", json!({"org.example/a": "b c"})),
            ("ExposedPorts", json!({"80/tcp": {}})),
            ("Volumes", json!({"/data": {}})),
            ("StopSignal", json!("SIGINT")),
        ] {
            assert_eq!(config[key], value, "{key}");
        }
        assert_eq!(texts(&config["Entrypoint"])[1..], ["first"]);
    }
}

/// Runs `ls -l` on some files. Returns the lines with single spaces between words.
fn ls(engine: &dyn Engine, reference: &str, files: &[&str]) -> Vec<String> {
    let command = [&["--env", "TZ=UTC", "--env", "LC_ALL=C", reference, "ls", "-ldn"], files].concat();
    let listing = engine.run(&command).ok();
    listing.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// The cases `openbar` and `ownership` of nix2container's tests. A rule applies only to the files that it names
/// (nix2container#45).
fn owners_and_modes_are_applied(nix: &Nix, engine: &dyn Engine) {
    let before = r#"let
        tmp = pkgs.runCommand "tmp" { } "mkdir -p $out/tmp $out/open";
        files = pkgs.runCommand "files" { } ''
          mkdir -p $out/home/user
          touch $out/test1.txt $out/test2.txt $out/home/user/own
        '';
    in"#;
    let arguments = r#"{
        name = "owners";
        config.Env = [ "PATH=${pkgs.coreutils}/bin:${pkgs.bash}/bin" ];
        copyToRoot = [ tmp files ];
        perms = [
          { path = tmp; regex = "/tmp$"; mode = "1777"; }
          { path = tmp; regex = "/open$"; mode = "0777"; }
          { path = files; regex = "test1.txt$"; mode = "0444"; uid = 1001; gid = 1001; }
          { path = files; regex = "/home/user"; mode = "0700"; uid = 1002; gid = 1003; }
        ];
    }"#;
    let image = Image::build(nix, before, arguments);
    let reference = engine.load(&image, "gzip");
    let lines =
        ls(engine, &reference, &["/", "/home", "/home/user", "/open", "/test1.txt", "/test2.txt", "/tmp"]);
    let without_size = |line: &String| {
        line.split(' ')
            .enumerate()
            .filter(|(at, _)| *at != 1 && *at != 4)
            .map(|(_, word)| word)
            .collect::<Vec<_>>()
            .join(" ")
    };
    // A directory's link count and size depend on the file system.
    assert_eq!(
        lines[1..].iter().map(without_size).collect::<Vec<_>>(),
        [
            "dr-xr-xr-x 0 0 Jan 1 1970 /home",
            "drwx------ 1002 1003 Jan 1 1970 /home/user",
            "drwxrwxrwx 0 0 Jan 1 1970 /open",
            "-r--r--r-- 1001 1001 Jan 1 1970 /test1.txt",
            "-r--r--r-- 0 0 Jan 1 1970 /test2.txt",
            "drwxrwxrwt 0 0 Jan 1 1970 /tmp",
        ]
    );
    assert_eq!(lines[4], "-r--r--r-- 1 1001 1001 0 Jan 1 1970 /test1.txt");
    assert_eq!(lines[5], "-r--r--r-- 1 0 0 0 Jan 1 1970 /test2.txt");
    // The kernel enforces the owners and modes.
    let as_user =
        |user: &str, script: &str| engine.run(&["--user", user, &reference, "bash", "-c", script]).code;
    assert_eq!(as_user("5:5", "echo > /tmp/x"), Some(0));
    assert_eq!(as_user("5:5", "echo > /x"), Some(1));
    assert_eq!(as_user("1002:1003", "echo >> /home/user/new && [ -O /home/user/own ]"), Some(0));
    assert_eq!(as_user("5:5", "ls /home/user"), Some(2));
}

/// The cases `bashLs` and `bashVersion` of nix2container's tests.
fn copy_to_root_adds_bin_at_the_root(nix: &Nix, engine: &dyn Engine) {
    let before = r#"let
        env = pkgs.buildEnv { name = "root"; paths = [ pkgs.bash pkgs.coreutils ]; pathsToLink = [ "/bin" ]; };
    in"#;
    let arguments = r#"{ name = "ls"; copyToRoot = [ env pkgs.fakeNss ]; config.Cmd = [ "/bin/ls" "/" ]; }"#;
    let image = Image::build(nix, before, arguments);
    let reference = engine.load(&image, "none");
    let listed = engine.run(&[&reference]).ok();
    let listed: Vec<&str> = listed.lines().collect();
    let top = nix.store_dir().iter().nth(1).unwrap().to_str().unwrap().to_owned();
    // The engine adds directories, such as /dev, /proc and /sys.
    for name in ["bin", "etc", "var", &top] {
        assert!(listed.contains(&name), "{name}: {listed:?}");
    }
    assert!(engine.run(&[&reference, "/bin/bash", "--version"]).ok().starts_with("GNU bash, version "));
    let names =
        engine.run(&["--user", "nobody", &reference, "/bin/sh", "-c", "/bin/id -un; /bin/cat /etc/group"]);
    assert_eq!(names.ok(), "nobody\nroot:x:0:\nnobody:x:65534:");
}

/// An image on a base image has the files of both, but only its own config.
fn image_on_a_base_image_runs(nix: &Nix, engine: &dyn Engine) {
    let before = format!(
        r#"let
            file = name: text: pkgs.writeTextDir "etc/${{name}}" text;
            base = {} {{
                name = "base";
                copyToRoot = [ pkgs.dockerTools.binSh (file "release" "base") ];
                config = {{ Cmd = [ "never" ]; Env = [ "BASE=1" ]; }};
            }};
        in"#,
        Image::function(nix)
    );
    let arguments = r#"{
        name = "top"; fromImage = base;
        copyToRoot = [ (file "top" "top") ];
        config.Env = [ "PATH=${pkgs.coreutils}/bin:/bin" ];
        config.Cmd = [ "sh" "-c" "cat /etc/release /etc/top; echo $BASE" ];
    }"#;
    let image = Image::build(nix, &before, arguments);
    let base = Image::of(nix, &format!("{before} base"));
    for codec in Codec::all().filter(|codec| codec.is_universal()).map(Codec::name) {
        let reference = engine.load(&image, codec);
        assert_eq!(engine.run(&[&reference]).ok(), "basetop", "{codec}");
        let known = engine.inspect(&reference);
        let layers = texts(&known["RootFS"]["Layers"]);
        assert_eq!((layers.len(), layers[0]), (2, &base.diff_ids()[0][..]), "{codec}");
    }
}

/// More than 130 store paths in 100 layers.
fn image_with_a_hundred_layers_runs(nix: &Nix, engine: &dyn Engine) {
    let before = r#"let
        number = n: builtins.toFile "number-${toString n}" "${toString n}\n";
        numbers = map number (builtins.genList (n: n) 130);
    in"#;
    let arguments = r#"{
        name = "hundred";
        config.Env = [ "NUMBERS=${toString numbers}" ];
        config.Entrypoint = [ "${pkgs.bash}/bin/bash" "-c" ];
        config.Cmd = [ "sum=0; for file in $NUMBERS; do sum=$((sum + $(<$file))); done; echo $sum" ];
        maxLayers = 100;
    }"#;
    let image = Image::build(nix, before, arguments);
    let reference = engine.load(&image, "gzip");
    let known: Value = engine.inspect(&reference);
    assert_eq!(texts(&known["RootFS"]["Layers"]).len(), 100);
    assert_eq!(texts(&known["RootFS"]["Layers"]), image.diff_ids());
    assert_eq!(engine.run(&[&reference]).ok(), "8385");
}

/// podman loads every codec from a layout and from a registry.
#[test]
fn podman_loads_every_codec_from_layouts_and_registries() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let arguments =
        r#"{ name = "hello"; config.entrypoint = [ "${pkgs.hello}/bin/hello" ]; maxLayers = 2; }"#;
    let image = Image::build(&nix, "", arguments);
    // Used only for `push`, which does not contact the daemon.
    let docker = Docker::new(String::new(), registry);
    for codec in Codec::all().map(Codec::name) {
        let podman = Podman::new();
        let from_layout = podman.load(&image, codec);
        assert_eq!(podman.run(&[&from_layout]).ok(), "Hello, world!", "{codec}");
        let podman = Podman::new();
        let reference = docker.push(&image, codec);
        let from_registry = podman.pull(&reference);
        assert_eq!(from_registry, from_layout);
        assert_eq!(format!("sha256:{from_registry}"), image.id());
        assert_eq!(podman.run(&[&reference, "--greeting=hi"]).ok(), "hi", "{codec}");
    }
}

/// Docker 20.10 does not support zstd and reads the layer as an uncompressed tar archive; versions from 23 run
/// such an image. The test expects the behaviour of the daemon's version.
#[test]
fn docker_runs_zstd_if_its_version_supports_it() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let docker = Docker::new(needs!("NIXPLY_TEST_DOCKER"), registry);
    // Docker does not pull images and layers that it already has, so this image must be unique.
    let arguments = r#"{
        name = "zstd"; config.Cmd = [ "${pkgs.hello}/bin/hello" "-g" (builtins.toFile "only-zstd" "x") ];
    }"#;
    let image = Image::build(&nix, "", arguments);
    let reference = docker.push(&image, "zstd");
    let version = run(&mut docker.command(&["version", "--format", "{{.Server.Version}}"])).ok();
    let pulled = docker.pull(&reference);
    if version.starts_with("20.") {
        let error = pulled.fails();
        assert!(error.contains("failed to register layer"), "{error}");
        assert!(error.contains("archive/tar: invalid tar header"), "{error}");
    } else {
        pulled.ok();
        assert!(docker.run(&[&reference]).ok().ends_with("only-zstd"));
    }
}

/// skopeo copies the image from a layout to the daemon, without a registry.
#[test]
fn skopeo_copies_an_image_to_the_docker_daemon() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let docker = Docker::new(needs!("NIXPLY_TEST_DOCKER"), registry);
    let arguments = r#"{ name = "hello"; config.Cmd = [ "${pkgs.hello}/bin/hello" "-g" "by skopeo" ]; }"#;
    let image = Image::build(&nix, "", arguments);
    for codec in Codec::all().map(Codec::name) {
        let directory = Directory::new();
        let layout = directory.join("layout");
        image.layout(&layout, "t", Some(codec));
        let name = format!("{}:{codec}", unique("-daemon"));
        docker.owns(&name);
        let (from, to) = (format!("oci:{}:t", layout.display()), format!("docker-daemon:{name}"));
        let copied = run(skopeo(&["copy", "--quiet", "--dest-daemon-host", docker.host()]).args([from, to]));
        if codec == "zstd" {
            // Docker's archives do not support such layers, and skopeo reports that.
            let error = copied.fails();
            assert!(error.contains("zstd compression is not supported for docker images"), "{error}");
            continue;
        }
        copied.ok();
        assert_eq!(docker.run(&[&name]).ok(), "by skopeo", "{codec}");
        assert_eq!(docker.inspect(&name)["Id"], image.id().as_str(), "{codec}");
        assert_eq!(texts(&docker.inspect(&name)["RootFS"]["Layers"]), image.diff_ids(), "{codec}");
    }
}
