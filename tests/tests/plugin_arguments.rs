//! Errors in the builtins' arguments point at the argument.

use std::fs;

use nixply_documents::argument::Names;
use nixply_packer::request::schema::Argument;
use nixply_packer::{Codec, ImageRequest};
use nixply_tests::{Private, plugin_harness, run};

/// Expressions that must fail. In each, `@` precedes the place that the error must point at.
struct Table {
    nix: Private,
    cases: Vec<(String, String)>,
}

impl Table {
    fn new(nix: Private) -> Self {
        Self { nix, cases: Vec::new() }
    }

    /// Adds a case: the error of this expression contains this text.
    fn add(&mut self, expression: impl Into<String>, message: impl Into<String>) {
        self.cases.push((expression.into(), message.into()));
    }

    /// Evaluates all cases, and panics with those that differ.
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
            let before = expression.find('@').expect("it has a mark");
            let column = format!("  case{at} = ").len() + before + 1;
            let place = format!("at {}:{}:{column}:", file.display(), at + 3);
            if output.code != Some(1) || !output.stderr.contains(message) || !output.stderr.contains(&place) {
                wrong.push(format!(
                    "{expression}\n  expected {message:?} {place}\n  got exit code {:?}\n{}{}",
                    output.code, output.stdout, output.stderr
                ));
            }
        }
        assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), self.cases.len(), wrong.join("\n"));
        assert_eq!(self.nix.images(), [""; 0]);
    }
}

/// A value of each type except null, with its JSON type.
const VALUES: [(&str, &str); 7] = [
    ("integer", "3"),
    ("number", "1.5"),
    ("boolean", "true"),
    ("string", "\"s\""),
    ("string", "/etc/passwd"),
    ("array", "[ ]"),
    ("object", "{ }"),
];

/// A step on the way to an argument or a part of it.
#[derive(Clone, Copy)]
enum Step {
    Key(&'static str),
    /// The second element of a list.
    Element,
}

/// An argument, or a part of an argument: its place, and the types that it accepts.
struct Place {
    steps: Vec<Step>,
    accepts: Vec<String>,
}

impl Place {
    /// Returns all arguments and their parts, from the packer's schema.
    fn all() -> Vec<Self> {
        let mut places = Vec::new();
        for (key, argument) in ImageRequest::argument().keys() {
            Self::walk(argument, vec![Step::Key(key)], &mut places);
        }
        places
    }

    fn walk(argument: Argument, steps: Vec<Step>, places: &mut Vec<Self>) {
        let accepts = argument.types().map(str::to_owned).collect();
        places.push(Self { steps: steps.clone(), accepts });
        // The packer reads groups with the plan. Values in the config and in health checks may be anything at this depth.
        if matches!(steps.last(), Some(Step::Key("groups")))
            || (argument.names() == Names::Config && steps.len() > 1)
        {
            return;
        }
        let further = |step| [&steps[..], &[step]].concat();
        for (key, argument) in argument.keys() {
            Self::walk(argument, further(Step::Key(key)), places);
        }
        let is_list = argument.types().any(|kind| kind == "array");
        if let Some(element) = argument.element().filter(|_| is_list) {
            Self::walk(element, further(Step::Element), places);
        }
    }

    fn is_in_perms(&self, at: usize) -> bool {
        at >= 2 && matches!(self.steps[at - 2], Step::Key("perms"))
    }

    /// Returns the place as messages write it.
    fn path(&self) -> String {
        self.steps.iter().fold(String::new(), |path, step| match step {
            Step::Key(key) if path.is_empty() => (*key).to_owned(),
            Step::Key(key) => format!("{path}.{key}"),
            Step::Element => format!("{path}[1]"),
        })
    }

    /// Returns arguments with a value at this place. `@` precedes the innermost key.
    fn with(&self, value: &str) -> String {
        let last = self
            .steps
            .iter()
            .rposition(|step| matches!(step, Step::Key(_)))
            .expect("a place begins with a key");
        let mut text = value.to_owned();
        for (at, step) in self.steps.iter().enumerate().rev() {
            let mark = if at == last { "@" } else { "" };
            text = match step {
                Step::Element => {
                    let first = match self.steps[at - 1] {
                        Step::Key("layers") => "{ }",
                        Step::Key("perms") => "{ path = /etc/passwd; }",
                        Step::Key("parents") => "0",
                        _ => "(sh \"a\" \"\")",
                    };
                    format!("[ {first} {text} ]")
                }
                Step::Key(key) if at == 0 => format!("{mark}{key} = {text};"),
                // The packer reports a missing path first.
                Step::Key(key) if self.is_in_perms(at) && *key != "path" => {
                    format!("{{ path = /etc/passwd; {mark}{key} = {text}; }}")
                }
                Step::Key(key) => format!("{{ {mark}{key} = {text}; }}"),
            };
        }
        text
    }
}

#[test]
fn values_of_wrong_types_point_at_their_arguments() {
    let mut table = Table::new(plugin_harness!().private());
    let places = Place::all();
    assert!(places.len() > 60, "{} places", places.len());
    for place in &places {
        for (kind, value) in VALUES {
            if place.accepts.is_empty() || place.accepts.iter().any(|accepted| accepted == kind) {
                continue;
            }
            let message = format!("builtins.nixplyImage: {} must be ", place.path());
            table.add(format!("image {{ {} }}", place.with(value)), message);
        }
        let message = format!("argument '{}' of builtins.nixplyImage cannot be a function", place.path());
        table.add(format!("image {{ {} }}", place.with("(x: x)")), message);
    }
    for (value, shown) in
        [("3", "an integer"), ("[ ]", "a list"), ("\"s\"", "a string"), ("(x: x)", "a function")]
    {
        let message =
            format!("the argument of builtins.nixplyImage must be an attribute set, but it is {shown}");
        table.add(format!("@builtins.nixplyImage {value}"), message);
    }
    // The other builtin reads the same arguments, and its errors have its own name.
    table.add(
        "builtins.nixplyPlan { name = \"x\"; perms = [ { path = /etc/passwd; @mode = 3; } ]; }",
        "builtins.nixplyPlan: perms[0].mode must be text, not the number 3",
    );
    // null means absent as an argument, but not as an element of a list.
    table.add(
        "image { @copyToRoot = [ null ]; }",
        "builtins.nixplyImage: copyToRoot[0] must be a store path, not null",
    );
    table.add("image { @layers = [ null ]; }", "builtins.nixplyImage: layers[0] must be an object, not null");
    table.check();
}

#[test]
fn unknown_arguments_suggest_the_nearest_name() {
    let mut table = Table::new(plugin_harness!().private());
    // If there are few keys, the message lists them all.
    let metadata = "its keys are created, created_by, author, comment; ";
    let perms = "its keys are path, regex, mode, uid, gid, uname, gname; ";
    for (place, subject, key, keys, nearest) in [
        ("@copytoroot = [ ];", "", "copytoroot", "", "copyToRoot"),
        ("@maxLayer = 3;", "", "maxLayer", "", "maxLayers"),
        // The value is not evaluated.
        ("@layer = throw \"evaluated\";", "", "layer", "", "layers"),
        // `configRoots` is a key of requests, which the plugin sets itself.
        ("@configRoots = [ ];", "", "configRoots", "", "config"),
        ("layers = [ { } { @dep = [ ]; } ];", ": layers[1]", "dep", "", "deps"),
        ("layers = [ { @metadat.author = \"x\"; } ];", ": layers[0]", "metadat", "", "metadata"),
        (
            "layers = [ { metadata = { @createdBy = \"x\"; }; } ];",
            ": layers[0].metadata",
            "createdBy",
            metadata,
            "created_by",
        ),
        ("perms = [ { path = /etc/passwd; @modes = \"x\"; } ];", ": perms[0]", "modes", perms, "mode"),
        ("perms = [ { @paht = /etc/passwd; } ];", ": perms[0]", "paht", perms, "path"),
        (
            "layers = [ { perms = [ { path = /etc/passwd; } { path = /etc/passwd; @gnam = \"x\"; } ]; } ];",
            ": layers[0].perms[1]",
            "gnam",
            perms,
            "gname",
        ),
    ] {
        let message = format!(
            "builtins.nixplyImage{subject} cannot have the key `{key}`; {keys}did you mean `{nearest}`?"
        );
        table.add(format!("image {{ {place} }}"), message);
    }
    table.add(
        "image { @zzz = 1; }",
        "builtins.nixplyImage cannot have the key `zzz`; its keys are name, tag, config, ",
    );
    table.add(
        "image { layers = [ { metadata = { @zzz = 1; }; } ]; }",
        "builtins.nixplyImage: layers[0].metadata cannot have the key `zzz`; its keys are created, created_by, author, comment",
    );
    table.check();
}

#[test]
fn missing_keys_are_named() {
    let mut table = Table::new(plugin_harness!().private());
    for arguments in ["{ }", "{ name = null; }", "{ tag = \"x\"; }"] {
        for builtin in ["nixplyImage", "nixplyPlan"] {
            table.add(
                format!("@builtins.{builtin} {arguments}"),
                format!("builtins.{builtin} needs a name, as in name = \"hello\""),
            );
        }
    }
    for (lock, missing) in
        [("{ }", "file"), ("{ file = /etc/passwd; }", "image"), ("{ image = \"x\"; }", "file")]
    {
        table.add(
            format!("image {{ layers = [ {{ @lock = {lock}; }} ]; }}"),
            format!("builtins.nixplyImage: layers[0].lock lacks the key `{missing}`"),
        );
    }
    for (place, path) in [
        ("@perms = [ { } ];", "perms[0]"),
        ("layers = [ { @perms = [ { path = null; mode = \"0755\"; } ]; } ];", "layers[0].perms[0]"),
        ("@nixDatabase = { };", "nixDatabase"),
    ] {
        table.add(
            format!("image {{ {place} }}"),
            format!("builtins.nixplyImage: {path} lacks the key `path`"),
        );
    }
    table.check();
}

#[test]
fn values_out_of_range_point_at_their_arguments() {
    let mut table = Table::new(plugin_harness!().private());
    let mut add = |arguments: String, message: String| {
        table.add(format!("image {{ {arguments} }}"), format!("builtins.nixplyImage: {message}"));
    };
    for path in ["maxLayers", "layerLimit"] {
        for number in ["0", "(-1)", "1000001", "9223372036854775807"] {
            let shown = number.trim_matches(['(', ')']);
            add(
                format!("@{path} = {number};"),
                format!("{path} must be a whole number from 1 to 1000000, not the number {shown}"),
            );
        }
    }
    for path in ["copyToRoot", "fromImage", "lock"] {
        add(format!("@{path} = \"\";"), format!("{path} must not be empty"));
    }
    for path in ["name", "tag", "arch", "system", "created"] {
        add(format!("@{path} = \"\";"), format!("{path} must not be empty"));
    }
    for path in ["compression", "strategy"] {
        add(format!("@{path} = \"\";"), format!("{path} must be one of "));
    }
    add(
        "layers = [ { @strategy = \"\"; } ];".into(),
        "layers[0].strategy must be one of min-churn, popularity".into(),
    );
    add(
        "layers = [ { metadata = { @created = \"\"; }; } ];".into(),
        "layers[0].metadata.created must not be empty".into(),
    );
    add(
        "perms = [ { path = /etc/passwd; @uid = -1; } ];".into(),
        "perms[0].uid -1 is not valid: expected an id from 0 to 4294967294".into(),
    );
    for path in ["name", "tag", "arch", "created", "compression", "strategy"] {
        table.add(
            format!("image {{ @{path} = \"${{sh \"a\" \"\"}}\"; }}"),
            format!("argument '{path}' of builtins.nixplyImage must not refer to a store path"),
        );
    }
    table.check();
}

#[test]
fn errors_of_the_packer_point_at_their_arguments() {
    let mut table = Table::new(plugin_harness!().private());
    for (arguments, message) in [
        ("@strategy = \"best\";", "strategy must be one of min-churn, popularity"),
        ("@strategy = \"sise\";", "explicit, not \"sise\"; did you mean \"size\"?"),
        (
            "@strategy = \"explicit\";",
            "strategy \"explicit\" is not valid: it requires the argument groups, a list of groups of store paths",
        ),
        (
            "strategy = \"single\"; @groups = [ [ FILE ] ];",
            "groups is not valid: the argument requires strategy \"explicit\", got \"single\"",
        ),
        ("@groups = [ ];", "groups is not valid: it has no group: add one, or omit groups"),
        (
            "groups = [ { paths = FILE; } { @depsOf = [ FILE 3 ]; } ];",
            "groups[1].depsOf[1] is not valid: expected a store path or a predicate, but it is 3",
        ),
        (
            "layers = [ { deps = FILE; groups = [ { @dpsOf = FILE; } ]; } ];",
            "layers[0].groups[0].dpsOf is not valid: there is no such predicate: expected one of roots, depsOf",
        ),
        (
            "groups = [ { @name = \"lib(foo\"; } ];",
            "groups[0].name is not valid: unclosed group, at character 4 of \"lib(foo\"",
        ),
        ("@groups = [ [ \"/etc/passwd\" ] ];", "groups[0][0]: store path \"/etc/passwd\""),
        (
            "layers = [ { } { deps = [ FILE ]; @strategy = \"explicit\"; } ];",
            "layers[1].strategy \"explicit\" is not valid: it requires the argument groups",
        ),
        ("@compression = \"xz\";", "compression must be CODECS, not \"xz\""),
        ("@compression = \"zstd:20\";", "compression must be CODECS, not \"zstd:20\""),
        ("@compression = \"gzip:0\";", "compression must be CODECS, not \"gzip:0\""),
        (
            "@created = \"now\";",
            "created \"now\" is not valid: expected RFC 3339, as in \"2024-05-13T09:31:10Z\"",
        ),
        (
            "@created = \"2024-02-30T00:00:00Z\";",
            "created \"2024-02-30T00:00:00Z\" is not valid: expected RFC 3339",
        ),
        (
            "@system = \"sparc-linux\";",
            "system \"sparc-linux\" is not valid: its processor has no OCI name known here: set arch",
        ),
        ("config = { @Entrypoint = 3; };", "config.Entrypoint must be a list of texts, not the number 3"),
        ("config = { @Env = [ 3 ]; };", "config.Env[0] must be text, not the number 3"),
        (
            "layers = [ { deps = FILE; perms = [ { path = FILE; @mode = \"9\"; } ]; } ];",
            "\"9\" is not valid: expected octal digits up to 7777, as in \"0755\"",
        ),
        (
            "layers = [ { deps = FILE; perms = [ { path = FILE; @regex = \"(\"; } ]; } ];",
            "\"(\" is not valid: ",
        ),
        (
            "layers = [ { @parents = [ 0 ]; deps = FILE; } ];",
            "layers[0].parents[0] 0 is not valid: expected the index of an earlier layer; there are 0",
        ),
        (
            "layers = [ { @prebuilt = FILE; deps = FILE; } ];",
            "layers[0].prebuilt is not valid: it cannot be combined with other arguments of a layer",
        ),
        (
            "layers = [ { @deps = \"/nix/store/0123456789abcdfghijklmnpqrsvwxyz-gone\"; } ];",
            "layers[0].deps '/nix/store/0123456789abcdfghijklmnpqrsvwxyz-gone' is not a valid path of this store",
        ),
    ] {
        let arguments = arguments.replace("FILE", "(builtins.toFile \"f\" \"\")");
        table.add(format!("image {{ {arguments} }}"), message.replace("CODECS", &Codec::forms()));
    }
    // Errors about several arguments point at the call.
    let groups = "groups = [ [ file ] [ file ] ]; deps = file;";
    table.add(
        format!("let file = builtins.toFile \"f\" \"\"; in (@builtins.nixplyImage {{ name = \"x\"; layers = [ {{ {groups} }} ]; }}).outPath"),
        "cannot pack image 'x': explicit layer groups is not valid: groups 0 and 1 both name",
    );
    table.check();
}

#[test]
fn packer_errors_name_the_image_and_the_action() {
    let nix = plugin_harness!().private();
    let file = nix.file(
        "x.nix",
        "let wrong = { name = \"Some/Name\"; parents = [ 3 ]; }; in\n\
         { image = builtins.nixplyImage wrong; plan = builtins.nixplyPlan wrong; }",
    );
    let image = nix.eval_file(&file, "image.outPath").fails();
    assert!(image.contains("cannot pack image 'Some/Name': parents[0] 3 is not valid"), "{image}");
    let plan = nix.eval_file(&file, "plan").fails();
    assert!(plan.contains("cannot plan image 'Some/Name': parents[0] 3"), "{plan}");
}

#[test]
fn errors_inside_of_arguments_come_from_nix() {
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
    // A value that JSON does not have.
    let file =
        nix.file("y.nix", "(builtins.nixplyImage {\n name = \"x\";\n config.Cmd = [ (x: x) ]; }).outPath");
    let error = run(nix.command("nix").args(["eval", "-f"]).arg(&file)).fails();
    assert!(
        error.contains("argument 'config.Cmd[0]' of builtins.nixplyImage cannot be a function"),
        "{error}"
    );
    assert!(error.contains("y.nix:"), "{error}");
}

#[test]
fn text_that_is_not_utf8_points_at_its_argument() {
    let nix = plugin_harness!().private();
    fs::write(nix.directory().join("latin"), b"caf\xe9").unwrap();
    let mut table = Table::new(nix);
    let latin = "(builtins.readFile ./latin)";
    for (arguments, place) in [
        (format!("@name = {latin};"), "name"),
        (format!("@tag = {latin};"), "tag"),
        (format!("config = {{ Labels = {{ @a = {latin}; }}; }};"), "config.Labels.a"),
        (
            format!("perms = [ {{ path = builtins.toFile \"f\" \"\"; @regex = {latin}; }} ];"),
            "perms[0].regex",
        ),
        (format!("layers = [ {{ metadata = {{ @comment = {latin}; }}; }} ];"), "layers[0].metadata.comment"),
    ] {
        table.add(format!("image {{ {arguments} }}"), format!("argument '{place}' of builtins.nixplyImage "));
    }
    table.check();
}
