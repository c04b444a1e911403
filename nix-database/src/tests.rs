use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;

fn path(digit: char, name: &str) -> String {
    format!("/nix/store/{}-{name}", digit.to_string().repeat(32))
}

fn info(path: &str, nar_hash: &str, references: &[&str]) -> PathInfo {
    PathInfo {
        path: path.parse().unwrap(),
        references: references.iter().map(|path| path.parse().unwrap()).collect(),
        nar_hash: nar_hash.into(),
        nar_size: 1000,
    }
}

/// One hash in each of Nix's forms.
const HASHES: [&str; 3] = [
    "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    "sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic",
    "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=",
];

/// Three paths that refer to each other and to themselves.
fn infos() -> Vec<PathInfo> {
    let (a, b, c) = (path('a', "a"), path('b', "b"), path('c', "c"));
    vec![info(&a, HASHES[0], &[&b, &c, &a]), info(&b, HASHES[1], &[&c]), info(&c, HASHES[2], &[])]
}

fn written(infos: impl IntoIterator<Item = PathInfo>) -> (TempDir, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let warnings = write(&Closure::new(infos), &Store::at("/nix/store"), directory.path()).unwrap();
    (directory, warnings)
}

fn bytes(directory: &TempDir) -> Vec<u8> {
    fs::read(directory.path().join("nix/var/nix/db/db.sqlite")).unwrap()
}

/// Returns the rows of a query with their columns as SQLite prints them.
fn query(directory: &TempDir, query: &str) -> Vec<String> {
    let file = directory.path().join("nix/var/nix/db/db.sqlite");
    let database = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut statement = database.prepare(query).unwrap();
    let columns = statement.column_count();
    let text = |value: ValueRef<'_>| match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    let row = |row: &rusqlite::Row<'_>| {
        let columns = (0..columns).map(|at| row.get_ref(at).map(text));
        columns.collect::<rusqlite::Result<Vec<_>>>().map(|columns| columns.join("|"))
    };
    statement.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn rows_match_those_of_load_db() {
    let (directory, warnings) = written(infos());
    assert_eq!(warnings, [""; 0]);
    let rows = query(
        &directory,
        "select id, path, hash, registrationTime, deriver, narSize, ultimate, sigs, ca from ValidPaths",
    );
    let row = |id, path| format!("{id}|{path}|{}|0|NULL|1000|NULL|NULL|NULL", HASHES[0]);
    assert_eq!(rows, [row(1, path('a', "a")), row(2, path('b', "b")), row(3, path('c', "c"))]);
    assert_eq!(query(&directory, "select * from Refs order by 1, 2"), ["1|1", "1|2", "1|3", "2|3"]);
    assert_eq!(query(&directory, "select * from DerivationOutputs"), [""; 0]);
    assert_eq!(
        query(&directory, "select * from SchemaMigrations"),
        ["20260309-drop-redundant-indexreferrer"]
    );
    assert_eq!(query(&directory, "pragma integrity_check"), ["ok"]);
    assert_eq!(query(&directory, "pragma foreign_key_check"), [""; 0]);
}

#[test]
fn tree_has_exactly_the_expected_files() {
    let (directory, _) = written(infos());
    let mut found = Vec::new();
    let mut directories = vec![directory.path().join("nix")];
    while let Some(at) = directories.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(directory.path()).unwrap().display().to_string();
            if path.is_symlink() {
                found.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
            } else if path.is_dir() {
                found.push(format!("{name}/"));
                directories.push(path);
            } else {
                found.push(name);
            }
        }
    }
    found.sort();
    let root = |digit, name: &str| {
        let path = path(digit, name);
        format!("nix/var/nix/gcroots/docker/{} -> {path}", &path["/nix/store/".len()..])
    };
    let expected = [
        "nix/store/",
        "nix/store/.links/",
        "nix/var/",
        "nix/var/nix/",
        "nix/var/nix/db/",
        "nix/var/nix/db/db.sqlite",
        "nix/var/nix/db/schema",
        "nix/var/nix/gcroots/",
        "nix/var/nix/gcroots/docker/",
        &root('a', "a"),
        &root('b', "b"),
        &root('c', "c"),
    ];
    assert_eq!(found, expected);
    assert_eq!(fs::read_to_string(directory.path().join("nix/var/nix/db/schema")).unwrap(), "10");
}

#[test]
fn bytes_do_not_depend_on_input_order() {
    let expected = bytes(&written(infos()).0);
    let mut order = infos();
    for _ in 0..order.len() {
        order.rotate_left(1);
        order.iter_mut().for_each(|info| info.references.reverse());
        assert_eq!(bytes(&written(order.clone()).0), expected);
    }
}

/// Digests made with the SQLite of Cargo.lock. Another SQLite may yield other ones, which changes images with
/// a database.
#[test]
fn bytes_are_the_same_on_every_machine() {
    let digest = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    assert_eq!(
        digest(&bytes(&written(infos()).0)),
        "96d791f66bb4ff4e71297fa7eaef7b6ba077a349e3afd5107f9752f202d67eb7"
    );
    // Enough rows for inner pages in every table. The order of references differs from that of the paths.
    let paths: Vec<String> =
        (0..5000).map(|at| format!("/nix/store/{:032}-{at}", at * 7919 % 5003)).collect();
    let many = paths.iter().enumerate().map(|(at, path)| {
        let reference = |step: usize| paths[(at * step + 1) % paths.len()].as_str();
        info(path, HASHES[at % 3], &[reference(3), reference(5), reference(7)])
    });
    let (directory, _) = written(many);
    assert_eq!(query(&directory, "pragma integrity_check"), ["ok"]);
    assert_eq!(query(&directory, "pragma freelist_count"), ["0"]);
    assert_eq!(
        digest(&bytes(&directory)),
        "a8aab7264afbad3f5383cbd613feeeda979e804a5575e2556d8190c107a7c5c3"
    );
}

/// Checks the file header. Source: "Database File Format", 1.3.
#[test]
fn header_has_no_machine_dependent_settings() {
    let bytes = bytes(&written(infos()).0);
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(&bytes[..16], b"SQLite format 3\0");
    assert_eq!(u16::from_be_bytes([bytes[16], bytes[17]]), 4096, "page size");
    assert_eq!(bytes[18..20], [1, 1], "no write-ahead log: Nix enables it if needed");
    assert_eq!(number(28) as usize * 4096, bytes.len(), "pages");
    assert_eq!((number(36), number(52), number(56)), (0, 0, 1), "free pages, auto-vacuum, UTF-8");
}

#[test]
fn dangling_references_are_omitted_with_a_warning() {
    let (directory, warnings) = written(infos().into_iter().take(2));
    assert_eq!(query(&directory, "select * from Refs order by 1, 2"), ["1|1", "1|2"]);
    let (a, c) = (path('a', "a"), path('c', "c"));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let expected = format!("the Nix database omits {c}, although {a} and 1 more refer to it");
    assert!(warnings[0].starts_with(&expected), "{warnings:?}");
}

#[test]
fn unregistrable_paths_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |info: PathInfo| {
        write(&Closure::new([info]), &Store::at("/nix/store"), directory.path()).unwrap_err().to_string()
    };
    let a = path('a', "a");
    for hash in ["", "sha256-x", "md5:00", "sha512-x"] {
        let text = refused(info(&a, hash, &[]));
        assert!(text.starts_with(&format!("{a} cannot be in a Nix database: ")), "{text}");
        assert!(text.contains("SHA-256") && text.contains("nix path-info"), "{text}");
    }
    let text = refused(PathInfo { nar_size: 0, ..info(&a, HASHES[0], &[]) });
    assert!(text.contains("has no size of its archive"), "{text}");
    let elsewhere = a.replace("/nix/store", "/gnu/store");
    assert!(refused(info(&elsewhere, HASHES[0], &[])).contains("is not valid"), "{elsewhere}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing was written");
}

#[test]
fn existing_database_is_not_changed() {
    let (directory, _) = written([]);
    let file = directory.path().join("nix/var/nix/db/db.sqlite");
    let before = (bytes(&directory), fs::metadata(&file).unwrap().mtime_nsec());
    let error = write(&Closure::new(infos()), &Store::at("/nix/store"), directory.path()).unwrap_err();
    assert!(error.to_string().starts_with("a Nix database already exists and was not changed: "), "{error}");
    assert_eq!((bytes(&directory), fs::metadata(&file).unwrap().mtime_nsec()), before);
}

/// A link such as `nix/var` must not redirect the database to another directory.
#[test]
fn links_do_not_redirect_the_tree() {
    for (link, place) in
        [("nix", "nix"), ("nix/var", "nix/var"), ("nix/var/nix/gcroots", "nix/var/nix/gcroots")]
    {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let link = root.path().join(link);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(outside.path(), &link).unwrap();
        let error = write(&Closure::new(infos()), &Store::at("/nix/store"), root.path()).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains(place) && message.contains("must be a directory, not a link or file"),
            "{message}"
        );
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{place}");
        assert!(!root.path().join("nix/var/nix/db/db.sqlite").exists(), "{place}");
    }
    // The root itself may be a link, because the user named it.
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("real")).unwrap();
    symlink("real", root.path().join("root")).unwrap();
    write(&Closure::new(infos()), &Store::at("/nix/store"), &root.path().join("root")).unwrap();
    assert!(root.path().join("real/nix/var/nix/db/db.sqlite").exists());
}
