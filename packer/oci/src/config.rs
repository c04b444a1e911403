//! The runtime part of an image's config: OCI image-spec's `config` object, read as Go reads it.

use std::collections::{BTreeMap, BTreeSet};

use nixply_documents::document::{self, MUST, WITHIN};
use nixply_documents::{Error, Result, wording};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::healthcheck::Healthcheck;

/// Settings that a runtime applies to the image's containers. Fields and their order are those of `ImageConfig` in
/// image-spec's Go types. The spec file and the config blob both contain it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", try_from = "Value")]
pub struct ImageConfig {
    /// User and group, by name or number.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Ports, such as `80/tcp`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// Environment variables, as `NAME=value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program and its first arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Default arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Paths of volumes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// The working directory.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that stops the container.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Whether the arguments are escaped. Windows only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    /// Health check: Docker's extension, not part of OCI. Present only if a request sets one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
}

/// Keys of a config whose values are not null. They distinguish an empty value from a missing one.
#[derive(Debug, Clone, Default)]
pub struct Given(BTreeSet<String>);

impl Given {
    /// Returns the keys of `config`, which may be in any case.
    pub fn of(config: &Value) -> Self {
        let given = config.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        Self(given.map(|(key, _)| key.to_ascii_lowercase()).collect())
    }

    /// Returns whether `key`, in lower case, is given.
    fn has(&self, key: &str) -> bool {
        self.0.contains(key)
    }
}

/// Go's `struct{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Empty {}

impl ImageConfig {
    /// Returns this config on top of a base image's, like Docker's `FROM`: variables, ports, volumes and labels are added to
    /// the base's and override them. Every other field that is set here replaces the base's. If `Entrypoint` is set here,
    /// the base's `Cmd` is dropped, because it belongs to the base's `Entrypoint`. A field that is `given` with an empty
    /// value is empty.
    #[must_use]
    pub fn on_top_of(self, base: Self, given: &Given) -> Self {
        fn name(variable: &str) -> &str {
            variable.split('=').next().unwrap_or_default()
        }
        fn cleared<T: Default + PartialEq>(own: &T, is_given: bool) -> bool {
            is_given && *own == T::default()
        }
        let or =
            |key: &str, own: String, base: String| if own.is_empty() && !given.has(key) { base } else { own };
        let mut env = if cleared(&self.env, given.has("env")) { Vec::new() } else { base.env };
        for variable in self.env {
            match env.iter_mut().find(|there| name(there) == name(&variable)) {
                Some(there) => *there = variable,
                None => env.push(variable),
            }
        }
        let mut labels =
            if cleared(&self.labels, given.has("labels")) { BTreeMap::new() } else { base.labels };
        labels.extend(self.labels);
        let added = |key: &str, own: BTreeMap<String, Empty>, mut base: BTreeMap<String, Empty>| {
            if cleared(&own, given.has(key)) {
                base.clear();
            }
            base.extend(own);
            base
        };
        let own_entrypoint = given.has("entrypoint") || !self.entrypoint.is_empty();
        let (entrypoint, base_cmd) =
            if own_entrypoint { (self.entrypoint, Vec::new()) } else { (base.entrypoint, base.cmd) };
        let own_cmd = given.has("cmd") || !self.cmd.is_empty();
        Self {
            user: or("user", self.user, base.user),
            exposed_ports: added("exposedports", self.exposed_ports, base.exposed_ports),
            env,
            entrypoint,
            cmd: if own_cmd { self.cmd } else { base_cmd },
            volumes: added("volumes", self.volumes, base.volumes),
            working_dir: or("workingdir", self.working_dir, base.working_dir),
            labels,
            stop_signal: or("stopsignal", self.stop_signal, base.stop_signal),
            args_escaped: if given.has("argsescaped") {
                self.args_escaped
            } else {
                self.args_escaped || base.args_escaped
            },
            healthcheck: self.healthcheck.or(base.healthcheck),
        }
    }

    /// Reads a config as Go's `encoding/json` does: keys in any case, null as the zero value. Also returns the keys that
    /// OCI's config does not have (such as Docker's `Healthcheck`) and that are therefore left out. A key that occurs twice,
    /// in different case, is an error: Go would silently drop one of the two.
    pub fn from_value(value: Value) -> Result<(Self, Vec<String>)> {
        Self::read("config", value)
    }

    /// Like [`ImageConfig::from_value`], with the config's name for messages.
    fn read(name: &str, value: Value) -> Result<(Self, Vec<String>)> {
        let object = match value {
            Value::Null => Map::new(),
            Value::Object(object) => object,
            other => return Err(wrong(name, "an object", &other)),
        };
        let (mut config, mut unknown) = (Self::default(), Vec::new());
        let mut spelled: BTreeMap<String, String> = BTreeMap::new();
        for (key, value) in object {
            let lower = key.to_ascii_lowercase();
            if let Some(first) = spelled.insert(lower.clone(), key.clone()) {
                let why = format!("{name}.{first} is also set, and keys ignore case: remove one of the two");
                return Err(Error::invalid(format!("{name}.{key}"), why));
            }
            match lower.as_str() {
                "user" => set(&mut config.user, string(&format!("{name}.User"), value)?),
                "exposedports" => {
                    set(&mut config.exposed_ports, set_of(&format!("{name}.ExposedPorts"), value)?)
                }
                "env" => set(&mut config.env, strings(&format!("{name}.Env"), value)?),
                "entrypoint" => set(&mut config.entrypoint, strings(&format!("{name}.Entrypoint"), value)?),
                "cmd" => set(&mut config.cmd, strings(&format!("{name}.Cmd"), value)?),
                "volumes" => set(&mut config.volumes, set_of(&format!("{name}.Volumes"), value)?),
                "workingdir" => set(&mut config.working_dir, string(&format!("{name}.WorkingDir"), value)?),
                "labels" => set(&mut config.labels, labels(&format!("{name}.Labels"), value)?),
                "stopsignal" => set(&mut config.stop_signal, string(&format!("{name}.StopSignal"), value)?),
                "argsescaped" => match value {
                    Value::Null => {}
                    Value::Bool(escaped) => config.args_escaped = escaped,
                    other => return Err(wrong(&format!("{name}.ArgsEscaped"), "true or false", &other)),
                },
                _ => unknown.push(key),
            }
        }
        Ok((config, unknown))
    }
}

/// Reads a config from a document, including a health check. Error messages start with the place within the config, so that they
/// continue the config's name in the document.
impl TryFrom<Value> for ImageConfig {
    type Error = Error;
    fn try_from(value: Value) -> Result<Self> {
        let is_healthcheck = |(key, _): &(&String, &Value)| key.eq_ignore_ascii_case("healthcheck");
        let healthcheck = value.as_object().and_then(|object| object.iter().find(is_healthcheck));
        let healthcheck =
            healthcheck.map(|(key, value)| document::fill_at(value.clone(), "", &format!("{WITHIN}{key}")));
        let healthcheck = healthcheck.transpose()?;
        let (config, _) = Self::read("", value)?;
        Ok(Self { healthcheck: healthcheck.flatten(), ..config })
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn wrong(place: &str, expected: &str, found: &Value) -> Error {
    match place {
        "" => Error::Content(format!("{MUST}be {expected}, not {}", wording::value(found))),
        place => Error::must(wording::line(place), expected, wording::value(found)),
    }
}

fn string(place: &str, value: Value) -> Result<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        other => Err(wrong(place, "text", &other)),
    }
}

fn strings(place: &str, value: Value) -> Result<Option<Vec<String>>> {
    match value {
        Value::Null => Ok(None),
        Value::Array(list) => {
            let elements = list.into_iter().enumerate();
            let read =
                |(at, element)| string(&format!("{place}[{at}]"), element).map(Option::unwrap_or_default);
            elements.map(read).collect::<Result<_>>().map(Some)
        }
        other => Err(wrong(place, "a list of texts", &other)),
    }
}

fn set_of(place: &str, value: Value) -> Result<Option<BTreeMap<String, Empty>>> {
    match value {
        Value::Null => Ok(None),
        Value::Object(object) => object
            .into_iter()
            .map(|(key, value)| match value {
                Value::Object(_) | Value::Null => Ok((key, Empty {})),
                other => Err(wrong(&format!("{place}.{key:?}"), "an empty object", &other)),
            })
            .collect::<Result<_>>()
            .map(Some),
        other => Err(wrong(place, "an object", &other)),
    }
}

fn labels(place: &str, value: Value) -> Result<Option<BTreeMap<String, String>>> {
    match value {
        Value::Null => Ok(None),
        Value::Object(object) => object
            .into_iter()
            .map(|(key, value)| {
                let text = string(&format!("{place}.{key:?}"), value)?;
                Ok((key, text.unwrap_or_default()))
            })
            .collect::<Result<_>>()
            .map(Some),
        other => Err(wrong(place, "an object", &other)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_have_any_case_unknown_keys_are_returned_and_maps_are_sorted() {
        let value = json!({
            "entrypoint": ["/a"], "ENV": null, "Cmd": [null, "x"], "labels": {"b": "2", "a": null},
            "exposedports": {"80/tcp": {}, "22/tcp": null}, "healthcheck": {"Test": ["x"]}, "Argsescaped": true,
        });
        let (config, unknown) = ImageConfig::from_value(value).unwrap();
        assert_eq!(unknown, ["healthcheck"]);
        assert_eq!(
            serde_json::to_string(&config).unwrap(),
            r#"{"ExposedPorts":{"22/tcp":{},"80/tcp":{}},"Entrypoint":["/a"],"Cmd":["","x"],"Labels":{"a":"","b":"2"},"ArgsEscaped":true}"#
        );
        assert_eq!(ImageConfig::from_value(json!({})).unwrap().0, ImageConfig::default());
    }

    /// nix2container#79: its images inherit nothing.
    #[test]
    fn nix2container_79_config_inherits_from_the_base_image() {
        let config = |value: Value| ImageConfig::try_from(value).unwrap();
        let base = config(json!({
            "User": "u", "Env": ["PATH=/bin", "A=1"], "Entrypoint": ["/sh"], "Cmd": ["-l"], "WorkingDir": "/w",
            "ExposedPorts": {"80/tcp": {}}, "Labels": {"a": "1", "b": "1"}, "StopSignal": "SIGINT",
            "Healthcheck": {"Test": ["CMD", "/x"], "Interval": 5},
        }));
        let own = config(
            json!({"env": ["A=2", "B=3"], "cmd": ["-c"], "labels": {"b": "2"}, "exposedPorts": {"22/tcp": {}}}),
        );
        let expected = config(json!({
            "User": "u", "Env": ["PATH=/bin", "A=2", "B=3"], "Entrypoint": ["/sh"], "Cmd": ["-c"], "WorkingDir": "/w",
            "ExposedPorts": {"22/tcp": {}, "80/tcp": {}}, "Labels": {"a": "1", "b": "2"}, "StopSignal": "SIGINT",
            "Healthcheck": {"Test": ["CMD", "/x"], "Interval": 5},
        }));
        let none = Given::default();
        assert_eq!(own.on_top_of(base.clone(), &none), expected);
        let other = config(json!({"Entrypoint": ["/other"]})).on_top_of(base.clone(), &none);
        assert_eq!((other.entrypoint, other.cmd), (vec!["/other".to_owned()], Vec::new()));
        assert_eq!(ImageConfig::default().on_top_of(base.clone(), &none), base);
        let json = serde_json::to_value(&base).unwrap();
        assert_eq!(config(json), base, "a written config is read unchanged");
    }

    /// An empty value clears a field; a null or absent value inherits it.
    #[test]
    fn empty_values_clear_the_base_images_fields() {
        let base = json!({
            "User": "u", "Env": ["A=1"], "Entrypoint": ["/sh"], "Cmd": ["-l"], "WorkingDir": "/w", "Volumes": {"/v": {}},
            "ExposedPorts": {"80/tcp": {}}, "Labels": {"a": "1"}, "StopSignal": "SIGINT", "ArgsEscaped": true,
        });
        let on_base = |own: Value| {
            let given = Given::of(&own);
            let config = |value: &Value| ImageConfig::try_from(value.clone()).unwrap();
            serde_json::to_value(config(&own).on_top_of(config(&base), &given)).unwrap()
        };
        for (key, empty) in [
            ("user", json!("")),
            ("Env", json!([])),
            ("CMD", json!([])),
            ("WorkingDir", json!("")),
            ("Volumes", json!({})),
            ("ExposedPorts", json!({})),
            ("Labels", json!({})),
            ("StopSignal", json!("")),
            ("ArgsEscaped", json!(false)),
        ] {
            let mut expected = base.as_object().unwrap().clone();
            expected.retain(|name, _| !name.eq_ignore_ascii_case(key));
            assert_eq!(on_base(json!({ key: empty })), Value::Object(expected), "{key}");
            assert_eq!(on_base(json!({ key: null })), base, "{key}");
        }
        let without = on_base(json!({"Entrypoint": []}));
        assert!(
            without.get("Entrypoint").is_none() && without.get("Cmd").is_none(),
            "an empty Entrypoint drops the base's Cmd, as in Docker: {without}"
        );
        assert_eq!(on_base(json!({"Entrypoint": [], "Cmd": ["x"]}))["Cmd"], json!(["x"]));
    }

    #[test]
    fn a_wrong_type_is_reported_with_its_place() {
        let error = |value| ImageConfig::from_value(value).unwrap_err().to_string();
        assert_eq!(error(json!({"Cmd": "x"})), "config.Cmd must be a list of texts, not the text \"x\"");
        assert_eq!(error(json!({"env": ["a", 1]})), "config.Env[1] must be text, not the number 1");
        assert_eq!(error(json!({"user": 1000})), "config.User must be text, not the number 1000");
        assert_eq!(error(json!([])), "config must be an object, not a list");
        assert_eq!(
            error(json!({"Entrypoint": ["/a"], "entrypoint": ["/b"]})),
            "config.entrypoint is not valid: config.Entrypoint is also set, and keys ignore case: remove one of the two"
        );
    }
}
