//! `nixply reference`: the generated pages of the documentation.
//!
//! clap-markdown has no tables, no headings of option groups and no room for the exit codes, so this module writes the page.

use std::fmt::Write;

use anyhow::Result;
use clap::{Arg, ArgAction, Command};
use nixply_packer::request::schema::{docs, nix};

use crate::exit_codes;

/// Print a generated page of the documentation
#[derive(clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {
    /// The page
    #[arg(default_value = "commands")]
    page: Page,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Page {
    /// All commands and options, as Markdown: docs/reference/cli.md
    Commands,
    /// All arguments of an image, as Markdown: docs/arguments.md
    Arguments,
    /// The declarations of all arguments, as JSON: nix/arguments.json
    Nix,
}

/// Options that every command has.
const EVERYWHERE: [&str; 2] = ["help", "version"];

/// Heading of options without a heading.
const OPTIONS: &str = "Options";

/// Prints a page about the command `nixply` or its arguments.
pub(crate) fn run(args: &Args, nixply: Command) -> Result<()> {
    match args.page {
        Page::Commands => {}
        Page::Arguments => return crate::output::print(docs::page()),
        Page::Nix => {
            return crate::output::print(format!(
                "{}\n",
                serde_json::to_string_pretty(&nix::declarations())?
            ));
        }
    }
    let mut command = nixply.disable_help_subcommand(true);
    command.build();
    crate::output::print(reference(&command)?)
}

fn reference(nixply: &Command) -> Result<String, std::fmt::Error> {
    let mut out = String::from("# nixply's commands\n\n");
    let mut all = Vec::new();
    collect(nixply, "nixply", &mut all);
    for (name, command) in &all {
        let about = as_markdown(about(command).lines().next().unwrap_or_default());
        writeln!(out, "- [`{name}`](#{}): {about}", name.replace(' ', "-"))?;
    }
    writeln!(out, "\nEvery command takes `--help`. An empty variable counts as unset.")?;
    writeln!(out, "\n{}", exit_codes::markdown())?;
    for (name, command) in &all {
        describe(&mut out, name, command)?;
    }
    Ok(out)
}

/// Collects the commands without subcommands, with their full names.
fn collect<'c>(command: &'c Command, name: &str, all: &mut Vec<(String, &'c Command)>) {
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = format!("{name} {}", command.get_name());
        if command.has_subcommands() {
            collect(command, &name, all);
        } else {
            all.push((name, command));
        }
    }
}

fn describe(out: &mut String, name: &str, command: &Command) -> std::fmt::Result {
    writeln!(out, "\n## {name}\n\n{}", as_markdown(&about(command)))?;
    let usage = command.clone().render_usage().to_string();
    writeln!(out, "\n```text\n{}\n```", usage.trim_start_matches("Usage: "))?;
    let arguments = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let arguments: Vec<&Arg> = arguments.filter(|arg| !EVERYWHERE.contains(&arg.get_id().as_str())).collect();
    let (positional, options): (Vec<&Arg>, Vec<&Arg>) = arguments.iter().partition(|arg| arg.is_positional());
    table(out, "Argument", &positional)?;
    let heading = |arg: &Arg| arg.get_help_heading().unwrap_or(OPTIONS).to_owned();
    let mut headings: Vec<String> = Vec::new();
    for arg in &options {
        if !headings.contains(&heading(arg)) {
            headings.push(heading(arg));
        }
    }
    headings.sort_by_key(|heading| heading != OPTIONS);
    for title in headings {
        let options: Vec<&Arg> = options.iter().copied().filter(|arg| heading(arg) == title).collect();
        let title = if title == OPTIONS { "Option" } else { &title };
        table(out, title, &options)?;
    }
    Ok(())
}

fn table(out: &mut String, title: &str, arguments: &[&Arg]) -> std::fmt::Result {
    if arguments.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n| {title} | |\n|---|---|")?;
    for arg in arguments {
        let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        // A table cell has one line, so join the lines of a paragraph.
        let mut text = as_markdown(&help.split_whitespace().collect::<Vec<_>>().join(" "));
        for addition in additions(arg) {
            write!(text, "; {addition}")?;
        }
        writeln!(out, "| {} | {} |", forms(arg), text.replace('|', "\\|"))?;
    }
    Ok(())
}

/// Returns how an argument is written on the command line.
fn forms(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let value = names.iter().map(|name| format!(" {name}")).collect::<String>();
    let value = if arg.get_action().takes_values() { value.as_str() } else { "" };
    if arg.is_positional() {
        let more = if matches!(arg.get_action(), ArgAction::Append) { "..." } else { "" };
        return format!("`{}{more}`", value.trim_start());
    }
    let short = arg.get_short().map(|short| format!("`-{short}{value}`"));
    let long = arg.get_long().map(|long| format!("`--{long}{value}`"));
    short.into_iter().chain(long).collect::<Vec<_>>().join(", ")
}

/// Returns an argument's possible values, default and environment variable.
fn additions(arg: &Arg) -> Vec<String> {
    let code = |value: &str| format!("`{value}`");
    let mut additions = Vec::new();
    let values = arg.get_possible_values();
    if arg.get_action().takes_values() && !values.is_empty() {
        let values: Vec<_> = values.iter().map(|value| code(value.get_name())).collect();
        additions.push(format!("one of {}", values.join(", ")));
    }
    let defaults: Vec<_> =
        arg.get_default_values().iter().map(|value| code(&value.to_string_lossy())).collect();
    if arg.get_action().takes_values() && !defaults.is_empty() {
        additions.push(format!("default {}", defaults.join(", ")));
    }
    if let Some(variable) = arg.get_env() {
        additions.push(format!("variable {}", code(&variable.to_string_lossy())));
    }
    additions
}

fn about(command: &Command) -> String {
    command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default()
}

/// Escapes help text for Markdown. `code` remains code.
fn as_markdown(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(at, part)| {
        if at % 2 == 1 { format!("`{part}`") } else { part.replace('<', "\\<").replace('*', "\\*") }
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_contain_all_properties_of_options() {
        let command = Command::new("a")
            .about("Does <it>\n\nWell.")
            .arg(
                Arg::new("file")
                    .value_name("FILE")
                    .num_args(1..)
                    .action(ArgAction::Append)
                    .help("What | where"),
            )
            .arg(
                Arg::new("x")
                    .short('x')
                    .long("ex")
                    .value_name("N")
                    .help("How\nmuch")
                    .env("NIXPLY_X")
                    .default_value("3"),
            )
            .arg(Arg::new("how").long("how").value_name("HOW").help("A way").value_parser(["a", "b"]))
            .arg(Arg::new("on").long("on").action(ArgAction::SetTrue).help("Do *it*").help_heading("More"))
            .arg(Arg::new("secret").long("secret").hide(true));
        let mut nixply = Command::new("nixply").subcommand(command).subcommand(Command::new("b").hide(true));
        nixply = nixply.disable_help_subcommand(true);
        nixply.build();
        let expected = format!(
            "\
# nixply's commands

- [`nixply a`](#nixply-a): Does \\<it>

Every command takes `--help`. An empty variable counts as unset.

{}

## nixply a

Does \\<it>

Well.

```text
nixply a [OPTIONS] [FILE]...
```

| Argument | |
|---|---|
| `FILE...` | What \\| where |

| Option | |
|---|---|
| `-x N`, `--ex N` | How much; default `3`; variable `NIXPLY_X` |
| `--how HOW` | A way; one of `a`, `b` |

| More | |
|---|---|
| `--on` | Do \\*it\\* |
",
            exit_codes::markdown()
        );
        assert_eq!(reference(&nixply).unwrap(), expected);
    }
}
