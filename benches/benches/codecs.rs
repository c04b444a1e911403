//! Cost of codecs: CPU time of packing 16 MiB, including reading, the tar stream and its hash; `none` is these alone.
//! docs/codecs.md compares codecs on real files.

mod cpu_time;
mod sample;

use cpu_time::CpuTime;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nixply_packer::Packer;
use sample::Sample;

const BYTES: usize = 16 << 20;

fn codecs(criterion: &mut Criterion<CpuTime>) {
    let sample = Sample::new([("file".into(), sample::bytes(BYTES))]);
    let mut group = criterion.benchmark_group("codecs");
    group.throughput(Throughput::Bytes(BYTES as u64)).sample_size(10);
    for codec in ["none", "zstd:1", "zstd:3", "gzip:1", "gzip:6"] {
        group.bench_function(codec, |bencher| bencher.iter(|| sample.pack(&Packer::new(1), codec)));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = codecs
}
criterion_main!(benches);
