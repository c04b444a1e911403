//! Wall-clock time of packing one layer of 64 MiB on all cores, by codec: `cargo bench -p nixply-benches`.

mod sample;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nixply_packer::Packer;
use sample::Sample;

const BYTES: usize = 64 << 20;

fn pack(criterion: &mut Criterion) {
    let sample = Sample::new([("file".into(), sample::bytes(BYTES))]);
    let mut group = criterion.benchmark_group("pack");
    group.throughput(Throughput::Bytes(BYTES as u64)).sample_size(10);
    for codec in ["none", "gzip:1", "gzip:6", "zstd:1", "zstd:3"] {
        group.bench_function(codec, |bencher| bencher.iter(|| sample.pack(&Packer::new(0), codec)));
    }
    group.finish();
}

criterion_group!(benches, pack);
criterion_main!(benches);
