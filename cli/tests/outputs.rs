//! Files that commands write: each command with each kind of output, as root and as another user.

#![allow(clippy::print_stderr, reason = "skipped tests say so")]

mod written;

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use self::written::{OTHER, WRITERS, World, Writer, is_root, sh, skipped, text, users};

/// A kind of output.
struct Place {
    /// Shell code that makes it. OUT is the output's name, OLD a file with the old content.
    arrange: &'static str,
    /// Shell code that root runs on the output if the directory belongs to the user.
    change: &'static str,
    /// Shell code that checks the result.
    look: &'static str,
    seen: &'static str,
    ends: Ends,
}

/// The expected end of the command.
enum Ends {
    /// This file has the content that the command writes to a new file.
    New(&'static str),
    /// This file has the content that the command writes over the old one.
    Over(&'static str),
    /// The content is on standard output.
    Printed,
    /// The output is written, but cannot be read back.
    Gone,
    /// The command fails with an error that ends with this cause.
    Fails(&'static str),
}

use Ends::{Fails, Gone, New, Over, Printed};

const fn place(arrange: &'static str, look: &'static str, seen: &'static str, ends: Ends) -> Place {
    Place { arrange, change: "", look, seen, ends }
}

/// Outputs for every user.
const PLACES: &[Place] = &[
    place("", "stat -c '%F %a' OUT", "regular file 644", New("OUT")),
    place("cp OLD OUT; chmod 600 OUT", "stat -c %a OUT", "600", Over("OUT")),
    place("cp OLD OUT; chmod 664 OUT", "stat -c %a OUT", "664", Over("OUT")),
    place("cp OLD OUT; chmod 6755 OUT", "stat -c %a OUT", "755", Over("OUT")),
    // Like git, cargo and uv: the owner of a file may replace it.
    place("cp OLD OUT; chmod 444 OUT", "stat -c %a OUT", "444", Over("OUT")),
    place("cp OLD OUT; ln OUT other", "cmp OLD other && stat -c %h OUT", "1", Over("OUT")),
    place(
        "mkdir far; cp OLD far/file; chmod 640 far/file; ln -s far/file OUT",
        "stat -c '%F %N' OUT; stat -c %a far/file",
        "symbolic link 'OUT' -> 'far/file'\n640",
        Over("far/file"),
    ),
    place(
        "mkdir far; ln -s far/file OUT",
        "readlink OUT; stat -c %a far/file",
        "far/file\n644",
        New("far/file"),
    ),
    place("cp OLD c; ln -s c b; ln -s \"$PWD/b\" OUT", "readlink b", "c", Over("c")),
    // A substitute for the link /dev/stdout, which a bug could replace.
    place(
        "ln -s /proc/self/fd/1 stdout; ln -s stdout OUT",
        "readlink OUT stdout",
        "stdout\n/proc/self/fd/1",
        Printed,
    ),
    place("ln -s /proc/self/fd/1 OUT", "readlink OUT", "/proc/self/fd/1", Printed),
    place(
        "ln -s /dev/fd/250 OUT",
        "readlink OUT",
        "/dev/fd/250",
        Fails("No such file or directory (os error 2)"),
    ),
    place("mkfifo OUT", "stat -c %F OUT", "fifo", New("OUT")),
    place("mkfifo pipe; ln -s pipe OUT", "stat -c %F OUT pipe", "symbolic link\nfifo", New("pipe")),
    place("mkdir OUT", "stat -c %F OUT", "directory", Fails("Is a directory (os error 21)")),
    place("mkdir far; ln -s far/ OUT", "ls -A far", "", Fails("Is a directory (os error 21)")),
    place("ln -s OUT OUT", "readlink OUT", "OUT", Fails("Too many levels of symbolic links (os error 40)")),
    place("ln -s far/file OUT", "readlink OUT", "far/file", Fails("No such file or directory (os error 2)")),
    place("SOCKET OUT", "stat -c %F OUT", "socket", Fails("it is a socket")),
];

/// Outputs that only root can make.
const ROOTS: &[Place] = &[
    place("mknod -m 666 OUT c 1 3", "stat -c '%F %t:%T' OUT", "character special file 1:3", Gone),
    place(
        "mknod -m 666 null c 1 3; ln -s null OUT",
        "stat -c %F OUT null",
        "symbolic link\ncharacter special file",
        Gone,
    ),
    place(
        "mknod -m 666 OUT c 1 7",
        "stat -c '%F %t:%T' OUT",
        "character special file 1:7",
        Fails("No space left on device (os error 28)"),
    ),
    // A file of a third user, which the user may write to; its owner stays.
    Place {
        arrange: "cp OLD OUT; chmod 666 OUT",
        change: "chown 12345:12345 OUT",
        look: "stat -c '%u:%g %a' OUT",
        seen: "12345:12345 666",
        ends: Over("OUT"),
    },
    // A link, FIFO or file of another user in a directory such as /tmp may be an attempt to overwrite something.
    Place {
        arrange: "cp OLD file; ln -s file OUT",
        change: "chmod 1777 .; chown 12345 .; chown -h 12346 OUT",
        look: "cmp OLD file",
        seen: "",
        ends: Fails("another user owns it, in a directory where all users can create files"),
    },
    Place {
        arrange: "mkfifo OUT",
        change: "chmod 1777 .; chown 12345 .; chown 12346 OUT",
        look: "stat -c %F OUT",
        seen: "fifo",
        ends: Fails("another user owns it, in a directory where all users can create files"),
    },
];

/// Outputs for a user other than root.
const OTHERS: &[Place] = &[
    Place {
        arrange: "cp OLD OUT; chmod 644 OUT",
        change: "chown 0:0 OUT",
        look: "cmp OLD OUT; stat -c '%u %a' OUT",
        seen: "0 644",
        ends: Fails("Permission denied (os error 13)"),
    },
    Place {
        arrange: "",
        change: "chmod 555 .",
        look: "ls -A",
        seen: "",
        ends: Fails("Permission denied (os error 13)"),
    },
    Place {
        arrange: "",
        change: "chmod 000 .",
        look: "chmod 755 .; ls -A",
        seen: "",
        ends: Fails("Permission denied (os error 13)"),
    },
];

/// A directory that accepts no new file, with a writable file in it. For commands that write one file.
const CLOSED: &[Place] = &[Place {
    arrange: "cp OLD OUT; chmod 640 OUT; ln OUT other",
    change: "chmod 555 .",
    look: "stat -c '%a %h' OUT",
    seen: "640 2",
    ends: Over("OUT"),
}];

#[test]
fn every_command_writes_to_every_kind_of_output() {
    let world = World::new();
    let users = users();
    thread::scope(|scope| {
        for writer in &WRITERS {
            let (world, users) = (&world, &users);
            scope.spawn(move || {
                let expected =
                    Expected { new: world.expected(writer, false), over: world.expected(writer, true) };
                for user in users {
                    let mut places: Vec<&Place> = PLACES.iter().collect();
                    if is_root() {
                        places.extend(ROOTS);
                    }
                    if user.is_some() || !is_root() {
                        places.extend(
                            OTHERS.iter().filter(|place| is_root() || !place.change.contains("chown")),
                        );
                        places.extend(CLOSED.iter().filter(|_| !writer.is_of_many()));
                    }
                    places.iter().for_each(|place| try_place(world, writer, *user, place, &expected));
                }
            });
        }
    });
}

/// Expected content of a command's output.
struct Expected {
    new: Vec<u8>,
    over: Vec<u8>,
}

fn try_place(world: &World, writer: &Writer, user: Option<u32>, place: &Place, expected: &Expected) {
    let directory = tempfile::tempdir().unwrap();
    let old = directory.path().join("old");
    fs::write(&old, world.old(writer)).unwrap();
    let here = directory.path().join("here");
    fs::create_dir(&here).unwrap();
    sh(directory.path(), "chmod 755 . here; chmod 644 old");
    let named = |script: &str| script.replace("OUT", writer.file).replace("OLD", old.to_str().unwrap());
    let _socket = match place.arrange.strip_prefix("SOCKET ") {
        Some(name) => Some(UnixListener::bind(here.join(named(name))).unwrap()),
        None => {
            sh(&here, &named(place.arrange));
            None
        }
    };
    if let Some(user) = user {
        sh(&here, &format!("chown -hR {user}:{user} ."));
    }
    sh(&here, &named(place.change));

    let file = here.join(writer.file);
    let what = format!("{} as {user:?} after {:?} {:?}", writer.line, place.arrange, place.change);
    // A link to /dev/stdout leads to this process's own standard output, which may be a pipe.
    let reader = !matches!(place.ends, Fails(_) | Printed)
        && fs::metadata(&file).is_ok_and(|file| file.file_type().is_fifo());
    let reader = reader.then(|| {
        thread::spawn({
            let file = file.clone();
            move || fs::read(file).unwrap()
        })
    });
    let output = world.command(writer, &file, user).current_dir(&here).output().unwrap();
    let code = if matches!(place.ends, Fails(_)) { writer.failure() } else { 0 };
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{what}: {said}");
    let content = |name: &str| fs::read(here.join(named(name))).unwrap();
    match (&place.ends, reader) {
        (New(_), Some(reader)) => assert!(writer.same(&reader.join().unwrap(), &expected.new), "{what}"),
        (New(name), None) => assert!(writer.same(&content(name), &expected.new), "{what}"),
        (Over(name), _) => assert!(writer.same(&content(name), &expected.over), "{what}"),
        (Printed, _) => {
            let length = if writer.prints() { expected.new.len() } else { output.stdout.len() };
            assert!(writer.same(&output.stdout[..length], &expected.new), "{what}");
        }
        (Gone, _) => {}
        (Fails(why), _) => {
            let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
            // A command with several files may fail with the first.
            let begin = if writer.is_of_many() {
                "error: cannot write ".into()
            } else {
                format!("error: cannot write {}: ", file.display())
            };
            assert!(
                errors.len() == 1 && errors[0].starts_with(&begin) && errors[0].ends_with(why),
                "{what}: {said}"
            );
        }
    }
    if !matches!(place.ends, Printed) && !writer.prints() {
        assert!(output.stdout.is_empty(), "{what}");
    }
    if !(writer.is_of_many() && place.look == "ls -A") {
        assert_eq!(sh(&here, &named(place.look)), named(place.seen), "{what}");
    }
    assert_eq!(temporary(directory.path()), Vec::<PathBuf>::new(), "{what}");
}

/// Returns temporary files that commands should have removed.
fn temporary(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().starts_with(".nixply") {
            found.push(entry.path());
        }
        if entry.file_type().unwrap().is_dir() {
            found.extend(temporary(&entry.path()));
        }
    }
    found
}

/// Regression: a private spec became readable for all users.
#[test]
fn replaced_files_keep_their_mode() {
    let (world, directory) = (World::new(), tempfile::tempdir().unwrap());
    sh(directory.path(), "echo old > image.json; chmod 600 image.json");
    let output = world.command(&WRITERS[0], &directory.path().join("image.json"), None).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(sh(directory.path(), "stat -c %a image.json"), "600");
}

/// Regression: a regular file replaced a device, a FIFO and a link. The test creates its own device.
#[test]
fn devices_are_written_directly() {
    let (world, directory) = (World::new(), tempfile::tempdir().unwrap());
    sh(directory.path(), "mkfifo pipe; echo old > target; ln -s target link; mknod null c 1 3 2>&- || :");
    let reader = thread::spawn({
        let pipe = directory.path().join("pipe");
        move || fs::read(pipe).unwrap()
    });
    let has_device = directory.path().join("null").exists();
    let names = [("null", "character special file"), ("pipe", "fifo"), ("link", "symbolic link")];
    for (name, kind) in names.into_iter().filter(|(name, _)| has_device || *name != "null") {
        let writer = if name == "link" { &WRITERS[5] } else { &WRITERS[0] };
        let output = world.command(writer, &directory.path().join(name), None).output().unwrap();
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        assert_eq!(sh(directory.path(), &format!("stat -c %F {name}")), kind);
    }
    assert!(reader.join().unwrap() == world.expected(&WRITERS[0], false));
    assert!(fs::read(directory.path().join("target")).unwrap() == world.expected(&WRITERS[5], false));
}

/// Runs a script in its own mount namespace, if possible.
fn with_mounts(script: &str, arguments: &[&Path], command: &Command) -> Option<Output> {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).args(arguments);
    unshare.arg(command.get_program()).args(command.get_args());
    unshare.env_remove("NIX_STORE_DIR").env("HOME", "/nonexistent").env_remove("XDG_CACHE_HOME");
    let output = unshare.stdin(Stdio::null()).output();
    let output = output.ok().filter(|output| is_root() && output.status.code() != Some(99));
    if output.is_none() {
        skipped("no file system can be mounted");
    }
    output
}

/// On a full disk, an existing file stays unchanged, and no new file appears.
#[test]
fn full_disk_leaves_old_files_unchanged() {
    const SCRIPT: &str = r#"
        mount -t tmpfs -o size=64k,mode=1777 none "$1" || exit 99
        directory=$1 old=$2 file=$3 owner=$4; shift 4
        if [ -s "$old" ]; then cp "$old" "$file"; chmod 600 "$file"; chown "$owner" "$file"; fi
        cat /dev/zero > "$directory/zeros" 2>&-
        "$@"
        code=$?
        rm "$directory/zeros"
        if [ -s "$old" ]; then cmp "$old" "$file" >&2 && stat -c '%u %a' "$file" >&2; fi
        ls -A "$directory" >&2
        exit $code
    "#;
    let world = World::new();
    for (writer, user) in
        WRITERS.iter().flat_map(|writer| users().into_iter().map(move |user| (writer, user)))
    {
        for over in [false, true] {
            let (directory, side) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let (old, file) = (side.path().join("old"), directory.path().join(writer.file));
            fs::write(&old, if over { world.old(writer) } else { Vec::new() }).unwrap();
            let owner = user.unwrap_or(0).to_string();
            let arguments = [directory.path(), &old, &file, Path::new(&owner)];
            let command = world.command(writer, &file, user);
            let Some(output) = with_mounts(SCRIPT, &arguments, &command) else { return };
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(writer.failure()), "{}: {said}", writer.line);
            let rest = match over {
                true => format!("No space left on device (os error 28)\n{owner} 600\n{}\n", writer.file),
                false => "No space left on device (os error 28)\n".to_owned(),
            };
            assert!(said.ends_with(&rest), "{}: {said}", writer.line);
        }
    }
}

/// A mounted file, such as /etc/hosts in a container, cannot be replaced. A read-only file system can contain a writable mounted
/// file.
#[test]
fn mounted_files_are_overwritten() {
    const SCRIPT: &str = r#"
        directory=$1 other=$2 file=$3; shift 3
        mount --bind "$other" "$file" || exit 99
        if [ "$READ_ONLY" ]; then
            mount --bind "$directory" "$directory" && mount --bind "$other" "$file" && mount -o remount,ro,bind "$directory" || exit 99
        fi
        exec "$@"
    "#;
    let world = World::new();
    for writer in WRITERS.iter().filter(|writer| !writer.is_of_many()) {
        for (read_only, user) in [("", None), ("1", None), ("1", Some(OTHER))] {
            let (directory, side) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            sh(directory.path(), "chmod 755 .");
            sh(side.path(), "chmod 755 .");
            let (other, file) = (side.path().join("other"), directory.path().join(writer.file));
            // The old content is longer than the new content.
            let old = [world.old(writer), if writer.updates() { vec![b' '; 9] } else { vec![b'x'; 1 << 20] }]
                .concat();
            fs::write(&other, old).unwrap();
            fs::write(&file, "").unwrap();
            sh(side.path(), "chmod 606 other");
            let script = SCRIPT.replace("$READ_ONLY", read_only);
            let command = world.command(writer, &file, user);
            let Some(output) = with_mounts(&script, &[directory.path(), &other, &file], &command) else {
                return;
            };
            assert!(output.status.success(), "{}: {}", writer.line, text(&output.stderr));
            let expected = world.expected(writer, true);
            assert!(writer.same(&fs::read(&other).unwrap(), &expected), "{}", writer.line);
            assert_eq!(sh(side.path(), "stat -c %a other; ls"), "606\nother");
        }
    }
}

/// `init` and `nix-database` never overwrite a file, and never follow a link.
#[test]
fn init_and_nix_database_never_overwrite() {
    let world = World::new();
    for (arrange, look, seen) in [
        ("echo old > OUT; chmod 600 OUT", "cat OUT; stat -c %a OUT", "old\n600"),
        ("echo old > far; ln -s \"$PWD/far\" OUT", "cat far; stat -c %F OUT", "old\nsymbolic link"),
        ("ln -s far OUT", "stat -c %F OUT; ls -A", "symbolic link\nTOP"),
        ("mkfifo OUT", "stat -c %F OUT", "fifo"),
        ("ln -s /dev/full OUT", "readlink OUT", "/dev/full"),
        ("mkdir OUT", "stat -c %F OUT", "directory"),
    ] {
        for (line, said, file) in [
            (
                "init",
                "error: OUT already exists\nhint: edit it, or pass another directory; nothing was changed\n",
                "devenv.nix",
            ),
            (
                "nix-database",
                "error: a Nix database already exists and was not changed: OUT\n",
                "nix/var/nix/db/db.sqlite",
            ),
        ] {
            let directory = tempfile::tempdir().unwrap();
            sh(directory.path(), "mkdir -p nix/var/nix/db");
            let top = file.split('/').next().unwrap();
            let named = |script: &str| {
                script.replace("OUT", file).replace("TOP", if top == file { "devenv.nix\nnix" } else { top })
            };
            sh(directory.path(), &named(arrange));
            let here = directory.path().to_str().unwrap();
            let hashed = world.path("in/hashed.json");
            let words = match line {
                "init" => vec!["init", here],
                _ => vec!["nix-database", hashed.to_str().unwrap(), here],
            };
            let output = world.program("nixply", &words, None).output().unwrap();
            let said = said.replace("OUT", &format!("{here}/{file}"));
            assert_eq!(
                (output.status.code(), text(&output.stderr)),
                (Some(1), &*said),
                "{line} after {arrange}"
            );
            assert_eq!(sh(directory.path(), &named(look)), named(seen), "{line} after {arrange}");
        }
    }
}

#[test]
fn full_disk_leaves_no_new_files() {
    const SCRIPT: &str = r#"
        mount -t tmpfs -o size=64k,mode=1777 none "$1" || exit 99
        directory=$1; shift
        mkdir -p "$directory/nix/var/nix/db" "$directory/nix/var/nix/gcroots/docker" "$directory/nix/store/.links"
        cat /dev/zero > "$directory/zeros" 2>&-
        "$@"
        code=$?
        rm "$directory/zeros"
        find "$directory" -not -type d >&2
        exit $code
    "#;
    let world = World::new();
    let hashed = world.path("in/hashed.json");
    for verb in ["init", "nix-database"] {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().to_str().unwrap();
        let words = match verb {
            "init" => vec![verb, here],
            _ => vec![verb, hashed.to_str().unwrap(), here],
        };
        let Some(output) = with_mounts(SCRIPT, &[directory.path()], &world.program("nixply", &words, None))
        else {
            return;
        };
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{verb}: {said}");
        assert!(said.starts_with("error: cannot write ") && said.lines().count() == 1, "{verb}: {said}");
    }
}
