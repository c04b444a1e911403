//! A Nix with its own store, in which the package set is built.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{Output, run};

/// The Nix under test.
#[derive(Debug, Clone)]
pub struct Nix {
    /// Name: `2.8`, `2.26`, `sid`, ...
    pub name: String,
    /// Directory with `nix`, `nix-build`, `nix-store`, `nix-daemon`.
    pub bin: PathBuf,
    /// Root directory of the store, with `store` and `var`.
    pub root: PathBuf,
    /// The plugin for this Nix. None if this Nix supports no plugins.
    pub plugin: Option<PathBuf>,
    /// The program `nixply`.
    pub cli: PathBuf,
    /// The package set's lock file.
    pub lock: PathBuf,
}

impl Nix {
    /// Returns the Nix that `cargo xtask test` has set up. None without it.
    pub fn from_environment() -> Option<Self> {
        let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
        Some(Self {
            name: std::env::var("NIXPLY_TEST_NIX").ok()?,
            bin: path("NIXPLY_TEST_NIX_BIN")?,
            root: path("NIXPLY_TEST_NIX_ROOT")?,
            plugin: path("NIXPLY_TEST_PLUGIN"),
            cli: path("NIXPLY_TEST_CLI")?,
            lock: path("NIXPLY_TEST_PACKAGES")?,
        })
    }

    /// Returns the repository's root.
    pub fn repository() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository").into()
    }

    /// Returns the store directory.
    pub fn store_dir(&self) -> PathBuf {
        self.root.join("store")
    }

    /// Returns a command of this Nix for its store, with the plugin if there is one.
    pub fn command(&self, program: &str) -> Command {
        let plugin = self.plugin.as_ref().map(|path| format!("plugin-files = {}\n", path.display()));
        self.bare_command(program, &plugin.unwrap_or_default())
    }

    /// Returns a command of this Nix for its store, with these additional lines of nix.conf and without the
    /// plugin.
    pub fn bare_command(&self, program: &str, config: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.envs(self.environment(config));
        command
    }

    /// Returns the variables that select this Nix's store, with these additional lines of nix.conf.
    pub fn environment(&self, config: &str) -> Vec<(&'static str, String)> {
        let below = |name: &str| self.root.join(name).display().to_string();
        let config = format!(
            "experimental-features = nix-command flakes\nsubstituters =\nbuild-users-group =\nsandbox = true\n\
             sandbox-fallback = false\nsandbox-paths = /bin /lib /lib64 /usr\n{config}"
        );
        vec![
            ("NIX_STORE_DIR", below("store")),
            ("NIX_STATE_DIR", below("var")),
            ("NIX_LOG_DIR", below("log")),
            ("NIX_CONF_DIR", below("etc")),
            ("XDG_CACHE_HOME", below("cache")),
            ("NIX_REMOTE", String::new()),
            ("NIX_PATH", String::new()),
            ("NIX_CONFIG", config),
        ]
    }

    /// Returns a command that runs `nixply` with this Nix and its store.
    pub fn nixply(&self) -> Command {
        let mut command = Command::new(&self.cli);
        command.envs(self.environment(""));
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.bin.display()));
        command
    }

    /// Returns whether plugins can register builtin builders (2.29 and later). Checks Nix's headers, not the
    /// plugin: with such headers, a plugin without the builder is a defect.
    pub fn has_builtin_builders(&self) -> bool {
        let headers = self.bin.join("../include/nix/store/builtins.hh");
        std::fs::read_to_string(headers).is_ok_and(|text| text.contains("RegisterBuiltinBuilder"))
    }

    /// Builds an expression with `nix-build` and returns its path. [`expression`] lists the names in scope.
    #[track_caller]
    pub fn build(&self, body: &str) -> PathBuf {
        self.try_build(body).ok().into()
    }

    /// Like [`Nix::build`], but returns the output, also of a failed build.
    #[track_caller]
    pub fn try_build(&self, body: &str) -> Output {
        run(self.command("nix-build").args(["--no-out-link", "-E", &expression(self, body)]))
    }

    /// Evaluates an expression to JSON.
    #[track_caller]
    pub fn eval(&self, body: &str) -> serde_json::Value {
        let text = self.try_eval(body).ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Like [`Nix::eval`], but returns the output, also of a failed evaluation.
    #[track_caller]
    pub fn try_eval(&self, body: &str) -> Output {
        run(self.command("nix").args(["eval", "--impure", "--json", "--expr", &expression(self, body)]))
    }

    /// Like [`Nix::try_eval`], but without the package set and the plugin.
    pub fn eval_plain(&self, expression: &str) -> Output {
        run(self.bare_command("nix", "").args(["eval", "--impure", "--json", "--expr", expression]))
    }
}

/// Returns `body` with these names in scope:
///
/// - `pkgs`: the package set;
/// - `nixply`: the program, as a package;
/// - `buildImage`: the builder frontend, which is nix/build-image.nix without the plugin;
/// - `buildImages usePlugin`: nix/build-images.nix;
/// - `buildIndex usePlugin`: nix/build-index.nix;
/// - `drop_in usePlugin`: the functions of nix/nix2container.
pub fn expression(nix: &Nix, body: &str) -> String {
    format!(
        "let pkgs = import {repository}/tests/packages {{ lock = builtins.fromJSON (builtins.readFile {lock}); }}; \
         program = builtins.path {{ path = {cli}; name = \"nixply\"; }}; \
         nixply = pkgs.runCommand \"nixply\" {{ }} ''mkdir -p $out/bin; ln -s ${{program}} $out/bin/nixply''; \
         buildImage = import {repository}/nix/build-image.nix {{ builder = \"${{program}}\"; usePlugin = false; }}; \
         buildImages = usePlugin: import {repository}/nix/build-images.nix {{ builder = \"${{program}}\"; inherit usePlugin; }}; \
         buildIndex = usePlugin: import {repository}/nix/build-index.nix {{ builder = \"${{program}}\"; inherit usePlugin; }}; \
         drop_in = usePlugin: import {repository}/nix/nix2container {{ inherit pkgs nixply usePlugin; }}; in {body}",
        repository = Nix::repository().display(),
        lock = nix.lock.display(),
        cli = nix.cli.display(),
    )
}

/// Returns Nix's name of this machine's system, as in `x86_64-linux`.
pub fn system() -> String {
    format!("{}-linux", std::env::consts::ARCH)
}
