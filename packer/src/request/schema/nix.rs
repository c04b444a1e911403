//! The declarations of arguments as JSON, `nix/arguments.json`: checks, formals and module options in Nix follow from them.

use nixply_documents::argument::{EXPECTED, FORMER_VALUES, Names};
use nixply_oci::reference;
use nixply_planning::Strategy;
use serde_json::{Map, Value, json};

use super::Argument;
use super::docs::{description, summary};
use crate::compress::Codec;
use crate::request::image::ImageRequest;
use crate::request::index::IndexRequest;

/// Returns `nix/arguments.json`.
pub fn declarations() -> Value {
    let image = ImageRequest::argument();
    let layer = image.key("layers").and_then(Argument::element).expect("layers is a list");
    json!({
        "image": keys(image, false),
        "layer": keys(layer, false),
        "index": keys(IndexRequest::argument(), false),
        // Attribute paths of store paths whose closures an image contains.
        "roots": { "image": root_paths(image), "layer": root_paths(layer) },
        // The grammar of a name in lower case. A tag's is the pattern of its argument.
        "name": {
            "pattern": reference::name_pattern(),
            "maximumLength": reference::NAME_BYTES,
            EXPECTED_KEY: reference::NAME_FORM,
        },
        "codecLevels": Codec::highest_levels(),
        "defaultStrategy": Strategy::default(),
        // The strategy that uses a lock file.
        "lockStrategy": Strategy::MinChurn,
        "explicitStrategy": Strategy::Explicit,
    })
}

/// Key of the words that describe a text's form in an error: "must be …".
const EXPECTED_KEY: &str = "expected";

/// Returns the declarations of an object's keys.
fn keys(object: Argument, described: bool) -> Map<String, Value> {
    object
        .keys()
        .map(|(name, argument)| (name.to_owned(), declaration(name, argument, described).into()))
        .collect()
}

/// Returns the declaration of one argument. `described` adds what an option's documentation needs.
fn declaration(name: &str, argument: Argument, described: bool) -> Map<String, Value> {
    let schema = argument.schema();
    let is_option = argument.is_container_option();
    let described = described || is_option;
    let mut declaration = Map::new();
    let mut set = |key: &str, value: Value| declaration.insert(key.to_owned(), value);
    set("kind", kind(argument).into());
    for bound in ["minimum", "maximum"] {
        schema.get(bound).into_iter().for_each(|value| drop(set(bound, value.clone())));
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        // builtins.match matches the whole text.
        let whole = pattern.strip_prefix('^').and_then(|pattern| pattern.strip_suffix('$'));
        set("pattern", whole.expect("patterns of arguments match the whole text").into());
        set(EXPECTED_KEY, schema.get(EXPECTED).expect("a pattern has a description").clone());
    }
    if let Some(choices) = schema.get("oneOf").and_then(Value::as_array) {
        set("values", choices.iter().map(|choice| choice["const"].clone()).collect());
        set("formerValues", former_values(schema));
    }
    // The OCI config is free-form, and `layers` has the declarations of `layer`.
    if schema["additionalProperties"] == false {
        set("keys", keys(argument, described).into());
        set("required", schema.get("required").cloned().unwrap_or_else(|| json!([])));
    } else if let Some(element) = argument.element().filter(|_| kind(argument) == "list" && name != "layers")
        && element.keys().next().is_some()
    {
        set("element", declaration_of_element(element, described));
    }
    if is_option {
        set("containerOption", true.into());
        set("example", example(name, argument).into());
    }
    if described {
        set("description", summary(argument).into());
        let default = schema.get("default").filter(|value| !value.is_null() && *value != "");
        default.into_iter().for_each(|value| drop(set("default", value.clone())));
    }
    declaration
}

fn declaration_of_element(element: Argument, described: bool) -> Value {
    let mut declaration = declaration("", element, described);
    declaration.remove("description");
    declaration.into()
}

/// Returns an object of the former names of values, with their present names.
fn former_values(schema: &Value) -> Value {
    let former = schema.get(FORMER_VALUES).and_then(Value::as_array);
    let pair = |pair: &Value| Some((pair[0].as_str()?.to_owned(), pair[1].clone()));
    former.into_iter().flatten().filter_map(pair).collect::<Map<_, _>>().into()
}

/// Returns the value of an argument in its example: the text between `NAME = ` and the first semicolon outside of brackets.
fn example(name: &str, argument: Argument) -> Option<&'static str> {
    let (_, example) = description(argument).split_once("```nix\n")?;
    // The example of a layer's argument is within `layers = [ { NAME = …; } ]`.
    let (_, value) = example.split_once(&format!("{name} = "))?;
    let mut depth = 0;
    let end = value.find(|letter| {
        depth += i32::from("[{(".contains(letter)) - i32::from("]})".contains(letter));
        letter == ';' && depth == 0
    })?;
    Some(&value[..end])
}

/// Returns the attribute paths of store paths whose closures an image contains, except those within lists of sets.
fn root_paths(argument: Argument) -> Vec<Vec<&'static str>> {
    let mut paths = Vec::new();
    for (key, argument) in argument.keys() {
        match argument.names() {
            Names::Root => paths.push(vec![key]),
            Names::Config => {}
            _ => paths.extend(root_paths(argument).into_iter().map(|path| [vec![key], path].concat())),
        }
    }
    paths
}

/// Returns the kind of an argument, for checks and option types in Nix.
fn kind(argument: Argument) -> &'static str {
    let schema = argument.schema();
    let has = |key: &str, value: &str| argument.alternatives().iter().any(|schema| schema[key] == value);
    match () {
        _ if schema.get("oneOf").is_some() => "enum",
        _ if has("format", "store-path") && has("type", "array") => "storePaths",
        _ if has("format", "store-path") => "storePath",
        _ if has("type", "string") && has("type", "array") => "stringOrList",
        _ if has("type", "string") => "string",
        _ if has("type", "integer") => "integer",
        _ if has("type", "boolean") => "boolean",
        _ if has("type", "array") => "list",
        _ if schema["additionalProperties"].is_object() => "strings",
        _ => "set",
    }
}
