//! Debian's docker-registry with TLS, passwords and tokens.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nixply_tests::engines::{Directory, Image, Registry};
use nixply_tests::{harness, needs, run, run_with_input};

use super::{HELLO, nixply, whole};

/// A secret that must appear nowhere but in requests to its owner.
const PLANTED: &str = "pLaNtEd:5ecret";

/// A registry of one test. Dropping it kills the server.
pub(crate) struct Own {
    child: Option<Child>,
    directory: PathBuf,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
}

impl Own {
    /// Starts a registry in a directory. `http` and `more` are parts of its configuration.
    pub(crate) fn start(directory: &Path, http: &str, more: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let data = directory.join("registry");
        let config = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: \"{address}\"{}}}\n{more}\n",
            data.display(),
            http.replace("ADDRESS", &address),
        );
        fs::write(directory.join("registry.yml"), config).unwrap();
        let mut own = Self { child: None, directory: directory.into(), address };
        own.restart();
        own
    }

    /// Starts the server again, with the same data and address.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let log = fs::File::options().create(true).append(true).open(self.directory.join("log")).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(self.directory.join("registry.yml")).stdin(Stdio::null());
        self.child = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        let start = Instant::now();
        while TcpStream::connect(&self.address).is_err() {
            assert!(start.elapsed() < Duration::from_secs(30), "the registry did not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends the server with SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.directory.join("log")).unwrap_or_default()).into_owned()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs openssl in a directory.
#[track_caller]
fn openssl(directory: &Path, arguments: &str, input: &str) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(arguments.split(' ')).current_dir(directory).stderr(Stdio::null());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("openssl is installed");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments}");
    output.stdout
}

/// Makes an authority and a certificate of 127.0.0.1, and a directory with the authority's certificate for `--cert-dir`.
fn certificates(directory: &Path) -> PathBuf {
    openssl(
        directory,
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt",
        "",
    );
    openssl(directory, "req -newkey rsa:2048 -nodes -subj /CN=registry -keyout own.key -out own.csr", "");
    fs::write(directory.join("names"), "subjectAltName=IP:127.0.0.1").unwrap();
    let sign =
        "x509 -req -in own.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out own.crt";
    openssl(directory, sign, "");
    let trusted = directory.join("trusted");
    fs::create_dir(&trusted).unwrap();
    fs::copy(directory.join("ca.crt"), trusted.join("ca.crt")).unwrap();
    trusted
}

/// Returns all files below a directory whose content has the planted secret, in any of its encodings.
fn leaks(directory: &Path) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(path) = left.pop() {
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if kind.is_file() && is_leak(&fs::read(&path).unwrap()) {
            found.push(path);
        }
    }
    found
}

fn is_leak(bytes: &[u8]) -> bool {
    // The password alone, and USER:PASSWORD in base64 as in the header Authorization.
    let secrets = [PLANTED.as_bytes(), b"dXNlcjpwTGFOdEVkOjVlY3JldA", b"pLaNtEd"];
    secrets.iter().any(|secret| bytes.windows(secret.len()).any(|window| window == *secret))
}

#[test]
fn passwords_over_tls_with_a_private_authority_are_used_and_leak_nowhere() {
    let nix = harness!();
    let (directory, home) = (Directory::new(), Directory::new());
    let trusted = certificates(directory.path());
    let hash = run(Command::new("htpasswd").args(["-Bbn", "user", PLANTED])).ok();
    fs::write(directory.path().join("htpasswd"), hash).unwrap();
    let file = |name: &str| directory.path().join(name).display().to_string();
    // A proxy that ends TLS makes a registry name places with http.
    for host in ["", ", host: \"http://ADDRESS\""] {
        let http =
            format!(", tls: {{certificate: \"{}\", key: \"{}\"}}{host}", file("own.crt"), file("own.key"));
        let auth = format!("auth: {{htpasswd: {{realm: registry, path: \"{}\"}}}}", file("htpasswd"));
        let data = Directory::new();
        let own = Own::start(data.path(), &http, &auth);
        let image = Image::build(&nix, "", &HELLO.replace("CODEC", "zstd:1"));
        let to = format!("{}/team/hello:1", own.address);
        let push = |more: &[&str], input: &str| {
            let mut command = nixply(&nix, home.path());
            command.arg("push").arg(&image.spec).arg(&to).args(more);
            run_with_input(&mut command, input)
        };
        let trusted = trusted.to_str().unwrap();
        let error = push(&[], "").fails();
        assert!(error.contains("accepts only encrypted connections\nhint: pass --cert-dir DIR"), "{error}");
        let error = push(&["--cert-dir", trusted], "").fails();
        let expected =
            "refuses access to the repository team/hello: it requires credentials, and there are none for it";
        assert!(error.contains(expected), "{error}");
        let error = push(&["--cert-dir", trusted, "--creds-file", "-"], &format!("user:{PLANTED}x")).fails();
        assert!(
            error.contains("it does not accept the credentials") && !is_leak(error.as_bytes()),
            "{error}"
        );
        let error =
            push(&["--cert-dir", trusted, "--creds-file", "-"], PLANTED.split(':').next().unwrap()).fails();
        assert!(error.contains("standard input is not one line USER:PASSWORD"), "{error}");

        let output =
            push(&["--cert-dir", trusted, "--creds-file", "-", "--json"], &format!("user:{PLANTED}\n"));
        assert!(!is_leak(output.stderr.as_bytes()) && !is_leak(output.stdout.as_bytes()), "{output:?}");
        let pushed: serde_json::Value = serde_json::from_str(&output.ok()).unwrap();
        assert_eq!(pushed["tags"][0]["reference"], to.as_str());
        // podman's and Docker's file.
        let auth =
            format!(r#"{{"auths": {{"{}": {{"auth": "dXNlcjpwTGFOdEVkOjVlY3JldA=="}}}}}}"#, own.address);
        fs::write(directory.path().join("auth.json"), auth).unwrap();
        let output = push(&["--cert-dir", trusted, "--auth-file", &file("auth.json")], "");
        assert!(
            output.stderr.contains("the registry has this image already; 2 requests"),
            "{}",
            output.stderr
        );
        output.ok();
        assert_eq!(leaks(home.path()), Vec::<PathBuf>::new());
        assert!(!is_leak(own.log().as_bytes()));
    }
}

/// A token service for docker-registry: it signs tokens with the authority's key.
struct TokenService {
    address: String,
    /// The requests' lines, and whether each had the right password.
    seen: Arc<Mutex<Vec<(String, bool)>>>,
}

impl TokenService {
    /// Starts a service whose tokens live this many seconds.
    fn start(directory: &Path, lifetime: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::<Mutex<Vec<(String, bool)>>>::default();
        let (directory, shared) = (directory.to_owned(), seen.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(&mut stream.unwrap(), &directory, lifetime, &shared);
            }
        });
        Self { address, seen }
    }
}

fn base64(bytes: &[u8]) -> String {
    let mut child =
        Command::new("base64").arg("-w0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

fn answer(stream: &mut TcpStream, directory: &Path, lifetime: u64, seen: &Mutex<Vec<(String, bool)>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    let headers: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let password = format!("authorization: Basic {}", base64(format!("user:{PLANTED}").as_bytes()));
    let is_right = headers.iter().any(|header| header.eq_ignore_ascii_case(&password) || *header == password);
    seen.lock().unwrap().push((line.clone(), is_right));
    let (status, body) = match is_right {
        false => ("401 Unauthorized", "{}".to_owned()),
        true => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let scopes = line.split(['?', '&', ' ']).filter_map(|part| part.strip_prefix("scope="));
            let access = scopes.map(|scope| {
                let scope = scope.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
                let parts: Vec<&str> = scope.split(':').collect();
                serde_json::json!({"type": parts[0], "name": parts[1], "actions": parts[2].split(',').collect::<Vec<_>>()})
            });
            let claims = serde_json::json!({
                "iss": "service", "sub": "user", "aud": "registry", "exp": now + lifetime, "nbf": now - 60, "iat": now,
                "jti": "1", "access": access.collect::<Vec<_>>(),
            });
            let certificate = openssl(directory, "x509 -in ca.crt -outform DER", "");
            let header = serde_json::json!({"typ": "JWT", "alg": "RS256", "x5c": [base64(&certificate)]});
            let url = |text: String| text.replace('+', "-").replace('/', "_").replace('=', "");
            let signed = [header, claims].map(|part| url(base64(part.to_string().as_bytes()))).join(".");
            let signature = openssl(directory, "dgst -sha256 -sign ca.key", &signed);
            let token = format!("{signed}.{}", url(base64(&signature)));
            ("200 OK", serde_json::json!({"token": token, "expires_in": lifetime}).to_string())
        }
    };
    let answer =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).unwrap();
    let _ = stream.read(&mut [0; 1]);
}

#[test]
fn tokens_are_fetched_with_the_password_and_blobs_are_mounted_with_them() {
    let nix = harness!();
    let (directory, home) = (Directory::new(), Directory::new());
    certificates(directory.path());
    let service = TokenService::start(directory.path(), 300);
    let auth = format!(
        "auth: {{token: {{realm: \"http://{}/token\", service: registry, issuer: service, rootcertbundle: \"{}\"}}}}",
        service.address,
        directory.path().join("ca.crt").display()
    );
    let own = Own::start(directory.path(), "", &auth);
    let image = Image::build(&nix, "", &HELLO.replace("CODEC", "gzip:1"));
    let push = |more: &[&str], password: &str| {
        let mut command = nixply(&nix, home.path());
        command.arg("push").arg(&image.spec).arg(format!("{}/a:1", own.address)).args(more);
        run_with_input(command.args(["--creds-file", "-", "--json"]), &format!("user:{password}"))
    };
    let error = push(&[], "wrong").fails();
    assert!(error.contains("it does not accept the credentials"), "{error}");
    // A failed login never leads to anonymous requests.
    assert!(service.seen.lock().unwrap().iter().all(|(line, _)| line.starts_with("GET /token?scope=")));
    service.seen.lock().unwrap().clear();

    let also = format!("{}/b:1", own.address);
    let output = push(&["--also", &also], PLANTED);
    assert!(!is_leak(output.stderr.as_bytes()) && !is_leak(output.stdout.as_bytes()), "{output:?}");
    let pushed = output.ok();
    let lines: Vec<serde_json::Value> =
        pushed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let numbers = |line: &serde_json::Value| {
        ["sent", "mounted", "alreadyThere"].map(|key| line[key].as_array().unwrap().len())
    };
    let blobs = numbers(&lines[0])[0];
    assert_eq!((numbers(&lines[0]), numbers(&lines[1])), ([blobs, 0, 0], [0, blobs, 0]), "{pushed}");
    let seen = service.seen.lock().unwrap();
    let lines: Vec<&str> = seen.iter().map(|(line, _)| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(
        lines,
        [
            "/token?scope=repository%3Aa%3Apull%2Cpush&service=registry",
            "/token?scope=repository%3Ab%3Apull%2Cpush&scope=repository%3Aa%3Apull&service=registry",
        ]
    );
    assert_eq!(leaks(home.path()), Vec::<PathBuf>::new());
}

#[test]
fn proxies_and_wrong_hosts_are_errors_with_a_hint() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let home = Directory::new();
    let image = Image::build(&nix, "", &HELLO.replace("CODEC", "zstd:1"));
    let push = |to: &str, proxy: &str| {
        let mut command = nixply(&nix, home.path());
        run(command.arg("push").arg(&image.spec).arg(to).env("http_proxy", proxy).env("https_proxy", proxy))
    };
    // A proxy gets the requests for all hosts that NO_PROXY does not name.
    let error = push("registry.invalid/a:1", "http://127.0.0.1:9").fails();
    assert!(error.contains("cannot look up the tag 1: no answer from registry.invalid"), "{error}");
    // TLS to a server that speaks plain HTTP.
    let port = registry.address.rsplit(':').next().unwrap();
    let error = push(&format!("127.0.0.1.nip.invalid:{port}/a:1"), "").fails();
    assert!(error.contains("no answer from 127.0.0.1.nip.invalid"), "{error}");
    let repository = nixply_tests::engines::unique("-proxied");
    push(&format!("{}/{repository}:1", registry.address), "").ok();
    whole(&registry, &repository, "1");
}
