//! Parser for skopeo's command line, just enough to find a `nix:` source. Sources: skopeo's `--help`, 1.9 to 1.22, and how its
//! parsers (cobra, pflag) distinguish values of options from arguments.

use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const NIX: &[u8] = b"nix:";

/// Options without a value, or with an optional value after `=`. Without the prefixes `src-` and `dest-`.
const SWITCHES: &str = "all compress config debug decompress force-compress-format help insecure-policy no-creds no-tags \
    oci-accept-uncompressed-layers precompute-digests preserve-digests quiet raw remove-signatures require-signed tls-verify \
    version";

/// Options whose value is the next argument, unless it follows `=`. Without the prefixes `src-` and `dest-`.
const VALUED: &str = "additional-tag authfile cert-dir command-timeout compress-format compress-level creds daemon-host dcreds \
    decryption-key digestfile encrypt-layer encryption-key format image-parallel-copies manifest-digest multi-arch override-arch \
    override-os override-variant password policy registries-conf registries.d registry-token retry-delay retry-times screds \
    shared-blob-dir sign-by sign-by-sigstore sign-by-sigstore-private-key sign-by-sq-fingerprint sign-identity \
    sign-passphrase-file tls-details tmpdir user-agent-prefix username";

/// Options of one letter, and their names.
const LETTERS: &[(u8, &str)] =
    &[(b'a', "all"), (b'f', "format"), (b'h', "help"), (b'n', "no-tags"), (b'q', "quiet"), (b'v', "version")];

/// Subcommands whose first argument is an image to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Copy,
    Inspect,
    Layers,
}

impl Verb {
    fn of(text: &OsStr) -> Option<Self> {
        match text.as_bytes() {
            b"copy" => Some(Self::Copy),
            b"inspect" => Some(Self::Inspect),
            b"layers" => Some(Self::Layers),
            _ => None,
        }
    }
}

/// An option on the command line.
#[derive(Debug, PartialEq, Eq)]
struct Given<'a> {
    name: &'a [u8],
    value: Option<&'a OsStr>,
    /// Indices of its arguments.
    at: Range<usize>,
}

/// A command line that has a `nix:` source.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommandLine<'a> {
    arguments: &'a [OsString],
    pub(crate) verb: Verb,
    /// Index of the verb.
    verb_at: usize,
    /// The options that follow the verb.
    options: Vec<Given<'a>>,
    /// Indices of the verb's arguments. The first is the source.
    images: Vec<usize>,
}

impl<'a> CommandLine<'a> {
    /// Parses skopeo's arguments. Returns `None` without a `nix:` source: the real skopeo then gets the arguments unchanged.
    pub(crate) fn of(arguments: &'a [OsString]) -> Option<Self> {
        let mut at = 0;
        let (verb_at, verb) = loop {
            let argument = arguments.get(at)?;
            if !is_option(argument) {
                break (at, Verb::of(argument)?);
            }
            let option = Given::read(arguments, at);
            if option.name == b"help" {
                return None;
            }
            at = option.at.end;
        };
        let mut line = Self { arguments, verb, verb_at, options: Vec::new(), images: Vec::new() };
        at += 1;
        while let Some(argument) = arguments.get(at) {
            if argument == "--" {
                line.images.extend(at + 1..arguments.len());
                break;
            }
            if !is_option(argument) {
                line.images.push(at);
                at += 1;
                continue;
            }
            let option = Given::read(arguments, at);
            at = option.at.end;
            line.options.push(option);
        }
        let source = &arguments[*line.images.first()?];
        (source.as_bytes().starts_with(NIX) && !line.is_on("help")).then_some(line)
    }

    /// Returns the file that the source names.
    pub(crate) fn spec(&self) -> &'a Path {
        let source = &self.arguments[self.images[0]];
        Path::new(OsStr::from_bytes(&source.as_bytes()[NIX.len()..]))
    }

    /// Returns the destination, if there is one.
    pub(crate) fn destination(&self) -> Option<&'a OsStr> {
        Some(self.arguments.get(*self.images.get(1)?)?)
    }

    /// Returns the last value of an option.
    pub(crate) fn value(&self, name: &str) -> Option<&'a OsStr> {
        self.options.iter().rev().find(|option| option.name == name.as_bytes())?.value
    }

    /// Whether a switch is on. Its last occurrence counts.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        let last = self.options.iter().rev().find(|option| option.name == name.as_bytes());
        // The values that Go's strconv.ParseBool reads as true.
        last.is_some_and(|option| {
            option.value.is_none_or(|value| {
                matches!(value.as_bytes(), b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True")
            })
        })
    }

    /// Whether skopeo is quiet.
    pub(crate) fn is_quiet(&self) -> bool {
        // For combined letters, `Given` has only the name of the last one. The rest of an argument after a letter with a value is
        // the value.
        let letters = |option: &Given<'_>| {
            let text = self.arguments[option.at.start].as_bytes();
            let letters = text.strip_prefix(b"-").filter(|letters| !letters.starts_with(b"-"));
            letters.is_some_and(|letters| {
                letters.split(|b| b"f=".contains(b)).next().unwrap_or_default().contains(&b'q')
            })
        };
        self.is_on("quiet") || self.options.iter().any(letters)
    }

    /// Returns the arguments with a registry's image as the source, accessed without TLS and with credentials from `auth_file`.
    /// `quietly` adds --quiet, unless the user chose otherwise, for a caller that shows progress itself.
    pub(crate) fn with_registry(&self, source: &str, auth_file: &Path, quietly: bool) -> Vec<OsString> {
        let prefix = if self.verb == Verb::Copy { "src-" } else { "" };
        let verify = format!("{prefix}tls-verify");
        let plain = OsString::from(format!("--{verify}=false"));
        let mut auth = OsString::from(format!("--{}authfile=", prefix));
        auth.push(auth_file);
        let mut extra = vec![plain.clone(), auth];
        let is_given = |name: &str| self.options.iter().any(|option| option.name == name.as_bytes());
        if quietly && !is_given("quiet") && !self.is_quiet() {
            extra.push("--quiet".into());
        }
        // Omit the user's credentials for the source, which was not a registry.
        let credentials: &[&str] = match self.verb {
            Verb::Copy => &[
                "screds",
                "src-authfile",
                "src-creds",
                "src-no-creds",
                "src-password",
                "src-registry-token",
                "src-username",
            ],
            _ => &["authfile", "creds", "no-creds", "password", "registry-token", "username"],
        };
        let changed = |option: &Given<'_>| {
            let is = |name: &&str| option.name == name.as_bytes();
            match option.name == verify.as_bytes() {
                true => Some(vec![plain.clone()]),
                false => credentials.iter().any(is).then(Vec::new),
            }
        };
        self.rewritten(OsStr::new(source), extra, changed)
    }

    /// Returns the arguments with an OCI layout's image as the source.
    pub(crate) fn with_layout(&self, source: &OsStr) -> Vec<OsString> {
        // The option names the blobs of a layout, but the source was not a layout.
        self.rewritten(source, Vec::new(), |option| (option.name == b"shared-blob-dir").then(Vec::new))
    }

    /// Returns the arguments with another source, with `extra` options after the verb, and with `changed` options.
    fn rewritten(
        &self,
        source: &OsStr,
        extra: Vec<OsString>,
        changed: impl Fn(&Given<'_>) -> Option<Vec<OsString>>,
    ) -> Vec<OsString> {
        let mut out = self.arguments[..=self.verb_at].to_vec();
        out.extend(extra);
        let mut at = self.verb_at + 1;
        while at < self.arguments.len() {
            let option = self.options.iter().find(|option| option.at.start == at);
            if let Some((option, arguments)) = option.and_then(|option| Some((option, changed(option)?))) {
                out.extend(arguments);
                at = option.at.end;
                continue;
            }
            out.push(if at == self.images[0] { source.into() } else { self.arguments[at].clone() });
            at += 1;
        }
        out
    }
}

impl<'a> Given<'a> {
    /// Parses the option at `at`, with its value.
    fn read(arguments: &'a [OsString], at: usize) -> Self {
        let text = arguments[at].as_bytes();
        let next = arguments.get(at + 1).map(OsString::as_os_str);
        let alone = |name| Self { name, value: None, at: at..at + 1 };
        let with_next = |name| Self { name, value: next, at: at..(at + 2).min(arguments.len()) };
        if let Some(long) = text.strip_prefix(b"--") {
            if let Some(equals) = long.iter().position(|byte| *byte == b'=') {
                let value = OsStr::from_bytes(&long[equals + 1..]);
                return Self { name: &long[..equals], value: Some(value), at: at..at + 1 };
            }
            return if takes_next(long, next) { with_next(long) } else { alone(long) };
        }
        let mut letters = &text[1..];
        while let [letter, rest @ ..] = letters {
            let name =
                LETTERS.iter().find(|(known, _)| known == letter).map_or("", |(_, name)| name).as_bytes();
            if name == b"help" || (rest.is_empty() && !takes_next(name, next)) {
                return alone(name);
            }
            if rest.is_empty() {
                return with_next(name);
            }
            if contains(VALUED, name) {
                let value = OsStr::from_bytes(rest.strip_prefix(b"=").unwrap_or(rest));
                return Self { name, value: Some(value), at: at..at + 1 };
            }
            letters = rest;
        }
        alone(b"")
    }
}

/// Whether an argument is an option. `-` is an image.
fn is_option(argument: &OsStr) -> bool {
    argument.as_bytes().starts_with(b"-") && argument != "-"
}

/// Whether the next argument is this option's value. Unknown options of later versions of skopeo are assumed to have one, as in
/// cobra, unless the next argument is a verb or a `nix:` source.
fn takes_next(name: &[u8], next: Option<&OsStr>) -> bool {
    let name = name.strip_prefix(b"src-").or_else(|| name.strip_prefix(b"dest-")).unwrap_or(name);
    if contains(SWITCHES, name) || contains(VALUED, name) {
        return contains(VALUED, name);
    }
    next.is_some_and(|next| Verb::of(next).is_none() && !next.as_bytes().starts_with(NIX))
}

fn contains(list: &str, name: &[u8]) -> bool {
    list.split(' ').any(|known| known.as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    /// Returns the source's file, the destination, and the arguments with the source `R`.
    fn read(text: &str) -> Option<(String, String, String)> {
        let arguments = words(text);
        let line = CommandLine::of(&arguments)?;
        let destination = line.destination().unwrap_or_default();
        let show = |arguments: Vec<OsString>| arguments.join(OsStr::new(" ")).into_string().unwrap();
        let rewritten = line.rewritten(OsStr::new("R"), Vec::new(), |_| None);
        Some((line.spec().display().to_string(), destination.to_string_lossy().into(), show(rewritten)))
    }

    #[test]
    fn nix_sources_are_found() {
        for (text, spec, destination, rewritten) in [
            ("copy nix:a docker://b", "a", "docker://b", "copy R docker://b"),
            (
                "--insecure-policy copy nix:/x/a.json dir:b",
                "/x/a.json",
                "dir:b",
                "--insecure-policy copy R dir:b",
            ),
            ("copy docker://b --insecure-policy", "", "", ""),
            ("copy --dest-creds nix:u:p nix:a b", "a", "b", "copy --dest-creds nix:u:p R b"),
            ("copy --dest-creds=nix:u:p nix:a b", "a", "b", "copy --dest-creds=nix:u:p R b"),
            ("copy -f nix:o nix:a b", "a", "b", "copy -f nix:o R b"),
            ("copy -qf nix:o nix:a b", "a", "b", "copy -qf nix:o R b"),
            ("copy -fnix:o nix:a b", "a", "b", "copy -fnix:o R b"),
            ("copy -qa nix:a b", "a", "b", "copy -qa R b"),
            ("copy nix:a -q b --debug", "a", "b", "copy R -q b --debug"),
            ("copy --src-tls-verify nix:a b", "a", "b", "copy --src-tls-verify R b"),
            ("copy -q -- nix:a b", "a", "b", "copy -q -- R b"),
            ("copy nix:a -- -b", "a", "-b", "copy R -- -b"),
            ("copy nix:a nix:b", "a", "nix:b", "copy R nix:b"),
            ("copy nix:a", "a", "", "copy R"),
            ("copy nix: b", "", "b", "copy R b"),
            ("copy --dest-creds -- nix:a b", "a", "b", "copy --dest-creds -- R b"),
            ("--tmpdir copy copy nix:a b", "a", "b", "--tmpdir copy copy R b"),
            ("--tmpdir nix:t --debug inspect nix:a", "a", "", "--tmpdir nix:t --debug inspect R"),
            ("inspect --raw nix:a --config", "a", "", "inspect --raw R --config"),
            ("inspect --format {{.Name}} nix:a", "a", "", "inspect --format {{.Name}} R"),
            ("layers nix:a sha256:0", "a", "sha256:0", "layers R sha256:0"),
            // Unknown options, with and without a value.
            ("copy --new v nix:a b", "a", "b", "copy --new v R b"),
            ("copy --new nix:a b", "a", "b", "copy --new R b"),
            ("--new copy nix:a b", "a", "b", "--new copy R b"),
            ("--new v copy nix:a b", "a", "b", "--new v copy R b"),
        ] {
            let expected =
                (!rewritten.is_empty()).then(|| (spec.into(), destination.into(), rewritten.into()));
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn other_command_lines_are_passed_on() {
        for text in [
            "",
            "--version",
            "copy",
            "copy a nix:b",
            "copy - nix:b",
            "copy --quiet a nix:b",
            "copy --new v a nix:b",
            "copy --dest-creds nix:a b c",
            "copy -- a nix:b",
            "copy -- --quiet nix:b",
            "copy --help nix:a b",
            "copy nix:a b -h",
            "copy -qh nix:a b",
            "--help copy nix:a b",
            "copyx nix:a b",
            "nix:a copy b",
            "--policy copy nix:a b",
            "sync --src dir nix:a b",
            "delete nix:a",
            "list-tags nix:a",
            "standalone-sign nix:a b",
            "help copy nix:a",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn arguments_may_be_invalid_utf8() {
        let odd = |bytes: &[u8]| OsString::from(OsStr::from_bytes(bytes));
        let arguments =
            ["copy".into(), odd(b"--dest-creds=\xff"), odd(b"nix:\xfe \n"), odd(b"dir:\xfd"), "".into()];
        let line = CommandLine::of(&arguments).unwrap();
        assert_eq!(line.spec().as_os_str().as_bytes(), b"\xfe \n");
        assert_eq!(line.value("dest-creds").unwrap().as_bytes(), b"\xff");
        let rewritten = line.rewritten(OsStr::new("R"), Vec::new(), |_| None);
        assert_eq!(rewritten[1], arguments[1]);
        assert_eq!(rewritten[3..], arguments[3..]);
    }

    #[test]
    fn the_last_value_of_an_option_counts() {
        let arguments = words(
            "--debug copy --dest-compress-level 3 -f=oci nix:a --dest-compress-level=9 --dest-compress=false --quiet=T b",
        );
        let line = CommandLine::of(&arguments).unwrap();
        assert_eq!(line.value("dest-compress-level"), Some(OsStr::new("9")));
        assert_eq!(line.value("format"), Some(OsStr::new("oci")));
        assert_eq!(line.value("dest-compress-format"), None);
        assert!(line.is_quiet() && line.is_on("quiet") && !line.is_on("dest-compress") && !line.is_on("all"));
    }

    #[test]
    fn all_forms_of_quiet_are_recognised() {
        for (text, quiet) in [
            ("copy nix:a b -q", true),
            ("copy -qa nix:a b", true),
            ("copy -aqf v2s1 nix:a b", true),
            ("copy --quiet nix:a b", true),
            ("copy --quiet=false nix:a b", false),
            ("copy -fq nix:a b", false),
            ("copy -a nix:a b", false),
            ("copy --dest-creds -q nix:a b", false),
        ] {
            assert_eq!(CommandLine::of(&words(text)).unwrap().is_quiet(), quiet, "{text}");
        }
    }

    #[test]
    fn registry_sources_get_no_tls_and_an_auth_file() {
        for (text, quietly, rewritten) in [
            ("copy nix:a b", false, "copy --src-tls-verify=false --src-authfile=F R b"),
            (
                "--debug copy --src-tls-verify=true nix:a b --src-tls-verify",
                false,
                "--debug copy --src-tls-verify=false --src-authfile=F --src-tls-verify=false R b --src-tls-verify=false",
            ),
            (
                "copy --src-creds u:p --screds=u:p --src-no-creds --dest-creds u:p --authfile G nix:a b",
                false,
                "copy --src-tls-verify=false --src-authfile=F --dest-creds u:p --authfile G R b",
            ),
            ("copy -- nix:a b", false, "copy --src-tls-verify=false --src-authfile=F -- R b"),
            (
                "layers --tls-verify --authfile G nix:a d",
                false,
                "layers --tls-verify=false --authfile=F --tls-verify=false R d",
            ),
            ("copy nix:a b", true, "copy --src-tls-verify=false --src-authfile=F --quiet R b"),
            ("copy nix:a -qa b", true, "copy --src-tls-verify=false --src-authfile=F R -qa b"),
            (
                "copy --quiet=false nix:a b",
                true,
                "copy --src-tls-verify=false --src-authfile=F --quiet=false R b",
            ),
        ] {
            let arguments = words(text);
            let line = CommandLine::of(&arguments).unwrap();
            assert_eq!(line.with_registry("R", Path::new("F"), quietly), words(rewritten), "{text}");
        }
    }

    #[test]
    fn layout_sources_lose_the_shared_blob_dir() {
        let arguments = words("inspect --shared-blob-dir d --raw --shared-blob-dir=e nix:a");
        let line = CommandLine::of(&arguments).unwrap();
        assert_eq!(line.with_layout(OsStr::new("R")), words("inspect --raw R"));
    }
}
