//! Cost of tar streams on one thread: walking, headers and files' contents, including the stream's hash, which the benchmark `hash`
//! measures separately.

mod cpu_time;
mod sample;

use cpu_time::CpuTime;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nixply_packer::Packer;
use sample::Sample;

const FILES: usize = 20_000;
const LARGE: usize = 64 << 20;

fn tar(criterion: &mut Criterion<CpuTime>) {
    let files = |length: usize, name: fn(usize) -> String| {
        Sample::new((0..FILES).map(move |at| (name(at), sample::bytes(length))))
    };
    let short = |at: usize| format!("lib/module{}/file{at}.py", at / 100);
    // A name of more than 100 bytes that does not fit into a USTAR header and needs a PAX header.
    let long = |at: usize| format!("lib/module{}/{}{at}.py", at / 100, "long".repeat(40));
    let mut group = criterion.benchmark_group("tar, 20,000 files");
    group.throughput(Throughput::Elements(FILES as u64)).sample_size(10);
    for (name, sample) in [
        ("headers: empty files", files(0, short)),
        ("headers: empty files, long names", files(0, long)),
        ("files of 1 KiB", files(1024, short)),
    ] {
        group.bench_function(name, |bencher| bencher.iter(|| sample.pack(&Packer::new(1), "none")));
    }
    group.finish();
    let sample = Sample::new([("file".into(), sample::bytes(LARGE))]);
    let mut group = criterion.benchmark_group("tar, one file");
    group.throughput(Throughput::Bytes(LARGE as u64)).sample_size(10);
    group.bench_function("64 MiB", |bencher| bencher.iter(|| sample.pack(&Packer::new(1), "none")));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = tar
}
criterion_main!(benches);
