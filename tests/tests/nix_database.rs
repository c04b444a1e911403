//! Nix databases used by a real Nix: on the host, on an unpacked image, and in a container.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use nixply_tests::engines::{Directory, Engine, Image, Podman, as_root, closure};
use nixply_tests::{NOBODY, Nix, Output, harness, run, run_with_input};

/// Nix code with the contents of an image, which has a copyToRoot path, and their database.
const DATABASE: &str = r#"let
    tool = pkgs.runCommand "tool" { } "mkdir -p $out/bin; ln -s ${pkgs.python3}/bin/python3 $out/bin/tool";
    contents = {
      config.Cmd = [ "${pkgs.hello}/bin/hello" ];
      copyToRoot = tool;
      layers = [ { deps = [ pkgs.coreutils ]; } ];
    };
    database = import DATABASE { builder = "${program}"; } contents;
in"#;

fn expression() -> String {
    let file = Nix::repository().join("nix/nix-database.nix");
    DATABASE.replace("DATABASE", &file.display().to_string())
}

/// Returns all that Nix reads about some paths from the database below `state`.
#[track_caller]
fn dumped(nix: &Nix, state: &Path, paths: &[String]) -> String {
    let mut command = nix.command("nix-store");
    run(command.env("NIX_STATE_DIR", state).arg("--dump-db").args(paths)).ok()
}

#[test]
fn database_matches_one_that_nix_loaded() {
    let nix = harness!();
    let directory = Directory::new();
    let built = nix.build(&format!("{} database", expression()));
    let ours = directory.join("ours");
    run(Command::new("cp").arg("-r").arg(built.join("nix/var/nix")).arg(&ours)).ok();
    run(Command::new("chmod").args(["-R", "u+w"]).arg(&ours)).ok();
    let mut paths: Vec<String> = closure(&nix, &expression(), "tool pkgs.hello pkgs.coreutils")
        .iter()
        .map(|path| path.display().to_string())
        .filter(|path| !path.ends_with("-tool"))
        .collect();
    paths.sort();
    assert!(paths.len() > 15, "{paths:?}");
    let mut all = nix.command("nix");
    let all = run(all.env("NIX_STATE_DIR", &ours).args(["path-info", "--all"])).ok();
    let mut all: Vec<&str> = all.lines().collect();
    all.sort_unstable();
    assert_eq!(all, paths);

    // Loads the paths into an empty database with `nix-store --load-db`, like nix2container: without derivers. The order differs,
    // but has no effect.
    let known = dumped(&nix, &nix.root.join("var"), &paths);
    let mut lines = known.lines();
    let mut input = Vec::new();
    while let Some(path) = lines.next() {
        let [hash, size, _deriver, count] = [(); 4].map(|()| lines.next().unwrap());
        let mut info = vec![path, hash, size, "", count];
        info.extend(lines.by_ref().take(count.parse().unwrap()));
        input.push(info.join("\n") + "\n");
    }
    input.reverse();
    let theirs = directory.join("theirs");
    let mut load = nix.command("nix-store");
    run_with_input(load.env("NIX_STATE_DIR", &theirs).arg("--load-db"), &input.concat()).ok();
    assert_eq!(dumped(&nix, &ours, &paths), dumped(&nix, &theirs, &paths));
    let schema = |state: &Path| fs::read_to_string(state.join("db/schema")).unwrap();
    assert_eq!(schema(&ours), schema(&theirs));
}

#[test]
fn every_frontend_produces_the_same_database() {
    let nix = harness!();
    let directory = Directory::new();
    let before = expression();
    let built = nix.build(&format!("{before} database"));
    run(nix
        .command("nix-build")
        .args(["--no-out-link", "--check", "-E"])
        .arg(nixply_tests::expression(&nix, &format!("{before} database"))))
    .ok();
    // The program makes the database from the output of `nix path-info`. `--absent` omits the copyToRoot path.
    let roots = nix.try_build(&format!("{before} [ tool pkgs.hello pkgs.coreutils ]")).ok();
    let json = run(nix.command("nix").args(["path-info", "--json", "--recursive"]).args(roots.lines())).ok();
    let tool = roots.lines().find(|path| path.ends_with("-tool")).unwrap();
    let mut command = nix.nixply();
    command.args(["nix-database", "-"]).arg(directory.join("tree")).args(["--absent", tool]);
    let said = run_with_input(&mut command, &json);
    assert_eq!(said.stdout, "");
    said.ok();
    let read = |root: &Path| fs::read(root.join("nix/var/nix/db/db.sqlite")).unwrap();
    assert_eq!(read(&directory.join("tree")), read(&built));
}

/// A chroot store that the test has unpacked.
struct Unpacked<'n> {
    nix: &'n Nix,
    root: String,
}

impl Unpacked<'_> {
    /// Runs a program of the Nix as the unprivileged user on the image's store.
    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = as_root("setpriv");
        let id = NOBODY.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(self.nix.bin.join(program));
        command.envs(self.nix.environment("")).env("HOME", "/nowhere").env("XDG_CACHE_HOME", "/nowhere");
        for variable in ["NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR", "NIX_CONF_DIR"] {
            command.env_remove(variable);
        }
        run(command.current_dir("/").args(arguments).args(["--store", &self.root]))
    }

    #[track_caller]
    fn store(&self, arguments: &[&str]) -> Output {
        let output = self.run("nix-store", arguments);
        assert!(output.code == Some(0) && !output.stderr.contains("error"), "{output:?}");
        output
    }
}

/// With `nixUid` and `nixGid`, an unprivileged user can use the store although root owns the store paths
/// (nix2container#201). Files below /nix from a copyToRoot path keep their owner and mode.
#[test]
fn nix2container_201_unprivileged_owner_can_use_the_store() {
    let nix = harness!().private();
    let mut file = nixply_tests::tiny(&nix, "");
    let repository = Nix::repository().display().to_string();
    file.push_str(&format!(
        r#"let
            a = sh "a" "echo a > $out";
            b = sh "b" "mkdir $out; echo ${{a}} $out > $out/b";
            env = sh "env" "mkdir -p $out/bin $out/nix/elsewhere; ln -s ${{b}}/b $out/bin/";
            contents = {{ copyToRoot = env; layers = [ {{ deps = b; }} ]; }};
            program = "${{builtins.path {{ path = {cli}; name = "nixply"; }}}}";
            database = import {repository}/nix/nix-database.nix {{ builder = program; }} contents;
        in {{
            inherit b database;
            image = buildImage (contents // {{
              name = "image";
              perms = [ {{ path = env; regex = "/nix"; mode = "0700"; }} ];
              nixDatabase = {{ path = database; uid = {NOBODY}; gid = {NOBODY}; }};
            }});
        }}"#,
        cli = nix.cli.display(),
    ));
    let expression = nix.directory().join("image.nix");
    fs::write(&expression, file).unwrap();
    let chroot = nix.directory().join("chroot");
    let build = |attribute: &str| {
        let mut command = nix.bare_command("nix-build", "");
        for variable in ["NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR"] {
            command.env_remove(variable);
        }
        command.args(["--no-out-link", "-A", attribute]).arg(&expression).arg("--store").arg(&chroot);
        run(&mut command).ok()
    };
    let (b, image) = (build("b"), build("image"));
    let directory = Directory::new();
    let (layout, bundle) = (directory.join("layout"), directory.join("bundle"));
    let mut command = Command::new(&nix.cli);
    command.args(["layout", "--tag", "t", "--store-dir", "/nix/store", "--real-store-dir"]);
    run(command.arg(chroot.join("nix/store")).arg(chroot.join(&image[1..])).arg(&layout)).ok();
    let from = format!("{}:t", layout.display());
    run(as_root("umoci").args(["unpack", "--image", &from]).arg(&bundle)).ok();
    // The unprivileged user must be able to read both directories.
    run(as_root("chmod").arg("755").arg(directory.path()).arg(&bundle)).ok();
    let root = bundle.join("rootfs");
    let owner = |place: &str| {
        let file = fs::symlink_metadata(root.join(place)).unwrap();
        (file.mode() & 0o7777, file.uid(), file.gid())
    };
    for place in
        ["nix", "nix/store", "nix/store/.links", "nix/var", "nix/var/nix/db", "nix/var/nix/db/db.sqlite"]
    {
        assert_eq!(owner(place), (0o755, NOBODY, NOBODY), "{place}");
    }
    assert_eq!((owner(&b[1..]).1, owner("nix/elsewhere")), (0, (0o700, 0, 0)));

    let unpacked = Unpacked { nix: &nix, root: root.display().to_string() };
    let known = unpacked.store(&["-qR", &b]).ok();
    assert_eq!(known.lines().count(), 2, "{known}");
    assert!(known.ends_with(&b), "{known}");
    let verify = || unpacked.store(&["--verify", "--check-contents"]);
    verify();
    assert_eq!(unpacked.store(&["--gc", "--print-dead"]).ok(), "");
    let added = unpacked.store(&["--add", "/etc/hostname"]).ok();
    assert!(root.join(&added[1..]).exists());
    assert_eq!(unpacked.store(&["--gc", "--print-dead"]).ok(), added);
    unpacked.store(&["--gc"]);
    assert!(!root.join(&added[1..]).exists() && root.join(&b[1..]).exists());
    verify();
}

/// nix2container's initializeNixDatabase with a Nix in the image: both frontends produce the same database,
/// and every registered path exists.
#[test]
fn nix_in_the_image_knows_its_store_paths() {
    let nix = harness!();
    let image = |plugin: bool| {
        format!(
            r#"let inherit ((drop_in {plugin}).nix2container) buildImage buildLayer; in (buildImage {{
                name = "nix";
                initializeNixDatabase = true;
                nixUid = 1000;
                nixGid = 100;
                copyToRoot = [ (pkgs.buildEnv {{
                  name = "root";
                  paths = [ pkgs.coreutils pkgs.nix ];
                  pathsToLink = [ "/bin" ];
                }}) ];
                layers = [ (buildLayer {{ deps = [ pkgs.hello ]; }}) (buildLayer {{ deps = [ pkgs.bash ]; reproducible = false; }}) ];
                config.Env = [
                  "NIX_PAGER=cat" "USER=nobody" "HOME=/" "NIX_STORE_DIR=${{builtins.storeDir}}" "NIX_CONFIG=build-users-group ="
                ];
            }}).out"#
        )
    };
    let built = Image::of(&nix, &image(false));
    if nix.plugin.is_some() {
        let packed = Image::of(&nix, &image(true));
        assert_eq!(fs::read_to_string(packed.spec).unwrap(), fs::read_to_string(&built.spec).unwrap());
    }
    let podman = Podman::new();
    let reference = podman.load(&built, "none");
    let run = |command: &[&str]| podman.run(&[&[&reference[..]], command].concat());
    let paths = closure(&nix, "", "pkgs.coreutils pkgs.nix pkgs.hello pkgs.bash");
    let mut expected: Vec<&str> = paths.iter().filter_map(|path| path.to_str()).collect();
    expected.sort_unstable();
    let known = run(&[&["nix-store", "-qR"], &expected[..]].concat()).ok();
    let mut known: Vec<&str> = known.lines().collect();
    known.sort_unstable();
    assert_eq!(known, expected);
    let verified = run(&["nix-store", "--verify", "--check-contents"]);
    assert!(!verified.stderr.contains("error") && !verified.stderr.contains("disappeared"), "{verified:?}");
    verified.ok();
    let stat = run(&["stat", "--format", "%a %u:%g", "/nix", "/nix/store", "/nix/var/nix/db/db.sqlite"]).ok();
    assert_eq!(stat, ["755 1000:100"; 3].join("\n"));
}

/// The plugin does not contain SQLite, so its builtin builder writes no database.
#[test]
fn builtin_builder_refers_to_the_program_for_databases() {
    let nix = harness!();
    if nix.plugin.is_none() || !nix.has_builtin_builders() {
        return nixply_tests::skipped("this Nix has no builtin builders of plugins");
    }
    let file = Nix::repository().join("nix/nix-database.nix");
    let body = format!("import {} {{ builder = \"builtin:nixply\"; args = [ ]; }} {{ }}", file.display());
    let error = nix.try_build(&body).fails();
    assert!(
        error.contains("builtin:nixply writes no Nix database: give nix/nix-database.nix the program"),
        "{error}"
    );
}
