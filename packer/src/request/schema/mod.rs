//! The JSON Schema of an image's request, and the facts that other code derives from it: the arguments, and the arguments
//! that name store paths.

pub mod docs;
pub mod nix;

use std::mem;

use nixply_documents::argument::{CONTAINER_OPTION, NAMES, Names};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// Returns the JSON Schema (draft 2020-12) of a type.
pub(super) fn of_type<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    share_groups(&mut schema);
    schema
}

/// Moves the schema of a group, which is long, to the definitions.
fn share_groups(schema: &mut Value) {
    let reference = json!({ "$ref": "#/$defs/Group" });
    let group = ["/properties/groups/items", "/properties/layers/items/properties/groups/items"]
        .map(|place| schema.pointer_mut(place).map(|group| mem::replace(group, reference.clone())));
    if let [Some(group), _] = group {
        schema["$defs"]["Group"] = group;
    }
}

/// A place in a request, by its schema: the request itself, an argument, or a part of one.
#[derive(Debug, Clone, Copy)]
pub struct Argument {
    /// The whole schema, which has the definitions.
    document: &'static Value,
    /// The schema of the place. It is null below free-form values, which it does not describe.
    schema: &'static Value,
    /// The store paths that the texts here may name.
    names: Names,
}

impl Argument {
    /// Returns the document that a schema describes.
    pub(super) fn of(document: &'static Value) -> Self {
        Self { document, schema: document, names: Names::Mention }.at(document)
    }

    /// Returns the same place with another schema.
    fn at(self, schema: &'static Value) -> Self {
        // A reference points to the definition of a recursive type.
        let schema = match schema.get("$ref").and_then(Value::as_str) {
            Some(reference) => reference
                .strip_prefix('#')
                .and_then(|pointer| self.document.pointer(pointer))
                .expect("schemars refers to definitions of the same schema"),
            None => schema,
        };
        let own = schema.get(NAMES).and_then(Value::as_str).and_then(Names::of);
        Self { schema, names: own.unwrap_or(self.names), ..self }
    }

    /// Returns the keys of an object here, with their schemas, in the order of their declaration.
    pub fn keys(self) -> impl Iterator<Item = (&'static str, Self)> {
        let keys = self.schema.get("properties").and_then(Value::as_object);
        keys.into_iter().flatten().map(move |(key, schema)| (&**key, self.at(schema)))
    }

    /// Returns the value of a key of an object here, or nothing if the key is unknown.
    pub fn key(self, key: &str) -> Option<Self> {
        let alternatives = || self.alternatives().into_iter();
        let declared = alternatives().find_map(|schema| schema.get("properties")?.get(key));
        // Any key, with a value of this schema.
        let any = || {
            alternatives()
                .find_map(|schema| schema.get("additionalProperties").filter(|schema| schema.is_object()))
        };
        let free = || self.is_free().then_some(&Value::Null);
        let schema = declared.or_else(any).or_else(free)?;
        Some(self.at(schema))
    }

    /// Returns the elements of a list here, or nothing if a list is not allowed.
    pub fn element(self) -> Option<Self> {
        let items = self.alternatives().into_iter().find_map(|schema| schema.get("items"));
        match items {
            Some(items) => Some(self.at(items)),
            None if self.is_free() => Some(self),
            None => None,
        }
    }

    /// Returns the JSON types of the values that are allowed here, or nothing if every value is allowed.
    pub fn types(self) -> impl Iterator<Item = &'static str> {
        let is_free = self.is_free() && !self.takes_only_objects();
        self.alternatives().into_iter().filter(move |_| !is_free).flat_map(|schema| match &schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
            Value::String(one) => vec![one.as_str()],
            // An enum of texts.
            _ if schema.get("oneOf").is_some() || schema.get("enum").is_some() => vec!["string"],
            _ => Vec::new(),
        })
    }

    fn takes_only_objects(self) -> bool {
        self.alternatives().iter().all(|schema| schema["type"] == "object")
    }

    /// Returns whether an object is allowed here.
    pub fn takes_object(self) -> bool {
        self.is_free() || self.alternatives().iter().any(|schema| schema["type"] == "object")
    }

    /// Returns the store paths that the texts here may name.
    pub fn names(self) -> Names {
        self.names
    }

    /// Returns whether `containers.NAME` has an option of this name, which it passes to the image unchanged. The other
    /// arguments follow from options that devenv defines, such as `startupCommand` or `version`.
    pub(crate) fn is_container_option(self) -> bool {
        self.schema.get(CONTAINER_OPTION).is_some()
    }

    /// Returns the schema itself.
    pub fn schema(self) -> &'static Value {
        self.schema
    }

    /// Returns whether the schema allows every value.
    fn is_free(self) -> bool {
        self.alternatives().iter().all(|schema| {
            !["type", "enum", "const", "oneOf"].iter().any(|key| schema.get(key).is_some())
                || (schema["type"] == "object" && schema["additionalProperties"] == true)
        })
    }

    /// Returns the alternative schemas. A value must match one of them.
    fn alternatives(self) -> Vec<&'static Value> {
        match self.schema.get("anyOf").and_then(Value::as_array) {
            Some(any) => any.iter().flat_map(|schema| self.at(schema).alternatives()).collect(),
            None => vec![self.schema],
        }
    }
}

/// Returns a value without its `null` arguments: they count as absent. A `null` in the config is a value of the config.
pub(super) fn without_nulls(mut value: Value, argument: Argument) -> Value {
    clean(&mut value, argument);
    value
}

fn clean(value: &mut Value, argument: Argument) {
    match value {
        Value::Object(object) if argument.keys().next().is_some() && argument.names() != Names::Config => {
            object.retain(|_, value| !value.is_null());
            for (key, value) in object.iter_mut() {
                argument.key(key).into_iter().for_each(|argument| clean(value, argument));
            }
        }
        Value::Array(list) => {
            let Some(argument) = argument.element() else { return };
            list.iter_mut().for_each(|value| clean(value, argument));
        }
        _ => {}
    }
}

/// A text of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<'r> {
    /// Its place, as in `layers[1].deps[0]`.
    pub place: String,
    /// The text.
    pub text: &'r str,
}

impl Argument {
    /// Returns all texts of a request that are store paths whose closures the image contains, except those within the config.
    pub fn root_texts(self, request: &Value) -> Vec<Text<'_>> {
        let mut texts = Vec::new();
        collect(request, self, String::new(), &mut texts);
        texts
    }
}

fn collect<'r>(value: &'r Value, argument: Argument, place: String, texts: &mut Vec<Text<'r>>) {
    match value {
        Value::String(text) if argument.names() == Names::Root => texts.push(Text { place, text }),
        Value::Array(list) => {
            let Some(argument) = argument.element() else { return };
            for (at, value) in list.iter().enumerate() {
                collect(value, argument, format!("{place}[{at}]"), texts);
            }
        }
        Value::Object(object) => {
            for (key, value) in object {
                let Some(argument) = argument.key(key) else { continue };
                let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                collect(value, argument, place, texts);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
