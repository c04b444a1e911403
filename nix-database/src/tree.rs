//! The file tree, and SQLite.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params};

use crate::Row;
use crate::error::{Error, Result};

/// What every Nix since 2.0 has in the file `schema`, without a newline. Source: `nixSchemaVersion`, and where
/// `LocalStore` writes it.
const SCHEMA: &str = "10";

/// Everything about the file that is SQLite's to choose, and no file beside it. What is deleted is zeroed, so that no byte is
/// what the memory happened to hold.
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

/// Source: Nix's `schema.sql`, with the table of `LocalStore::upgradeDBSchema`.
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

/// Made last: an index of what is there already is sorted and dense.
const INDEXES: &str = "
create index IndexReference on Refs(reference);
create index IndexDerivationOutputs on DerivationOutputs(path);
create trigger DeleteSelfRefs before delete on ValidPaths
  begin
    delete from Refs where referrer = old.id and reference = old.id;
  end;
";

pub(crate) fn write(rows: &[Row<'_>], root: &Path) -> Result<()> {
    let make = |name: &str| -> Result<PathBuf> {
        let path = root.join(name);
        fs::create_dir_all(&path).map_err(Error::io("make folder", &path))?;
        Ok(path)
    };
    let folder = make("nix/var/nix/db")?;
    let mut made = Made::default();
    let file = folder.join("db.sqlite");
    // SQLite would add to what is there.
    File::create_new(&file).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists { path: file.clone() },
        _ => Error::io("write file", &file)(error),
    })?;
    made.add(&file);
    database(rows, &file).map_err(|source| Error::Database { path: file, source })?;
    let file = folder.join("schema");
    let mut schema = File::create_new(&file).map_err(Error::io("write file", &file))?;
    made.add(&file);
    schema.write_all(SCHEMA.as_bytes()).map_err(Error::io("write file", &file))?;
    let folder = make("nix/var/nix/gcroots/docker")?;
    for row in rows {
        let (_, name) = row.path.as_str().rsplit_once('/').expect("it is a store path");
        let link = folder.join(name);
        symlink(row.path.as_str(), &link).map_err(Error::io("make symlink", &link))?;
        made.add(&link);
    }
    make("nix/store/.links")?;
    made.keep();
    Ok(())
}

/// Files of a database that is not whole yet. If it never is, they go.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Made {
    fn add(&mut self, file: &Path) {
        self.0.push(file.into());
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.0.iter().for_each(|file| drop(fs::remove_file(file)));
    }
}

fn database(rows: &[Row<'_>], file: &Path) -> rusqlite::Result<()> {
    let mut database = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    database.execute_batch(SETTINGS)?;
    let transaction = database.transaction()?;
    transaction.execute_batch(TABLES)?;
    {
        // As --load-db has it: what is unknown is null. When a path came into the store is nobody's business.
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
