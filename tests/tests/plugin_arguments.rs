//! The builtins' arguments: what they are told when one is wrong, and that `null` is the same as nothing.

use std::fs;

use nixply_tests::{Output, Private, plugin_harness, run};

/// Expressions that must fail. In each, `@` stands before what the message has to point at.
struct Table {
    nix: Private,
    cases: Vec<(String, String)>,
}

impl Table {
    fn new(nix: Private) -> Self {
        Self { nix, cases: Vec::new() }
    }

    /// A case: the error for this expression has this text.
    fn add(&mut self, expression: impl Into<String>, message: impl Into<String>) {
        self.cases.push((expression.into(), message.into()));
    }

    /// Evaluates all; panics with all that are not as they should be.
    #[track_caller]
    fn check(self) {
        let line = |(at, (expression, _)): (usize, &(String, String))| {
            format!("  case{at} = {};\n", expression.replacen('@', "", 1))
        };
        let cases: String = self.cases.iter().enumerate().map(line).collect();
        let image = "image = more: (builtins.nixplyImage ({ name = \"x\"; } // more)).outPath;";
        let file = self.nix.file("cases.nix", &format!("rec {{ {image}\n{cases}}}"));
        let mut wrong = Vec::new();
        for (at, (expression, message)) in self.cases.iter().enumerate() {
            let output = self.nix.eval_file(&file, &format!("case{at}"));
            // `file` has the prelude and the opening line before the first case.
            let before = expression.find('@').expect("a mark");
            let column = format!("  case{at} = ").len() + before + 1;
            let place = format!("at {}:{}:{column}:", file.display(), at + 3);
            if output.code != Some(1) || !output.stderr.contains(message) || !output.stderr.contains(&place) {
                wrong.push(format!(
                    "{expression}\n  wants {message:?} {place}\n  and has {:?}\n{}{}",
                    output.code, output.stdout, output.stderr
                ));
            }
        }
        assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), self.cases.len(), wrong.join("\n"));
        assert_eq!(self.nix.images(), [""; 0]);
    }
}

/// A value of every type but null, with Nix's name for the type.
const VALUES: [(&str, &str, &str); 8] = [
    ("integer", "3", "an integer"),
    ("float", "1.5", "a float"),
    ("bool", "true", "a Boolean"),
    ("string", "\"s\"", "a string"),
    ("path", "/nowhere", "a path"),
    ("list", "[ ]", "a list"),
    ("set", "{ }", "a set"),
    ("function", "(x: x)", "a function"),
];

const STRING: (&str, &[&str]) = ("a string", &["string"]);
const INTEGER: (&str, &[&str]) = ("an integer", &["integer"]);
const SET: (&str, &[&str]) = ("an attribute set", &["set"]);
const SETS: (&str, &[&str]) = ("a list of attribute sets", &["list"]);
const MODE: (&str, &[&str]) = ("a string of octal digits, as in \"0755\"", &["string"]);
const STORE_PATH: (&str, &[&str]) =
    ("a derivation, a path or a string with a store path", &["string", "path"]);
const STORE_PATHS: (&str, &[&str]) =
    ("a derivation, a path or a string with a store path", &["string", "path", "list"]);
const GROUPS: (&str, &[&str]) = ("a list of groups", &["list"]);
/// What is wrong within a group otherwise, the packer says.
const GROUP: (&str, &[&str]) =
    ("a store path, a predicate or a list of them", &["integer", "bool", "string", "path", "list", "set"]);

/// Every argument: its path, where it stands (`VALUE` is its value), and what it takes.
type Argument = (&'static str, &'static str, (&'static str, &'static [&'static str]));

const ARGUMENTS: &[Argument] = &[
    ("name", "@name = VALUE;", STRING),
    ("tag", "@tag = VALUE;", STRING),
    ("arch", "@arch = VALUE;", STRING),
    ("system", "@system = VALUE;", STRING),
    ("created", "@created = VALUE;", STRING),
    ("compression", "@compression = VALUE;", STRING),
    ("strategy", "@strategy = VALUE;", STRING),
    ("config", "@config = VALUE;", SET),
    ("maxLayers", "@maxLayers = VALUE;", INTEGER),
    ("layerLimit", "@layerLimit = VALUE;", INTEGER),
    ("fromImage", "@fromImage = VALUE;", STORE_PATH),
    ("copyToRoot", "@copyToRoot = VALUE;", STORE_PATHS),
    ("copyToRoot[1]", "@copyToRoot = [ (sh \"a\" \"\") VALUE ];", STORE_PATH),
    ("groups", "@groups = VALUE;", GROUPS),
    ("groups[0]", "@groups = [ VALUE ];", GROUP),
    ("groups[0][1]", "@groups = [ [ (sh \"a\" \"\") VALUE ] ];", GROUP),
    ("groups[0].not.depsOf[1]", "groups = [ { not = { @depsOf = [ (sh \"a\" \"\") VALUE ]; }; } ];", GROUP),
    ("perms", "@perms = VALUE;", SETS),
    ("perms[0]", "@perms = [ VALUE ];", SET),
    ("perms[0].path", "perms = [ { @path = VALUE; } ];", STORE_PATH),
    ("perms[0].regex", "perms = [ { @regex = VALUE; } ];", STRING),
    ("perms[0].mode", "perms = [ { @mode = VALUE; } ];", MODE),
    ("perms[0].uid", "perms = [ { @uid = VALUE; } ];", INTEGER),
    ("perms[0].gid", "perms = [ { @gid = VALUE; } ];", INTEGER),
    ("perms[0].uname", "perms = [ { @uname = VALUE; } ];", STRING),
    ("perms[0].gname", "perms = [ { @gname = VALUE; } ];", STRING),
    ("layers", "@layers = VALUE;", SETS),
    ("layers[1]", "@layers = [ { } VALUE ];", SET),
    ("layers[1].deps", "layers = [ { } { @deps = VALUE; } ];", STORE_PATHS),
    ("layers[1].deps[0]", "layers = [ { } { @deps = [ VALUE ]; } ];", STORE_PATH),
    ("layers[1].copyToRoot", "layers = [ { } { @copyToRoot = VALUE; } ];", STORE_PATHS),
    ("layers[1].ignore", "layers = [ { } { @ignore = VALUE; } ];", STORE_PATHS),
    ("layers[1].maxLayers", "layers = [ { } { @maxLayers = VALUE; } ];", INTEGER),
    ("layers[1].strategy", "layers = [ { } { @strategy = VALUE; } ];", STRING),
    ("layers[1].groups", "layers = [ { } { @groups = VALUE; } ];", GROUPS),
    ("layers[1].perms", "layers = [ { } { @perms = VALUE; } ];", SETS),
    (
        "layers[1].perms[2].mode",
        "layers = [ { } { perms = [ { path = /etc/passwd; } { path = /etc/passwd; } { @mode = VALUE; } ]; } ];",
        MODE,
    ),
    ("layers[1].metadata", "layers = [ { } { @metadata = VALUE; } ];", SET),
    ("layers[1].metadata.created", "layers = [ { } { metadata = { @created = VALUE; }; } ];", STRING),
    ("layers[1].metadata.created_by", "layers = [ { } { metadata = { @created_by = VALUE; }; } ];", STRING),
    ("layers[1].metadata.author", "layers = [ { } { metadata = { @author = VALUE; }; } ];", STRING),
    ("layers[1].metadata.comment", "layers = [ { } { metadata = { @comment = VALUE; }; } ];", STRING),
];

#[test]
fn every_wrong_type_is_named_with_its_place() {
    let mut table = Table::new(plugin_harness!().private());
    for (path, place, (expected, takes)) in ARGUMENTS {
        for (kind, value, shown) in VALUES.iter().filter(|(kind, ..)| !takes.contains(kind)) {
            let place = place.replace("VALUE", value);
            let message =
                format!("argument '{path}' of builtins.nixplyImage must be {expected}, but it is {shown}");
            assert!(!kind.is_empty());
            table.add(format!("image {{ {place} }}"), message);
        }
    }
    for (_, value, shown) in VALUES.iter().filter(|(kind, ..)| *kind != "set") {
        let message =
            format!("the argument of builtins.nixplyImage must be an attribute set, but it is {shown}");
        table.add(format!("@builtins.nixplyImage {value}"), message);
    }
    // The other builtin reads the same arguments and says its own name.
    table.add(
        "builtins.nixplyPlan { name = \"x\"; perms = [ { @mode = 3; } ]; }",
        "argument 'perms[0].mode' of builtins.nixplyPlan must be a string of octal digits, as in \"0755\", but it is an \
         integer",
    );
    // null is absent as an argument, but no element of a list.
    table.add(
        "image { @copyToRoot = [ null ]; }",
        "argument 'copyToRoot[0]' of builtins.nixplyImage must be a derivation, a path or a string with a store path, but \
         it is null",
    );
    table.add(
        "image { @layers = [ null ]; }",
        "argument 'layers[0]' of builtins.nixplyImage must be an attribute set, but it is null",
    );
    table.check();
}

#[test]
fn unknown_arguments_are_told_the_nearest_name() {
    let mut table = Table::new(plugin_harness!().private());
    let unknown = |path: &str| format!("unknown argument '{path}' of builtins.nixplyImage");
    for (place, path, nearest) in [
        ("@copytoroot = [ ];", "copytoroot", "copyToRoot"),
        ("@maxLayer = 3;", "maxLayer", "maxLayers"),
        ("@from_image = null;", "from_image", "fromImage"),
        ("@layer = [ ];", "layer", "layers"),
        ("layers = [ { } { @dep = [ ]; } ];", "layers[1].dep", "deps"),
        ("layers = [ { @metadat.author = \"x\"; } ];", "layers[0].metadat", "metadata"),
        (
            "layers = [ { metadata = { @createdBy = \"x\"; }; } ];",
            "layers[0].metadata.createdBy",
            "created_by",
        ),
        ("perms = [ { @modes = \"x\"; } ];", "perms[0].modes", "mode"),
        (
            "layers = [ { perms = [ { path = /etc/passwd; } { @gnam = \"x\"; } ]; } ];",
            "layers[0].perms[1].gnam",
            "gname",
        ),
    ] {
        table.add(format!("image {{ {place} }}"), format!("{}; did you mean '{nearest}'?", unknown(path)));
    }
    table.add(
        "image { @zzz = 1; }",
        "unknown argument 'zzz' of builtins.nixplyImage; it takes copyToRoot maxLayers strategy groups perms parents name tag \
         config layers fromImage lock arch system created compression annotations inheritConfig anyPlatform \
         healthcheck nixDatabase layerLimit",
    );
    table.add(
        "image { layers = [ { metadata = { @zzz = 1; }; } ]; }",
        "unknown argument 'layers[0].metadata.zzz' of builtins.nixplyImage; it takes created created_by author comment",
    );
    table.add(
        "image { perms = [ { @zzz = 1; } ]; }",
        "unknown argument 'perms[0].zzz' of builtins.nixplyImage; it takes path regex mode uid gid uname gname",
    );
    table.check();
}

#[test]
fn a_name_a_perms_path_and_a_locks_parts_are_needed() {
    let mut table = Table::new(plugin_harness!().private());
    for arguments in ["{ }", "{ name = null; }", "{ tag = \"x\"; }"] {
        for builtin in ["nixplyImage", "nixplyPlan"] {
            table.add(
                format!("@builtins.{builtin} {arguments}"),
                format!("builtins.{builtin} needs a name, as in name = \"hello\""),
            );
        }
    }
    for lock in ["{ }", "{ file = /etc/passwd; }", "{ image = \"x\"; }"] {
        table.add(
            format!("image {{ layers = [ {{ @lock = {lock}; }} ]; }}"),
            "argument 'layers[0].lock' of builtins.nixplyImage needs a file and an image",
        );
    }
    for (place, path) in [
        ("@perms = [ { } ];", "perms[0]"),
        ("layers = [ { @perms = [ { path = null; mode = \"0755\"; } ]; } ];", "layers[0].perms[0]"),
    ] {
        table.add(
            format!("image {{ {place} }}"),
            format!("argument '{path}' of builtins.nixplyImage has no path"),
        );
    }
    table.check();
}

#[test]
fn values_out_of_range_are_named_with_their_place() {
    let mut table = Table::new(plugin_harness!().private());
    for (place, path) in [("@maxLayers = N;", "maxLayers"), ("@layerLimit = N;", "layerLimit")] {
        for number in ["0", "(-1)", "1000001", "9223372036854775807"] {
            let shown = number.trim_matches(['(', ')']);
            table.add(
                format!("image {{ {} }}", place.replace('N', number)),
                format!(
                    "argument '{path}' of builtins.nixplyImage must be a number from 1 to 1000000, but it is {shown}"
                ),
            );
        }
    }
    for path in ["copyToRoot", "fromImage"] {
        table.add(
            format!("image {{ @{path} = \"\"; }}"),
            format!("argument '{path}' of builtins.nixplyImage is an empty string, not a store path"),
        );
    }
    for (place, path) in [
        ("@name = \"\";", "name"),
        ("@tag = \"\";", "tag"),
        ("@arch = \"\";", "arch"),
        ("@system = \"\";", "system"),
        ("@created = \"\";", "created"),
        ("@compression = \"\";", "compression"),
        ("@strategy = \"\";", "strategy"),
        ("layers = [ { @strategy = \"\"; } ];", "layers[0].strategy"),
        ("layers = [ { metadata = { @created = \"\"; }; } ];", "layers[0].metadata.created"),
    ] {
        table.add(
            format!("image {{ {place} }}"),
            format!("argument '{path}' of builtins.nixplyImage must not be empty"),
        );
    }
    for path in ["name", "tag", "arch", "created", "compression", "strategy"] {
        table.add(
            format!("image {{ @{path} = \"${{sh \"a\" \"\"}}\"; }}"),
            format!("argument '{path}' of builtins.nixplyImage must not refer to a store path"),
        );
    }
    table.check();
}

#[test]
fn what_the_packer_refuses_points_at_the_call() {
    let mut table = Table::new(plugin_harness!().private());
    let file = "(builtins.toFile \"f\" \"\")";
    for (arguments, message) in [
        (
            "strategy = \"best\";",
            "strategy \"best\" is not valid: expected one of popularity, single, per-path, size",
        ),
        (
            "strategy = \"explicit\";",
            "strategy \"explicit\" is not valid: it needs groups, a list of groups of store paths",
        ),
        (
            "strategy = \"single\"; groups = [ [ FILE ] ];",
            "groups is not valid: they go with strategy \"explicit\", not \"single\"",
        ),
        (
            "layers = [ { deps = FILE; groups = [ [ FILE ] [ FILE ] ]; } ];",
            "explicit layer groups is not valid: groups 0 and 1 both name",
        ),
        ("groups = [ ];", "groups is not valid: there is no group in it: name one, or leave groups out"),
        (
            "groups = [ { paths = FILE; } { depsOf = [ FILE 3 ]; } ];",
            "groups[1].depsOf[1] is not valid: expected a store path or a predicate, but it is 3",
        ),
        (
            "layers = [ { deps = FILE; groups = [ { dpsOf = FILE; } ]; } ];",
            "layers[0].groups[0].dpsOf is not valid: there is no such predicate: expected one of roots, depsOf",
        ),
        (
            "groups = [ { name = \"lib(foo\"; } ];",
            "groups[0].name is not valid: unclosed group, at character 4 of \"lib(foo\"",
        ),
        ("groups = [ [ \"/etc/passwd\" ] ];", "groups[0][0] is not valid: store path \"/etc/passwd\""),
        (
            "layers = [ { } { deps = [ FILE ]; strategy = \"explicit\"; } ];",
            "layers[1].strategy \"explicit\" is not valid: it needs groups",
        ),
        (
            "compression = \"lz4\";",
            "compression \"lz4\" is not valid: expected none, gzip or zstd, perhaps with a level",
        ),
        (
            "compression = \"zstd:20\";",
            "compression \"zstd:20\" is not valid: expected none, gzip or zstd, perhaps with a level",
        ),
        (
            "compression = \"gzip:0\";",
            "compression \"gzip:0\" is not valid: expected none, gzip or zstd, perhaps with a level",
        ),
        (
            "created = \"now\";",
            "created \"now\" is not valid: expected RFC 3339, as in \"2024-05-13T09:31:10Z\"",
        ),
        (
            "created = \"2024-02-30T00:00:00Z\";",
            "created \"2024-02-30T00:00:00Z\" is not valid: expected RFC 3339",
        ),
        (
            "system = \"sparc-linux\";",
            "system \"sparc-linux\" is not valid: its processor has no OCI name known here: set arch",
        ),
        ("config.Entrypoint = 3;", "config.Entrypoint must be a list of texts, not the number 3"),
        ("config.Env = [ 3 ];", "config.Env[0] must be text, not the number 3"),
        (
            "layers = [ { deps = FILE; perms = [ { path = FILE; mode = \"9\"; } ]; } ];",
            "\"9\" is not valid: expected octal digits up to 7777, as in \"0755\"",
        ),
        (
            "layers = [ { deps = FILE; perms = [ { path = FILE; regex = \"(\"; } ]; } ];",
            "\"(\" is not valid: ",
        ),
        (
            "layers = [ { parents = [ 0 ]; deps = FILE; } ];",
            "layers[0].parents[0] 0 is not valid: expected the place of a layer ahead of this one: there are 0",
        ),
        (
            "layers = [ { prebuilt = FILE; deps = FILE; } ];",
            "layers[0].prebuilt is not valid: these layers have been packed already: nothing else can be said of them",
        ),
    ] {
        table.add(
            format!(
                "(@builtins.nixplyImage {{ name = \"x\"; {} }}).outPath",
                arguments.replace("FILE", file)
            ),
            message,
        );
    }
    table.check();
}

#[test]
fn packer_errors_name_the_image_and_what_was_tried() {
    let nix = plugin_harness!().private();
    let file = nix.file(
        "x.nix",
        "let wrong = { name = \"Some/Name\"; compression = \"lz4\"; }; in\n\
         { image = builtins.nixplyImage wrong; plan = builtins.nixplyPlan (wrong // { strategy = \"best\"; }); }",
    );
    let image = nix.eval_file(&file, "image.outPath").fails();
    assert!(image.contains("cannot pack image 'Some/Name': compression \"lz4\" is not valid"), "{image}");
    let plan = nix.eval_file(&file, "plan").fails();
    assert!(plan.contains("cannot plan image 'Some/Name': "), "{plan}");
}

#[test]
fn errors_inside_of_arguments_are_nixs_own() {
    let mut table = Table::new(plugin_harness!().private());
    let missing = "attribute 'missing' missing";
    for place in [
        "name = @{ }.missing;",
        "tag = @{ }.missing;",
        "config.Cmd = [ \"a\" (@{ }.missing) ];",
        "config = @{ }.missing;",
        "copyToRoot = @{ }.missing;",
        "copyToRoot = [ (@{ }.missing) ];",
        "layers = [ { } { deps = [ (@{ }.missing) ]; } ];",
        "layers = [ (@{ }.missing) ];",
        "perms = [ { path = @{ }.missing; } ];",
        "maxLayers = @{ }.missing;",
    ] {
        table.add(format!("image {{ {place} }}"), missing);
    }
    table.check();
    let nix = plugin_harness!().private();
    let file = nix.file(
        "x.nix",
        "(builtins.nixplyImage { name = \"x\"; config.Cmd = [ (throw \"not today\") ]; }).outPath",
    );
    let error = run(nix.command("nix").args(["eval", "-f"]).arg(&file)).fails();
    assert!(error.contains("not today"), "{error}");
    assert!(!error.contains("cannot pack"), "{error}");
    // A config that JSON cannot say.
    let file =
        nix.file("y.nix", "(builtins.nixplyImage {\n name = \"x\";\n config.Cmd = [ (x: x) ]; }).outPath");
    let error = run(nix.command("nix").args(["eval", "-f"]).arg(&file)).fails();
    assert!(error.contains("cannot convert a function to JSON"), "{error}");
    assert!(error.contains("y.nix:"), "{error}");
}

#[test]
fn null_is_absent_everywhere() {
    let nix = plugin_harness!().private();
    let file = nix.file(
        "null.nix",
        r#"let
          N = null;
          a = sh "a" "mkdir $out; : > $out/a";
          d = sh "d" "mkdir $out; : > $out/d";
          f = builtins.toFile "f" "";
          nulls = builtins.nixplyImage {
            name = "x"; tag = N; config = N; copyToRoot = a; maxLayers = N; strategy = N; groups = N; fromImage = N;
            arch = N; system = N; created = N; compression = N; layerLimit = N;
            perms = [ { path = a; regex = N; mode = N; uid = N; gid = N; uname = N; gname = N; } ];
            layers = [
              { deps = f; copyToRoot = N; maxLayers = N; strategy = N; groups = N; perms = N; ignore = N; metadata = N; }
              { deps = N; copyToRoot = d; metadata = { created = N; created_by = N; author = N; comment = N; }; }
            ];
          };
          plain = builtins.nixplyImage {
            name = "x"; copyToRoot = a; perms = [ { path = a; } ];
            layers = [ { deps = f; } { copyToRoot = d; metadata = { }; } ];
          };
        in { names = map (image: { path = image.outPath; tag = image.imageTag; }) [ nulls plain ]; }"#,
    );
    let names: serde_json::Value = serde_json::from_str(&nix.eval_file(&file, "names").ok()).unwrap();
    assert_eq!(names[0], names[1]);
    let spec = fs::read_to_string(names[0]["path"].as_str().unwrap()).unwrap();
    assert_eq!(spec.matches("\"digest\"").count(), 3, "{spec}");
}

#[test]
fn every_argument_arrives() {
    let nix = plugin_harness!().private();
    let file = nix.file(
        "all.nix",
        r#"rec {
          a = sh "a" "mkdir $out; : > $out/a";
          f = builtins.toFile "f" "";
          image = builtins.nixplyImage {
            name = "x"; config.User = "u"; arch = "m68k"; system = "m68k-linux"; created = "2020-01-02T03:04:05Z";
            compression = "gzip:3"; copyToRoot = a; layerLimit = 2;
            perms = [ { path = a; regex = ".*/a$"; mode = "0444"; uid = 1; gid = 2; uname = "n"; gname = "g"; } ];
            layers = [ { deps = [ f ]; metadata = { created = "2021-01-01T00:00:00Z"; created_by = "b"; author = "w"; comment = "c"; }; } ];
          };
        }"#,
    );
    let path: String = serde_json::from_str(&nix.eval_file(&file, "image.outPath").ok()).unwrap();
    let spec: serde_json::Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(spec["arch"], "m68k");
    assert_eq!(spec["created"], "2020-01-02T03:04:05Z");
    assert_eq!(spec["image-config"], serde_json::json!({ "User": "u" }));
    let [below, own] = &spec["layers"].as_array().unwrap()[..] else { panic!("{spec}") };
    assert_eq!(below["mediatype"], "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(
        below["History"],
        serde_json::json!({ "created": "2021-01-01T00:00:00Z", "created_by": "b", "author": "w", "comment": "c" })
    );
    let options = &own["paths"][0]["options"];
    assert_eq!(
        options["perms"],
        serde_json::json!([
            { "regex": ".*/a$", "mode": "0444", "uid": 1, "gid": 2, "uname": "n", "gname": "g" }
        ])
    );
    assert_eq!(options["rewrite"]["repl"], "");
}

#[test]
fn doors_agree_on_values_that_could_mean_nothing() {
    let nix = plugin_harness!().private();
    let mut wrong = Vec::new();
    for arguments in [
        "groups = [ ]; copyToRoot = files; maxLayers = 2;",
        "strategy = \"explicit\"; copyToRoot = files; maxLayers = 2;",
        "strategy = \"explicit\"; groups = [ ]; copyToRoot = files; maxLayers = 2;",
        "strategy = \"\"; copyToRoot = files; maxLayers = 2;",
        "compression = \"\";",
        "arch = \"\";",
        "created = \"\";",
        "layers = [ { deps = files; metadata.created = \"\"; } ];",
        "layers = [ { deps = files; metadata = { }; } ];",
        "layers = [ { } ];",
        "groups = [ null ]; copyToRoot = files; maxLayers = 2;",
        "groups = [ { paths = null; } ]; copyToRoot = files; maxLayers = 2;",
        "groups = [ { name = \"f\"; minSize = null; } ]; copyToRoot = files; maxLayers = 2;",
        "maxLayers = 0; copyToRoot = files;",
        "layerLimit = 0;",
        "config = null;",
        "layers = null; perms = null; copyToRoot = null;",
    ] {
        let file = nix.file(
            "x.nix",
            &format!(
                "let file = name: sh name \"mkdir $out; : > $out/${{name}}\"; files = [ (file \"f\") (file \"g\") ]; \
                 image = {{ name = \"x\"; {arguments} }}; in {{ \
                 plugin = builtins.readFile (builtins.nixplyImage image).outPath; \
                 builder = builtins.readFile (buildImage image).outPath; }}"
            ),
        );
        let [plugin, builder] = ["plugin", "builder"].map(|door| nix.eval_file(&file, door));
        if (plugin.code == Some(0)) != (builder.code == Some(0)) || plugin.stdout != builder.stdout {
            let short = |output: &Output| match output.code {
                Some(0) => output.stdout.replace("\\t", "").replace("\\n", "").replace("\\\"", "'"),
                _ => output.stderr.lines().filter(|line| line.contains("error:")).collect(),
            };
            wrong.push(format!("{arguments}\n  plugin {}\n  builder {}", short(&plugin), short(&builder)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn doors_agree_on_the_names_and_tags_that_registries_take() {
    let nix = plugin_harness!().private();
    let mut cases: Vec<(String, bool)> = Vec::new();
    for (name, good) in [
        ("Hello", true),
        ("ghcr.io/x/y.z_0--1", true),
        ("localhost:5000/a/b__c", true),
        ("[::1]:5000/a", true),
        ("a b", false),
        ("Foo/", false),
        ("/a", false),
        ("a:tag", false),
        ("a___b", false),
        ("ä", false),
        (&"a".repeat(190), true),
        (&format!("{}/a", "a".repeat(254)), false),
    ] {
        cases.push((format!("name = \"{name}\";"), good));
    }
    for (tag, good) in [
        ("V1.0-rc.1", true),
        ("", false),
        (".a", false),
        ("a/b", false),
        (&"t".repeat(128), true),
        (&"t".repeat(129), false),
    ] {
        cases.push((format!("name = \"x\"; tag = \"{tag}\";"), good));
    }
    for (arguments, good) in cases {
        let file = nix.file(
            "x.nix",
            &format!(
                "let show = image: {{ inherit (image) imageName name; tag = builtins.stringLength image.imageTag; }}; in {{ \
                 plugin = show (builtins.nixplyImage {{ {arguments} }}); builder = show (buildImage {{ {arguments} }}); }}"
            ),
        );
        let [plugin, builder] = ["plugin", "builder"].map(|door| nix.eval_file(&file, door));
        if good {
            assert_eq!(plugin.ok(), builder.ok(), "{arguments}");
            continue;
        }
        for output in [plugin, builder] {
            assert_eq!(output.code, Some(1), "{arguments}: {}", output.stdout);
            let says =
                output.stderr.contains("registries take") || output.stderr.contains("must not be empty");
            assert!(says, "{arguments}: {}", output.stderr);
        }
    }
}

#[test]
fn text_that_is_not_utf8_is_named_with_its_place() {
    let nix = plugin_harness!().private();
    fs::write(nix.folder().join("latin"), b"caf\xe9").unwrap();
    let mut table = Table::new(nix);
    let latin = "(builtins.readFile ./latin)";
    for (arguments, place) in [
        (format!("@name = {latin};"), "name"),
        (format!("@tag = {latin};"), "tag"),
        (format!("@config = {{ Labels.a = {latin}; }};"), "config"),
        (
            format!("perms = [ {{ path = builtins.toFile \"f\" \"\"; @regex = {latin}; }} ];"),
            "perms[0].regex",
        ),
        (format!("layers = [ {{ metadata = {{ @comment = {latin}; }}; }} ];"), "layers[0].metadata.comment"),
    ] {
        // What the message is for: some say "is not", the config's "has text in it that is not".
        table.add(format!("image {{ {arguments} }}"), format!("argument '{place}' of builtins.nixplyImage "));
    }
    table.check();
}
