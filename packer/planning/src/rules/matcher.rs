//! Checks whether an expression matches somewhere in a path. nix2container spends most of the time of some builds on this: it
//! checks many rules for each file (nix2container#228). Most rules are a name, optionally with `^` before it or `.*` around
//! it, and need no automaton. All rules of one store path are checked against names that begin with this path.

use memchr::memmem::Finder;
use regex_automata::meta::{Config, Regex};
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::{Hir, HirKind, Look};

use super::go_regexp;

/// A compiled expression that reports only whether it matches. Its input is text: see [`go_regexp::text`].
#[derive(Debug)]
pub(super) enum Matcher {
    Everything,
    /// A text that begins with these bytes.
    Begins(Vec<u8>),
    /// A text that ends with these bytes.
    Ends(Vec<u8>),
    /// Exactly these bytes.
    Is(Vec<u8>),
    /// A text that contains these bytes.
    Has(Box<Finder<'static>>),
    /// A text that begins with these bytes and matches the expression after them.
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
        // A match may begin and end anywhere, so a first or last part that can match the empty text has no effect.
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

/// Returns whether the expression matches the empty text at every position.
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

/// Compiles with the size limits of the regex crate.
fn compile(hir: &Hir) -> Result<Regex, String> {
    let config = Config::new()
        .utf8_empty(false)
        .which_captures(WhichCaptures::None)
        .nfa_size_limit(Some(10 << 20))
        .hybrid_cache_capacity(2 << 20);
    Regex::builder().configure(config).build_from_hir(hir).map_err(|error| match error.size_limit() {
        Some(limit) => format!("the compiled expression is larger than {limit} bytes"),
        None => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn simple_expressions_use_no_automaton() {
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
        fn the_matcher_matches_the_same_texts_as_the_full_expression(
            pattern in r"\^?(\.\*|a|b|/|é|\$|\^|\\b|\\B|\(a\|b\)|\(\.\*\)|b\?|\[ab\]|\(\?m:\^\)){0,6}(\.\*)?\$?",
            path in "[ab/é\n]{0,8}",
        ) {
            // Some patterns are refused, because they have nested repetitions.
            if let Ok(matcher) = Matcher::new(&pattern) {
                let whole = compile(&go_regexp::parse(&pattern).unwrap()).unwrap();
                prop_assert_eq!(matcher.is_match(path.as_bytes()), whole.is_match(path.as_bytes()), "{}", pattern);
            }
        }
    }
}
