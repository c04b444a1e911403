//! Docker's addition to OCI's image config: the command with which a runtime checks whether a container works. Source:
//! moby's `image-spec/specs-go/v1` (`HealthcheckConfig`).

use std::fmt;

use jiff::SignedDuration;
use nixply_documents::{Error, Result, document, wording};
use schemars::{JsonSchema, Schema};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A container's health check, in the form of the image's config.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `NONE`; or `CMD`, a program and its arguments; or `CMD-SHELL` and a line for the image's shell.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Nanoseconds between two checks. 0 means the runtime's default, here and below.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Nanoseconds until a check counts as failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Nanoseconds from the start during which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Nanoseconds between two checks during the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Number of consecutive failures that make a container unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// A health check in the form of a request. Its texts may name store paths, like the config's.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-nixply-names" = "config"), transform = only_if_not_empty)]
pub struct Request {
    /// The command: a line for the image's shell, or a list of a program and its arguments.
    #[schemars(with = "Test")]
    test: Value,
    /// Time between two checks.
    #[serde(default)]
    #[schemars(with = "Span")]
    interval: Option<Span>,
    /// Time until a check counts as failed.
    #[serde(default)]
    #[schemars(with = "Span")]
    timeout: Option<Span>,
    /// Time from the container's start in which failures do not count.
    #[serde(default)]
    #[schemars(with = "Span")]
    start_period: Option<Span>,
    /// Time between two checks during `startPeriod`.
    #[serde(default)]
    #[schemars(with = "Span")]
    start_interval: Option<Span>,
    /// Number of consecutive failures that make the container unhealthy.
    #[serde(default)]
    #[schemars(with = "u32")]
    retries: Option<u32>,
}

/// Lets a schema accept an object without keys: a health check that clears the base image's.
fn only_if_not_empty(schema: &mut Schema) {
    if let Some(required) = schema.remove("required") {
        schema.insert("if".into(), json!({ "minProperties": 1 }));
        schema.insert("then".into(), json!({ "required": required }));
    }
}

/// The forms of a health check's command.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only the schema uses it")]
enum Test {
    Line(String),
    Words(Vec<String>),
}

impl Healthcheck {
    /// Reads a health check from a request: `test` (a line for the image's shell, or a list with a program and its
    /// arguments, optionally after one of Docker's words), durations such as `"1m30s"`, and `retries`.
    ///
    /// An empty object is an empty health check: the image gets none, and does not inherit the base image's.
    pub fn from_request(value: Value) -> Result<Self> {
        if value.as_object().is_some_and(serde_json::Map::is_empty) {
            return Ok(Self::default());
        }
        let request: Request = document::fill_at(value, "", "healthcheck")?;
        let test = match request.test {
            Value::String(line) => vec!["CMD-SHELL".to_owned(), line],
            list => {
                let words: Vec<String> = match list {
                    Value::Array(_) => document::fill_at(list, "", "healthcheck.test")?,
                    other => {
                        let must = "a text or a list of texts";
                        return Err(Error::must("healthcheck.test", must, wording::value(&other)));
                    }
                };
                match words.first().map(String::as_str) {
                    None => return Err(Error::invalid("healthcheck.test", "it names no program")),
                    Some("NONE" | "CMD" | "CMD-SHELL") => words,
                    Some(_) => [vec!["CMD".to_owned()], words].concat(),
                }
            }
        };
        Ok(Self {
            test,
            interval: nanoseconds("interval", request.interval)?,
            timeout: nanoseconds("timeout", request.timeout)?,
            start_period: nanoseconds("startPeriod", request.start_period)?,
            start_interval: nanoseconds("startInterval", request.start_interval)?,
            retries: request.retries.unwrap_or(0).into(),
        })
    }
}

/// A duration in the form of a request, such as `"1m30s"`.
#[derive(JsonSchema)]
struct Span(String);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text such as \"30s\" or \"1m30s\"")
            }

            fn visit_str<E>(self, text: &str) -> Result<Span, E> {
                Ok(Span(text.to_owned()))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

fn nanoseconds(name: &str, text: Option<Span>) -> Result<i64> {
    let Some(Span(text)) = text else { return Ok(0) };
    let duration = text.parse::<SignedDuration>().ok();
    // Docker refuses less than a millisecond.
    let long = duration.filter(|duration| *duration >= SignedDuration::from_millis(1));
    let number = long.and_then(|duration| i64::try_from(duration.as_nanos()).ok());
    number.ok_or_else(|| {
        let must = "a duration of a millisecond or more, such as \"30s\" or \"1m30s\"";
        Error::must(format!("healthcheck.{name}"), must, wording::quoted(&text))
    })
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn a_request_is_converted_to_dockers_form() {
        let read = |value| serde_json::to_value(Healthcheck::from_request(value).unwrap()).unwrap();
        assert_eq!(read(json!({"test": "curl localhost"})), json!({"Test": ["CMD-SHELL", "curl localhost"]}));
        let all = json!({
            "test": ["/bin/check", "-q"], "interval": "1m30s", "timeout": "500ms", "startPeriod": "2s",
            "startInterval": "1s", "retries": 3,
        });
        let expected = json!({
            "Test": ["CMD", "/bin/check", "-q"], "Interval": 90_000_000_000_i64, "Timeout": 500_000_000,
            "StartPeriod": 2_000_000_000, "StartInterval": 1_000_000_000, "Retries": 3,
        });
        assert_eq!(read(all), expected);
        assert_eq!(read(json!({"test": ["NONE"], "interval": null})), json!({"Test": ["NONE"]}));
    }

    #[test]
    fn invalid_health_checks_are_reported() {
        let error = |value| Healthcheck::from_request(value).unwrap_err().to_string();
        assert!(error(json!({"test": []})).starts_with("healthcheck.test is not valid: it names no program"));
        for (value, message) in [
            (json!({"test": [1]}), "healthcheck.test[0] must be text, not the number 1"),
            (json!({"test": 1}), "healthcheck.test must be a text or a list of texts, not the number 1"),
            (json!({"interval": "1s"}), "healthcheck lacks the key `test`"),
            (
                json!({"test": "a", "every": "1s"}),
                "healthcheck cannot have the key `every`; its keys are test, interval, timeout, startPeriod, startInterval, retries",
            ),
            (
                json!({"test": "a", "interval": 5}),
                "healthcheck.interval must be text such as \"30s\" or \"1m30s\", not the number 5",
            ),
            (
                json!({"test": "a", "retries": -1}),
                "healthcheck.retries must be a whole number from 0 to 4294967295, not the number -1",
            ),
            (
                json!({"test": "a", "retries": "3"}),
                "healthcheck.retries must be a whole number, not the text \"3\"",
            ),
            (json!(["a"]), "healthcheck must be an object, not a list"),
        ] {
            assert_eq!(error(value), message);
        }
        for text in ["", "30", "1us", "-1s", "soon"] {
            let error = error(json!({"test": "a", "timeout": text}));
            assert!(error.starts_with("healthcheck.timeout must be a duration"), "{error}");
            assert!(error.ends_with(&format!(", not {text:?}")), "{error}");
        }
    }
}
