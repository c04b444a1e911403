//! `nixply container lock`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use nixply_tests::{Project, harness, run};
use serde_json::Value;

/// Returns a devenv.nix whose container has a lock file, with additional packages and options.
fn locked(packages: &str, more: &str) -> String {
    format!(
        r#"{{ pkgs, lib, ... }}: {{
            packages = [ pkgs.hello {packages} ];
            containers.web = {{
              copyToRoot = null; startupCommand = "hello"; layers = [ {{ deps = [ pkgs.glibc ]; }} ];
              maxLayers = 4; lock = ./nixply.lock.json;
            }};
            {more}
        }}"#
    )
}

/// Returns the environment's layers: digests, and names of paths without hashes. Omits the layer of glibc, which is below them, and
/// the layers of the home directory and the Nix database, which are above them. A startup command that is text has no layer.
fn environment(spec: &Path) -> Vec<(String, BTreeSet<String>)> {
    let spec: Value = serde_json::from_str(&fs::read_to_string(spec).unwrap()).unwrap();
    let layer = |layer: &Value| {
        let paths = layer["paths"].as_array().unwrap().iter();
        let name = |path: &Value| {
            Path::new(path["path"].as_str().unwrap()).file_name().unwrap().to_str().unwrap()[33..].to_owned()
        };
        (layer["digest"].as_str().unwrap().to_owned(), paths.map(name).collect())
    };
    let layers: Vec<(String, BTreeSet<String>)> =
        spec["layers"].as_array().unwrap().iter().map(layer).collect();
    let is_own = |(_, paths): &&(String, BTreeSet<String>)| {
        !paths
            .iter()
            .any(|path| path.starts_with("glibc-") || path == "container-home" || path == "nix-database")
    };
    layers.iter().filter(is_own).cloned().collect()
}

#[test]
fn lock_file_keeps_the_layers_of_the_environment() {
    let nix = harness!();
    let project = Project::new(&nix, &locked("", ""));
    let file = project.path().join("nixply.lock.json");
    let text = || fs::read_to_string(&file).unwrap();
    let lock = |words: &str, news: &str| {
        let said = project.container(words);
        assert!(said.stderr.ends_with(&format!("{} {news}\n", file.display())), "{}", said.stderr);
        said.ok()
    };
    let said = project.container("build web").fails();
    let missing = format!(
        "containers.web.lock: {} does not exist; create it with `nixply container lock web`",
        file.display()
    );
    assert!(said.contains(&missing), "{said}");
    assert_eq!(lock("lock web", "was created: web"), "");
    let first = text();
    let json = lock("lock web --json", "is unchanged: web");
    assert_eq!(
        serde_json::from_str::<Value>(&json).unwrap(),
        serde_json::json!({"container": "web", "lock": file.to_str().unwrap()})
    );
    assert_eq!(text(), first);

    // Replace the plan by another: two layers whose paths alternate.
    let mut value: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(value["images"], serde_json::json!({"web": 4}));
    let layers = value["layers"].as_array().unwrap().clone();
    let keys: Vec<&Value> = layers.iter().flat_map(|layer| layer["paths"].as_array().unwrap()).collect();
    let name = |key: &&Value| {
        let key = key.as_str().unwrap().trim_end_matches("@web");
        value["paths"][key]["path"].as_str().unwrap()[33..].to_owned()
    };
    assert!(!keys.iter().map(name).any(|name| name.starts_with("glibc")), "{first}");
    let halves =
        [0, 1].map(|half| keys.iter().skip(half).step_by(2).copied().cloned().collect::<Vec<Value>>());
    let expected = halves.each_ref().map(|half| half.iter().collect::<Vec<_>>().iter().map(name).collect());
    let half = |half: Vec<Value>| {
        let mut half: Vec<String> = half.iter().map(|key| key.as_str().unwrap().to_owned()).collect();
        half.sort();
        serde_json::json!({"images": ["web"], "paths": half})
    };
    value["layers"] = halves.map(half).into_iter().collect();
    fs::write(&file, value.to_string()).unwrap();
    let packed = project.build("web");
    let before = environment(&packed);
    let sets = |layers: &[(String, BTreeSet<String>)]| {
        layers.iter().map(|(_, paths)| paths.clone()).collect::<BTreeSet<_>>()
    };
    assert_eq!(sets(&before), BTreeSet::from(expected));
    if nix.plugin.is_some() {
        let mut command = project.nixply(["container", "build", "web"]);
        project.prepare_with(&mut command, "");
        assert_eq!(fs::read(run(&mut command).ok()).unwrap(), fs::read(&packed).unwrap());
    }

    // Another package changes the hashes of all its referrers, but no path moves to another layer.
    project.write("devenv.nix", &locked("pkgs.jq", ""));
    let after = environment(&project.build("web"));
    let new = |paths: &BTreeSet<String>| paths.iter().any(|path| path.starts_with("jq-"));
    for (_, paths) in &before {
        assert!(after.iter().any(|(_, others)| paths.is_subset(others)), "{paths:?} {after:?}");
    }
    assert!(after.iter().any(|(_, paths)| new(paths)), "{after:?}");
    assert!(!text().contains("\"jq\""));
    lock("lock web", "was updated: web");
    assert!(text().contains("\"jq\""), "{}", text());
    let placed: Value = serde_json::from_str(&text()).unwrap();
    assert_eq!(environment(&project.build("web")).len(), placed["layers"].as_array().unwrap().len());
}

#[test]
fn containers_with_one_lock_file_are_planned_together() {
    let nix = harness!();
    let worker = r#"containers.worker = {
        copyToRoot = null; startupCommand = "hello"; layers = [ { deps = [ pkgs.glibc ]; } ]; maxLayers = 2;
        lock = ./nixply.lock.json;
    };"#;
    let project = Project::new(&nix, &locked("", ""));
    project.container("lock web").ok();
    project.write("devenv.nix", &locked("", worker));
    let file = project.path().join("nixply.lock.json");
    let said = project.container("build worker").fails();
    let unknown = format!(
        "containers.worker.lock: {} does not contain this container; add it with `nixply container lock worker`",
        file.display()
    );
    assert!(said.contains(&unknown), "{said}");
    let said = project.container("lock worker");
    assert!(said.stderr.ends_with("was updated: web, worker\n"), "{}", said.stderr);
    said.ok();
    let lock: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(lock["images"], serde_json::json!({"web": 4, "worker": 2}));
    let [web, worker] = ["web", "worker"].map(|name| environment(&project.build(name)));
    assert!(web.len() <= 4 && worker.len() <= 2, "{web:?} {worker:?}");
    assert!(web.iter().any(|layer| worker.contains(layer)), "{web:?} {worker:?}");

    // One of the containers is removed.
    project.write("devenv.nix", &locked("", ""));
    let said = project.container("lock web").fails();
    assert!(
        said.contains("this update would remove worker from the lock file")
            && said.contains("--forget worker"),
        "{said}"
    );
    project.container("lock web --forget worker").ok();
    let lock: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(lock["images"], serde_json::json!({"web": 4}));
    let said = project.container("lock web --forget worker").fails();
    assert!(said.contains("nixply.lock.json has no container \"worker\""), "{said}");

    let said = project.container("lock shell").fails();
    assert!(
        said.ends_with(
            "error: container \"shell\" has no lock file\n\
             hint: set one in devenv.nix: containers.shell.lock = ./nixply.lock.json;\n"
        ),
        "{said}"
    );
    // Strategies without lock file support.
    for (more, other) in [
        (r#"containers.web.strategy = "size";"#, "strategy \"size\""),
        ("containers.web.groups = [ [ pkgs.hello ] ];", "groups"),
    ] {
        project.write("devenv.nix", &locked("", more));
        for words in ["build web", "lock web"] {
            let said = project.container(words).fails();
            let why = format!(
                "containers.web.lock: a lock file requires strategy \"min-churn\", but this container uses {other}; remove one of them"
            );
            assert!(said.contains(&why), "{words}: {said}");
        }
    }
    // A container's name may differ from its image's, and a file has several spellings.
    let named = format!(
        r#"containers."my web" = {{
            name = "myweb"; copyToRoot = null; startupCommand = "hello"; maxLayers = 3; lock = "{}/../{}/nixply.lock.json";
        }};"#,
        project.path().display(),
        project.path().file_name().unwrap().to_str().unwrap()
    );
    project.write("devenv.nix", &locked("", &named));
    assert!(project.container("lock web").stderr.ends_with("was updated: my web, web\n"));
    let lock: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(lock["images"], serde_json::json!({"my web": 3, "web": 4}));
    assert!(
        environment(Path::new(&run(&mut project.nixply(["container", "build", "my web"])).ok())).len() <= 3
    );
    // A link is followed.
    let real = project.path().join("real.json");
    fs::rename(&file, &real).unwrap();
    std::os::unix::fs::symlink("real.json", &file).unwrap();
    assert!(environment(&project.build("web")).len() <= 4);
    // An unresolved merge conflict.
    let text = fs::read_to_string(&real).unwrap();
    fs::write(&real, format!("<<<<<<< ours\n{text}=======\n{text}>>>>>>> theirs\n")).unwrap();
    let said = project.container("build web").fails();
    assert!(
        said.contains("has merge conflict markers; keep either side, then run `nixply container lock web`"),
        "{said}"
    );
    let said = project.container("lock web").fails();
    assert!(said.contains("after a merge conflict, take one side and update it"), "{said}");
    fs::write(&real, text).unwrap();
    // The store is not writable.
    let stored = locked("", "").replace("./nixply.lock.json", r#""${builtins.storeDir}/lock.json""#);
    project.write("devenv.nix", &stored);
    let said = project.container("lock web").fails();
    assert!(said.contains("which cannot be written: set it to a file of the project"), "{said}");
}
