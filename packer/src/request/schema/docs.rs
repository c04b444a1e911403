//! Documentation from the schema: the page of all arguments, and the text of `:doc builtins.nixplyImage`.

use std::fmt::Write;

use serde_json::Value;

use super::Argument;
use crate::compress::Codec;
use crate::request::image::ImageRequest;
use crate::request::index::IndexRequest;

const INTRODUCTION: &str = "\
# Arguments of an image

<!-- Generated from packer/src/request/ by `cargo xtask docs`. Do not edit. -->

`builtins.nixplyImage`, `builtins.nixplyPlan`, each image of `builtins.nixplyImages`, `nix/build-image.nix` and the JSON requests of
the program nixply take the same arguments. In Nix they are an attribute set, in JSON an object. `null` means absent. An unknown
name is an error. A store path is a derivation, a path (Nix copies it to the store) or a string with a store path; in JSON it is a string.

Editors that know JSON Schema check JSON requests with [request.schema.json](reference/request.schema.json).
[Results](results.md) describes what the builtins return.
";

/// Returns the documentation page, `docs/arguments.md`.
pub fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    let image: Vec<_> = ImageRequest::argument().keys().collect();
    let layers =
        ImageRequest::argument().key("layers").and_then(Argument::element).expect("layers is a list");
    page.push_str("\n| argument | type | default |\n|---|---|---|\n");
    for (key, argument) in &image {
        let default = default(*argument).map(|default| format!("`{default}`")).unwrap_or_default();
        writeln!(page, "| [`{key}`](#{}) | {} | {default} |", key.to_lowercase(), kind(*argument))
            .expect(INFALLIBLE);
    }
    for (key, argument) in image {
        section(&mut page, "##", key, argument);
    }
    page.push_str("\n# Elements of `layers`\n\nEach element is one layer, or several with `maxLayers`.\n");
    for (key, argument) in layers.keys() {
        section(&mut page, "##", &format!("layers.{key}"), argument);
    }
    groups(&mut page);
    index(&mut page);
    page
}

const INFALLIBLE: &str = "a String takes all text";

fn section(page: &mut String, level: &str, name: &str, argument: Argument) {
    let default = default(argument).map(|default| format!(" Default: `{default}`.")).unwrap_or_default();
    let description = description(argument);
    write!(page, "\n{level} {name}\n\nType: {}.{default}\n\n{description}\n", kind(argument))
        .expect(INFALLIBLE);
    if matches!(name, "layers" | "groups" | "layers.groups" | "config") {
        return;
    }
    let keys = argument.element().filter(|element| element.keys().next().is_some()).unwrap_or(argument);
    if keys.keys().next().is_some() {
        table(page, "key", keys);
    }
    if let Some(choices) =
        argument.schema().get("oneOf").and_then(Value::as_array).filter(|_| !name.contains('.'))
    {
        page.push_str("\n| value | meaning |\n|---|---|\n");
        for choice in choices {
            let text = |key: &str| choice[key].as_str().unwrap_or_default().replace('\n', " ");
            writeln!(page, "| `{}` | {} |", text("const"), text("description")).expect(INFALLIBLE);
        }
    }
}

fn table(page: &mut String, title: &str, argument: Argument) {
    write!(page, "\n| {title} | type | meaning |\n|---|---|---|\n").expect(INFALLIBLE);
    for (key, argument) in argument.keys() {
        let description = description(argument).replace('\n', " ");
        writeln!(page, "| `{key}` | {} | {description} |", kind(argument)).expect(INFALLIBLE);
    }
}

fn groups(page: &mut String) {
    page.push_str("\n# Groups and predicates\n\nA group is an item, a list of items, or a set:\n");
    let group = ImageRequest::argument().key("groups").and_then(Argument::element).expect("groups is a list");
    let forms = || group.alternatives().into_iter().map(|schema| group.at(schema));
    let with =
        |key: &'static str| forms().find(|form| form.key(key).is_some()).expect("a group has this form");
    table(page, "key", with("maxLayers"));
    page.push_str("\nAn item is a store path, or a set with one predicate:\n");
    table(page, "predicate", with("depsOf"));
    page.push_str(
        "\nA store path is in the group that names it, otherwise in the first group with a predicate that matches it. A store path that \
         two groups name, or that is not among the layer's, is an error. More layers than the `maxLayers` of the request are an \
         error too. A group that matches no store path produces a warning. [An example](strategies.md#explicit).\n",
    );
}

fn index(page: &mut String) {
    page.push_str(
        "\n# Arguments of an image index\n\n`builtins.nixplyIndex` and `nix/build-index.nix` take these arguments. They make the spec of \
         an index from the specs of its images ([multi-platform images](guides/indexes.md)).\n",
    );
    for (key, argument) in IndexRequest::argument().keys() {
        section(page, "##", &format!("index.{key}"), argument);
        let Some(image) = argument.element() else { continue };
        let forms = image.alternatives().into_iter().map(|schema| image.at(schema));
        let set = forms.into_iter().find(|form| form.key("image").is_some());
        table(page, "key", set.expect("an image can be a set"));
    }
}

/// Returns the argument's description.
pub(super) fn description(argument: Argument) -> &'static str {
    argument.schema().get("description").and_then(Value::as_str).unwrap_or_default()
}

/// Returns the description without its example, on one line.
pub(super) fn summary(argument: Argument) -> String {
    let text = description(argument).split("\n\n").next().unwrap_or_default().replace('\n', " ");
    // Links to other pages are useless in a terminal.
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some((before, link)) = rest.split_once('[') {
        let Some((name, after)) =
            link.split_once("](").and_then(|(name, after)| Some((name, after.split_once(')')?.1)))
        else {
            break;
        };
        plain.push_str(before);
        plain.push_str(name);
        rest = after;
    }
    plain + rest
}

/// Returns the argument's kind in words.
fn kind(argument: Argument) -> String {
    let kinds = argument.alternatives().into_iter().map(|schema| kind_of(schema, argument.at(schema)));
    match kinds.filter(|kind| !kind.is_empty()).collect::<Vec<_>>().join(" or ").as_str() {
        "store path or set or list of items" => "item or list of items".into(),
        kinds => kinds.into(),
    }
}

fn kind_of(schema: &Value, argument: Argument) -> String {
    if let Some(choices) = schema.get("oneOf").and_then(Value::as_array) {
        let name = |choice: &Value| format!("`{}`", choice["const"].as_str().unwrap_or_default());
        return format!("one of {}", choices.iter().map(name).collect::<Vec<_>>().join(", "));
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => {
            kinds.iter().find(|kind| *kind != "null").and_then(Value::as_str).unwrap_or_default()
        }
        kind => kind.as_str().unwrap_or_default(),
    };
    let bounds = (schema["minimum"].as_u64(), schema["maximum"].as_u64());
    match (kind, bounds) {
        ("string", _) if is_codec(schema) => Codec::forms(),
        ("string", _) if schema["format"] == "store-path" => "store path".into(),
        ("string", _) => "string".into(),
        ("integer", (Some(least), Some(most))) if most < u64::from(u32::MAX) => {
            format!("integer from {least} to {most}")
        }
        ("integer", _) => "integer".into(),
        ("boolean", _) => "boolean".into(),
        ("object", _) if schema["additionalProperties"].is_object() => "set of strings".into(),
        ("object", _) => "set".into(),
        ("array", _) if schema["items"]["$ref"] == "#/$defs/Group" => {
            "list of [groups](#groups-and-predicates)".into()
        }
        ("array", _) if schema["items"]["$ref"] == "#/$defs/Item" => "list of items".into(),
        ("array", _) => match argument.element().map(self::kind).as_deref() {
            Some("store path") => "list of store paths".into(),
            Some("string") => "list of strings".into(),
            Some("set") => "list of sets".into(),
            Some("store path or set")
                if argument.element().is_some_and(|image| image.key("image").is_some()) =>
            {
                "list of images".into()
            }
            Some(integer) if integer.starts_with("integer") => "list of integers".into(),
            _ => "list".into(),
        },
        // A part of a union. It has a separate table.
        _ if schema.get("anyOf").is_some() || schema.get("oneOf").is_some() => self::kind(argument),
        _ => String::new(),
    }
}

fn is_codec(schema: &Value) -> bool {
    schema["pattern"].as_str().is_some_and(|pattern| pattern.contains(&Codec::pattern()))
}

/// Returns the argument's default in Nix syntax, if it has one.
fn default(argument: Argument) -> Option<String> {
    argument.schema().get("default").filter(|default| !default.is_null()).map(nix)
}

/// Returns a value in Nix syntax.
fn nix(value: &Value) -> String {
    match value {
        Value::Array(list) if list.is_empty() => "[ ]".into(),
        Value::Object(object) if object.is_empty() => "{ }".into(),
        other => other.to_string(),
    }
}

impl Argument {
    /// Returns the arguments of a request for `:doc` of its builtin, as Markdown.
    pub fn builtin_docs(self) -> String {
        match self.key("layers").and_then(Argument::element) {
            Some(layers) => format!("{}  Elements of `layers`:\n\n{}", list(self), list(layers)),
            None => list(self),
        }
    }
}

/// Returns a list of an object's keys, as Markdown.
fn list(object: Argument) -> String {
    let mut text = String::new();
    for (key, argument) in object.keys() {
        writeln!(text, "  - `{key}` ({}): {}", kind(argument), summary(argument)).expect(INFALLIBLE);
    }
    text + "\n"
}
