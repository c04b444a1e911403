//! Checks whether users other than this one and root can write to a directory.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Result};

/// The mode bit of a directory in which only owners may rename files.
pub const STICKY: u32 = 0o1000;
const GROUP_WRITES: u32 = 0o020;
const EVERYONE_WRITES: u32 = 0o002;

/// Whether to check the directories above a store as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Above {
    /// Check them: only a spec claims that the directory is a store.
    Too,
    /// Do not check them: the user has named the store.
    Not,
}

/// Checks that no user other than this one and root can write to a store directory or, with `Above::Too`, replace it by another
/// directory. A directory that does not exist passes, because nothing in it can be read.
///
/// A group may have write access if the directory has the sticky bit, as Nix creates `/nix/store` (root:nixbld, mode 1775), or
/// if it is the process's own group (umask 002).
pub fn check_store(dir: &Path, above: Above) -> Result<()> {
    let failed = |source| Error::io("read store directory", dir, source);
    let real = match dir.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        real => real.map_err(failed)?,
    };
    let refused = |why| Err(Error::StoreOfOthers { path: dir.into(), why });
    if let Some(why) = writers(&fs::metadata(&real).map_err(failed)?) {
        return refused(why);
    }
    let ancestors = real.ancestors().skip(1).take_while(|_| above == Above::Too);
    for above in ancestors {
        let mode = fs::metadata(above).map_err(failed)?.mode();
        if mode & EVERYONE_WRITES != 0 && mode & STICKY == 0 {
            let mode = mode & 0o7777;
            return refused(format!(
                "every user can rename it, because {} has mode {mode:04o}",
                above.display()
            ));
        }
    }
    Ok(())
}

/// Returns the reason why other users can write to a directory, if they can.
pub fn writers(directory: &Metadata) -> Option<String> {
    let (owner, group, mode) = (directory.uid(), directory.gid(), directory.mode() & 0o7777);
    let (user, own_group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // In its sandbox, Nix shows files whose owner has no id in that user namespace.
    let is_unknown = !all_users_have_ids() && owner == overflow_user();
    if owner != 0 && owner != user && !is_unknown {
        return Some(format!("it belongs to the user {owner}"));
    }
    if mode & EVERYONE_WRITES != 0 {
        return Some(format!("every user can write to it: its mode is {mode:04o}"));
    }
    if mode & GROUP_WRITES != 0 && mode & STICKY == 0 && group != own_group && group != 0 {
        return Some(format!("the group {group} can write to it: its mode is {mode:04o}"));
    }
    None
}

/// Whether every user of the machine has a distinct id in this process's user namespace. In a container, all users that the
/// container does not know share one id.
pub fn all_users_have_ids() -> bool {
    let Ok(map) = fs::read_to_string("/proc/self/uid_map") else { return true };
    // The initial namespace has one row, which maps all ids from 0.
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Returns the id that Linux shows for users who have none in the user namespace.
pub fn overflow_user() -> u32 {
    let number = fs::read_to_string("/proc/sys/kernel/overflowuid");
    number.ok().and_then(|number| number.trim().parse().ok()).unwrap_or(65534)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    #[test]
    fn a_directory_writable_by_other_users_is_refused_as_a_store() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        fs::create_dir(&store).unwrap();
        let check = || check_store(&store, Above::Too).map_err(|error| error.to_string());
        let with_mode = |mode: u32| {
            fs::set_permissions(&store, Permissions::from_mode(mode)).unwrap();
            check()
        };
        for mode in [0o700, 0o755, 0o555, 0o775, 0o1775, 0o2775] {
            assert_eq!(with_mode(mode), Ok(()), "{mode:o}");
        }
        for mode in [0o777, 0o1777, 0o757] {
            let error = with_mode(mode).unwrap_err();
            assert!(
                error.contains(&format!("every user can write to it: its mode is {mode:04o}")),
                "{error}"
            );
            assert!(error.contains(&store.display().to_string()), "{error}");
        }
        with_mode(0o755).unwrap();
        assert_eq!(
            check_store(&directory.path().join("absent"), Above::Too).map_err(|error| error.to_string()),
            Ok(())
        );
        // Write access to the directory above the store counts as well.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        let error = check().unwrap_err();
        assert!(error.contains("every user can rename it, because"), "{error}");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(check(), Ok(()));
    }

    #[test]
    fn a_directory_of_another_user_or_group_is_refused_as_a_store() {
        if !rustix::process::geteuid().is_root() || !all_users_have_ids() {
            return;
        }
        let store = tempfile::tempdir().unwrap();
        let check = || check_store(store.path(), Above::Too).map_err(|error| error.to_string());
        chown(store.path(), Some(65534), None).unwrap();
        assert!(check().unwrap_err().contains("it belongs to the user 65534"));
        chown(store.path(), Some(0), Some(12345)).unwrap();
        fs::set_permissions(store.path(), Permissions::from_mode(0o775)).unwrap();
        assert!(check().unwrap_err().contains("the group 12345 can write to it: its mode is 0775"));
        // Owner and mode of Nix's own store.
        fs::set_permissions(store.path(), Permissions::from_mode(0o1775)).unwrap();
        assert_eq!(check(), Ok(()));
    }
}
