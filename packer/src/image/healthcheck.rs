//! Docker's addition to OCI's image config: how a runtime finds out whether a container works. Source: moby's
//! `image-spec/specs-go/v1` (`HealthcheckConfig`).

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};

/// A container's health check, as the image's config has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `NONE`, or `CMD` and a program with its arguments, or `CMD-SHELL` and a line for the image's shell.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Nanoseconds between two checks; 0 is the runtime's default, here and below.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Nanoseconds until a check counts as failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Nanoseconds from the start in which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Nanoseconds between two checks in that time.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// How many failures in a row make a container unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    test: Value,
    #[serde(default)]
    interval: Option<String>,
    #[serde(default)]
    timeout: Option<String>,
    #[serde(default)]
    start_period: Option<String>,
    #[serde(default)]
    start_interval: Option<String>,
    #[serde(default)]
    retries: Option<u32>,
}

impl Healthcheck {
    /// Reads a health check as it stands in a request: `test` (a line for the image's shell, or a list: a program with its
    /// arguments, perhaps after one of Docker's words), durations as in `"1m30s"`, `retries`.
    pub fn from_request(value: Value) -> Result<Self> {
        let request: Request =
            serde_json::from_value(value).map_err(|error| Error::invalid("healthcheck", error))?;
        let test = match request.test {
            Value::String(line) => vec!["CMD-SHELL".to_owned(), line],
            list => {
                let words: Vec<String> = serde_json::from_value(list).map_err(|_| {
                    Error::invalid("healthcheck.test", "expected a string or a list of strings")
                })?;
                match words.first().map(String::as_str) {
                    None => return Err(Error::invalid("healthcheck.test", "there is nothing to run in it")),
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

fn nanoseconds(name: &str, text: Option<String>) -> Result<i64> {
    let Some(text) = text else { return Ok(0) };
    let duration = text.parse::<SignedDuration>().ok();
    // Docker refuses less than a millisecond.
    let long = duration.filter(|duration| *duration >= SignedDuration::from_millis(1));
    let number = long.and_then(|duration| i64::try_from(duration.as_nanos()).ok());
    number.ok_or_else(|| {
        let why = "expected a duration of a millisecond or more, as in \"30s\" or \"1m30s\"";
        Error::invalid(format!("healthcheck.{name} {text:?}"), why)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_becomes_dockers_form() {
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
    fn wrong_health_checks_are_named() {
        let error = |value| Healthcheck::from_request(value).unwrap_err().to_string();
        assert!(error(json!({"test": []})).starts_with("healthcheck.test is not valid: there is nothing"));
        assert!(
            error(json!({"test": [1]})).starts_with("healthcheck.test is not valid: expected a string or")
        );
        assert!(error(json!({"interval": "1s"})).contains("missing field `test`"));
        assert!(error(json!({"test": "a", "every": "1s"})).contains("unknown field `every`"));
        for text in ["", "30", "1us", "-1s", "soon"] {
            let error = error(json!({"test": "a", "timeout": text}));
            assert!(error.starts_with(&format!("healthcheck.timeout {text:?} is not valid")), "{error}");
        }
    }
}
