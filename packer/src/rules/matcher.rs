//! Whether an expression matches somewhere in a path. nix2container spends most of some builds on this: many rules, each
//! asked of each file (nix2container#228). Most rules are a name, perhaps with `^` ahead or `.*` around it, and need no
//! automaton; and all rules of a store path are asked of names that begin alike.

use memchr::memmem::Finder;
use regex_automata::meta::{Config, Regex};
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::{Hir, HirKind, Look};

use super::go_regexp;

/// A compiled expression that only tells whether it matches. It is asked of text, see [`go_regexp::text`].
#[derive(Debug)]
pub(super) enum Matcher {
    Everything,
    /// A name that begins with these bytes.
    Begins(Vec<u8>),
    /// A name that ends with these bytes.
    Ends(Vec<u8>),
    /// These bytes alone.
    Is(Vec<u8>),
    /// A name with these bytes somewhere.
    Has(Box<Finder<'static>>),
    /// A name that begins with these bytes, after which this matches.
    After(Vec<u8>, Regex),
    Regexp(Regex),
}

impl Matcher {
    /// Compiles an expression in Go's syntax.
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        let parsed = go_regexp::parse(pattern)?;
        let mut parts = match parsed.kind() {
            HirKind::Concat(parts) => &parts[..],
            _ => std::slice::from_ref(&parsed),
        };
        // A match may begin and end anywhere: what may match nothing there decides nothing.
        while let [first, rest @ ..] = parts
            && may_be_nothing(first)
        {
            parts = rest;
        }
        while let [rest @ .., last] = parts
            && may_be_nothing(last)
        {
            parts = rest;
        }
        let (begin, rest) = match parts {
            [first, rest @ ..] if is_look(first, Look::Start) => (true, rest),
            _ => (false, parts),
        };
        let (literal, rest) = match rest {
            [first, rest @ ..] if let HirKind::Literal(literal) = first.kind() => (&literal.0[..], rest),
            _ => (&b""[..], rest),
        };
        Ok(match (begin, rest) {
            (true, []) => Self::Begins(literal.into()),
            (true, [end]) if is_look(end, Look::End) => Self::Is(literal.into()),
            (true, rest) if !literal.is_empty() => {
                Self::After(literal.into(), compile(&Hir::concat(rest.to_vec()))?)
            }
            (false, []) if literal.is_empty() => Self::Everything,
            (false, []) => Self::Has(Box::new(Finder::new(literal).into_owned())),
            (false, [end]) if is_look(end, Look::End) => Self::Ends(literal.into()),
            _ => Self::Regexp(compile(&parsed)?),
        })
    }

    pub(super) fn is_match(&self, text: &[u8]) -> bool {
        match self {
            Self::Everything => true,
            Self::Begins(bytes) => text.starts_with(bytes),
            Self::Ends(bytes) => text.ends_with(bytes),
            Self::Is(bytes) => text == bytes,
            Self::Has(finder) => finder.find(text).is_some(),
            Self::After(bytes, regexp) => {
                text.starts_with(bytes)
                    && regexp.is_match(Input::new(text).range(bytes.len()..).anchored(Anchored::Yes))
            }
            Self::Regexp(regexp) => regexp.is_match(text),
        }
    }
}

/// Whether nothing at all is a match for it, anywhere.
fn may_be_nothing(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Empty => true,
        HirKind::Repetition(repetition) => repetition.min == 0,
        HirKind::Capture(capture) => may_be_nothing(&capture.sub),
        _ => false,
    }
}

fn is_look(hir: &Hir, look: Look) -> bool {
    matches!(hir.kind(), HirKind::Look(found) if *found == look)
}

/// With the regex crate's own limits.
fn compile(hir: &Hir) -> Result<Regex, String> {
    let config = Config::new()
        .utf8_empty(false)
        .which_captures(WhichCaptures::None)
        .nfa_size_limit(Some(10 << 20))
        .hybrid_cache_capacity(2 << 20);
    Regex::builder().configure(config).build_from_hir(hir).map_err(|error| match error.size_limit() {
        Some(limit) => format!("the expression takes more than {limit} bytes when compiled"),
        None => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_needs_no_automaton_gets_none() {
        let kind = |pattern: &str| {
            let text = format!("{:?}", Matcher::new(pattern).unwrap());
            text.split_once('(').map_or(&text[..], |(kind, _)| kind).to_owned()
        };
        for (pattern, expected) in [
            ("", "Everything"),
            (".*", "Everything"),
            ("(.*)", "Everything"),
            ("^", "Begins"),
            ("^/nix/store/a.*", "Begins"),
            (r"^/nix/store/a-1\.2/(.*)", "Begins"),
            (".*/home/user.*", "Has"),
            ("/home/user", "Has"),
            (r".*\.so$", "Ends"),
            ("^/a$", "Is"),
            ("^/a/(b|c)d", "After"),
            ("^/a/[^/]*$", "After"),
            ("^(a|b)", "Regexp"),
            ("a.*b", "Regexp"),
            (r"a\b", "Regexp"),
            ("(?m)^a", "Regexp"),
            ("(?i)a", "Regexp"),
            ("a+", "Regexp"),
        ] {
            assert_eq!(kind(pattern), expected, "{pattern}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn it_matches_what_the_whole_expression_matches(
            pattern in r"\^?(\.\*|a|b|/|é|\$|\^|\\b|\\B|\(a\|b\)|\(\.\*\)|b\?|\[ab\]|\(\?m:\^\)){0,6}(\.\*)?\$?",
            path in "[ab/é\n]{0,8}",
        ) {
            // Repetitions of repetitions are refused.
            if let Ok(matcher) = Matcher::new(&pattern) {
                let whole = compile(&go_regexp::parse(&pattern).unwrap()).unwrap();
                prop_assert_eq!(matcher.is_match(path.as_bytes()), whole.is_match(path.as_bytes()), "{}", pattern);
            }
        }
    }
}
