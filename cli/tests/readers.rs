//! Clients of the program's servers, and checks of the files that the program serves and copies.

#![allow(clippy::print_stderr, reason = "skipped tests say so")]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nixply_oci::Digest;

/// A user without privileges.
const NOBODY: u32 = 65534;

/// Hash in the names of the test's store paths.
const HASH: &str = "00000000000000000000000000000000";

struct World(tempfile::TempDir);

/// A server that is killed when this is dropped.
struct Server {
    child: Child,
    address: String,
    name: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (address, rest) = line.split_once('/').expect("a reference");
        let name = rest.rsplit_once(':').unwrap().0.to_owned();
        Self { address: address.to_owned(), name, child }
    }

    /// Requests a blob and returns the connection.
    fn ask(&self, digest: &str, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!(
            "GET /v2/{}/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n",
            self.name
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream
    }

    /// Returns the number of bytes that the server has read from files and sockets.
    fn read(&self) -> u64 {
        let counts = fs::read_to_string(format!("/proc/{}/io", self.child.id())).unwrap();
        let line = counts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
        line.parse().unwrap()
    }

    /// Returns the server's peak memory, in KiB.
    fn peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

fn body(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    answer.split_off(end + 4)
}

impl World {
    fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        fs::set_permissions(world.0.path(), Permissions::from_mode(0o755)).unwrap();
        world
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes an image spec whose layer is this file.
    fn spec(&self, name: &str, file: &Path, digest: &str, size: u64) -> PathBuf {
        let path = self.join(name);
        let text = format!(
            r#"{{"version":1,"image-config":{{}},"arch":"amd64","created":null,"layers":[{{"digest":"{digest}","size":{size},
            "diff_ids":"{digest}","mediatype":"application/vnd.oci.image.layer.v1.tar","layer-path":"{}","History":{{}}}}]}}"#,
            file.display()
        );
        fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nixply"));
        command.args(arguments).env("NIXPLY_CACHE_DIR", self.join("cache")).env_remove("NIX_STORE_DIR");
        command.current_dir(self.0.path());
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Writes a program of this name in a directory that other users can execute from.
    fn program(&self, name: &str, script: &str) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, format!("#!/usr/bin/env bash\n{script}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    }
}

fn message(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// A private registry is only for its user: another user who finds the address in the command line gets nothing.
#[test]
fn private_registry_answers_only_its_own_program() {
    if !is_root() {
        return eprintln!("skipped: only root can run programs as another user");
    }
    let world = World::new();
    let text = "for its owner alone";
    let file = world.join("layer");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let digest = Digest::of(text.as_bytes()).to_string();
    world.spec("image-p.json", &file, &digest, text.len() as u64);
    let get = world.program(
        "get",
        r#"exec 3<>"/dev/tcp/$1/$2"
        printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n' "$3" "${4:-}" >&3
        cat <&3"#,
    );
    let skopeo = world.program(
        "skopeo",
        r#"printf '%s\n' "$*" > arguments; until [ -e go ] || [ ! -e arguments ]; do sleep 0.05; done"#,
    );
    let mut copy = world.command(&["skopeo", "copy", "nix:image-p.json", "dir:out"]);
    let mut copy = copy.env("NIXPLY_SKOPEO", skopeo).spawn().unwrap();
    let arguments = loop {
        match fs::read_to_string(world.join("arguments")) {
            Ok(arguments) if arguments.ends_with('\n') => break arguments,
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let word = |begin: &str| arguments.split_whitespace().find_map(|word| word.strip_prefix(begin)).unwrap();
    let (host, rest) = word("docker://").split_once(':').unwrap();
    let (port, name) = rest.split_once('/').unwrap();
    let name = name.strip_suffix(":latest").unwrap();
    let auth = Path::new(word("--src-authfile=")).to_owned();
    let ask = |user: u32, path: &str, header: &str| {
        let mut command = Command::new(&get);
        let command = command.args([host, port, path, header]).uid(user).gid(user);
        String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
    };
    let blob = format!("/v2/{name}/blobs/{digest}");
    for path in ["/v2/", &format!("/v2/{name}/manifests/latest"), &format!("/v2/{name}/tags/list"), &blob] {
        for header in ["", "Range: bytes=0-3\r\n", "Authorization: Basic bml4cGx5Og==\r\n"] {
            let answer = ask(NOBODY, path, header);
            assert!(answer.starts_with("HTTP/1.1 401 "), "{path} {header} {answer}");
            assert!(!answer.contains(text) && !answer.contains("sha256:"), "{answer}");
        }
    }
    // The registry also refuses the user's own programs without the secret.
    let own = ask(0, &blob, "");
    assert!(own.starts_with("HTTP/1.1 401 ") && !own.contains(text), "{own}");
    // Only the user can read the file with the secret.
    assert_eq!(fs::metadata(&auth).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(auth.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let document: serde_json::Value = serde_json::from_str(&fs::read_to_string(&auth).unwrap()).unwrap();
    let secret = document["auths"][format!("{host}:{port}")]["auth"].as_str().unwrap();
    assert!(!arguments.contains(secret));
    // With the secret, it answers the user's own program, also after a change of user as with sudo.
    for user in [0, NOBODY] {
        let answer = ask(user, &blob, &format!("Authorization: Basic {secret}\r\n"));
        assert!(answer.ends_with(text), "{answer}");
    }
    fs::write(world.join("go"), "").unwrap();
    copy.wait().unwrap();
    assert!(!auth.exists());
}

/// `serve --private` answers this user and root.
#[test]
fn private_server_refuses_other_users() {
    if !is_root() {
        return eprintln!("skipped: only root can run programs as another user");
    }
    let world = World::new();
    let file = world.join("layer");
    fs::write(&file, "text").unwrap();
    let digest = Digest::of(b"text").to_string();
    world.spec("image.json", &file, &digest, 4);
    for (flag, expected) in [("--private", "HTTP/1.0 403 "), ("--allow-outside-store", "HTTP/1.0 200 ")] {
        let arguments = ["serve", "-q", "image.json", "--allow-outside-store"];
        let mut command = world.command(&arguments);
        if flag == "--private" {
            command.arg(flag);
        }
        let server = Server::start(&mut command);
        assert_eq!(body(server.ask(&digest, "")), b"text");
        let (host, port) = server.address.split_once(':').unwrap();
        let script = format!(
            "exec 3<>/dev/tcp/{host}/{port}; printf 'GET /v2/{}/blobs/{digest} HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3",
            server.name
        );
        let other = Command::new("bash").arg("-c").arg(script).uid(NOBODY).gid(NOBODY).output().unwrap();
        let answer = String::from_utf8_lossy(&other.stdout);
        assert!(answer.starts_with(expected), "{flag}: {answer}");
    }
}

/// The message names the flag that accepts the host name.
#[test]
fn refusals_of_other_host_names_suggest_the_flag() {
    let world = World::new();
    let file = world.join("layer");
    fs::write(&file, "text").unwrap();
    world.spec("image.json", &file, &Digest::of(b"text").to_string(), 4);
    let arguments = ["serve", "-q", "image.json", "--allow-outside-store", "--allow-host", "a.example"];
    let server = Server::start(&mut world.command(&arguments));
    let answer = |host: &str| {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.write_all(format!("GET /v2/ HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
        String::from_utf8(body(stream)).unwrap()
    };
    let expected = r#"accepts the hosts localhost, 127.0.0.1, [::1], a.example, not \"b.example\"; start it with --allow-host NAME to accept another"#;
    assert!(answer("b.example").contains(expected), "{}", answer("b.example"));
    assert_eq!(answer("a.example"), "{}");
}

/// A file that is replaced by a link while it is served is not followed.
#[test]
fn replaced_layer_files_are_errors() {
    let world = World::new();
    fs::create_dir(world.join("dir")).unwrap();
    fs::write(world.join("secret"), "a file of the user that nobody else may read").unwrap();
    let layer = world.join(&format!("dir/{HASH}-layer"));
    fs::write(&layer, [0; 44]).unwrap();
    let digest = format!("sha256:{}", "1".repeat(64));
    let spec = world.spec(&format!("dir/{HASH}-image-x.json"), &layer, &digest, 44);
    let server = Server::start(&mut world.command(&["serve", "-q", spec.to_str().unwrap()]));
    fs::remove_file(&layer).unwrap();
    symlink(world.join("secret"), &layer).unwrap();
    assert_eq!(body(server.ask(&digest, "Range: bytes=0-42\r\n")), [0; 43]);
    assert!(body(server.ask(&digest, "Range: bytes=20-\r\n")).iter().all(|byte| *byte == 0));
}

/// A directory that other users can write to is not accepted as a store.
#[test]
fn stores_writable_by_others_are_errors() {
    let world = World::new();
    fs::create_dir(world.join("dir")).unwrap();
    let layer = world.join(&format!("dir/{HASH}-layer"));
    fs::write(&layer, "text").unwrap();
    let digest = Digest::of(b"text").to_string();
    let spec = world.spec(&format!("dir/{HASH}-image-x.json"), &layer, &digest, 4);
    let spec = spec.to_str().unwrap();
    fs::set_permissions(world.join("dir"), Permissions::from_mode(0o1777)).unwrap();
    let directory = world.join("dir").canonicalize().unwrap();
    let expected = format!(
        "error: store directory {} is not safe to read: every user can write to it: its mode is 1777; only this user and root \
         may have write access to a store: change its owner or mode\nhint: pass --store-dir to use another store\n",
        directory.display()
    );
    let source = format!("nix:{spec}");
    let skopeo = world.program("skopeo", "touch ran");
    for arguments in [&["serve", spec][..], &["layout", spec, "out"], &["skopeo", "copy", &source, "dir:out"]]
    {
        let output = world.command(arguments).env("NIXPLY_SKOPEO", &skopeo).output().unwrap();
        assert_eq!((output.status.code(), message(&output)), (Some(1), expected.clone()), "{arguments:?}");
    }
    assert!(!world.join("ran").exists() && !world.join("out").exists());
    fs::set_permissions(world.join("dir"), Permissions::from_mode(0o755)).unwrap();
    let output = world.output(&["layout", spec, "out", "-q"]);
    assert!(output.status.success(), "{}", message(&output));
}

/// Files that are not regular, or whose size differs from the recorded one, are not read.
#[test]
fn layer_files_must_be_regular_files() {
    let world = World::new();
    let fifo = world.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let (long, link) = (world.join("long"), world.join("link"));
    fs::write(&long, [0; 1001]).unwrap();
    symlink("/dev/zero", &link).unwrap();
    let digest = format!("sha256:{}", "0".repeat(64));
    let kind = |path: &Path, kind: &str| {
        format!("cannot open layer file: {}: it is {kind}, not a regular file", path.display())
    };
    for (file, why) in [
        (&*fifo, kind(&fifo, "a FIFO")),
        (Path::new("/dev/zero"), kind(Path::new("/dev/zero"), "a device")),
        (&link, kind(&link, "a device")),
        (world.0.path(), kind(world.0.path(), "a directory")),
        (
            &long,
            format!(
                "layer file has 1001 bytes, but the image spec records 1000; build the image again: {}",
                long.display()
            ),
        ),
    ] {
        world.spec("image-x.json", file, &digest, 1000);
        let skopeo = world.program("skopeo", "exit 0");
        for arguments in [
            &["layout", "image-x.json", "out", "-q", "--allow-outside-store"][..],
            &["serve", "image-x.json", "-q", "--allow-outside-store"],
            &["skopeo", "copy", "nix:image-x.json", "dir:out"],
        ] {
            if file == long && arguments[0] != "layout" {
                continue;
            }
            let output = world.command(arguments).env("NIXPLY_SKOPEO", &skopeo).output().unwrap();
            let said = message(&output);
            assert_eq!(said.lines().next(), Some(&*format!("error: {why}")), "{arguments:?}");
            assert!(matches!(output.status.code(), Some(1 | 2)), "{arguments:?} {output:?}");
        }
        assert!(!world.join("out/index.json").exists());
    }
}

/// Serves an image with a layer of 16 MB. Returns the layer's bytes and digest.
fn serve_large_layer(world: &World) -> (Vec<u8>, String, Server) {
    let file = world.join("layer");
    let bytes: Vec<u8> = (0..16_000_000_u32).map(|at| (at / 7) as u8).collect();
    fs::write(&file, &bytes).unwrap();
    let digest = Digest::of(&bytes).to_string();
    world.spec("image.json", &file, &digest, bytes.len() as u64);
    let server = Server::start(&mut world.command(&["serve", "-q", "image.json", "--allow-outside-store"]));
    (bytes, digest, server)
}

/// The bound in docs/registry.md: 256 KiB per reader and 64 MiB of shared memory, in addition to the memory without readers.
#[test]
fn memory_is_bounded_with_500_stalled_readers() {
    const READERS: u64 = 500;
    let world = World::new();
    let (bytes, digest, server) = serve_large_layer(&world);
    assert_eq!(body(server.ask(&digest, "")), bytes);
    let before = server.peak();
    let mut stalled: Vec<TcpStream> = (0..READERS).map(|_| server.ask(&digest, "")).collect();
    for stream in &mut stalled {
        stream.read_exact(&mut [0; 17]).unwrap();
    }
    // Wait until the buffers of all sockets are full.
    std::thread::sleep(Duration::from_secs(1));
    let begin = Instant::now();
    assert_eq!(body(server.ask(&digest, "")), bytes);
    let took = begin.elapsed();
    let grown = server.peak() - before;
    eprintln!("{grown} KiB with {READERS} readers; another one took {took:?}");
    assert!(grown <= READERS * 256 + (64 << 10), "{grown} KiB");
    // Generous: an idle machine is 10 times as fast.
    assert!(took < Duration::from_secs(10), "{took:?}");
    drop(stalled);
}

/// Clients that request the end of a layer and read nothing do not cause one pass over the layer each.
#[test]
fn range_requests_share_one_pass_over_the_layer() {
    const READERS: usize = 60;
    let world = World::new();
    let (bytes, digest, server) = serve_large_layer(&world);
    let begin = |at: usize| 9_000_000 + at * 1001;
    let ask = |at: usize| server.ask(&digest, &format!("Range: bytes={}-\r\n", begin(at)));
    let stalled: Vec<TcpStream> = (0..READERS).map(ask).collect();
    for at in [0, READERS] {
        assert_eq!(body(ask(at)), bytes[begin(at)..]);
    }
    let read = server.read();
    assert!(read < 8 * bytes.len() as u64, "{read} bytes");
    drop(stalled);
}
