use super::super::matcher::Matcher;
use super::*;

/// Expected values from Go's regexp.MatchString.
#[test]
fn matches_the_same_texts_as_go() {
    let cases: &[(&str, &str, bool)] = &[
        (r"\d", "٣", false),
        (r"^\w+$", "é", false),
        (r"\bé", "é", false),
        (r"[\d]", "7", true),
        (r"[\D]", "7", false),
        (r"a[[]b", "a[b", true),
        (r"[a&&b]", "&", true),
        (r"[a~~b]", "~", true),
        (r"[]a]", "]", true),
        (r"[^]a]", "b", true),
        (r"[[:digit:]x]", "5", true),
        (r"[+--]", ",", true),
        (r"[--/]", ".", true),
        (r"[^--/]", ".", false),
        (r"[a-c--/]", ".", true),
        (r"[\d--\x2f]", ".", true),
        (r"[\pL--/]", ".", true),
        (r"[[:alpha:]--/]", ".", true),
        (r"[\d-z]", "-", true),
        (r"[a-c-e]", "d", false),
        (r"[a-c--]", "-", true),
        (r"[---]", "-", true),
        (r"[&-~]", "x", true),
        (r"[[-^]", "]", true),
        (r"[]-a]", "^", true),
        (r"[\x4a-\114\x{4e}]", "K", true),
        (r"\Qa.b\E$", "a.b", true),
        (r"\Qa.b\E$", "axb", false),
        (r"\<", "<", true),
        (r"\101", "A", true),
        (r"\x{41}", "A", true),
        (r"\pL", "é", true),
        (r"\p{Greek}", "α", true),
        (r"(?i)ABC", "abc", true),
        (r"^a$", "a\n", false),
        (r"^a\Bb", "ab", true),
        (r"^a\B-", "a-", false),
        (r"^é\Bé", "éé", true),
        (r"f{bar}", "f{bar}", true),
        (r"f{,5}", "f{,5}", true),
        (r"f{,5}", "ffff", false),
        (r"^f{01}$", "f{01}", true),
        (r"^f{2}$", "ff", true),
        (r"^f{2,}?$", "fff", true),
        (r"^f{2,3}$", "ffff", false),
        (r"a}", "a}", true),
        (r"(?s)a.b", "a\nb", true),
        (r"(?i:A)b", "ab", true),
        (r"(?P<n>a)(?:b)(?<m>c)", "abc", true),
    ];
    for (pattern, text, expected) in cases {
        let matcher = Matcher::new(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
        assert_eq!(matcher.is_match(text.as_bytes()), *expected, "{pattern} on {text:?}");
        let replaced = GoRegexp::new(pattern).unwrap().replace_all(text.as_bytes(), "replaced");
        assert_eq!(replaced != text.as_bytes(), *expected, "{pattern} on {text:?}");
    }
}

#[test]
fn refuses_the_same_expressions_as_go() {
    for pattern in [
        "(",
        "*",
        "[b-a]",
        r"\",
        r"\1",
        r"\Z",
        r"\y",
        "(?<!a)b",
        "[a",
        "f**",
        "f+*",
        "f{2}{3}",
        "f*?+",
        "f{1001}",
        "f{3,2}",
        "(?x)a",
        "(?u)a",
        "(?R)a",
        "(?=a)",
        "[a--]",
        "[--&]",
        r"[a-\d]",
        r"[--\pL]",
        "[a-",
        "[a-[:alpha:]]",
        "[[:foo:]]",
        "[[:^^alpha:]]",
        "[[:Alpha:]]",
        "[a--b]",
    ] {
        assert!(GoRegexp::new(pattern).is_err(), "{pattern}");
        assert!(Matcher::new(pattern).is_err(), "{pattern}");
    }
}

/// Expected values from Go's regexp.Compile.
#[test]
fn nested_repetitions_are_at_most_1000() {
    for (pattern, allowed) in [
        ("(a{50}){50}", false),
        ("(?:a{50}?){50}?", false),
        ("(a{10}){100}", true),
        ("(a{10}){101}", false),
        ("((a{10}b?){10}|c){10}", true),
        ("((a{10}b?){10}|c){11}", false),
        ("(?:a{50}|b{2}){20}", true),
        ("(?:b{2}|a{50}){21}", false),
        ("(a{50}|b{2}){21}", false),
        ("a{1000}b{1000}", true),
        ("(a{500}b{600}){1}", true),
        ("(a{500}b{600}){2}", false),
        ("(a{0,50}){50}", false),
        ("(a{2,3}){400}", false),
        ("(a{50,}){50}", false),
        ("(a{2}){500,}", true),
        ("(a{3}){500,}", false),
        ("(a{0,}){1000}", true),
        ("((a{1000})*){2}", false),
        ("(a{1000})?", true),
        ("(a+){1000}", true),
        ("((a{1000}){0}){1000}", true),
        ("((a{0}){1000}){1000}", false),
        ("(a{1000}){0,1}", true),
        ("(a{1000}){0,2}", false),
        (r"([(]a{30}\)\Q(\E){30}", true),
        (r"([(]a{30}\)\Q(\E){40}", false),
        ("((?i)a{50}(?i)){50}", false),
    ] {
        assert_eq!(translate(pattern).is_ok(), allowed, "{pattern}");
    }
}

/// Go accepts repeated names, and expands the first group of a name that has matched.
#[test]
fn groups_are_named_as_in_go() {
    let replace = |pattern: &str, path: &str, template: &str| {
        String::from_utf8(GoRegexp::new(pattern).unwrap().replace_all(path.as_bytes(), template)).unwrap()
    };
    let twice = "(?P<n>a)(?P<n>b)";
    assert!(Matcher::new(twice).unwrap().is_match(b"ab"));
    assert_eq!(replace(twice, "-ab-", "<$n$2>"), "-<ab>-");
    let either = r"(\()(?P<n>a)|[(](?P<n>b)";
    assert_eq!(replace(either, "(a", "<$n>"), "<a>");
    assert_eq!(replace(either, "(b", "<$n>"), "<b>");
    assert_eq!(replace("(a)(?<1>b)(?<x1>c)", "abc", "<$1$x1$x>"), "<ac>");
    for name in ["", "n-x", "n.x", "n[0]", "é", "n"] {
        let refused = GoRegexp::new(&format!("(?P<{name}>a)")).is_err();
        assert_eq!(refused, name != "n", "{name}");
    }
    assert!(Matcher::new("(?P<n").is_err());
}

#[test]
fn bytes_that_are_not_text_are_unchanged() {
    let path = b"/a/\xff\xfe/\xc3\xa9/b\xff";
    assert!(Matcher::new("^/a/../").unwrap().is_match(&text(path)));
    assert!(Matcher::new("/\u{fffd}\u{fffd}/").unwrap().is_match(&text(path)));
    assert_eq!(GoRegexp::new("^/a").unwrap().replace_all(path, ""), &path[2..]);
    assert_eq!(GoRegexp::new("/(é)/").unwrap().replace_all(path, "<$1>"), b"/a/\xff\xfe<\xc3\xa9>b\xff");
    assert_eq!(GoRegexp::new("(.)(.)/é").unwrap().replace_all(path, "$2$1"), b"/a/\xfe\xff/b\xff");
}

#[test]
fn no_match_is_inside_a_character() {
    let replace = |pattern: &str, path: &str, template: &str| {
        String::from_utf8(GoRegexp::new(pattern).unwrap().replace_all(path.as_bytes(), template)).unwrap()
    };
    assert_eq!(replace("x*", "é/x", "-"), "-é-/-");
    assert_eq!(replace("", "é", "-"), "-é-");
    assert_eq!(replace("(x)", "x", "<$01$1${0}>"), "<xx>");
}

#[test]
fn templates_expand_as_in_go() {
    let replace = |template: &str| {
        String::from_utf8(GoRegexp::new("(?P<first>a)(b)").unwrap().replace_all(b"-ab-", template)).unwrap()
    };
    assert_eq!(replace("$1"), "-a-");
    assert_eq!(replace("$1x"), "--");
    assert_eq!(replace("${1}x"), "-ax-");
    assert_eq!(replace("$first$2$$"), "-ab$-");
    assert_eq!(replace("$ ${ ${1"), "-$ ${ ${1-");
    assert_eq!(expand_without_groups("[$0][$1]$$", b"m"), b"[m][]$");
}
