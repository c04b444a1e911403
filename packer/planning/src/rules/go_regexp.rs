//! Go's `regexp` (RE2) on top of the regex crate. The two are similar, and this module translates the differences.
//!
//! Differences that can occur in a rule (Go: package regexp/syntax): `\d \w \s \b` and their negations are ASCII only. Inside
//! brackets, `[`, `&&` and `~~` are plain text, and a hyphen may begin or end a range. `\Q...\E` quotes. `\<` and other
//! escaped punctuation are literal, and so are braces that do not form a repetition. Go refuses nested repetitions (`a**`),
//! more than 1000 repetitions (nested ones are multiplied), and the flags `x`, `u` and `R`. A byte that is not UTF-8 counts
//! as one U+FFFD, which `.` matches. Groups may share a name; a name consists of ASCII letters, digits and underscores.

// The bytes API is necessary only for `\B`: it is ASCII only, and may therefore match inside a multi-byte character. The
// searched bytes are always text.
use std::borrow::Cow;

use regex::bytes::Regex;
use regex_syntax::hir::Hir;

/// Parses an expression.
pub(super) fn parse(pattern: &str) -> Result<Hir, String> {
    let translated = translate(pattern)?.expression;
    let parsed = regex_syntax::ParserBuilder::new().utf8(false).build().parse(&translated);
    parsed.map_err(|error| reason(&error))
}

/// Returns a path as text, the input of expressions.
pub(super) fn text(path: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(path) {
        Ok(_) => path.into(),
        Err(_) => GoText::new(path).text.into_bytes().into(),
    }
}

/// Returns the last line of the crate's message, which is the reason. The other lines show the translated expression.
fn reason(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// A compiled expression whose matches are replaced.
#[derive(Debug)]
pub(super) struct GoRegexp {
    regex: Regex,
    /// Named groups and their numbers.
    names: Vec<(String, usize)>,
}

impl GoRegexp {
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        let Translated { expression, names } = translate(pattern)?;
        let regex = Regex::new(&expression).map_err(|error| reason(&error))?;
        Ok(Self { regex, names })
    }

    /// Go's `Regexp.ReplaceAll`.
    pub(super) fn replace_all(&self, path: &[u8], template: &str) -> Vec<u8> {
        let text = GoText::new(path);
        let mut out = Vec::with_capacity(path.len());
        let mut copied = 0;
        for captures in self.regex.captures_iter(text.text.as_bytes()) {
            let whole = captures.get(0).expect("group 0 is the match itself");
            // Go does not match inside a character.
            if !text.text.is_char_boundary(whole.start()) {
                continue;
            }
            out.extend_from_slice(text.bytes(path, copied, whole.start()));
            expand(template, &mut out, |group| {
                // A number does not have a leading zero.
                let number = group.parse::<usize>().ok().filter(|_| group == "0" || !group.starts_with('0'));
                let group = match number {
                    Some(number) => captures.get(number),
                    // The first group of this name that has matched.
                    None => self
                        .names
                        .iter()
                        .filter(|(name, _)| name == group)
                        .find_map(|(_, number)| captures.get(*number)),
                };
                group.map(|group| text.bytes(path, group.start(), group.end())).unwrap_or_default()
            });
            copied = whole.end();
        }
        out.extend_from_slice(text.bytes(path, copied, text.text.len()));
        out
    }
}

/// A path as Go decodes it, with the mapping from text offsets to byte offsets.
struct GoText {
    text: String,
    /// Differences to the bytes: (offset in text, offset in bytes) just after each byte that was replaced.
    shifts: Vec<(usize, usize)>,
}

impl GoText {
    fn new(path: &[u8]) -> Self {
        let (mut text, mut shifts) = (String::with_capacity(path.len()), Vec::new());
        let mut at = 0;
        for chunk in path.utf8_chunks() {
            text.push_str(chunk.valid());
            at += chunk.valid().len();
            for _ in chunk.invalid() {
                text.push('\u{fffd}');
                at += 1;
                shifts.push((text.len(), at));
            }
        }
        Self { text, shifts }
    }

    fn bytes<'p>(&self, path: &'p [u8], start: usize, end: usize) -> &'p [u8] {
        &path[self.offset(start)..self.offset(end)]
    }

    fn offset(&self, in_text: usize) -> usize {
        let before = self.shifts.partition_point(|(text, _)| *text <= in_text);
        match before.checked_sub(1).map(|last| self.shifts[last]) {
            Some((text, bytes)) => in_text - text + bytes,
            None => in_text,
        }
    }
}

/// Expands a template for a match without groups.
pub(super) fn expand_without_groups(template: &str, matched: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    expand(template, &mut out, |group| if group == "0" { matched } else { b"" });
    out
}

/// Go's `Regexp.Expand`: `$name` takes the longest run of letters, digits and underscores, `${name}` is explicit, `$$` is a
/// dollar. A dollar that begins none of these is literal.
fn expand<'g>(template: &str, out: &mut Vec<u8>, group: impl Fn(&str) -> &'g [u8]) {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.extend_from_slice(before.as_bytes());
        if let Some(after) = after.strip_prefix('$') {
            out.push(b'$');
            rest = after;
            continue;
        }
        let braced = after.strip_prefix('{');
        let names = braced.unwrap_or(after);
        let length = names.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(names.len());
        let (name, tail) = names.split_at(length);
        let tail = if braced.is_some() { tail.strip_prefix('}') } else { Some(tail) };
        match tail.filter(|_| !name.is_empty()) {
            Some(tail) => {
                out.extend_from_slice(group(name));
                rest = tail;
            }
            None => {
                out.push(b'$');
                rest = after;
            }
        }
    }
    out.extend_from_slice(rest.as_bytes());
}

/// An expression in the regex crate's syntax.
struct Translated {
    expression: String,
    /// Named groups and their numbers. The groups are unnamed in `expression`, because Go allows groups to share a name.
    names: Vec<(String, usize)>,
}

/// Translates Go's syntax into the regex crate's.
fn translate(pattern: &str) -> Result<Translated, String> {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    // The repetition that ends at this position, if any.
    let mut repeated = "";
    let (mut groups, mut names) = (0, Vec::new());
    let mut nested = Nested { open: vec![1], last: 1 };
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        if let Some(Repetition { operator, times }) = repetition(rest)? {
            if !repeated.is_empty() {
                return Err(format!("invalid nested repetition operator: `{repeated}{operator}`"));
            }
            if !nested.repeat(times) {
                return Err(format!("invalid repeat count: `{operator}`"));
            }
            repeated = operator;
            out.push_str(operator);
            rest = &rest[operator.len()..];
            continue;
        }
        repeated = "";
        match c {
            '(' => nested.begin(),
            ')' => nested.end(),
            _ => nested.next(),
        }
        rest = match c {
            '\\' => escape(after, &mut out)?,
            '(' => {
                out.push('(');
                match group_name(after)? {
                    Some((name, after)) => {
                        groups += 1;
                        names.push((name.to_owned(), groups));
                        after
                    }
                    None if after.starts_with('?') => {
                        flags(after)?;
                        after
                    }
                    None => {
                        groups += 1;
                        after
                    }
                }
            }
            '{' | '}' => {
                out.extend(['\\', c]);
                after
            }
            '[' => class(after, &mut out)?,
            _ => {
                out.push(c);
                after
            }
        };
    }
    Ok(Translated { expression: out, names })
}

/// Go's maximum repeat count, for nested repetitions multiplied.
const MAX_TIMES: u32 = 1000;

/// Tracks the products of nested repeat counts.
struct Nested {
    /// For the expression and each open group: the largest product so far, without the last item.
    open: Vec<u32>,
    /// The product of the last item, which a repetition may still follow.
    last: u32,
}

impl Nested {
    /// Starts the next item. The last one can no longer be repeated.
    fn next(&mut self) {
        // Without an open group, there is one closing parenthesis too many. The crate refuses that.
        if let Some(group) = self.open.last_mut() {
            *group = self.last.max(*group);
        }
        self.last = 1;
    }

    fn begin(&mut self) {
        self.next();
        self.open.push(1);
    }

    fn end(&mut self) {
        self.next();
        self.last = self.open.pop().unwrap_or(1);
    }

    /// Repeats the last item. Returns false if the product is too large. An item repeated 0 times may contain any
    /// repetitions.
    fn repeat(&mut self, times: u32) -> bool {
        self.last = if times == 0 { 1 } else { self.last * times };
        self.last <= MAX_TIMES
    }
}

struct Repetition<'a> {
    operator: &'a str,
    /// Go's count: the maximum, or the minimum if there is no maximum.
    times: u32,
}

/// Returns the repetition at the beginning of `rest`: `*`, `+`, `?`, `{n}`, `{n,}` or `{n,m}`, optionally with a `?` for the
/// shortest match.
fn repetition(rest: &str) -> Result<Option<Repetition<'_>>, String> {
    let (plain, times) = match rest.as_bytes().first() {
        Some(b'*' | b'+' | b'?') => (1, 1),
        Some(b'{') => {
            let Some((counts, _)) = rest[1..].split_once('}') else { return Ok(None) };
            let (least, most) = counts.split_once(',').unwrap_or((counts, counts));
            let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
            // Go does not accept leading zeros here: `a{01}` is text.
            let leading = |text: &str| text.len() > 1 && text.starts_with('0');
            if !number(least) || !(most.is_empty() || number(most)) || leading(least) || leading(most) {
                return Ok(None);
            }
            let parsed = |text: &str| text.parse::<u32>().unwrap_or(u32::MAX);
            // Without a maximum, the count is at least 1, as with `*`.
            let upper = if most.is_empty() { parsed(least).max(1) } else { parsed(most) };
            if upper > MAX_TIMES || parsed(least) > upper {
                return Err(format!("invalid repeat count: `{{{counts}}}`"));
            }
            (counts.len() + 2, upper)
        }
        _ => return Ok(None),
    };
    let shortest = usize::from(rest[plain..].starts_with('?'));
    Ok(Some(Repetition { operator: &rest[..plain + shortest], times }))
}

/// If `rest` begins with `?P<name>` or `?<name>`, returns the name and the text after it.
fn group_name(rest: &str) -> Result<Option<(&str, &str)>, String> {
    let Some(named) = rest.strip_prefix("?P<").or_else(|| rest.strip_prefix("?<")) else { return Ok(None) };
    let valid = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    match named.split_once('>') {
        Some((name, after)) if valid(name) => Ok(Some((name, after))),
        Some((name, _)) => {
            let head = &rest[..rest.len() - named.len()];
            Err(format!("invalid named capture: `({head}{name}>`"))
        }
        None => Err(format!("invalid named capture: `({rest}`")),
    }
}

/// Refuses the same syntax after `(` as Go: flags other than `i`, `m`, `s` and `U`, and look-ahead.
fn flags(rest: &str) -> Result<(), String> {
    let group = &rest[1..];
    let end = group.find([':', ')']).unwrap_or(group.len());
    match group[..end].bytes().all(|flag| b"imsU-".contains(&flag)) {
        true => Ok(()),
        false => {
            Err(format!("invalid or unsupported Perl syntax: `({}`", &rest[..(end + 1).min(rest.len())]))
        }
    }
}

/// Translates a character class, after its opening bracket. Returns the text after the class. The class is parsed as in Go,
/// because that determines the meaning of a hyphen; two hyphens are an operator in the regex crate.
fn class<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, String> {
    out.push('[');
    let mut rest = rest.strip_prefix('^').inspect(|_| out.push('^')).unwrap_or(rest);
    let mut first = true;
    loop {
        // A closing bracket in first position is literal.
        if let Some(after) = rest.strip_prefix(']').filter(|_| !first) {
            out.push(']');
            return Ok(after);
        }
        first = false;
        if let Some(class) = posix_class(rest)? {
            out.push_str(class);
            rest = &rest[class.len()..];
        } else if let Some(after) = rest.strip_prefix('\\').and_then(|rest| escaped_class(rest, out)) {
            rest = after;
        } else {
            rest = class_character(rest, out)?;
            // A hyphen in last position is literal.
            if let Some(end) = rest.strip_prefix('-').filter(|end| !end.starts_with(']')) {
                out.push('-');
                rest = class_character(end, out)?;
            }
        }
    }
}

/// Translates a character of a class, which may begin or end a range. Returns the text after it.
fn class_character<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, String> {
    if let Some(escaped) = rest.strip_prefix('\\') {
        return escaped_character(escaped, out);
    }
    let c = rest.chars().next().ok_or("missing closing ]")?;
    plain(c, out);
    Ok(&rest[c.len_utf8()..])
}

/// Writes a literal character.
fn plain(c: char, out: &mut String) {
    if c.is_ascii_punctuation() {
        out.push_str(&format!("\\x{{{:X}}}", u32::from(c)));
    } else {
        out.push(c);
    }
}

/// Recognizes `[:alpha:]` and similar classes, which have the same meaning in both syntaxes. Go refuses unknown names.
fn posix_class(rest: &str) -> Result<Option<&str>, String> {
    const NAMES: [&str; 14] = [
        "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
        "upper", "word", "xdigit",
    ];
    let Some(length) = rest.strip_prefix("[:").and_then(|name| name.find(":]")) else { return Ok(None) };
    let name = &rest[2..2 + length];
    match NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
        true => Ok(Some(&rest[..length + 4])),
        false => Err(format!("invalid character class range: [:{name}:]")),
    }
}

/// Translates an escape outside of brackets, after its backslash. Returns the text after it.
fn escape<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, String> {
    let after = rest.get(1..).unwrap_or_default();
    match rest.as_bytes().first() {
        Some(b'Q') => {
            let (quoted, after) = after.split_once("\\E").unwrap_or((after, ""));
            out.push_str(&regex::escape(quoted));
            Ok(after)
        }
        Some(c @ (b'b' | b'B')) => {
            out.push_str(if *c == b'b' { "(?-u:\\b)" } else { "(?-u:\\B)" });
            Ok(after)
        }
        Some(c @ (b'A' | b'z')) => {
            out.extend(['\\', char::from(*c)]);
            Ok(after)
        }
        _ => escaped_class(rest, out).map_or_else(|| escaped_character(rest, out), Ok),
    }
}

/// Translates an escaped class, after its backslash, if there is one. Returns the text after it.
fn escaped_class<'a>(rest: &'a str, out: &mut String) -> Option<&'a str> {
    let c = rest.chars().next()?;
    let after = &rest[c.len_utf8()..];
    let class = match c.to_ascii_lowercase() {
        'd' => "0-9",
        'w' => "0-9A-Za-z_",
        's' => "\\t\\n\\x0C\\r\\x20",
        'p' => {
            let one = after.chars().next().map_or(0, char::len_utf8);
            let name = if after.starts_with('{') { after.find('}').map_or(one, |end| end + 1) } else { one };
            out.extend(['\\', c]);
            out.push_str(&after[..name]);
            return Some(&after[name..]);
        }
        _ => return None,
    };
    out.push_str(if c.is_ascii_uppercase() { "[^" } else { "[" });
    out.push_str(class);
    out.push(']');
    Some(after)
}

/// Translates an escaped character, after its backslash. Returns the text after it.
fn escaped_character<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, String> {
    let c = rest.chars().next().ok_or("trailing backslash at end of expression")?;
    let after = &rest[c.len_utf8()..];
    match c {
        '0'..='7' => {
            let digits = rest.bytes().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
            if c != '0' && digits == 1 {
                // A single digit would be a back reference, which RE2 does not have.
                return Err(format!("invalid escape sequence: `\\{c}`"));
            }
            let code = u32::from_str_radix(&rest[..digits], 8).expect("three octal digits");
            out.push_str(&format!("\\x{{{code:X}}}"));
            Ok(&rest[digits..])
        }
        _ if c.is_ascii_punctuation() => {
            plain(c, out);
            Ok(after)
        }
        'x' => {
            let digits = after.bytes().take(2).take_while(u8::is_ascii_hexdigit).count();
            let code = if after.starts_with('{') { after.find('}').map_or(0, |end| end + 1) } else { digits };
            out.push_str("\\x");
            out.push_str(&after[..code]);
            Ok(&after[code..])
        }
        'a' | 'f' | 'n' | 'r' | 't' | 'v' => {
            out.extend(['\\', c]);
            Ok(after)
        }
        _ => Err(format!("invalid escape sequence: `\\{c}`")),
    }
}

#[cfg(test)]
mod tests;
