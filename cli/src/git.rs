//! The user's git.

use std::path::Path;
use std::process::Command;

/// Returns a git command for a directory, without the repository that a git hook may have set in the environment.
pub(crate) fn command(folder: &Path) -> Command {
    let mut git = Command::new("git");
    for variable in
        ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"]
    {
        git.env_remove(variable);
    }
    git.arg("-C").arg(folder);
    git
}
