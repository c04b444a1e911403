//! Programs of the package set run in an image with only their closures.

use std::fs;
use std::time::{Duration, Instant};

use nixply_tests::engines::{Docker, Engine, Image, Podman, Registry, closure, unique};
use nixply_tests::{harness, needs};
use serde_json::Value;

/// Nix runs in an image with its closure and a database that registers the closure.
#[test]
fn nix_runs_from_its_closure() {
    let nix = harness!();
    let before = r#"let
        graph = pkgs.runCommand "graph.json" {
          __structuredAttrs = true;
          exportReferencesGraph.graph = [ pkgs.nix ];
          nativeBuildInputs = [ pkgs.jq ];
        } "jq .graph .attrs.json > $out";
        database = pkgs.runCommand "nix-database" {
          nativeBuildInputs = [ pkgs.jq pkgs.nix pkgs.sqlite ];
          NIX_STORE_DIR = builtins.storeDir;
        } ''
          jq -r '.[] | .path, .narHash, .narSize, "", (.references | length), .references[]' ${graph} |
            NIX_REMOTE="local?root=$PWD" nix-store --load-db --option build-users-group ""
          mkdir -p $out/nix/var/nix/db
          sqlite3 nix/var/nix/db/db.sqlite .dump | sqlite3 $out/nix/var/nix/db/db.sqlite
        '';
    in"#;
    let arguments = r#"{
        name = "nix";
        copyToRoot = [ database ];
        config.Env = [
          "PATH=${pkgs.nix}/bin" "USER=nobody" "HOME=/" "NIX_PAGER=" "NIX_STORE_DIR=${builtins.storeDir}"
          "NIX_CONFIG=build-users-group ="
        ];
    }"#;
    let podman = Podman::new();
    let image = podman.load(&Image::build(&nix, before, arguments), "none");
    let run = |command: &[&str]| podman.run(&[&[&image[..]], command].concat()).ok();
    let version = run(&["nix-store", "--version"]);
    assert!(version.starts_with("nix-store (Nix) "), "{version}");
    let new = ["nix", "--extra-experimental-features", "nix-command"];
    let config = run(&[&new[..], &["show-config"]].concat());
    let program = nix.build("pkgs.nix");
    // Nix finds the build hook in its own store path, not in Debian's directory.
    let hook = format!("build-hook = {}/libexec/nix/build-remote", program.display());
    assert!(config.lines().any(|line| line == hook), "{config}");
    assert_eq!(run(&[&new[..], &["eval", "--expr", "6 * 7"]].concat()), "42");
    let known = run(&["nix-store", "-qR", program.to_str().unwrap()]);
    let mut known: Vec<&str> = known.lines().collect();
    let closure = closure(&nix, "", "pkgs.nix");
    let mut expected: Vec<&str> = closure.iter().filter_map(|path| path.to_str()).collect();
    known.sort_unstable();
    expected.sort_unstable();
    assert_eq!(known, expected);
}

/// skopeo runs in an image with only its closure, and in a fixed-output derivation like nix2container's pullImage.
#[test]
fn skopeo_runs_from_its_closure() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let skopeo = r#"{ name = "skopeo"; config.entrypoint = [ "${pkgs.skopeo}/bin/skopeo" ]; }"#;
    let image = Image::build(&nix, "", skopeo);
    let podman = Podman::new();
    let reference = podman.load(&image, "none");
    let version = podman.run(&[&reference, "--version"]).ok();
    assert!(version.starts_with("skopeo version "), "{version}");

    let hello = Image::build(&nix, "", r#"{ name = "hello"; config.Cmd = [ "${pkgs.hello}/bin/hello" ]; }"#);
    let pushed = Docker::new(String::new(), registry).push(&hello, "gzip");
    let pull = |hash: &str| {
        nix.try_build(&format!(
            r#"pkgs.runCommand "docker-image-hello" {{
                impureEnvVars = pkgs.lib.fetchers.proxyImpureEnvVars;
                nativeBuildInputs = with pkgs; [ cacert skopeo ];
                outputHashMode = "recursive";
                outputHashAlgo = "sha256";
                outputHash = "{hash}";
            }} ''
                skopeo copy docker://{pushed} dir://$out --insecure-policy --tmpdir=$TMPDIR --src-tls-verify=false
            ''"#
        ))
    };
    let error = pull("sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").fails();
    let got = error.lines().find_map(|line| line.trim().strip_prefix("got:")).expect("Nix prints the hash");
    let pulled = pull(got.trim()).ok();
    let manifest: Value =
        serde_json::from_str(&fs::read_to_string(format!("{pulled}/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["config"]["digest"], hello.id());
}

/// A container that runs while the test queries it.
struct Server<'p> {
    podman: &'p Podman,
    name: String,
}

impl<'p> Server<'p> {
    fn start(podman: &'p Podman, image: &str) -> Self {
        let name = unique("-server");
        let mut command = podman.command(&["run", "--detach", "--network", "none", "--name", &name, image]);
        nixply_tests::run(&mut command).ok();
        Self { podman, name }
    }

    /// Runs a command in the container until it succeeds, and returns its output.
    #[track_caller]
    fn ask(&self, command: &[&str]) -> String {
        let start = Instant::now();
        loop {
            let arguments = [&["exec", &self.name], command].concat();
            let answer = nixply_tests::run(&mut self.podman.command(&arguments));
            if answer.code == Some(0) {
                return answer.ok();
            }
            let logs = || nixply_tests::run(&mut self.podman.command(&["logs", &self.name]));
            assert!(start.elapsed() < Duration::from_secs(30), "{answer:?}\n{:?}", logs());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// As in nix2container's example: a Python environment is uwsgi's home.
#[test]
fn uwsgi_serves_flask_from_an_environment() {
    let nix = harness!();
    let before = r#"let
        uwsgi = pkgs.uwsgi.override { inherit (pkgs) python3; plugins = [ "python3" ]; };
        env = pkgs.python3.withPackages (p: [ p.flask ]);
        hello = pkgs.writeText "hello.py" ''
          from flask import Flask
          app = Flask(__name__)

          @app.route("/<name>")
          def hello(name):
              return f"<p>Hello {name}</p>"
        '';
    in"#;
    let arguments = r#"{
        name = "uwsgi";
        config.Env = [ "PATH=${env}/bin" ];
        config.entrypoint = [
          "${uwsgi}/bin/uwsgi" "--plugin=python3" "--http" ":9090" "-H" "${env}" "--callable" "app"
          "--wsgi-file" hello
        ];
        maxLayers = 3;
    }"#;
    let podman = Podman::new();
    let image = podman.load(&Image::build(&nix, before, arguments), "none");
    let server = Server::start(&podman, &image);
    let ask = "import urllib.request as u; print(u.urlopen('http://localhost:9090/World').read().decode())";
    assert_eq!(server.ask(&["python3", "-c", ask]), "<p>Hello World</p>");

    // The environment has its own Python, its commands, a compiled module, and no packages but its own.
    let said = server.ask(&["flask", "--version"]);
    assert!(said.contains("Flask "), "{said}");
    let look = "import sys, flask, markupsafe._speedups; print(sys.prefix); print(flask.__file__)";
    let said = server.ask(&["python3", "-c", look]);
    let env = nix.build("pkgs.python3.withPackages (p: [ p.flask ])");
    let (prefix, module) = said.split_once('\n').unwrap();
    assert_eq!(prefix, env.to_str().unwrap());
    assert!(module.starts_with(prefix) && module.ends_with("/site-packages/flask/__init__.py"), "{module}");
    let honcho =
        nixply_tests::run(&mut podman.command(&["exec", &server.name, "python3", "-c", "import honcho"]));
    assert!(honcho.fails().contains("No module named 'honcho'"));
}

/// With exactly the directories that nixpkgs' nginx requires.
#[test]
fn nginx_uses_the_same_directories_as_in_nixpkgs() {
    let nix = harness!();
    let before = r#"let
        conf = pkgs.writeText "nginx.conf" ''
          user nobody nobody;
          daemon off;
          error_log /dev/stdout info;
          pid /dev/null;
          events {}
          http {
            access_log /dev/stdout;
            server { listen 80; location / { root ${pkgs.writeTextDir "index.html" "Hello from NGINX"}; } }
          }
        '';
        var = pkgs.runCommand "nginx-var" { } "mkdir -p $out/var/log/nginx $out/var/cache/nginx";
    in"#;
    let arguments = r#"{
        name = "nginx";
        copyToRoot = [ pkgs.dockerTools.fakeNss var ];
        config.Env = [ "PATH=${pkgs.curl}/bin" ];
        config.Cmd = [ "${pkgs.nginx}/bin/nginx" "-c" conf ];
    }"#;
    let podman = Podman::new();
    let image = podman.load(&Image::build(&nix, before, arguments), "none");
    let server = Server::start(&podman, &image);
    assert_eq!(server.ask(&["curl", "--silent", "--fail", "http://127.0.0.1/"]), "Hello from NGINX");
}
