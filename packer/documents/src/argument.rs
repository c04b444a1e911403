//! Kinds of arguments: each defines how its value is read and how the schema describes it.
//!
//! A field of a request names its kind once, as in `#[serde(with = "Word")]`. serde uses the kind's reader and schemars its
//! schema. Checks that need a store or a closure come later, during planning.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;

/// Key of a schema for the store paths that the argument's text may name. Its value is the name of a [`Names`].
pub const NAMES: &str = "x-nixply-names";

/// Key of a schema for the words that describe the form of a text with a pattern, for messages: "must be …".
pub const EXPECTED: &str = "x-nixply-expected";

/// Key of a schema for former names of values: pairs of a former and the present name.
pub const FORMER_VALUES: &str = "x-nixply-former-values";

/// Key of a schema that marks an argument as an option of `containers.NAME`.
pub const CONTAINER_OPTION: &str = "x-nixply-container-option";

/// Store paths that an argument's text may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// No store path: a text such as a tag.
    Nothing,
    /// A store path. The image contains it and its closure.
    Root,
    /// A store path that the argument does not add to the image, as in `ignore`.
    Mention,
    /// Any number of store paths within a larger text: those of the OCI config, which the image contains with their closures.
    Config,
}

impl Names {
    /// All values with their names in a schema.
    const ALL: [(Self, &str); 4] = [
        (Self::Nothing, "nothing"),
        (Self::Root, "root"),
        (Self::Mention, "mention"),
        (Self::Config, "config"),
    ];

    /// Returns the value's name in a schema.
    pub const fn text(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Returns the value with this name in a schema.
    pub fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, name)| *name == text).map(|(names, _)| names)
    }
}

/// A kind of argument. Fields of requests name it in `#[serde(with = "...")]`.
pub trait Kind {
    /// The field's type.
    type Value: Serialize;

    /// Reads a value.
    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self::Value, D::Error>;

    /// Writes a value.
    fn serialize<S: Serializer>(value: &Self::Value, serializer: S) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }
}

/// An argument that may be absent, which is read as `None`.
pub struct Optional<K>(PhantomData<K>);

impl<K: Kind> Kind for Optional<K> {
    type Value = Option<K::Value>;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self::Value, D::Error> {
        struct Given<K: Kind>(K::Value);

        impl<'de, K: Kind> Deserialize<'de> for Given<K> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                K::deserialize(deserializer).map(Self)
            }
        }

        Ok(Option::<Given<K>>::deserialize(deserializer)?.map(|Given(value)| value))
    }
}

impl<K: JsonSchema> JsonSchema for Optional<K> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        K::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        K::json_schema(generator)
    }
}

/// Declares a kind's schema.
macro_rules! schema {
    ($kind:ident, $schema:tt) => {
        impl JsonSchema for $kind {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($kind).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

/// Declares a kind of several store paths.
macro_rules! store_paths {
    ($kind:ident, $names:expr) => {
        schema!($kind, {
            "anyOf": [
                { "type": "string", "minLength": 1, "format": "store-path" },
                { "type": "array", "items": { "type": "string", "minLength": 1, "format": "store-path" } },
            ],
            NAMES: $names.text(),
        });

        impl Kind for $kind {
            type Value = Vec<String>;

            fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
                deserializer.deserialize_any(OneOrMany)
            }
        }
    };
}

/// Text that is not empty and names no store path.
pub struct Word;

schema!(Word, { "type": "string", "minLength": 1, NAMES: Names::Nothing.text() });

impl Kind for Word {
    type Value = String;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(NonEmpty("text"))
    }
}

/// Text, perhaps empty, that does not name a store path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plain;

schema!(Plain, { "type": "string", NAMES: Names::Nothing.text() });

/// A store path. The image contains it and its closure.
pub struct Root;

schema!(Root, { "type": "string", "minLength": 1, "format": "store-path", NAMES: Names::Root.text() });

impl Kind for Root {
    type Value = String;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(NonEmpty("a store path"))
    }
}

/// A list of store paths; a single one is a list of one. The image contains them and their closures.
pub struct Roots;

store_paths!(Roots, Names::Root);

/// A store path that the argument does not add to the image.
pub struct Mention;

schema!(Mention, { "type": "string", "minLength": 1, "format": "store-path", NAMES: Names::Mention.text() });

/// A list of store paths that the argument does not add to the image; a single one is a list of one.
pub struct Mentions;

store_paths!(Mentions, Names::Mention);

/// Maximum number of layers in an argument. It only catches typing errors: runtimes accept far fewer.
pub const MAX_LAYERS: u64 = 1_000_000;

/// A number of layers.
pub struct Count;

schema!(Count, { "type": "integer", "minimum": 1, "maximum": MAX_LAYERS });

impl Kind for Count {
    type Value = usize;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_u64(Whole { least: 1 })
    }
}

/// The highest id of a user or group in Linux. For chown(2) the next one means "do not change".
pub const MAX_ID: i64 = 4_294_967_294;

/// The id of a user or group.
pub struct Id;

schema!(Id, { "type": "integer", "minimum": 0, "maximum": MAX_ID });

impl Kind for Id {
    type Value = i64;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        let id = i64::deserialize(deserializer)?;
        match (0..=MAX_ID).contains(&id) {
            true => Ok(id),
            false => Err(D::Error::custom(format_args!("must be an id from 0 to {MAX_ID}, not {id}"))),
        }
    }
}

/// The mode of a file: octal digits.
pub struct Mode;

impl Mode {
    /// The form of a mode, for messages.
    pub const FORM: &str = "octal digits up to 7777, as in \"0755\"";
}

schema!(Mode, {
    "type": "string",
    "pattern": "^0*[0-7]{0,4}$",
    EXPECTED: Mode::FORM,
    NAMES: Names::Nothing.text(),
});

/// Indices of elements of `layers`.
pub struct Indices;

schema!(Indices, { "type": "array", "items": { "type": "integer", "minimum": 0, "maximum": MAX_LAYERS } });

impl Kind for Indices {
    type Value = Vec<usize>;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<usize>, D::Error> {
        struct Index(usize);

        impl<'de> Deserialize<'de> for Index {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_u64(Whole { least: 0 }).map(Self)
            }
        }

        Ok(Vec::<Index>::deserialize(deserializer)?.into_iter().map(|Index(index)| index).collect())
    }
}

/// The OCI image config. Its keys may be written in any case; `nixply_oci::ImageConfig` reads it.
pub struct Config;

schema!(Config, {
    "type": "object",
    "properties": {
        "User": { "type": "string" },
        "ExposedPorts": { "type": "object", "additionalProperties": { "type": "object" } },
        "Env": { "type": "array", "items": { "type": "string" } },
        "Entrypoint": { "type": "array", "items": { "type": "string" } },
        "Cmd": { "type": "array", "items": { "type": "string" } },
        "Volumes": { "type": "object", "additionalProperties": { "type": "object" } },
        "WorkingDir": { "type": "string" },
        "Labels": { "type": "object", "additionalProperties": { "type": "string" } },
        "StopSignal": { "type": "string" },
    },
    "additionalProperties": true,
    NAMES: Names::Config.text(),
});

impl Kind for Config {
    type Value = Value;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }
}

/// Reads text that is not empty. The field describes it, for messages.
struct NonEmpty(&'static str);

impl Visitor<'_> for NonEmpty {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        match text {
            "" => Err(E::custom("must not be empty")),
            text => Ok(text.to_owned()),
        }
    }
}

/// Reads a list of non-empty texts; a single text is a list of one.
struct OneOrMany;

impl<'de> Visitor<'de> for OneOrMany {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store path or a list of store paths")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<String>, E> {
        NonEmpty("a store path").visit_str(text).map(|path| vec![path])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
        struct Path(String);

        impl<'de> Deserialize<'de> for Path {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(NonEmpty("a store path")).map(Self)
            }
        }

        let mut paths = Vec::new();
        while let Some(Path(path)) = list.next_element()? {
            paths.push(path);
        }
        Ok(paths)
    }
}

/// Reads a whole number from `least` to [`MAX_LAYERS`].
struct Whole {
    least: u64,
}

impl Visitor<'_> for Whole {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {} to {MAX_LAYERS}", self.least)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<usize, E> {
        match usize::try_from(number) {
            Ok(small) if (self.least..=MAX_LAYERS).contains(&number) => Ok(small),
            _ => Err(E::invalid_value(serde::de::Unexpected::Unsigned(number), &self)),
        }
    }
}
