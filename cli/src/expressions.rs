//! The Nix expressions that `nixply container` evaluates. They are part of the program, so that both have the same version.

use std::path::Path;

use anyhow::{Context, Result};
use include_dir::{Dir, include_dir};
use tempfile::TempDir;

use crate::temporary;

/// The files of `nix/` that build.rs selects.
static EXPRESSIONS: Dir<'_> = include_dir!("$OUT_DIR/nix");

/// A temporary directory with the expressions.
pub(crate) struct Expressions(TempDir);

impl Expressions {
    /// Writes the directory.
    pub(crate) fn write() -> Result<Self> {
        let directory = temporary::directory("nixply-")?;
        let path = directory.path();
        EXPRESSIONS
            .extract(path)
            .with_context(|| format!("cannot write Nix expressions to {}", path.display()))?;
        Ok(Self(directory))
    }

    /// Returns the directory's path.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::{Component, PathBuf};

    use super::*;

    /// Maximum size of all files, in bytes: the program writes them for each evaluation, and users download them with the program.
    const LIMIT: usize = 110_000;

    /// The file that `nixply container` evaluates.
    const ENTRY: &str = "container-interface.nix";

    /// Modules name this file, but evaluation does not read it: `container-interface.nix` replaces the package that it builds.
    const NOT_EVALUATED: &str = "package.nix";

    fn files() -> BTreeMap<PathBuf, &'static str> {
        fn add(dir: &Dir<'static>, files: &mut BTreeMap<PathBuf, &'static str>) {
            for file in dir.files() {
                files.insert(file.path().into(), file.contents_utf8().expect("expressions are UTF-8"));
            }
            dir.dirs().for_each(|dir| add(dir, files));
        }
        let mut files = BTreeMap::new();
        add(&EXPRESSIONS, &mut files);
        files
    }

    /// Returns the files that an expression names by a relative path.
    fn references(file: &Path, text: &str) -> BTreeSet<PathBuf> {
        let is_path = |c: char| c.is_ascii_alphanumeric() || "./_-".contains(c);
        let directory = file.parent().expect("a file has a parent directory");
        text.split(|c| !is_path(c))
            .filter(|word| word.starts_with("./") || word.starts_with("../"))
            .map(|word| {
                let mut path = PathBuf::new();
                for part in directory.join(word).components() {
                    match part {
                        Component::Normal(name) => path.push(name),
                        Component::ParentDir => assert!(path.pop(), "{word} in {}", file.display()),
                        _ => {}
                    }
                }
                path
            })
            .collect()
    }

    #[test]
    fn the_embedded_files_are_small() {
        let bytes: usize = files().values().map(|text| text.len()).sum();
        assert!(bytes < LIMIT, "{bytes} bytes of expressions");
    }

    #[test]
    fn exactly_the_files_that_the_entry_needs_are_embedded() {
        let files = files();
        let mut needed = BTreeSet::new();
        let mut todo = vec![PathBuf::from(ENTRY)];
        while let Some(path) = todo.pop() {
            let path = if files.contains_key(&path) { path } else { path.join("default.nix") };
            if let Some(text) = files.get(&path)
                && needed.insert(path.clone())
            {
                todo.extend(references(&path, text));
            }
        }
        let embedded: BTreeSet<PathBuf> = files.keys().cloned().collect();
        assert_eq!(needed, embedded);
    }

    #[test]
    fn all_files_that_expressions_name_are_embedded() {
        let nix = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nix");
        let files = files();
        for (file, text) in &files {
            for path in references(file, text) {
                let embedded = files.keys().any(|embedded| embedded.starts_with(&path));
                let is_missing = nix.join(&path).exists() && !embedded;
                assert!(
                    !is_missing || path == Path::new(NOT_EVALUATED),
                    "{} in {}",
                    path.display(),
                    file.display()
                );
            }
        }
    }

    #[test]
    fn comments_are_removed_and_strings_are_kept() {
        let files = files();
        for (file, text) in files.iter().filter(|(file, _)| file.extension().is_some_and(|ext| ext == "nix"))
        {
            assert!(!text.lines().any(|line| line.starts_with("# ")), "{}", file.display());
        }
        let script = r#"mv layers-*/"''${digest#*:}" "$out""#;
        assert!(files[Path::new("nix2container/pull-image-from-manifest.nix")].contains(script));
    }
}
