//! Tests of the schema and of the facts that other frontends derive from it.

use serde_json::json;

use super::*;
use crate::request::image::ImageRequest;

/// Calls `f` with the place and schema of every argument that has a name.
fn walk(argument: Argument, place: &str, f: &mut dyn FnMut(&str, Argument)) {
    for (key, argument) in argument.keys() {
        let place = if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
        f(&place, argument);
        // Groups contain groups.
        if key != "groups" {
            walk(argument, &place, f);
            argument.element().into_iter().for_each(|element| walk(element, &format!("{place}[]"), f));
        }
    }
}

#[test]
fn every_argument_has_a_description() {
    let mut lacking = Vec::new();
    walk(ImageRequest::argument(), "", &mut |place, argument| {
        if !place.starts_with("config") && argument.schema()["description"].as_str().is_none() {
            lacking.push(place.to_owned());
        }
    });
    assert_eq!(lacking, [""; 0]);
}

#[test]
fn every_argument_of_images_and_layers_has_an_example() {
    let examples = |argument: Argument, within: &str| {
        argument
            .keys()
            .filter_map(|(key, argument)| {
                let text = argument.schema()["description"].as_str().unwrap_or_default();
                let example = text.split_once("```nix\n").and_then(|(_, rest)| rest.split_once("\n```"));
                let shows = example.is_some_and(|(example, _)| example.contains(key));
                (!shows).then(|| format!("{within}{key}"))
            })
            .collect::<Vec<_>>()
    };
    let layer = ImageRequest::argument().key("layers").unwrap().element().unwrap();
    assert_eq!(examples(ImageRequest::argument(), ""), [""; 0]);
    assert_eq!(examples(layer, "layers[]."), [""; 0]);
}

#[test]
fn arguments_that_name_store_paths_are_known_by_their_kind() {
    let mut places = Vec::new();
    walk(ImageRequest::argument(), "", &mut |place, argument| {
        if matches!(argument.names(), Names::Root) {
            places.push(place.to_owned());
        }
    });
    let expected = [
        "copyToRoot",
        "layers[].deps",
        "layers[].copyToRoot",
        "layers[].lock.file",
        "layers[].prebuilt",
        "lock",
        "fromImage",
        "nixDatabase.path",
    ];
    assert_eq!(places, expected);
    let request = json!({
        "name": "x", "copyToRoot": "/a", "config": {"Cmd": ["/c"]}, "perms": [{"path": "/p"}],
        "layers": [{"deps": ["/d", "/e"], "ignore": "/i", "lock": {"file": "/l", "image": "/no"}}],
        "nixDatabase": {"path": "/n"}, "groups": [{"depsOf": "/g"}],
    });
    let texts: Vec<String> = ImageRequest::argument()
        .root_texts(&request)
        .into_iter()
        .map(|text| format!("{} {}", text.place, text.text))
        .collect();
    let expected = [
        "copyToRoot /a",
        "layers[0].deps[0] /d",
        "layers[0].deps[1] /e",
        "layers[0].lock.file /l",
        "nixDatabase.path /n",
    ];
    assert_eq!(texts, expected);
}

#[test]
fn null_is_absent_except_in_values_of_the_user() {
    let given = json!({
        "tag": null, "config": {"User": null}, "annotations": {"a": null}, "nixDatabase": {"path": "/n", "uid": null},
        "layers": [null, {"deps": null, "metadata": {"author": null}, "perms": [{"regex": null}], "groups": [{"not": null}]}],
    });
    let cleaned = json!({
        "config": {"User": null}, "annotations": {"a": null}, "nixDatabase": {"path": "/n"},
        "layers": [null, {"metadata": {}, "perms": [{}], "groups": [{"not": null}]}],
    });
    assert_eq!(without_nulls(given, ImageRequest::argument()), cleaned);
}

#[test]
fn free_form_values_allow_every_key() {
    let config = ImageRequest::argument().key("config").unwrap();
    assert!(config.key("whatever").and_then(|any| any.key("inside")).is_some());
    assert_eq!(config.key("Env").unwrap().element().unwrap().names(), Names::Config);
    assert!(config.key("ExposedPorts").unwrap().key("80/tcp").unwrap().takes_object());
    assert_eq!(
        ImageRequest::argument().key("healthcheck").unwrap().key("test").unwrap().names(),
        Names::Config
    );
    assert!(
        ImageRequest::argument().key("nmae").is_none()
            && ImageRequest::argument().key("perms").unwrap().key("x").is_none()
    );
    let annotations = ImageRequest::argument().key("annotations").unwrap();
    assert_eq!(annotations.key("org.example").unwrap().names(), Names::Nothing);
    assert!(!ImageRequest::argument().key("maxLayers").unwrap().takes_object());
    assert!(ImageRequest::argument().key("maxLayers").unwrap().element().is_none());
    let group = ImageRequest::argument().key("groups").unwrap().element().unwrap();
    assert!(group.takes_object());
    assert_eq!(group.names(), Names::Mention);
}

#[test]
fn a_predicate_requires_no_particular_key() {
    let group = ImageRequest::argument().key("groups").unwrap().element().unwrap();
    let required: Vec<&Value> =
        group.alternatives().into_iter().filter_map(|schema| schema.get("required")).collect();
    assert_eq!(required, [&json!(["paths"])]);
}

#[test]
fn a_request_is_read_as_it_was_written() {
    let given = json!({
        "name": "x", "labels": {"a": "b"}, "copyToRoot": "/a", "parents": [0], "maxLayers": 7, "strategy": "nixply",
        "layers": [{"deps": ["/d"], "metadata": {"author": "w"}, "lock": {"file": "/l", "image": "web"}}],
        "healthcheck": {"test": "true"}, "nixDatabase": {"path": "/n", "uid": 1}, "compression": "zstd", "layerLimit": 9,
    });
    let written =
        |text: &str| serde_json::to_value(ImageRequest::from_json(text, "request").unwrap()).unwrap();
    let once = written(&given.to_string());
    assert_eq!(written(&once.to_string()), once);
    for (key, value) in
        [("strategy", json!("min-churn")), ("compression", json!("zstd:3")), ("copyToRoot", json!(["/a"]))]
    {
        assert_eq!(once[key], value, "{key}");
    }
    for key in ["name", "labels", "parents", "maxLayers", "healthcheck", "layerLimit"] {
        assert_eq!(once[key], given[key], "{key}");
    }
    assert_eq!(once["layers"][0]["metadata"]["author"], "w");
    assert_eq!(once["layers"][0]["lock"], given["layers"][0]["lock"]);
    assert_eq!((&once["nixDatabase"]["path"], &once["nixDatabase"]["uid"]), (&json!("/n"), &json!(1)));
}
