//! `nixply container run` with real engines: the examples of `examples/containers/`, and the properties of a
//! running container.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nixply_tests::engines::{Engine, Registry, as_root, unique};
use nixply_tests::{Nix, Output, Project, harness, needs, run, run_with_input};

/// Lock for Docker. All tests share its images, and containers of different projects may have the same name.
static DOCKER: Mutex<()> = Mutex::new(());

/// An engine for `nixply container run`.
struct Ran<'p, 'n> {
    project: &'p Project<'n>,
    engine: Box<dyn Engine>,
    name: &'static str,
}

impl Ran<'_, '_> {
    /// Returns `nixply container run CONTAINER` with options for the engine, and arguments for the container.
    fn command(&self, container: &str, options: &str, arguments: &[&str]) -> Command {
        let options = format!("--engine-args={options}");
        let mut command =
            self.project.nixply(["container", "run", container, "--engine", self.name, &options]);
        if !arguments.is_empty() {
            command.arg("--").args(arguments);
        }
        self.engine.configure(&mut command);
        command
    }

    /// Runs a container to its end.
    #[track_caller]
    fn run(&self, container: &str, arguments: &[&str]) -> Output {
        run(&mut self.command(container, "--rm --network none", arguments))
    }

    #[track_caller]
    fn ask(&self, arguments: &[&str]) -> String {
        run(&mut self.engine.command(arguments)).ok()
    }

    /// Waits until a container's output contains all of `parts`, and returns the output.
    #[track_caller]
    fn wait_for(&self, container: &str, parts: &[&str]) -> String {
        let start = Instant::now();
        loop {
            let said = run(&mut self.engine.command(&["logs", container]));
            let text = format!("{}{}", said.stdout, said.stderr);
            if parts.iter().all(|part| text.contains(part)) {
                return text;
            }
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "{container} does not print {parts:?}: {text}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends a container with `docker stop`. The engine kills a container that does not handle the signal within
    /// three seconds. Returns the container's exit code.
    #[track_caller]
    fn stop(&self, container: &str) -> String {
        self.ask(&["stop", "--time", "3", container]);
        let code = self.ask(&["inspect", "--format", "{{.State.ExitCode}}", container]);
        self.ask(&["rm", container]);
        code
    }
}

/// Returns all engines, and a guard for the exclusive use of Docker. Dropping the engines removes the images of these
/// containers.
fn engines<'p, 'n>(
    project: &'p Project<'n>,
    host: &str,
    registry: &str,
    containers: &[&str],
) -> (Vec<Ran<'p, 'n>>, MutexGuard<'static, ()>) {
    let guard = DOCKER.lock().unwrap_or_else(PoisonError::into_inner);
    let images: Vec<String> = containers.iter().map(|container| format!("{container}:latest")).collect();
    let engines = nixply_tests::engines::engines(host, Registry { address: registry.to_owned() }, &images);
    // podman runs as root even if the user is not root.
    if as_root("true").get_program() != "true" {
        project.program("podman", "exec sudo --preserve-env podman \"$@\"");
    }
    (engines.into_iter().map(|(name, engine)| Ran { project, engine, name }).collect(), guard)
}

fn engine<'r, 'p, 'n>(engines: &'r [Ran<'p, 'n>], name: &str) -> &'r Ran<'p, 'n> {
    engines.iter().find(|ran| ran.name == name).expect("the engine is tested")
}

macro_rules! engines {
    ($project:expr, $($container:literal),+) => {
        engines($project, &needs!("NIXPLY_TEST_DOCKER"), &needs!("NIXPLY_TEST_REGISTRY"), &[$($container),+])
    };
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim_end).collect()
}

#[test]
fn example_shell_runs_python() {
    let nix = harness!();
    let project = Project::example(&nix, "shell");
    let (engines, _guard) = engines!(&project, "shell");
    for ran in &engines {
        // A shell that reads commands from a pipe, and the container's own Python.
        let mut shell = ran.command("shell", "--rm --network none", &[]);
        let said = run_with_input(&mut shell, "python -c 'print(6 * 7)'\nexit 5\n");
        assert_eq!((said.code, &*said.stdout), (Some(5), "42\n"), "{}", said.stderr);
        let mut python = ran.command("shell", "--rm --network none", &["python"]);
        assert_eq!(run_with_input(&mut python, "print(6 * 7)\n").ok(), "42");

        // With a terminal, which `script` provides, because docker's -it requires one.
        let shell = ran.command("shell", "--rm --network none", &[]);
        let words: Vec<String> = std::iter::once(shell.get_program())
            .chain(shell.get_args())
            .map(|word| format!("'{}'", word.to_str().unwrap()))
            .collect();
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);
        script
            .current_dir(project.path())
            .envs(shell.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let said = run_with_input(&mut script, "python\nprint(6 * 7)\nexit()\nexit 5\n");
        assert_eq!(said.code, Some(5), "{} {}", said.stdout, said.stderr);
        for part in ["(devenv)", "bash-5", ">>> ", "\n42\r\n"] {
            assert!(said.stdout.contains(part), "{part}: {}", said.stdout);
        }
    }
}

#[test]
fn example_processes_run_in_parallel_and_stop_on_request() {
    let nix = harness!();
    let project = Project::example(&nix, "processes");
    let (engines, _guard) = engines!(&project, "processes");
    for ran in &engines {
        let name = unique("-processes");
        run(&mut ran.command("processes", &format!("--detach --network none --name {name}"), &[])).ok();
        let said = ran.wait_for(&name, &["hello-docker.1 | Hello Docker!", "hello-nix.1    | Hello Nix!"]);
        for start in ["hello-docker.1 started (pid=", "hello-nix.1 started (pid="] {
            assert!(said.contains(&format!("system         | {start}")), "{said}");
        }
        // `copyToRoot` is null, so the home directory is empty.
        assert_eq!(ran.ask(&["exec", &name, "ls", "/env"]), "");
        assert_eq!(ran.stop(&name), "143", "SIGTERM must end the container");
    }
}

/// When a process ends, the others end too. The container's exit code is that of the process that ended first.
#[test]
fn processes_end_when_one_of_them_ends() {
    let nix = harness!();
    let project = Project::new(
        &nix,
        r#"{ processes.long.exec = "sleep 600"; processes.short.exec = "sleep 1; exit 7"; processes.short.env.A = "it's";
             process.manager.before = "echo before"; process.manager.after = "echo after $code"; }"#,
    );
    let (engines, _guard) = engines!(&project, "processes");
    for ran in &engines {
        let said = ran.run("processes", &[]);
        assert_eq!(said.code, Some(7), "{}", said.stderr);
        assert!(said.stdout.starts_with("before\n") && said.stdout.ends_with("after 7\n"), "{}", said.stdout);
        assert!(said.stdout.contains("short.1 stopped (rc=7)"), "{}", said.stdout);
    }
}

#[test]
fn example_one_process_answers_http() {
    let nix = harness!();
    let project = Project::example(&nix, "one-process");
    let (engines, _guard) = engines!(&project, "myapp");
    for ran in &engines {
        let name = unique("-serve");
        run(&mut ran.command("serve", &format!("--detach --network host --name {name}"), &[])).ok();
        let page = get("127.0.0.1:8000").unwrap_or_else(|| {
            panic!("no answer: {:?}", run(&mut ran.engine.command(&["logs", &name])));
        });
        assert!(page.starts_with("HTTP/1.0 200 OK") && page.contains("devenv.nix"), "{page}");
        assert_eq!(ran.stop(&name), "143");
    }
}

/// Requests a page until the server answers.
fn get(address: &str) -> Option<String> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        let mut page = String::new();
        let asked = TcpStream::connect(address).and_then(|mut stream| {
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            stream.read_to_string(&mut page)
        });
        if asked.is_ok() && !page.is_empty() {
            return Some(page);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    None
}

#[test]
fn example_artifacts_are_at_the_root_and_in_the_home_directory() {
    let nix = harness!();
    let project = Project::example(&nix, "artifacts");
    let (engines, _guard) = engines!(&project, "myapp-prod");
    for ran in &engines {
        assert_eq!(ran.run("prod", &[]).ok(), "serving with serve in /env");
        let said = ran.run("prod", &["ls -A / /env; readlink /mybinary"]).ok();
        let [.., home, entry, link] = lines(&said)[..] else { panic!("{said}") };
        assert_eq!([home, entry, link], [".devenv", "mybinary", "/env/mybinary"]);
    }
}

#[test]
fn example_by_environment_gives_each_container_its_packages() {
    let nix = harness!();
    let project = Project::example(&nix, "by-environment");
    let (engines, _guard) = engines!(&project, "shell", "processes");
    let look = "ls $DEVENV_PROFILE/bin | grep -E '^(git|jq|openssl)$'";
    for ran in &engines {
        assert_eq!(lines(&ran.run("shell", &[look]).ok()), ["jq", "openssl"]);
        assert_eq!(lines(&ran.run("processes", &[look]).ok()), ["openssl"]);
        let said = ran.run("processes", &[]);
        assert!(said.stdout.contains("versions.1 | OpenSSL 3."), "{}", said.stdout);
    }
}

/// Checks a container against devenv's behaviour: user, directories, environment, entrypoint and exit codes.
#[test]
fn container_matches_devenv() {
    let nix = harness!();
    let project = Project::new(
        &nix,
        r#"{ pkgs, ... }: {
            packages = [ pkgs.sqlite ];
            env = { TEXT = "two  words"; NUMBER = 3; };
            enterShell = "entered=\"at $(date +%Y)\"; export entered";
            scripts.greet.exec = "echo \"Hello $1\"";
        }"#,
    );
    project.write("a file", "text\n");
    project.write("directory/script", "text\n");
    let (engines, _guard) = engines!(&project, "shell");
    let script = r#"
        id -u; id -un; id -gn; pwd; cat /etc/passwd /etc/group /etc/shadow | sed 's|:[^:]*/bash$|:bash|'
        stat -c '%a %U %G %n' /env '/env/a file' /env/directory /env/directory/script /tmp /nix /nix/store
        cat /etc/pam.d/other; ls /bin/bash /usr/bin/env /bin/su /bin/sudo; touch /tmp/mine /env/mine
        printenv HOME USER TEXT NUMBER DEVENV_ROOT DEVENV_DOTFILE DEVENV_STATE DEVENV_RUNTIME; echo "${entered%% *}"
        greet you; sqlite3 -readonly /nix/var/nix/db/db.sqlite 'select count(*) > 20 from ValidPaths'
    "#;
    let expected = "1000\nuser\nuser\n/env\n\
        root:x:0:0:System administrator:/root:bash\nuser:x:1000:1000::/env:bash\n\
        root:x:0:\nuser:x:1000:\nroot:!x:::::::\nuser:!x:::::::\n\
        744 user user /env\n744 user user /env/a file\n744 user user /env/directory\n744 user user /env/directory/script\n\
        1777 root root /tmp\n755 user user /nix\n755 user user /nix/store\n\
        account sufficient pam_unix.so\nauth sufficient pam_rootok.so\npassword requisite pam_unix.so nullok sha512\n\
        session required pam_unix.so\n/bin/bash\n/bin/su\n/bin/sudo\n/usr/bin/env\n\
        /env\nuser\ntwo  words\n3\n/env\n/env/.devenv\n/env/.devenv/state\n/tmp/devenv\nat\nHello you\n1";
    for ran in &engines {
        let mut shell = ran.command("shell", "--rm --network none", &[]);
        assert_eq!(run_with_input(&mut shell, script).ok(), expected);
        // The entrypoint expands variables, does not split words by itself, and returns the exit code.
        assert_eq!(ran.run("shell", &["echo $NUMBER '$TEXT'"]).ok(), "3 two  words");
        assert_eq!(ran.run("shell", &["for n in 1 2; do echo \"<$n $NUMBER>\"; done"]).ok(), "<1 3>\n<2 3>");
        assert_eq!(ran.run("shell", &["exit 3"]).code, Some(3));
        assert_eq!(ran.run("shell", &["kill -9 $$"]).code, Some(137));

        let config = &ran.engine.inspect("shell:latest")["Config"];
        assert_eq!((config["User"].as_str(), config["WorkingDir"].as_str()), (Some("user"), Some("/env")));
        let env = config["Env"].as_array().unwrap();
        for variable in ["HOME=/env", "USER=user", "TEXT=two  words", "NUMBER=3", "DEVENV_ROOT=/env"] {
            assert!(env.iter().any(|entry| entry == variable), "{variable}: {env:?}");
        }
    }
}

/// `container run NAME -- PROGRAM ARGUMENT...`, and the same with the image's name.
#[test]
fn run_keeps_quotes_and_exit_codes() {
    let nix = harness!();
    let project = Project::new(
        &nix,
        r#"{ name = "example"; containers.t = { copyToRoot = null; startupCommand = "true"; };
             containers.list = { copyToRoot = null; startupCommand = [ "sh" "-c" "echo \"$1\"; exit 5" "sh" "a  b" ]; }; }"#,
    );
    let (engines, _guard) = engines!(&project, "example-t", "example-list");
    for ran in &engines {
        let code = |arguments: &[&str]| ran.run("t", arguments).code;
        assert_eq!(code(&["sh", "-c", "exit 7"]), Some(7));
        assert_eq!(ran.run("t", &["printf", "<%s>", "a  b"]).ok(), "<a  b>");
        assert_eq!(ran.run("t", &["printf", "<%s>", "", "$HOME", "-x", "a\nb"]).ok(), "<><$HOME><-x><a\nb>");
        assert_eq!(
            (code(&["exit 7"]), code(&["sh", "-c", "kill -9 $$"]), code(&[])),
            (Some(7), Some(137), Some(0))
        );
        let said = ran.run("list", &[]);
        assert_eq!((said.code, &*said.stdout), (Some(5), "a  b\n"), "{}", said.stderr);
        let by_name = ran.engine.run(&["example-t:latest", "printf", "<%s>", "a  b"]);
        assert_eq!(by_name.ok(), "<a  b>");
    }
}

/// An edit of the project changes only the project's layer, not the environment's.
#[test]
fn edit_changes_only_the_home_layer() {
    let nix = harness!();
    let project = Project::new(
        &nix,
        r#"{ languages.python.enable = true; containers.edited.startupCommand = "python app.py"; }"#,
    );
    let (engines, _guard) = engines!(&project, "devenv-shell-edited");
    for ran in &engines {
        project.write("app.py", "print('before')");
        let first = ran.run("edited", &[]);
        let row = |said: &Output, layer: &str| {
            let row = said.stderr.lines().find(|line| line.trim_start().starts_with(&format!("{layer} ")));
            row.unwrap_or_else(|| panic!("{}", said.stderr)).to_owned()
        };
        assert!(row(&first, "1").contains(" sent "), "{}", first.stderr);
        assert_eq!(first.ok(), "before");
        project.write("app.py", "print('after')");
        let second = ran.run("edited", &[]);
        assert!(row(&second, "1").contains("already there"), "{}", second.stderr);
        assert!(
            row(&second, "2").contains(" sent ") && row(&second, "2").contains("container-home"),
            "{}",
            second.stderr
        );
        assert_eq!(second.ok(), "after");
    }
}

/// Two projects have a container with the same name. Each project runs its own container.
#[test]
fn containers_with_the_same_name_in_two_projects_do_not_mix() {
    let nix = harness!();
    let projects = ["one", "two"].map(|text| {
        Project::new(
            &nix,
            &format!(
                "{{ containers.shell.startupCommand = \"echo {text}\"; containers.shell.copyToRoot = null; }}"
            ),
        )
    });
    for project in &projects {
        project.build("shell");
    }
    let (engines, _guard) = engines!(&projects[0], "shell");
    for ran in &engines {
        for _ in 0..4 {
            let started = projects.each_ref().map(|project| {
                let options = "--engine-args=--rm --network none";
                let mut command =
                    project.nixply(["container", "run", "shell", "-q", "--engine", ran.name, options]);
                ran.engine.configure(&mut command);
                nixply_tests::Running::start(&mut command)
            });
            for (running, text) in started.into_iter().zip(["one", "two"]) {
                assert_eq!(running.finish(Duration::from_secs(120)).ok(), text, "{}", ran.name);
            }
        }
    }
}

/// While another process writes an image to podman's storage, the image has no manifest. Other images must still run.
#[test]
fn incomplete_image_in_podmans_storage_does_not_affect_others() {
    let nix = harness!();
    let startup = |text| {
        format!(
            "{{ containers.shell.startupCommand = \"echo {text}\"; containers.shell.copyToRoot = null; }}"
        )
    };
    let project = Project::new(&nix, &startup("before"));
    let (engines, _guard) = engines!(&project, "shell");
    let ran = engine(&engines, "podman");
    assert_eq!((ran.name, &*ran.run("shell", &[]).ok()), ("podman", "before"));
    let id = ran.ask(&["image", "inspect", "--format", "{{.Id}}", "shell"]);
    let storage = ran.ask(&["info", "--format", "{{.Store.GraphRoot}}"]);
    let manifest = format!("{}/overlay-images/{}/manifest", storage.trim(), id.trim());
    run(as_root("rm").arg(manifest)).ok();
    project.write("devenv.nix", &startup("after"));
    assert_eq!(ran.run("shell", &[]).ok(), "after");
}

/// With arguments for skopeo, the edited image runs, and not the previous image with the same name.
#[test]
fn image_copied_by_skopeo_runs() {
    let nix = harness!();
    let project = Project::new(&nix, r#"{ containers.copied.startupCommand = "cat text"; }"#);
    let (engines, _guard) = engines!(&project, "devenv-shell-copied");
    for ran in &engines {
        project.write("text", "before");
        assert_eq!(ran.run("copied", &[]).ok(), "before");
        project.write("text", "after");
        let mut command = ran.command("copied", "--rm --network none", &[]);
        assert_eq!(run(command.arg("--copy-args=--format=v2s2")).ok(), "after", "{}", ran.name);
    }
}

/// An engine that cannot connect to nixply's server gets the whole image as an archive.
#[test]
fn remote_engine_gets_the_whole_image() {
    let nix: Nix = harness!();
    let project = Project::new(&nix, r#"{ containers.sent.startupCommand = "echo arrived"; }"#);
    let (engines, _guard) = engines!(&project, "devenv-shell-sent");
    let docker = engine(&engines, "docker");
    // Docker in a virtual machine fails like this, because 127.0.0.1 is the address of the virtual machine there.
    project.program(
        "docker",
        r#"if [ "$1" = pull ]; then
             echo 'Error response from daemon: Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused' >&2
             exit 1
           fi
           for docker in /usr/bin/docker /usr/local/bin/docker; do [ -x $docker ] && exec $docker "$@"; done"#,
    );
    let said = docker.run("sent", &[]);
    assert!(said.stderr.contains("image.tar:devenv-shell-sent:latest\n"), "{}", said.stderr);
    assert_eq!(said.ok(), "arrived");
}
