//! Finding the path of an image that a user's text names.

use nixply_planning::StorePath;
use nixply_planning::plan::Name;

use super::Explained;

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// One path matches.
    One(StorePath),
    /// Several paths match, sorted by name.
    Several(Vec<StorePath>),
    /// No path matches.
    Nothing,
}

impl Explained {
    /// Finds the path that `text` names: a store path or a file in one, a hash, a name with or without version, or a part of
    /// a name. A complete match takes precedence over a partial one.
    pub fn find(&self, text: &str) -> Found {
        let base = |path: &StorePath| path.base().to_owned();
        let is_path = |path: &StorePath| {
            text.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                || base(path) == text
                || base(path).split_once('-').is_some_and(|(hash, _)| hash == text)
        };
        let is_package = |path: &StorePath| {
            let Name { package, output, .. } = Name::of(path);
            match text.split_once(':') {
                Some((name, wanted)) => package == name && output == wanted,
                None => package == text && output.is_empty(),
            }
        };
        let meanings: [&dyn Fn(&StorePath) -> bool; 4] =
            [&is_path, &|path| path.name() == text, &is_package, &|path| {
                !text.is_empty() && !text.contains('/') && base(path).contains(text)
            }];
        for is_meant in meanings {
            let paths = self.closure.iter().map(|info| &info.path);
            let mut found: Vec<StorePath> = paths.filter(|path| is_meant(path)).cloned().collect();
            found.sort_by(|a, b| (a.name(), a).cmp(&(b.name(), b)));
            match found.len() {
                0 => {}
                1 => return Found::One(found.remove(0)),
                _ => return Found::Several(found),
            }
        }
        Found::Nothing
    }

    /// Iterates over the paths of the image.
    pub fn paths(&self) -> impl Iterator<Item = &StorePath> {
        self.in_image().map(|at| self.path_at(at))
    }
}
