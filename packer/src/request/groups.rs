//! The groups of strategy `explicit`, from JSON to checked data. An error names the place, as in `groups[2].depsOf[0]`.

mod description;

use std::borrow::Cow;
use std::sync::LazyLock;

use bytesize::ByteSize;
use nixply_documents::argument::{Count, Kind, MAX_LAYERS};
use nixply_documents::wording;
use nixply_planning::Strategy;
use nixply_planning::plan::explicit::{Group, Item, NamePattern, Split};
use nixply_planning::{Store, StorePath};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::{Map, Value};

use super::inputs::checked_path;
use crate::error::{Error, Result};

/// Checks that strategy, groups and lock file fit together. `place` is the layer's place, for messages.
pub(super) fn check_grouping(
    place: &str,
    strategy: Option<Strategy>,
    groups: Option<&Value>,
    has_lock: bool,
) -> Result<()> {
    match (strategy, groups) {
        (Some(Strategy::Explicit), None) => {
            let why = "it requires the argument groups, a list of groups of store paths";
            return Err(Error::invalid(format!("{place}strategy \"explicit\""), why));
        }
        (Some(other), Some(_)) if other != Strategy::Explicit => {
            let why = format!("the argument requires strategy \"explicit\", got {:?}", other.name());
            return Err(Error::invalid(format!("{place}groups"), why));
        }
        _ => {}
    }
    let strategy = groups.map(|_| Strategy::Explicit).or(strategy).unwrap_or_default();
    if has_lock && strategy != Strategy::MinChurn {
        let ours = Strategy::MinChurn.name();
        let why = format!("it requires strategy {ours:?}, got {:?}: remove one of the two", strategy.name());
        return Err(Error::invalid(format!("{place}lock"), why));
    }
    Ok(())
}

/// The keys of a group that is an object with `paths`.
static GROUP_KEYS: LazyLock<Vec<String>> = LazyLock::new(keys_of::<description::Split>);

/// The keys of predicates.
static PREDICATES: LazyLock<Vec<String>> = LazyLock::new(keys_of::<description::Predicate>);

/// Returns the keys of an object, in the order of their declaration.
fn keys_of<T: JsonSchema>() -> Vec<String> {
    let schema = SchemaGenerator::default().into_root_schema_for::<T>();
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.expect("the schema is that of an object").keys().cloned().collect()
}

/// The end of an error about an unknown name.
fn instead<'k>(name: &str, known: impl IntoIterator<Item = &'k str, IntoIter: Clone>) -> String {
    let known = known.into_iter();
    let names = known.clone().collect::<Vec<_>>().join(", ");
    match wording::nearest(name, known) {
        Some(nearest) => format!("expected one of {names}; did you mean `{nearest}`?"),
        None => format!("expected one of {names}"),
    }
}

/// The argument `groups`. [`Reader`] reads the groups during planning, when the store is known.
pub(super) struct Groups;

impl Kind for Groups {
    type Value = Value;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        match Value::deserialize(deserializer)? {
            groups @ Value::Array(_) => Ok(groups),
            other => Err(D::Error::custom(format_args!(
                "must be a list of groups, not {}",
                wording::value(&other)
            ))),
        }
    }
}

impl JsonSchema for Groups {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Groups".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<description::Group>::json_schema(generator)
    }
}

/// Reads groups.
pub(super) struct Reader<'r> {
    /// The store that the paths must be in.
    pub store: &'r Store,
    /// The paths that `roots` matches: the paths that the request names.
    pub roots: &'r [StorePath],
}

impl Reader<'_> {
    /// Reads the groups at `place`.
    pub(super) fn groups(&self, groups: &Value, place: &str) -> Result<Vec<Group>> {
        let groups = groups.as_array().ok_or_else(|| wrong(place, "a list of groups", groups))?;
        if groups.is_empty() {
            return Err(Error::invalid(place, "it has no group: add one, or omit groups"));
        }
        each(groups, place, |group, place| self.group(group, place))
    }

    fn group(&self, group: &Value, place: &str) -> Result<Group> {
        match group {
            Value::Object(object) if object.keys().any(|key| GROUP_KEYS.contains(key)) => {
                self.group_object(object, place)
            }
            Value::Object(_) | Value::Array(_) | Value::String(_) => {
                Ok(Group { items: self.items(group, place)?, split: None })
            }
            other => {
                Err(wrong(place, "a store path, a predicate, a list of them, or an object with paths", other))
            }
        }
    }

    fn group_object(&self, group: &Map<String, Value>, place: &str) -> Result<Group> {
        let (mut items, mut strategy, mut max_layers) = (None, None, None);
        for (key, value) in given(group) {
            let place = format!("{place}.{key}");
            match key.as_str() {
                "paths" => items = Some(self.items(value, &place)?),
                "strategy" => {
                    let name = value.as_str().ok_or_else(|| wrong(&place, "a strategy's name", value))?;
                    let known =
                        Strategy::from_name(name).ok().filter(|strategy| *strategy != Strategy::Explicit);
                    let wrong = || {
                        let what = format!("{place} {}", wording::quoted(name));
                        Error::invalid(what, instead(name, Strategy::names()))
                    };
                    strategy = Some(known.ok_or_else(wrong)?);
                }
                "maxLayers" => {
                    let expected = format!("a whole number from 1 to {MAX_LAYERS}");
                    let count = Count::deserialize(value.clone());
                    max_layers = Some(count.map_err(|_| wrong(&place, &expected, value))?);
                }
                _ => {
                    let why = format!(
                        "a group with {} cannot have this key: {}",
                        one_of(group),
                        instead(key, GROUP_KEYS.iter().map(String::as_str))
                    );
                    return Err(Error::invalid(place, why));
                }
            }
        }
        let items = items.ok_or_else(|| {
            Error::invalid(place, "it has no paths: expected a store path, a predicate, or a list of them")
        })?;
        let split = (strategy.is_some() || max_layers.is_some_and(|most| most > 1))
            .then(|| Split { strategy: strategy.unwrap_or_default(), max_layers: max_layers.unwrap_or(1) });
        Ok(Group { items, split })
    }

    /// Reads a list of items. A single item counts as a list of one.
    fn items(&self, items: &Value, place: &str) -> Result<Vec<Item>> {
        match items {
            Value::Array(items) => each(items, place, |item, place| self.item(item, place)),
            item => Ok(vec![self.item(item, place)?]),
        }
    }

    fn item(&self, item: &Value, place: &str) -> Result<Item> {
        match item {
            Value::String(path) => checked_path(path, place, self.store).map(Item::Path),
            Value::Object(predicate) => self.predicate(predicate, place),
            other => Err(wrong(place, "a store path or a predicate", other)),
        }
    }

    fn predicate(&self, predicate: &Map<String, Value>, place: &str) -> Result<Item> {
        let mut keys = given(predicate);
        let Some((key, value)) = keys.next() else {
            let why = format!("expected a predicate: one of {}", PREDICATES.join(", "));
            return Err(Error::invalid(place, why));
        };
        let of = format!("{place}.{key}");
        let unknown = |key: &str| {
            let known = instead(key, PREDICATES.iter().map(String::as_str));
            Error::invalid(format!("{place}.{key}"), format!("there is no such predicate: {known}"))
        };
        if let Some((other, _)) = keys.next() {
            return Err(match [key, other].into_iter().find(|key| !PREDICATES.contains(key)) {
                Some(key) => unknown(key),
                None => Error::invalid(
                    place,
                    format!(
                        "it has {key} and {other}, but a predicate has one key: to require both, write {{\"all\": \
                         [{{\"{key}\": ...}}, {{\"{other}\": ...}}]}}; to require one of them, use \"any\" instead"
                    ),
                ),
            });
        }
        Ok(match key.as_str() {
            "roots" if value == &Value::Bool(true) => {
                Item::Any(self.roots.iter().cloned().map(Item::Path).collect())
            }
            "roots" => {
                return Err(wrong(
                    &of,
                    "true (for all other paths, write {\"not\": {\"roots\": true}})",
                    value,
                ));
            }
            "depsOf" => Item::DepsOf(self.items(value, &of)?),
            "dependentsOf" => Item::DependentsOf(self.items(value, &of)?),
            "neededOnlyBy" => Item::NeededOnlyBy(self.items(value, &of)?),
            "name" => {
                let pattern = value.as_str().ok_or_else(|| wrong(&of, "a regular expression", value))?;
                Item::Name(NamePattern::new(pattern).map_err(|why| Error::invalid(of, why))?)
            }
            "minSize" => Item::MinSize(size(value, &of)?),
            "maxSize" => Item::MaxSize(size(value, &of)?),
            "all" => Item::All(self.list(value, &of)?),
            "any" => Item::Any(self.list(value, &of)?),
            "not" => Item::Not(self.items(value, &of)?),
            _ => return Err(unknown(key)),
        })
    }

    /// Reads items that must be a list.
    fn list(&self, items: &Value, place: &str) -> Result<Vec<Item>> {
        match items {
            Value::Array(_) => self.items(items, place),
            other => Err(wrong(place, "a list of store paths and predicates", other)),
        }
    }
}

/// Reads a size in bytes, from a number or text.
fn size(value: &Value, place: &str) -> Result<u64> {
    let size = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok().map(|size: ByteSize| size.as_u64()),
        _ => None,
    };
    size.ok_or_else(|| {
        let expected = "a number of bytes, or text with a unit as in \"100 MiB\" (B; kB, MB, GB, TB of 1000; KiB, MiB, \
                        GiB, TiB of 1024)";
        wrong(place, expected, value)
    })
}

/// Returns the entries of the object. Null counts as absent, as everywhere in a request.
fn given(object: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    object.iter().filter(|(_, value)| !value.is_null())
}

/// Returns the first of [`GROUP_KEYS`] that the group has.
fn one_of(group: &Map<String, Value>) -> &'static str {
    GROUP_KEYS.iter().find(|key| group.contains_key(*key)).map_or("", String::as_str)
}

fn each<T>(list: &[Value], place: &str, read: impl Fn(&Value, &str) -> Result<T>) -> Result<Vec<T>> {
    list.iter().enumerate().map(|(at, value)| read(value, &format!("{place}[{at}]"))).collect()
}

fn wrong(place: &str, expected: &str, found: &Value) -> Error {
    let found = match found {
        Value::Null => "null".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
        Value::String(text) => wording::quoted(text),
        plain => plain.to_string(),
    };
    Error::invalid(place, format!("expected {expected}, but it is {found}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const A: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a";
    const B: &str = "/nix/store/123456789abcdfghijklmnpqrsvwxyz0-b";

    fn read(groups: Value) -> Result<Vec<Group>> {
        let (store, roots) = (Store::at("/nix/store"), [StorePath::parse(B).unwrap()]);
        Reader { store: &store, roots: &roots }.groups(&groups, "layers[1].groups")
    }

    /// The schema declares the predicates, and the reader reads them.
    #[test]
    fn every_declared_predicate_and_key_is_read() {
        let store = Store::at("/nix/store");
        let reader = Reader { store: &store, roots: &[] };
        let read =
            |group: Value| reader.groups(&json!([group]), "groups").err().map(|error| error.to_string());
        for predicate in PREDICATES.iter() {
            let error = read(json!({ predicate: -1 })).expect("-1 is not a value of a predicate");
            assert!(error.starts_with(&format!("groups[0].{predicate} is not valid: expected")), "{error}");
        }
        for key in GROUP_KEYS.iter() {
            let error = read(json!({ key: -1 })).expect("-1 is not a value of a key");
            assert!(error.starts_with(&format!("groups[0].{key} is not valid: expected")), "{error}");
        }
    }

    #[test]
    fn groups_are_lists_items_or_objects() {
        let (a, b) = (|| Item::Path(A.parse().unwrap()), || Item::Path(B.parse().unwrap()));
        let one = |item| Group { items: vec![item], split: None };
        let groups = read(json!([
            [A, B],
            A,
            {"depsOf": A},
            {"paths": A, "maxLayers": 1, "strategy": null},
            {"paths": [{"roots": true}], "maxLayers": 3},
            {"paths": {"neededOnlyBy": A}},
            {"paths": {"not": [A, {"all": [{"minSize": "1.5 kB"}, {"maxSize": 7}]}]}, "strategy": "size"},
            [],
        ]));
        let size = || Item::All(vec![Item::MinSize(1500), Item::MaxSize(7)]);
        assert_eq!(
            groups.unwrap(),
            [
                Group { items: vec![a(), b()], split: None },
                one(a()),
                one(Item::DepsOf(vec![a()])),
                one(a()),
                Group {
                    items: vec![Item::Any(vec![b()])],
                    split: Some(Split { strategy: Strategy::default(), max_layers: 3 })
                },
                one(Item::NeededOnlyBy(vec![a()])),
                Group {
                    items: vec![Item::Not(vec![a(), size()])],
                    split: Some(Split { strategy: Strategy::Size, max_layers: 1 })
                },
                Group::default(),
            ]
        );
    }

    #[test]
    fn sizes_have_units() {
        for (given, bytes) in [
            (json!(0), 0),
            (json!("100 MiB"), 100 << 20),
            (json!("100MB"), 100_000_000),
            (json!("2 GiB"), 2 << 30),
            (json!("12"), 12),
            (json!(" 3 B "), 3),
        ] {
            assert_eq!(size(&given, "x").unwrap(), bytes, "{given}");
        }
    }

    #[test]
    fn errors_name_the_place() {
        let predicates = "roots, depsOf, dependentsOf, neededOnlyBy, name, minSize, maxSize, all, any, not";
        let bytes = "expected a number of bytes, or text with a unit as in \"100 MiB\" (B; kB, MB, GB, TB of 1000; KiB, MiB, \
                     GiB, TiB of 1024)";
        for (groups, message) in [
            (json!("a"), " is not valid: expected a list of groups, but it is \"a\"".to_owned()),
            (json!([]), " is not valid: it has no group: add one, or omit groups".into()),
            (
                json!([[], 3]),
                "[1] is not valid: expected a store path, a predicate, a list of them, or an object with paths, but it is 3"
                    .into(),
            ),
            (
                json!([[A, [A]]]),
                "[0][1] is not valid: expected a store path or a predicate, but it is a list".into(),
            ),
            (
                json!([["/etc/passwd"]]),
                "[0][0]: store path \"/etc/passwd\" is not valid: it is not in the store /nix/store".into(),
            ),
            (
                json!([A, [], {"depsOf": ["x", A]}]),
                "[2].depsOf[0]: store path \"x\" is not valid: it is not in the store /nix/store".into(),
            ),
            (
                json!([{"dependentsOf": {"not": true}}]),
                "[0].dependentsOf.not is not valid: expected a store path or a predicate, but it is true".into(),
            ),
            (json!([[{}]]), format!("[0][0] is not valid: expected a predicate: one of {predicates}")),
            (
                json!([{"path": A}]),
                format!("[0].path is not valid: there is no such predicate: expected one of {predicates}"),
            ),
            (
                json!([{"name": "a", "size": 3}]),
                format!("[0].size is not valid: there is no such predicate: expected one of {predicates}"),
            ),
            (
                json!([{"name": "a", "minSize": 3}]),
                "[0] is not valid: it has name and minSize, but a predicate has one key: to require both, write \
                 {\"all\": [{\"name\": ...}, {\"minSize\": ...}]}; to require one of them, use \"any\" instead"
                    .into(),
            ),
            (
                json!([{"maxLayers": 3, "depsOf": A}]),
                "[0].depsOf is not valid: a group with maxLayers cannot have this key: expected one of paths, strategy, maxLayers".into(),
            ),
            (
                json!([{"maxLayers": 3}]),
                "[0] is not valid: it has no paths: expected a store path, a predicate, or a list of them".into(),
            ),
            (
                json!([{"paths": [], "maxLayers": 0}]),
                "[0].maxLayers is not valid: expected a whole number from 1 to 1000000, but it is 0".into(),
            ),
            (
                json!([{"paths": [], "maxLayers": 1_000_001}]),
                "[0].maxLayers is not valid: expected a whole number from 1 to 1000000, but it is 1000001".into(),
            ),
            (
                json!([{"paths": [], "maxLayer": 2}]),
                "[0].maxLayer is not valid: a group with paths cannot have this key: expected one of paths, strategy, maxLayers; \
                 did you mean `maxLayers`?"
                    .into(),
            ),
            (
                json!([{"depsof": A}]),
                format!(
                    "[0].depsof is not valid: there is no such predicate: expected one of {predicates}; did you mean `depsOf`?"
                ),
            ),
            (
                json!([{"paths": [], "strategy": "sise"}]),
                format!(
                    "[0].strategy \"sise\" is not valid: expected one of {}; did you mean `size`?",
                    Strategy::names().join(", ")
                ),
            ),
            (
                json!([{"paths": [], "strategy": "explicit"}]),
                format!(
                    "[0].strategy \"explicit\" is not valid: expected one of {}",
                    Strategy::names().join(", ")
                ),
            ),
            (
                json!([{"paths": [], "strategy": 3}]),
                "[0].strategy is not valid: expected a strategy's name, but it is 3".into(),
            ),
            (
                json!([{"roots": false}]),
                "[0].roots is not valid: expected true (for all other paths, write {\"not\": {\"roots\": true}}), but it is false".into(),
            ),
            (
                json!([{"name": "a(b"}]),
                "[0].name is not valid: unclosed group, at character 2 of \"a(b\"".into(),
            ),
            (
                json!([{"name": ["a"]}]),
                "[0].name is not valid: expected a regular expression, but it is a list".into(),
            ),
            (json!([{"minSize": -3}]), format!("[0].minSize is not valid: {bytes}, but it is -3")),
            (json!([{"maxSize": 1.5}]), format!("[0].maxSize is not valid: {bytes}, but it is 1.5")),
            (json!([{"maxSize": "much"}]), format!("[0].maxSize is not valid: {bytes}, but it is \"much\"")),
            (
                json!([{"all": {"name": "a"}}]),
                "[0].all is not valid: expected a list of store paths and predicates, but it is an object".into(),
            ),
        ] {
            let error = read(groups.clone()).unwrap_err().to_string();
            assert_eq!(error, format!("layers[1].groups{message}"), "{groups}");
        }
    }
}
