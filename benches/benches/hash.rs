//! Cost of hashes: SHA-256 of the stream of every layer, and blake3 of a cached segment's frames when they are read.
//! docs/codecs.md compares implementations of SHA-256.

mod cpu_time;

use std::hint::black_box;

use cpu_time::CpuTime;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nixply_oci::DiffId;
use nixply_packer::FRAME_BYTES;
use sha2::{Digest, Sha256};

const BYTES: usize = 64 << 20;

fn hash(criterion: &mut Criterion<CpuTime>) {
    let stream = vec![b'x'; BYTES];
    let mut group = criterion.benchmark_group("hash");
    group.throughput(Throughput::Bytes(BYTES as u64)).sample_size(10);
    group.bench_function("SHA-256, by frames", |bencher| {
        bencher.iter(|| {
            let mut hasher = Sha256::new();
            black_box(&stream).chunks(FRAME_BYTES).for_each(|frame| hasher.update(frame));
            DiffId::finish(hasher)
        });
    });
    // A compressed frame may have any length up to the size of a frame.
    for length in [64 << 10, 1 << 20, FRAME_BYTES] {
        group.bench_function(BenchmarkId::new("blake3, frames of KiB", length >> 10), |bencher| {
            bencher.iter(|| {
                black_box(&stream)
                    .chunks(length)
                    .map(blake3::hash)
                    .fold(0, |all, hash| all ^ hash.as_bytes()[0])
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = hash
}
criterion_main!(benches);
