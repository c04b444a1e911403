//! Values of an image's config that runtimes ignore or refuse. nix2container accepts them, so they cause a warning: an error
//! would break expressions that build today.

use nixply_documents::wording::quoted;

use super::config::ImageConfig;

/// Returns a warning for each doubtful value of a config.
pub fn config_warnings(config: &ImageConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |place: &str, value: &str, expected: &str| {
        warnings.push(format!("{place} {} is not {expected}: runtimes ignore or refuse it", quoted(value)));
    };
    for (at, variable) in config.env.iter().enumerate() {
        if variable.find('=').is_none_or(|end| end == 0) {
            warn(&format!("config.Env[{at}]"), variable, "NAME=value");
        }
    }
    for port in config.exposed_ports.keys().filter(|port| !is_port(port)) {
        warn(
            "config.ExposedPorts",
            port,
            "a port from 1 to 65535, optionally followed by /tcp, /udp or /sctp",
        );
    }
    for volume in config.volumes.keys().filter(|volume| !volume.starts_with('/')) {
        warn("config.Volumes", volume, "an absolute path");
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        warn("config.WorkingDir", &config.working_dir, "an absolute path");
    }
    if !config.stop_signal.is_empty() && !is_signal(&config.stop_signal) {
        warn("config.StopSignal", &config.stop_signal, "a signal, as in SIGTERM or 15");
    }
    warnings
}

/// Accepts `80`, `80/tcp` and `8000-8010/udp`. Source: github.com/docker/go-connections, nat.
fn is_port(text: &str) -> bool {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| text.parse::<u16>().ok().filter(|number| *number > 0 && !text.starts_with('+'));
    let range = number(first).zip(number(last)).is_some_and(|(first, last)| first <= last);
    range && ["tcp", "udp", "sctp"].contains(&protocol.to_ascii_lowercase().as_str())
}

fn is_signal(text: &str) -> bool {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let is_name = name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || b"+-".contains(&c));
    is_name || text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn values_that_no_runtime_accepts_cause_warnings() {
        let warnings = |config: Value| config_warnings(&ImageConfig::from_value(config).unwrap().0);
        let fine = json!({
            "Env": ["A=1", "B="], "ExposedPorts": {"80": {}, "80/tcp": {}, "8000-8010/udp": {}, "1/SCTP": {}},
            "Volumes": {"/data": {}}, "WorkingDir": "/", "StopSignal": "SIGRTMIN+3",
        });
        assert_eq!(warnings(fine), Vec::<String>::new());
        assert_eq!(warnings(json!({"StopSignal": "15", "Volumes": null})), Vec::<String>::new());
        for (config, warning) in [
            (json!({"Env": ["A=1", "a"]}), "config.Env[1] \"a\" is not NAME=value"),
            (json!({"Env": ["=a"]}), "config.Env[0] \"=a\" is not NAME=value"),
            (json!({"ExposedPorts": {"80/foo": {}}}), "config.ExposedPorts \"80/foo\" is not a port"),
            (json!({"ExposedPorts": {"0/tcp": {}}}), "config.ExposedPorts \"0/tcp\" is not a port"),
            (json!({"ExposedPorts": {"http": {}}}), "config.ExposedPorts \"http\" is not a port"),
            (json!({"ExposedPorts": {"9-8/tcp": {}}}), "config.ExposedPorts \"9-8/tcp\" is not a port"),
            (json!({"Volumes": {"data": {}}}), "config.Volumes \"data\" is not an absolute path"),
            (json!({"WorkingDir": "app"}), "config.WorkingDir \"app\" is not an absolute path"),
            (json!({"StopSignal": "term"}), "config.StopSignal \"term\" is not a signal"),
        ] {
            let all = warnings(config);
            assert!(all.len() == 1 && all[0].starts_with(warning), "{all:?}");
        }
    }
}
