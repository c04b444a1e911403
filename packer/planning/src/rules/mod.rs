//! Rules that change a store path on its way into the image: its place ([`Rewrite`]) and its owner ([`Perm`]). The spec has
//! the rules unchanged; [`Rules`] is their compiled form.

mod go_regexp;
mod matcher;

use std::borrow::Cow;

use nixply_documents::Error as DocumentError;
use nixply_documents::argument::{Mention, Mode};
use nixply_documents::document::{self, WITHIN};
use nixply_documents::wording::quoted;
use schemars::JsonSchema;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use self::go_regexp::GoRegexp;
use self::matcher::Matcher;
use crate::error::{Error, Result};
use crate::layer::{PathOptions, Perm, Rewrite};

impl Perm {
    /// Checks the rule in the same way as [`Rules::compile`]. `place` is the rule's place, for messages.
    pub fn check(&self, store_path: &str, place: &str) -> Result<()> {
        matcher(&self.regex, store_path, || format!("{place}.regex {}", quoted(&self.regex)))?;
        self.parsed_mode(|| format!("{place}.mode {}", quoted(&self.mode))).map(drop)
    }

    fn parsed_mode(&self, what: impl Fn() -> String) -> Result<Option<u32>> {
        if self.mode.is_empty() {
            return Ok(None);
        }
        let why = || format!("expected {}", Mode::FORM);
        parse_mode(&self.mode).map(Some).ok_or_else(|| Error::invalid(what(), why()))
    }
}

/// A rewrite for one store path, as in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RewritePath {
    /// The store path.
    pub path: String,
    /// The rewrite.
    #[serde(flatten)]
    pub rewrite: Rewrite,
}

impl RewritePath {
    /// Returns the rule of `copyToRoot`, which moves the path's content to the image's root. nix2container writes the path
    /// into the expression without escapes. The expression is part of the spec, so this rule has the same form. A `.` or `+`
    /// in the store path matches only itself, because [`Rules::compile`] takes such an expression literally.
    pub fn to_root(path: &str) -> Self {
        Self { path: path.into(), rewrite: Rewrite { regex: format!("^{path}"), repl: String::new() } }
    }
}

/// The owner and mode of files of one store path, as in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PermPath {
    /// The store path.
    #[schemars(with = "Mention")]
    pub path: String,
    /// The rule.
    #[serde(flatten)]
    pub perm: Perm,
}

/// [`PermPath`] as nix2container reads it: unknown keys are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoPermPath(pub PermPath);

impl<'de> Deserialize<'de> for RewritePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        with_path(deserializer, leniently).map(|(path, rewrite)| Self { path, rewrite })
    }
}

impl<'de> Deserialize<'de> for PermPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        with_path(deserializer, |rule| document::fill_exactly(rule, &["path"]))
            .map(|(path, perm)| Self { path, perm })
    }
}

impl<'de> Deserialize<'de> for GoPermPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        with_path(deserializer, leniently).map(|(path, perm)| Self(PermPath { path, perm }))
    }
}

fn leniently<T: DeserializeOwned>(rule: Value) -> Result<T, DocumentError> {
    document::fill(rule, "")
}

/// Reads an object with the key `path` and the keys of a rule. serde's `flatten` would not name the wrong key in its errors.
fn with_path<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    fill: impl FnOnce(Value) -> Result<T, DocumentError>,
) -> Result<(String, T), D::Error> {
    let mut rule = serde_json::Map::deserialize(deserializer)?;
    let path = rule.remove("path");
    let within = |error: DocumentError| match error.to_string() {
        // The error is about the rule itself. The caller adds its place.
        text if text.starts_with(' ') => D::Error::custom(text.trim_start()),
        text => D::Error::custom(format_args!("{WITHIN}{text}")),
    };
    // Read the rule before the path, because one of the other keys may be a misspelt `path`.
    let rule = fill(rule.into()).map_err(within)?;
    let path = path.ok_or_else(|| D::Error::missing_field("path"))?;
    Ok((document::fill_at(path, "", "path").map_err(within)?, rule))
}

/// Owner and mode of an entry: all parts of a header that rules can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership<'a> {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: i64,
    /// Group.
    pub gid: i64,
    /// Owner's name.
    pub uname: &'a str,
    /// Group's name.
    pub gname: &'a str,
}

impl Ownership<'_> {
    /// Root's ownership, with this mode.
    pub fn root(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0, uname: "root", gname: "root" }
    }
}

/// Compiled [`PathOptions`].
#[derive(Debug, Default)]
pub struct Rules {
    rewrite: Option<(Replaced, String)>,
    perms: Vec<(Matcher, Option<u32>, Perm)>,
}

/// The text that a rewrite replaces.
#[derive(Debug)]
enum Replaced {
    /// The store path at the beginning.
    StorePath(Vec<u8>),
    Matches(GoRegexp),
}

/// Returns whether the expression is a store path that nix2container wrote without escapes, such as `^/nix/store/hash-g++`.
/// As an expression, it does not match its own path, so it can only be meant literally.
fn is_store_path(regex: &str, store_path: &str) -> bool {
    regex.strip_prefix('^') == Some(store_path)
}

fn matcher(regex: &str, store_path: &str, place: impl Fn() -> String) -> Result<Matcher> {
    if is_store_path(regex, store_path) {
        return Ok(Matcher::Begins(store_path.into()));
    }
    Matcher::new(regex).map_err(|why| Error::invalid(place(), why))
}

impl Rules {
    /// Compiles the rules of `store_path`. An error names the rule.
    pub fn compile(options: &PathOptions, store_path: &str) -> Result<Self> {
        let rewrite = match &options.rewrite {
            Rewrite { regex, .. } if regex.is_empty() => None,
            Rewrite { regex, repl } if is_store_path(regex, store_path) => {
                Some((Replaced::StorePath(store_path.into()), repl.clone()))
            }
            Rewrite { regex, repl } => {
                let place = || format!("rewrite regex {} of {store_path}", quoted(regex));
                let regexp = GoRegexp::new(regex).map_err(|why| Error::invalid(place(), why))?;
                Some((Replaced::Matches(regexp), repl.clone()))
            }
        };
        let perms = options.perms.iter().enumerate().map(|(index, perm)| {
            let place = |field: &str| format!("perms[{index}].{field} of {store_path}");
            let matcher =
                matcher(&perm.regex, store_path, || format!("{} {}", place("regex"), quoted(&perm.regex)))?;
            let mode = perm.parsed_mode(|| format!("{} {}", place("mode"), quoted(&perm.mode)))?;
            Ok((matcher, mode, perm.clone()))
        });
        Ok(Self { rewrite, perms: perms.collect::<Result<_>>()? })
    }

    /// Returns whether files keep their place.
    pub fn keeps_place(&self) -> bool {
        self.rewrite.is_none()
    }

    /// Returns the place of the file `path` in the image; empty if the file is omitted.
    pub fn place<'p>(&self, path: &'p [u8]) -> Cow<'p, [u8]> {
        match &self.rewrite {
            None => Cow::Borrowed(path),
            Some((Replaced::Matches(regexp), repl)) => Cow::Owned(regexp.replace_all(path, repl)),
            Some((Replaced::StorePath(prefix), repl)) if repl.is_empty() => {
                Cow::Borrowed(path.strip_prefix(&prefix[..]).unwrap_or(path))
            }
            Some((Replaced::StorePath(prefix), repl)) => match path.strip_prefix(&prefix[..]) {
                Some(rest) => Cow::Owned([&go_regexp::expand_without_groups(repl, prefix), rest].concat()),
                None => Cow::Borrowed(path),
            },
        }
    }

    /// Returns the owner and mode of the file `path` in the image. `mode` is its mode in the store.
    pub fn ownership(&self, path: &[u8], mode: u32) -> Ownership<'_> {
        self.ruled(path, mode).unwrap_or_else(|| Ownership::root(mode))
    }

    /// Like [`Rules::ownership`], but returns nothing if no rule matches the file.
    pub fn ruled(&self, path: &[u8], own_mode: u32) -> Option<Ownership<'_>> {
        let mut ruled = None;
        let text = if self.perms.is_empty() { path.into() } else { go_regexp::text(path) };
        for (matcher, mode, perm) in &self.perms {
            if !matcher.is_match(&text) {
                continue;
            }
            let ownership = ruled.get_or_insert_with(|| Ownership::root(own_mode));
            (ownership.uid, ownership.gid) = (perm.uid, perm.gid);
            if !perm.uname.is_empty() {
                ownership.uname = &perm.uname;
            }
            if !perm.gname.is_empty() {
                ownership.gname = &perm.gname;
            }
            if let Some(mode) = mode {
                ownership.mode = *mode;
            }
        }
        ruled
    }
}

fn parse_mode(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    u32::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/nix/store/x896lxz471i4rgicjxygfh37a0appv7l-nix-database";

    fn rewrite(regex: &str, repl: &str) -> Rules {
        let rewrite = Rewrite { regex: regex.into(), repl: repl.into() };
        Rules::compile(&PathOptions { rewrite, perms: Vec::new() }, PATH).unwrap()
    }

    /// nix2container's TestFilePathToTarPath.
    #[test]
    fn a_path_rewritten_to_nothing_is_omitted() {
        assert_eq!(&*rewrite(&format!("^{PATH}"), "").place(PATH.as_bytes()), b"");
        assert_eq!(&*Rules::default().place(b"/"), b"/");
    }

    #[test]
    fn store_paths_with_regex_characters_are_literal() {
        let path = "/nix/store/3456789abcdfghijklmnpqrsvwxyz012-g++";
        let options = PathOptions { rewrite: RewritePath::to_root(path).rewrite, perms: Vec::new() };
        let rules = Rules::compile(&options, path).unwrap();
        assert_eq!(&*rules.place(format!("{path}/bin/g++").as_bytes()), b"/bin/g++");
        // A copy of the path deeper in the tree is unchanged, because the expression is anchored.
        assert_eq!(&*rules.place(format!("{path}/x{path}/y").as_bytes()), format!("/x{path}/y").as_bytes());
    }

    #[test]
    fn replacements_expand_groups_as_in_go() {
        let rules = rewrite("^/nix/store/[a-z0-9]+-(.*)$", "/opt/$1");
        assert_eq!(&*rules.place(format!("{PATH}/a").as_bytes()), b"/opt/nix-database/a");
        assert_eq!(
            &*rewrite(&format!("^{PATH}"), "/at/$0/$1x").place(PATH.as_bytes()),
            format!("/at/{PATH}/").as_bytes()
        );
    }

    #[test]
    fn nix2container_228_errors_name_the_invalid_rule() {
        let perm =
            |regex: &str, mode: &str| Perm { regex: regex.into(), mode: mode.into(), ..Perm::default() };
        let refused =
            |perms| Rules::compile(&PathOptions { perms, ..PathOptions::default() }, PATH).unwrap_err();
        let text = refused(vec![perm("a", ""), perm("(", "")]).to_string();
        assert!(text.starts_with(&format!("perms[1].regex of {PATH} \"(\" is not valid: ")), "{text}");
        for mode in ["0899", "77777", "-1", "0o755", "rwx"] {
            let text = refused(vec![perm("", mode)]).to_string();
            assert!(text.contains("perms[0].mode") && text.contains("octal digits"), "{text}");
        }
    }

    #[test]
    fn later_perms_win_and_ids_are_always_set() {
        let options = PathOptions {
            perms: vec![
                Perm {
                    regex: "user".into(),
                    mode: "0750".into(),
                    uid: 1000,
                    gid: 100,
                    uname: "u".into(),
                    gname: "g".into(),
                },
                Perm { regex: "user/f".into(), mode: "0640".into(), ..Perm::default() },
            ],
            ..PathOptions::default()
        };
        let rules = Rules::compile(&options, PATH).unwrap();
        let first = Ownership { mode: 0o750, uid: 1000, gid: 100, uname: "u", gname: "g" };
        assert_eq!(rules.ownership(b"/user", 0o444), first);
        assert_eq!(rules.ownership(b"/user/f", 0o444), Ownership { mode: 0o640, uid: 0, gid: 0, ..first });
        assert_eq!(rules.ownership(b"/other", 0o444), Ownership::root(0o444));
    }
}
