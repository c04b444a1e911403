//! Improves clap's messages about command lines.
//!
//! clap suggests hidden commands, shows options that environment variables set as if they were required, and prints control
//! characters in arguments.

use clap::Command;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use nixply_documents::wording;
use nixply_packer::ImageRequest;

/// Commands that users expect, and the commands that do the same here. `{}` is the first argument.
const ELSEWHERE: [(&str, &str); 5] = [
    ("run", "nixply container run {}"),
    ("copy", "nixply container copy {}"),
    ("shell", "nixply container run shell"),
    ("load", "nixply skopeo copy nix:{} docker-daemon:NAME:TAG"),
    ("pull", "nixply skopeo copy docker://{} dir:DIR"),
];

/// Improves the error of a command line. Leaves help and version unchanged. `root` is the command that parsed it.
pub(crate) fn with_suggestions(mut error: clap::Error, root: Command) -> clap::Error {
    if error.use_stderr() {
        let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        improve(&mut error, root, &words.collect::<Vec<_>>());
    }
    error
}

/// Replaces parts of clap's message. `words` is the command line.
fn improve(error: &mut clap::Error, mut root: Command, words: &[String]) {
    root.build();
    let (command, depth) = command_of(&root, words);
    if error.get(ContextKind::Usage).is_some() {
        let usage = command.clone().render_usage();
        error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
    }
    if error.kind() == ErrorKind::InvalidSubcommand {
        // In the oldest syntax, `container` takes a name there, so clap complains about the word after it.
        let first = words.get(depth + 1).filter(|first| !first.starts_with('-')).cloned();
        let wrong = first.or_else(|| match error.get(ContextKind::InvalidSubcommand) {
            Some(ContextValue::String(wrong)) => Some(wrong.clone()),
            _ => None,
        });
        if let Some(wrong) = wrong {
            suggest(error, command, &wrong, words.get(depth + 2));
            error.insert(ContextKind::InvalidSubcommand, ContextValue::String(wrong));
        }
    }
    if let Some(tip) = request_tip(error, command) {
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
    }
    let is_number = |text: &str| text.starts_with('-') && text[1..].starts_with(|c: char| c.is_ascii_digit());
    if let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg)
        && is_number(argument)
    {
        // clap would suggest `-- -3`, which would be another argument instead of the option's value.
        error.remove(ContextKind::Suggested);
    }
    // clap's tip repeats the argument without escaping it.
    let is_plain = |text: &str| wording::line(text) == text;
    if matches!(error.get(ContextKind::InvalidArg), Some(ContextValue::String(argument)) if !is_plain(argument))
    {
        error.remove(ContextKind::Suggested);
    }
    let parts: Vec<_> = error.context().map(|(kind, value)| (kind, value.clone())).collect();
    for (kind, value) in parts {
        error.insert(kind, escaped(value));
    }
}

/// Returns the command that the words name, and the index of the last word of its name.
fn command_of<'c>(root: &'c Command, words: &[String]) -> (&'c Command, usize) {
    let (mut command, mut depth) = (root, 0);
    for (at, word) in words.iter().enumerate().skip(1) {
        match command.find_subcommand(word) {
            Some(next) => (command, depth) = (next, at),
            None if word.starts_with('-') => {}
            None => break,
        }
    }
    (command, depth)
}

/// Returns the tip for an unknown flag that has the name of an argument of the request, which `command` reads.
fn request_tip(error: &clap::Error, command: &Command) -> Option<String> {
    let reads_request = command.get_positionals().any(|argument| argument.get_id() == "request");
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
    if error.kind() != ErrorKind::UnknownArgument || !reads_request {
        return None;
    }
    let argument = camel_case(flag.strip_prefix("--")?);
    ImageRequest::argument().key(&argument)?;
    Some(format!("set the argument `{argument}` of the request"))
}

/// Converts the name of a flag to that of an argument: `max-layers` to `maxLayers`.
fn camel_case(flag: &str) -> String {
    let mut words = flag.split('-');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let mut letters = word.chars();
        let initial = letters.next().map(|letter| letter.to_ascii_uppercase());
        name + &initial.into_iter().chain(letters).collect::<String>()
    })
}

/// Suggests the command that the user may have meant.
fn suggest(error: &mut clap::Error, command: &Command, wrong: &str, next: Option<&String>) {
    error.remove(ContextKind::SuggestedSubcommand);
    let is_top = command.get_name() == "nixply";
    if let Some((_, instead)) = ELSEWHERE.iter().find(|(name, _)| is_top && *name == wrong) {
        let next = next.filter(|next| !next.starts_with('-')).map_or("NAME", String::as_str);
        let tip = format!("use `{}`", instead.replace("{}", &wording::line(next)));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
        return;
    }
    let names = command.get_subcommands().filter(|known| !known.is_hide_set()).map(Command::get_name);
    match wording::nearest(wrong, names.filter(|name| *name != "help")) {
        Some(near) => {
            error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![near.to_owned()]));
        }
        None => {
            // The command line of `help` names another command: its own `--help` is not valid.
            let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
            let name: Vec<&str> = name.split(' ').filter(|word| *word != "help").collect();
            let shows =
                if command.has_subcommands() { "lists the commands" } else { "describes the command" };
            let tip = format!("`{} --help` {shows}", name.join(" "));
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
        }
    }
}

/// Escapes a value from the user.
fn escaped(value: ContextValue) -> ContextValue {
    let shown = |text: String| wording::line(&text).into_owned();
    match value {
        ContextValue::String(text) => ContextValue::String(shown(text)),
        ContextValue::Strings(texts) => ContextValue::Strings(texts.into_iter().map(shown).collect()),
        other => other,
    }
}
