//! Writes the file tree and the SQLite database.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nixply_planning::StorePath;
use rusqlite::{Connection, OpenFlags, params};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// A path in the form of the database.
pub(crate) struct Row<'p> {
    pub(crate) path: &'p StorePath,
    /// `sha256:` and hexadecimal digits: the only form that every Nix reads.
    pub(crate) hash: String,
    pub(crate) nar_size: i64,
    /// Indices of rows, ascending.
    pub(crate) references: Vec<usize>,
}

/// Content of the file `schema` in every Nix since 2.0, without a newline. Source: `nixSchemaVersion`, and
/// the place where `LocalStore` writes it.
const SCHEMA: &str = "10";

/// Sets everything that SQLite would otherwise choose, and prevents extra files. SQLite zeroes deleted data, so that no byte
/// depends on old memory.
const SETTINGS: &str = "
    pragma page_size = 4096;
    pragma encoding = 'UTF-8';
    pragma auto_vacuum = none;
    pragma journal_mode = off;
    pragma locking_mode = exclusive;
    pragma synchronous = off;
    pragma secure_delete = on;
    pragma temp_store = memory;
    pragma foreign_keys = off;
";

/// Source: Nix's `schema.sql`, with the table from `LocalStore::upgradeDBSchema`.
const TABLES: &str = "
create table ValidPaths (
    id               integer primary key autoincrement not null,
    path             text unique not null,
    hash             text not null,
    registrationTime integer not null,
    deriver          text,
    narSize          integer,
    ultimate         integer,
    sigs             text,
    ca               text
);
create table Refs (
    referrer  integer not null,
    reference integer not null,
    primary key (referrer, reference),
    foreign key (referrer) references ValidPaths(id) on delete cascade,
    foreign key (reference) references ValidPaths(id) on delete restrict
);
create table DerivationOutputs (
    drv  integer not null,
    id   text not null,
    path text not null,
    primary key (drv, id),
    foreign key (drv) references ValidPaths(id) on delete cascade
);
create table SchemaMigrations (migration text primary key not null);
insert into SchemaMigrations values ('20260309-drop-redundant-indexreferrer');
";

/// Created last: an index over existing rows is sorted and dense.
const INDEXES: &str = "
create index IndexReference on Refs(reference);
create index IndexDerivationOutputs on DerivationOutputs(path);
create trigger DeleteSelfRefs before delete on ValidPaths
  begin
    delete from Refs where referrer = old.id and reference = old.id;
  end;
";

pub(crate) fn write(rows: &[Row<'_>], root: &Path) -> Result<()> {
    fs::create_dir_all(root).map_err(Error::io("create directory", root))?;
    let root = root.canonicalize().map_err(Error::io("open directory", root))?;
    let mut made = NewFiles::default();
    let directory = Directory::below(&root, "nix/var/nix/db")?;
    let file = directory.path.join("db.sqlite");
    made.file(&directory, "db.sqlite", b"")?;
    database(rows, &file).map_err(|source| Error::Database { path: file, source })?;
    made.file(&directory, "schema", SCHEMA.as_bytes())?;
    let directory = Directory::below(&root, "nix/var/nix/gcroots/docker")?;
    for row in rows {
        let (_, name) = row.path.as_str().rsplit_once('/').expect("a store path has a slash");
        made.link(&directory, name, row.path.as_str())?;
    }
    Directory::below(&root, "nix/store/.links")?;
    made.keep();
    Ok(())
}

/// An open directory below the root. The path to it contains no symlink, so nothing is written outside the
/// root.
#[derive(Clone)]
struct Directory {
    opened: Rc<OwnedFd>,
    path: PathBuf,
}

impl Directory {
    /// Opens a directory below the root and creates missing directories.
    fn below(root: &Path, path: &str) -> Result<Self> {
        const FLAGS: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
        let mut at = root.to_owned();
        let opened = rustix::fs::open(root, FLAGS, Mode::empty());
        let mut opened = opened.map_err(|error| Error::io("open directory", root)(error.into()))?;
        for name in path.split('/') {
            at.push(name);
            match rustix::fs::mkdirat(&opened, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(Error::io("create directory", &at)(error.into())),
            }
            opened =
                rustix::fs::openat(&opened, name, FLAGS, Mode::empty()).map_err(|error| match error {
                    Errno::NOTDIR | Errno::LOOP => Error::NotDirectory { path: at.clone() },
                    error => Error::io("open directory", &at)(error.into()),
                })?;
        }
        Ok(Self { opened: Rc::new(opened), path: at })
    }
}

/// Files of an incomplete database. Dropping the list removes them.
#[derive(Default)]
struct NewFiles(Vec<(Directory, String)>);

impl NewFiles {
    /// Creates a file. Fails if it exists, because SQLite would add to it.
    fn file(&mut self, directory: &Directory, name: &str, content: &[u8]) -> Result<()> {
        let path = directory.path.join(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&directory.opened, name, flags, Mode::from_raw_mode(0o666));
        let mut file = File::from(opened.map_err(|error| match error {
            Errno::EXIST => Error::Exists { path: path.clone() },
            error => Error::io("write file", &path)(error.into()),
        })?);
        self.0.push((directory.clone(), name.into()));
        file.write_all(content).map_err(Error::io("write file", &path))
    }

    fn link(&mut self, directory: &Directory, name: &str, target: &str) -> Result<()> {
        let path = directory.path.join(name);
        let linked = rustix::fs::symlinkat(target, &directory.opened, name);
        linked.map_err(|error| Error::io("create symlink", &path)(error.into()))?;
        self.0.push((directory.clone(), name.into()));
        Ok(())
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for NewFiles {
    fn drop(&mut self) {
        for (directory, name) in &self.0 {
            let _ = rustix::fs::unlinkat(&directory.opened, name.as_str(), AtFlags::empty());
        }
    }
}

fn database(rows: &[Row<'_>], file: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut database = Connection::open_with_flags(file, flags)?;
    database.execute_batch(SETTINGS)?;
    let transaction = database.transaction()?;
    transaction.execute_batch(TABLES)?;
    {
        // Like --load-db, write null for unknown values. The registration time is 0, because it must not
        // affect the bytes.
        let mut insert = transaction.prepare(
            "insert into ValidPaths (id, path, hash, registrationTime, narSize) values (?, ?, ?, 0, ?)",
        )?;
        for (at, row) in rows.iter().enumerate() {
            insert.execute(params![id(at), row.path.as_str(), row.hash, row.nar_size])?;
        }
        let mut insert = transaction.prepare("insert into Refs (referrer, reference) values (?, ?)")?;
        for (at, row) in rows.iter().enumerate() {
            for reference in &row.references {
                insert.execute([id(at), id(*reference)])?;
            }
        }
    }
    transaction.execute_batch(INDEXES)?;
    transaction.commit()?;
    database.close().map_err(|(_, error)| error)
}

/// SQLite counts from 1.
fn id(at: usize) -> i64 {
    at as i64 + 1
}
