//! Cost of rules: 42,000 file names and 41 perms, as in nix2container#228.

mod cpu_time;

use cpu_time::CpuTime;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use nixply_planning::{PathOptions, Perm, Rewrite, Rules};

const STORE_PATH: &str = "/nix/store/x896lxz471i4rgicjxygfh37a0appv7l-home";
const FILES: usize = 42_000;
const PERMS: usize = 41;

/// Returns the regular expression of a rule.
type Expression = fn(usize) -> String;

/// Returns names like those in a home directory or a package, four directories deep.
fn names() -> Vec<Vec<u8>> {
    let directories = ["bin", "lib/python3.11/site-packages", "share/doc", "home/user/.config", "etc"];
    let name = |at: usize| {
        let (directory, package) = (directories[at % directories.len()], at / 300);
        format!("{STORE_PATH}/{directory}/package{package}/sub{}/file-{at}.so", at % 7).into_bytes()
    };
    (0..FILES).map(name).collect()
}

fn perms(regex: impl Fn(usize) -> String) -> PathOptions {
    let perm = |at: usize| Perm { regex: regex(at), mode: "0755".into(), uid: at as i64, ..Perm::default() };
    PathOptions { perms: (0..PERMS).map(perm).collect(), ..PathOptions::default() }
}

fn rules(criterion: &mut Criterion<CpuTime>) {
    let names = names();
    let mut group = criterion.benchmark_group("rules: 42,000 files, 41 perms");
    group.throughput(Throughput::Elements((FILES * PERMS) as u64)).sample_size(10);
    let expressions: [(&str, Expression); 7] = [
        ("none matches, literal", |at| format!("/nothing/of/this/name{at}")),
        ("everything", |_| ".*".into()),
        ("store path", |_| format!("^{STORE_PATH}")),
        ("directory, anchored", |at| format!("^{STORE_PATH}/home/user/.config/package{at}/.*")),
        ("directory, not anchored", |at| format!("/bin/package{at}/.*")),
        ("end", |at| format!(r".*/file-.*{at}\.so$")),
        ("classes", |at| format!(r"/(bin|etc)/[a-z]+{at}/sub\d+/[^/]*\.so$")),
    ];
    for (name, regex) in expressions {
        let rules = Rules::compile(&perms(regex), STORE_PATH).expect("they are valid");
        group.bench_function(name, |bencher| {
            bencher.iter(|| names.iter().map(|name| rules.ownership(name, 0o444).uid).sum::<i64>())
        });
    }
    group.finish();
    let options = perms(|at| format!(r"/(bin|etc)/[a-z]+{at}/sub\d+/[^/]*\.so$"));
    criterion.bench_function("rules: compiling 41 perms", |bencher| {
        bencher.iter_batched(
            || options.clone(),
            |options| Rules::compile(&options, STORE_PATH).expect("they are valid"),
            BatchSize::SmallInput,
        );
    });
    let rewrite = |regex: String, repl: &str| {
        let options = PathOptions { rewrite: Rewrite { regex, repl: repl.into() }, ..PathOptions::default() };
        Rules::compile(&options, STORE_PATH).expect("it is valid")
    };
    let mut group = criterion.benchmark_group("rules: 42,000 files, one rewrite");
    group.throughput(Throughput::Elements(FILES as u64)).sample_size(10);
    for (name, rules) in [
        ("copyToRoot", rewrite(format!("^{STORE_PATH}"), "")),
        ("groups", rewrite("^/nix/store/[a-z0-9]+-home/(.*)$".into(), "/opt/$1")),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| names.iter().map(|name| rules.place(name).len()).sum::<usize>())
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = rules
}
criterion_main!(benches);
