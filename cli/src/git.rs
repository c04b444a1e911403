//! The user's git.

use std::path::Path;
use std::process::Command;

/// Returns a git command for a directory. Removes the environment variables with which a git hook would direct it to another
/// repository.
pub(crate) fn command(directory: &Path) -> Command {
    let mut git = Command::new("git");
    for variable in
        ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"]
    {
        git.env_remove(variable);
    }
    git.arg("-C").arg(directory);
    git
}
