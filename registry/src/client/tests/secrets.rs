//! Secrets appear in no error, event or request to another host.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use nixply_packer::{PackedLayer, Progress};

use super::fake::{Act, Fake, Got, Instead, Profile};
use super::images::{BASIC, Images, PASSWORD, at, client_with, limits};
use crate::client::limits::Limits;
use crate::client::{Client, Credentials, FindCredentials};
use crate::content::{Observer, Read};
use crate::error::Result;

const IDENTITY: &str = "planted-identity-token";
const TOKEN: &str = "planted-bearer-token";
const SIGNATURE: &str = "planted-signature";

/// The texts that must not appear.
fn secrets() -> [String; 7] {
    let encoded: String = form_urlencoded::byte_serialize(PASSWORD.as_bytes()).collect();
    let basic = BASIC.strip_prefix("Basic ").unwrap().to_owned();
    [PASSWORD.into(), encoded, in_base64(), basic, IDENTITY.into(), TOKEN.into(), SIGNATURE.into()]
}

/// Returns the password alone in Base64.
fn in_base64() -> String {
    data_encoding::BASE64.encode(PASSWORD.as_bytes())
}

fn assert_clean(text: &str, case: &str) {
    for secret in secrets() {
        assert!(!text.contains(&secret), "{case}: {secret} in {text}");
    }
}

struct User(Credentials);

impl FindCredentials for User {
    fn find(&self, _host: &str, _repository: &str) -> Result<Option<Credentials>> {
        Ok(Some(self.0.clone()))
    }
}

fn clients() -> [Client; 2] {
    let limits = Limits { stall_timeout: Duration::from_millis(100), ..limits() };
    let basic = Credentials::Basic { user: "user".into(), password: PASSWORD.into() };
    [basic, Credentials::IdentityToken(IDENTITY.into())].map(|credentials| {
        assert_clean(&format!("{credentials:?}"), "credentials");
        client_with(Arc::new(User(credentials)), limits.clone())
    })
}

/// Keeps all events as text.
#[derive(Default)]
struct Events(Mutex<String>);

impl Events {
    fn add(&self, text: String) {
        self.0.lock().unwrap().push_str(&text);
    }
}

impl Progress for Events {
    fn layer_finished(&self, layer: usize, packed: &PackedLayer) {
        self.add(format!("{layer} {packed:?}"));
    }
}

impl Observer for Events {
    fn read_begun(&self, read: &Read) {
        self.add(format!("{read:?}"));
    }
    fn read_ended(&self, read: &Read, whole: bool) {
        self.add(format!("{read:?} {whole}"));
    }
}

/// Returns an error that repeats the secrets which the registry has received.
fn echo(status: u16, got: &Got) -> Instead {
    let authorization = got.authorization.clone().unwrap_or_default();
    let password = match authorization.starts_with("Basic ") {
        true => format!("{PASSWORD} {}", in_base64()),
        false => String::new(),
    };
    let line = got.line.replace('+', " ");
    Instead::error(status, &authorization, &format!("{authorization} {password} {} {line}", got.line))
}

type Decide = Box<dyn Fn(&Got) -> Option<Act> + Send + Sync>;

/// Failures of a registry, each with a name.
fn failures(storage: &Fake) -> Vec<(&'static str, Decide)> {
    let signed = format!("http://{}/upload?sig={SIGNATURE}", storage.address);
    let user_of = format!("http://user:{TOKEN}@{}/upload?sig={SIGNATURE}", storage.address);
    let to = move |place: String| -> Decide {
        Box::new(move |got: &Got| {
            let answer =
                Instead::new(if got.is("GET", "") { 307 } else { 202 }).with("Location", place.clone());
            (got.is("POST", "uploads/") || got.is("GET", "/blobs/")).then_some(Act::Instead(answer))
        })
    };
    let on = |is: fn(&Got) -> bool, act: fn(&Got) -> Act| -> Decide {
        Box::new(move |got: &Got| is(got).then(|| act(got)))
    };
    let is_write: fn(&Got) -> bool = |got| !got.is("GET", "") && !got.is("HEAD", "");
    vec![
        ("nothing", on(|_| false, |_| Act::Own)),
        ("refusal", on(is_write, |got| Act::Instead(echo(403, got)))),
        ("refused manifest", on(Got::is_manifest_put, |got| Act::Instead(echo(400, got)))),
        ("refused blob", on(Got::is_blob_put, |got| Act::Instead(echo(400, got)))),
        ("overload", on(Got::is_manifest_put, |got| Act::Instead(echo(503, got)))),
        ("reset", on(is_write, |_| Act::DropBefore)),
        ("reset after the body", on(Got::is_blob_put, |_| Act::DropAfter)),
        ("stall", on(Got::is_manifest_put, |_| Act::Stall(Duration::from_secs(30)))),
        ("cut answer", on(|got| got.is("GET", ""), |_| Act::Truncate)),
        ("unauthorized", on(is_write, |got| Act::Instead(echo(401, got)))),
        ("unreadable manifest", on(|got| got.is("GET", "/manifests/"), |got| Act::Instead(echo(400, got)))),
        ("no place", on(|got| got.is("POST", ""), |_| Act::Instead(Instead::new(202)))),
        ("storage", to(signed)),
        ("storage with a user", to(user_of)),
        ("private address", to(format!("http://10.0.0.1/x?sig={SIGNATURE}"))),
        ("no URL", to(format!("http://[{SIGNATURE}]/?sig={SIGNATURE}"))),
        ("closed port", to(format!("http://127.0.0.1:1/x?sig={SIGNATURE}"))),
        ("redirects for ever", to(format!("?sig={SIGNATURE}"))),
    ]
}

#[test]
fn secrets_are_in_no_error_event_or_request_to_another_host() {
    let images = Images::new();
    let spec = images.large();
    let storage = Fake::with(|got, _| Some(echo(403, got)));
    let mut errors = 0;
    for is_bearer in [true, false] {
        for (case, decide) in failures(&storage) {
            let service = Fake::with(|_, _| {
                let body = serde_json::json!({ "token": TOKEN }).to_string();
                Some(Instead { body, ..Instead::new(200) })
            });
            let bearer =
                format!("Bearer realm=\"http://{}/token?sig={SIGNATURE}\",service=\"r\"", service.address);
            let challenge = if is_bearer { bearer } else { "Basic realm=\"r\"".into() };
            let fake = Fake::new(Profile::default(), move |got, _| {
                if got.authorization.is_none() {
                    return Act::Instead(Instead::new(401).with("WWW-Authenticate", challenge.clone()));
                }
                decide(got).unwrap_or(Act::Own)
            });
            for client in clients() {
                let events = Arc::new(Events::default());
                let pushed =
                    images.push_with(&client, &fake, &spec, &["app:t"], Some("app:f"), events.clone());
                let learned = client.learn(&at(&fake, "app:t").unwrap()).map(|_| ());
                assert_clean(&events.0.lock().unwrap(), case);
                if let Ok(pushed) = &pushed {
                    assert_clean(&format!("{pushed:?}"), case);
                }
                for error in [pushed.err(), learned.err()].into_iter().flatten() {
                    errors += 1;
                    assert_clean(&error.chain(), case);
                    assert_clean(&format!("{error:?} {error:#?}"), case);
                }
            }
            for got in storage.requests() {
                let text = format!("{got:?}").replace(&format!("sig={SIGNATURE}"), "");
                assert_clean(&text, case);
                assert_eq!(got.authorization, None, "{case}");
            }
        }
    }
    assert!(errors > 40, "{errors}");
}

#[test]
fn token_services_that_fail_reveal_no_secret() {
    let images = Images::new();
    let spec = images.large();
    let text = |status, body: String| Some(Instead { body, ..Instead::new(status) });
    for nth_case in 0..6 {
        let service = Fake::with(move |got, _| match nth_case {
            0 => Some(echo(401, got)),
            1 => Some(echo(400, got)),
            2 => Some(echo(503, got)),
            3 => text(200, format!("{{\"token\": {}", secrets().join(" "))),
            4 => text(200, format!("{{\"tokens\": \"{TOKEN}\"}}")),
            _ => text(302, String::new()).map(|answer| answer.with("Location", format!("/?sig={SIGNATURE}"))),
        });
        let realms = [
            format!("http://{}/token?sig={SIGNATURE}", service.address),
            format!("no-url-{SIGNATURE}"),
            format!("ftp://{SIGNATURE}@{}/?sig={SIGNATURE}", service.address),
        ];
        for realm in realms {
            let challenge = format!("Bearer realm=\"{realm}\",service=\"r\"");
            let fake =
                Fake::with(move |_, _| Some(Instead::new(401).with("WWW-Authenticate", challenge.clone())));
            for client in clients() {
                let error = images.push(&client, &fake, &spec, &["app:t"]).unwrap_err();
                let case = format!("{nth_case} {realm}").replace(SIGNATURE, "");
                assert_clean(&error.chain(), &case);
                assert_clean(&format!("{error:?}"), &case);
            }
        }
    }
}
