//! Checks the links between Markdown pages: files and headings must exist. Links to other hosts are not followed.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use regex::Regex;
use xtask::host::{self, output};

/// Fails with the list of broken links.
pub(crate) fn check() -> Result<()> {
    let root = host::root();
    let pages = output(Command::new("git").current_dir(&root).args(["ls-files", "*.md"]))?;
    let mut broken = Vec::new();
    for page in pages.lines() {
        // git also lists pages that are deleted in the working directory.
        let Ok(text) = fs::read_to_string(root.join(page)) else { continue };
        for (line, target) in links(&text) {
            if !resolves(&root.join(page), &target)? {
                broken.push(format!("{page}:{line}: {target}"));
            }
        }
    }
    if !broken.is_empty() {
        bail!("broken links:\n{}", broken.join("\n"));
    }
    Ok(())
}

/// Returns line numbers and targets of a page's links to files and headings, outside code.
fn links(text: &str) -> Vec<(usize, String)> {
    let link = Regex::new(r"\]\(([^)\s]+)\)").expect("a constant that the tests compile");
    let code = Regex::new("`[^`]*`").expect("a constant that the tests compile");
    let mut links = Vec::new();
    for (number, line) in outside_code(text) {
        let line = code.replace_all(line, "");
        for found in link.captures_iter(&line) {
            if !found[1].contains("://") && !found[1].starts_with("mailto:") {
                links.push((number, found[1].to_owned()));
            }
        }
    }
    links
}

/// Returns whether a link's file and heading exist.
fn resolves(page: &Path, target: &str) -> Result<bool> {
    let (path, heading) = target.split_once('#').unwrap_or((target, ""));
    let file = if path.is_empty() { page.to_owned() } else { page.with_file_name(path) };
    if !file.exists() {
        return Ok(false);
    }
    if heading.is_empty() || file.is_dir() {
        return Ok(true);
    }
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(outside_code(&text)
        .filter(|(_, line)| line.starts_with('#'))
        .any(|(_, line)| anchor(line.trim_start_matches('#')) == heading))
}

/// Returns GitHub's anchor of a heading: lower case, hyphens for spaces, without other punctuation.
fn anchor(heading: &str) -> String {
    let kept = |sign: &char| sign.is_alphanumeric() || matches!(sign, ' ' | '-' | '_');
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter(kept)
        .map(|sign| if sign == ' ' { '-' } else { sign })
        .collect()
}

fn outside_code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut code = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        if line.trim_start().starts_with("```") {
            code = !code;
            return None;
        }
        (!code).then_some((number + 1, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_have_the_anchors_of_github() {
        assert_eq!(anchor(" The pipeline (`packer/src/`)"), "the-pipeline-packersrc");
        assert_eq!(anchor(" `nixply diff`"), "nixply-diff");
    }

    #[test]
    fn links_in_code_and_to_other_hosts_are_not_checked() {
        let page = "# A\n```\n[x](gone.md)\n```\n`[y](gone.md)`, [z](https://example.org), [b](b.md#c)\n";
        assert_eq!(links(page), [(5, "b.md#c".to_owned())]);
    }
}
