//! Drives the border from C++ as the plugin does, but without Nix: see `driver.cc` and the tests.

/// The C++ functions that the tests call.
#[cxx::bridge(namespace = "border_test")]
#[allow(unsafe_code, missing_docs, reason = "cxx's output")]
pub mod ffi {
    /// The result of a call through the border.
    #[allow(missing_docs)]
    struct Outcome {
        spec: String,
        manifest: String,
        name: String,
        references: Vec<String>,
        error: String,
        log: String,
        called_elsewhere: bool,
    }

    unsafe extern "C++" {
        include!("driver.hh");
        fn build(
            real_store_dir: &str,
            store_path: &str,
            config: &str,
            interrupt: bool,
            threads: u32,
        ) -> Outcome;
        fn plan(real_store_dir: &str, store_path: &str, strategy: &str, groups: &str) -> Result<String>;
        fn plan_chain(paths: u32, interrupt: bool) -> String;
        fn plan_with_entry(store_path: &str, entry: &str, nar_hash: &str) -> Result<()>;
        fn builder(attrs: &str, real_store_dir: &str) -> Result<()>;
        fn describe(place: &str) -> String;
        fn roots(request: &str) -> Result<String>;
        fn check(request: &str) -> Result<()>;
    }
}

// Only the C++ code uses this crate.
use nixply_ffi as _;
