//! Studies of histories that are small enough to verify by hand.

use std::fs;
use std::path::PathBuf;

use nixply_planning::PathInfo;
use nixply_study::compare::{Comparison, Study};
use nixply_study::history::{Fleet, History, Propagation, Subject};
use nixply_study::replay::{Contender, Replay};
use nixply_study::report::{Report, VERSION, headline, measure};
use nixply_study::sizes::Sizes;
use nixply_study::summary::Spread;
use tempfile::TempDir;

/// Two images with a common base: package a changes in r2, the base in r3, and nothing in r4.
const SMALL: &str = r#"{"format":"nixply-history","version":1,"about":"Two <b>images</b> & a base.","images":{"A & <a>":["a"],"B":["b"]},
"releases":[
{"name":"r1","set":{"base":{"source":"base","version":"1","size":100,"references":[]},
 "a":{"source":"a","version":"1","size":10,"references":["base"]},
 "b":{"source":"b","version":"1","size":20,"references":["base"]}}},
{"name":"r2","set":{"a":{"source":"a","version":"2","size":12,"references":["base"]}}},
{"name":"r3","set":{"base":{"source":"base","version":"2","size":101,"references":[]}}},
{"name":"r4","set":{}}]}"#;

struct Directory(TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.0.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        file
    }

    /// Returns the error for a file or directory, without the path of the temporary directory.
    fn error(&self, name: &str, propagation: Propagation) -> String {
        let error = Subject::read(&self.0.path().join(name), propagation).unwrap_err();
        error.to_string().replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn small(propagation: Propagation) -> History {
    History::read(&Directory::new().write("small.json", SMALL), propagation).unwrap()
}

fn study(names: &[&str], limits: &[usize]) -> Study {
    let contenders = names.iter().map(|name| Contender::from_name(name).unwrap()).collect();
    Study { contenders, limits: limits.to_vec(), warm_up: 0 }
}

fn compared(study: &Study, history: &History) -> Comparison {
    study.compare(history, &Sizes::default(), &|| ()).unwrap()
}

#[test]
fn metrics_of_a_small_history() {
    let comparison = compared(&study(&["single", "min-churn+lock"], &[2]), &small(Propagation::Dependents));
    let floor = &comparison.floor;
    assert_eq!(floor.series.pushed, [130, 12, 133, 0]);
    // A's client fetches base and a, B's client base and b.
    assert_eq!(floor.series.pulled, [0, 6, 117, 0]);
    assert_eq!(floor.summary.pushed, Spread { mean: 48, p95: 133 });
    assert_eq!((comparison.paths, comparison.bytes, floor.to_floor), (3, 133, Some(1.0)));

    let [single, locked] = &comparison.limits[0].strategies[..] else { panic!("{comparison:?}") };
    assert_eq!(single.series.pushed, [230, 112, 234, 0]);
    assert_eq!(single.series.registry, [230, 342, 576, 576]);
    assert_eq!(single.series.pulled, [0, 56, 117, 0]);
    assert_eq!(single.series.layers_changed, [2, 1, 2, 0]);
    assert_eq!(single.to_floor, Some(2.3958));
    let summary = &single.summary;
    assert_eq!(summary.pushed, Spread { mean: 115, p95: 234 });
    assert_eq!((summary.layers_changed, summary.layer_count, summary.churned), (1.0, 2, 0));
    assert_eq!((summary.stored, summary.duplicates, summary.registry), (234, 101, 576));
    assert_eq!((summary.shared, summary.shareable), (0.0, 0.4316));
    let layers: Vec<_> = single
        .layers
        .iter()
        .map(|layer| (&layer.images[..], layer.bytes, layer.paths, layer.changes))
        .collect();
    assert_eq!(layers, [(&[1][..], 121, 2, 1), (&[0], 113, 2, 2)]);
    assert_eq!(single.layers[0].largest, ["base-2", "b-1"]);

    // Two layers for two paths reach the floor.
    assert_eq!((&locked.series, locked.to_floor), (&floor.series, Some(1.0)));
    assert_eq!((locked.summary.duplicates, locked.summary.shared), (0, 0.4316));
    let expected = "min-churn+lock pushes the least: 48 B a release with 2 layers, 1.00 times the floor; single pushes 2.4 times \
                    as much; shared layers save 43.2 % of the 43.2 % that they could";
    assert_eq!(headline(&comparison), expected);
}

#[test]
fn packages_change_alone_without_propagation() {
    let comparison = compared(&study(&["single"], &[1]), &small(Propagation::Alone));
    assert_eq!(comparison.floor.series.pushed, [130, 12, 101, 0]);
    assert_eq!(comparison.limits[0].strategies[0].series.pushed, [230, 112, 234, 0]);
}

#[test]
fn new_layers_of_known_paths_count_as_churn() {
    let text = r#"{"format":"nixply-history","version":1,"images":{"i":["a"]},"releases":[
        {"name":"1","set":{"x":{"source":"x","version":"1","size":5,"references":[]},
                           "a":{"source":"a","version":"1","size":10,"references":["x"]}}},
        {"name":"2","removed":["x"],"set":{"a":{"source":"a","version":"1","size":10,"references":[]}}}]}"#;
    let history = History::read(&Directory::new().write("h.json", text), Propagation::Alone).unwrap();
    let comparison = compared(&study(&["single"], &[1]), &history);
    let single = &comparison.limits[0].strategies[0];
    assert_eq!((&single.series.pushed[..], &single.series.churned[..]), (&[15, 10][..], &[0, 10][..]));
    // The floor pushes nothing, so there is no ratio.
    assert_eq!((comparison.floor.summary.pushed.mean, single.to_floor), (0, None));
}

#[test]
fn warm_up_is_planned_but_not_measured() {
    let history = small(Propagation::Dependents);
    let study = Study { warm_up: 1, ..study(&["single"], &[1]) };
    let comparison = compared(&study, &history);
    assert_eq!((comparison.measured, comparison.floor.summary.pushed.mean), (2, 67));
    assert_eq!(comparison.floor.series.pushed.len(), 4);
    let error = Study { warm_up: 3, ..study }.compare(&history, &Sizes::default(), &|| ()).unwrap_err();
    let expected = "history small: it has 4 releases, and none is left after the first and a warm-up of 3";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn unknown_compressed_sizes_are_estimated() {
    let history = small(Propagation::Dependents);
    let compare = |sizes: &Sizes| study(&["single"], &[1]).compare(&history, sizes, &|| ()).unwrap();
    let none = compare(&Sizes::compressed(&history, "zstd:3", |_| None));
    assert_eq!(none.floor.series.pushed, [39, 4, 40, 0]);
    let expected =
        "compressed with zstd:3, estimated by an assumed ratio of 0.3: the cache knows none of 7 paths";
    assert_eq!(measure(&none), expected);
    // The first versions of two packages are known: half of base, a fifth of a, and 52 of 110 in total.
    let known = |info: &PathInfo| match info.path.name() {
        "base-1" => Some(50),
        "a-1" => Some(2),
        _ => None,
    };
    let some = compare(&Sizes::compressed(&history, "gzip", known));
    let prediction = some.prediction.as_ref().unwrap();
    assert_eq!((prediction.known_paths, prediction.package_paths, prediction.paths), (2, 3, 7));
    assert_eq!((prediction.ratio, prediction.assumed), (0.4727, false));
    // 50 + 2 + 9, 2, 51 + 2 + 9.
    assert_eq!(some.floor.series.pushed, [61, 2, 62, 0]);
    let expected = "compressed with gzip: 2 of 7 paths measured (from the cache), 3 estimated from other versions, \
                    the rest from the mean ratio, 0.4727";
    assert_eq!(measure(&some), expected);
}

#[test]
fn history_can_be_limited_to_some_releases() {
    let names = |history: &History| history.releases.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
    let mut history = small(Propagation::Dependents);
    history.retain(Some("r2"), Some("r3")).unwrap();
    assert_eq!(names(&history), ["r2", "r3"]);
    history.retain(None, None).unwrap();
    assert_eq!(names(&history), ["r2", "r3"]);
    let mut error = |first, last| history.retain(first, last).unwrap_err().to_string();
    let missing = "history small: it has no release \"r9\": it begins with r2 and ends with r3";
    assert_eq!(error(None, Some("r9")), missing);
    assert_eq!(error(Some("r3"), Some("r2")), "history small: release r3 comes after release r2");
}

/// A closure of app and its library, with these sizes.
fn closure(version: &str, app: u64, library: u64) -> String {
    let path = |name: &str, size: u64| format!("/nix/store/{size:0>32}-{name}");
    format!(
        r#"{{"{app_path}":{{"references":["{library_path}","{app_path}"],"narSize":{app},"narHash":""}},
            "{library_path}":{{"references":[],"narSize":{library},"narHash":""}}}}"#,
        app_path = path(&format!("app-{version}"), app),
        library_path = path("library", library),
    )
}

#[test]
fn releases_of_a_directory_are_in_natural_order() {
    let directory = Directory::new();
    for (name, app) in [("v9", 9), ("v10", 10), ("v8", 8)] {
        directory.write(&format!("flat/{name}.json"), &closure(name, app, 100));
        directory.write(&format!("deep/{name}/web.json"), &closure(name, app, 100));
    }
    directory.write("flat/README.md", "not a closure");
    directory.write("flat/.hidden.json", "not a closure");
    // Another image starts in the second release.
    directory.write("deep/v9/tool.json", &closure("1", 30, 100));
    directory.write("deep/v10/tool.json", &closure("2", 31, 100));
    let read =
        |name: &str| match Subject::read(&directory.0.path().join(name), Propagation::Dependents).unwrap() {
            Subject::History(history) => history,
            Subject::Closures(_) => panic!("{name} must be a history"),
        };
    let flat = read("flat");
    let names: Vec<&str> = flat.releases.iter().map(|release| release.name.as_str()).collect();
    assert_eq!(
        (names, &flat.images[..], flat.name.as_str()),
        (vec!["v8", "v9", "v10"], &["image".to_owned()][..], "flat")
    );
    assert_eq!(flat.releases[2].roots[0][0].name(), "app-v10");
    let floor = Replay::of(&flat, &Contender::Floor, 1, &Sizes::default(), &|| ()).unwrap();
    assert_eq!(floor.releases.iter().map(|moved| moved.pushed).collect::<Vec<_>>(), [108, 9, 10]);

    let deep = read("deep");
    assert_eq!(deep.images, ["tool", "web"]);
    let floor = Replay::of(&deep, &Contender::Floor, 1, &Sizes::default(), &|| ()).unwrap();
    assert_eq!(floor.releases.iter().map(|moved| moved.pushed).collect::<Vec<_>>(), [108, 39, 41]);
    // No client has a previous release of a new image.
    let pulled: Vec<_> = floor.releases.iter().map(|moved| moved.pulled.clone()).collect();
    assert_eq!(pulled, [vec![], vec![9], vec![31, 10]]);
}

#[test]
fn single_closures_are_not_histories() {
    let directory = Directory::new();
    directory.write("one/only.json", &closure("1", 10, 100));
    for name in ["one", "one/only.json"] {
        match Subject::read(&directory.0.path().join(name), Propagation::Dependents).unwrap() {
            Subject::Closures(closures) => assert_eq!((closures.len(), closures[0].1.len()), (1, 2)),
            Subject::History(_) => panic!("{name} must be a closure"),
        }
    }
    let Subject::Closures(closures) =
        Subject::read(&directory.0.path().join("one"), Propagation::Dependents).unwrap()
    else {
        unreachable!()
    };
    let found =
        study(&["single", "min-churn", "min-churn+lock"], &[1, 2]).expect("one", &closures[0].1).unwrap();
    // The library and its dependent move 110, the app alone 10. The library changes half as often as the app.
    let floor = &found.floor;
    assert_eq!((floor.structural, floor.even, floor.leaves), (43, 60, 60));
    let names: Vec<_> = found.limits[1].strategies.iter().map(|of| (of.strategy.as_str(), of.even)).collect();
    assert_eq!(names, [("single", 110), ("min-churn", 60)]);
}

#[test]
fn errors_name_the_file_and_the_expected_form() {
    let directory = Directory::new();
    directory.write("empty/README.md", "");
    directory.write("mixed/a.json", &closure("1", 1, 1));
    directory.write("mixed/b/image.json", &closure("1", 1, 1));
    directory.write("hollow/1/README.md", "");
    directory.write("text.json", "hello");
    directory.write("none.json", "{}");
    directory.write("sizes.json", r#"{"/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a":{"references":[]}}"#);
    directory.write("loop.json", r#"{"/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a":{"references":["/nix/store/0123456789abcdfghijklmnpqrsvwxyz-b"],"narSize":1},"/nix/store/0123456789abcdfghijklmnpqrsvwxyz-b":{"references":["/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a"]}}"#);
    directory.write("part.json", r#"{"/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a":{"references":["/nix/store/0123456789abcdfghijklmnpqrsvwxyz-b"],"narSize":1}}"#);
    directory.write("later.json", r#"{"format":"nixply-history","version":2,"images":{},"releases":[]}"#);
    directory.write(
        "gone.json",
        r#"{"format":"nixply-history","version":1,"images":{"i":["a"]},"releases":[{"name":"1","set":{}}]}"#,
    );
    directory.write("other.json.zst", "hello");
    let compressed = zstd::encode_all(SMALL.as_bytes(), 1).unwrap();
    fs::write(directory.0.path().join("short.json.zst"), &compressed[..compressed.len() - 8]).unwrap();
    let how = "nix path-info --json --recursive";
    for (name, expected) in [
        (
            "empty",
            format!(
                "empty: it has no closures: expected a file RELEASE.json for each release ({how}), or a directory for each with a \
                 file IMAGE.json for each image"
            ),
        ),
        (
            "mixed",
            "mixed: it has files and directories (a.json and b): expected a file for each release, or a directory for each".into(),
        ),
        ("hollow", "hollow/1: it has no closures: expected a file IMAGE.json for each image of this release".into()),
        ("missing", "cannot read missing".into()),
        ("text.json", "text.json is not valid JSON: line 1, column 1: expected a value".into()),
        ("none.json", "none.json: it has no store path".into()),
        ("sizes.json", format!("sizes.json: its paths have no sizes: {how} writes them")),
        (
            "loop.json",
            "loop.json: all its paths refer to each other: expected a path without referrers".into(),
        ),
        (
            "part.json",
            "part.json: /nix/store/0123456789abcdfghijklmnpqrsvwxyz-b is not in the closure, although /nix/store/0123456789abcdfghijklmnpqrsvwxyz-a refers to it: pass the whole closure".into(),
        ),
        ("later.json", "later.json: expected format nixply-history, version 1".into()),
        ("gone.json", "gone.json, release 1: i refers to \"a\", which is not in it".into()),
        ("other.json.zst", "other.json.zst: Unknown frame descriptor".into()),
        ("short.json.zst", "short.json.zst: incomplete frame".into()),
    ] {
        assert_eq!(directory.error(name, Propagation::Dependents), expected, "{name}");
    }
    directory.write("one.json", &closure("1", 1, 1));
    assert_eq!(
        directory.error("one.json", Propagation::Alone),
        "one.json: its store paths have Nix's hashes: a study without propagation needs a nixply-history"
    );
}

#[test]
fn synthetic_history_is_deterministic() {
    let fleet: Fleet = "packages=60, images=3,roots=5,releases=4".parse().unwrap();
    assert_eq!(fleet, Fleet { seed: 1, packages: 60, images: 3, roots: 5, releases: 4 });
    let hash = |fleet: Fleet| fleet.history(Propagation::Dependents).unwrap().hash().to_hex().to_string();
    assert_eq!(hash(fleet), "cc905325acd2c9d5cdd98efd22368ecae269bae3db18a1bcb6c749a7d7f06846");
    assert_ne!(hash(Fleet { seed: 2, ..fleet }), hash(fleet));
    let error = |text: &str| text.parse::<Fleet>().unwrap_err().to_string();
    assert_eq!(error("seed"), "synthetic history \"seed\": expected NAME=NUMBER, found \"seed\"");
    assert_eq!(error("seed=x"), "synthetic history \"seed=x\": seed is \"x\", expected a number");
    let unknown =
        "synthetic history \"size=1\": expected seed, packages, images, roots or releases, found \"size\"";
    assert_eq!(error("size=1"), unknown);
}

#[test]
fn contenders_parse_from_their_names() {
    for contender in Contender::usual().into_iter().chain([Contender::Fleet]) {
        assert_eq!(Contender::from_name(&contender.name()).unwrap(), contender);
    }
    for old in ["nixply", "nixply+lock", "nixply+fleet"] {
        let new = old.replace("nixply", "min-churn");
        assert_eq!(Contender::from_name(old).unwrap(), Contender::from_name(&new).unwrap());
    }
    let error = |name: &str| Contender::from_name(name).unwrap_err().to_string();
    let best = error("best");
    assert!(best.starts_with("strategy \"best\": expected one of min-churn, popularity, "), "{best}");
    assert!(best.ends_with(", min-churn+lock, min-churn+fleet"), "{best}");
    for (name, near) in
        [("min-chrun", "min-churn"), ("popularty", "popularity"), ("min-churn+lok", "min-churn+lock")]
    {
        let error = error(name);
        assert!(error.ends_with(&format!(", min-churn+fleet; did you mean {near:?}?")), "{error}");
    }
    assert_eq!(error("floor"), "strategy \"floor\": it is part of every study");
    assert!(error("per-path").contains("the floor, part of every study, moves the same"));
}

#[test]
fn page_has_the_numbers_and_no_external_resources() {
    let found = study(&["popularity", "min-churn+lock"], &[1, 2]);
    let comparison = compared(&found, &small(Propagation::Dependents));
    let history = Fleet { packages: 60, images: 1, roots: 5, releases: 6, seed: 3 };
    let other = compared(&found, &history.history(Propagation::Dependents).unwrap());
    let directory = Directory::new();
    let file = directory.write("one <closure>.json", &closure("1", 10, 100));
    let Subject::Closures(closures) = Subject::read(&file, Propagation::Dependents).unwrap() else {
        panic!()
    };
    let expectation = found.expect(&closures[0].0, &closures[0].1).unwrap();
    let report = Report {
        version: VERSION,
        propagation: true,
        histories: vec![comparison, other],
        closures: vec![expectation],
    };
    let page = report.html();
    // `meta` is the only element without an end tag.
    let xml = page.replace("\"utf-8\">", "\"utf-8\"/>").replace("initial-scale=1\">", "initial-scale=1\"/>");
    let xml = xml.strip_prefix("<!DOCTYPE html>").unwrap();
    let xml = xml.replace(" open>", " open=\"\">");
    let document = roxmltree::Document::parse(&xml).unwrap();
    assert!(
        !page.contains("http")
            && !page.contains("url(")
            && !page.contains("src=")
            && !page.contains("<script")
    );
    assert!(
        page.contains("Two &lt;b&gt;images&lt;/b&gt; &amp; a base.") && page.contains("one &lt;closure&gt;")
    );

    // Each number in the tables is in the JSON, and the tables contain each of these JSON numbers.
    let json: serde_json::Value = serde_json::to_value(&report).unwrap();
    let mut numbers = Vec::new();
    collect(&json, &mut numbers);
    let shown: Vec<f64> = document
        .descendants()
        .filter(|node| node.has_tag_name("data"))
        .map(|node| node.attribute("value").unwrap().parse().unwrap())
        .collect();
    assert!(shown.iter().all(|number| numbers.contains(number)), "{shown:?}");
    for of in report.histories.iter().flat_map(|one| one.limits.iter().flat_map(|limit| &limit.strategies)) {
        for number in
            [of.summary.pushed.mean, of.summary.pushed.p95, of.summary.pulled.mean, of.summary.registry]
        {
            assert!(shown.contains(&(number as f64)), "{}: {number}", of.strategy);
        }
    }
    // Each layer of both maps has a rectangle, for each limit.
    let layers: usize = report
        .histories
        .iter()
        .flat_map(|one| &one.limits)
        .flat_map(|limit| &limit.strategies)
        .map(|of| of.layers.len())
        .sum();
    let titles = document.descendants().filter(|node| {
        node.text().is_some_and(|text| text.contains("; new in ")) && node.has_tag_name("title")
    });
    assert_eq!(titles.count(), layers);
}

fn collect(value: &serde_json::Value, numbers: &mut Vec<f64>) {
    match value {
        serde_json::Value::Number(number) => numbers.extend(number.as_f64()),
        serde_json::Value::Array(list) => list.iter().for_each(|value| collect(value, numbers)),
        serde_json::Value::Object(object) => object.values().for_each(|value| collect(value, numbers)),
        _ => {}
    }
}
