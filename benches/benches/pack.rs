//! Packing one layer of 64 MiB, by codec: `cargo bench -p nixply-benches`.

use std::sync::atomic::AtomicBool;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nixply_packer::closure::{Closure, PathInfo, Store};
use nixply_packer::pack::{Control, LayerPath, Packer};
use nixply_packer::plan::{PlannedPath, by_popularity};

const BYTES: usize = 64 << 20;

fn pack(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store { dir: "/nix/store".into(), real_dir: folder.path().into() };
    let mut state = 1u64;
    let bytes: Vec<u8> = (0..BYTES)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 60) as u8
        })
        .collect();
    std::fs::write(folder.path().join("file"), bytes).expect("a temporary file");
    let path = PlannedPath { path: "/nix/store/file".into(), options: None };
    let stop = AtomicBool::new(false);
    let mut group = criterion.benchmark_group("pack");
    group.throughput(Throughput::Bytes(BYTES as u64)).sample_size(10);
    for codec in ["none", "gzip:1", "gzip:6", "zstd:1", "zstd:3"] {
        group.bench_function(codec, |bencher| {
            let layers = [LayerPath::all(std::slice::from_ref(&path), &store).expect("no rules to refuse")];
            let codec = codec.parse().expect("a codec");
            bencher.iter(|| {
                Packer::new(0).pack(&layers, codec, &(), &Control::new(&stop, &())).expect("it packs")
            });
        });
    }
    group.finish();
}

fn plan(criterion: &mut Criterion) {
    let path = |at: usize| format!("/nix/store/{at:032}-p").into();
    let closure = Closure::new((0..10_000).map(|at| PathInfo {
        path: path(at),
        references: [at / 2, at / 3, at / 5, at.saturating_sub(1)].map(path).into(),
        nar_hash: String::new(),
        nar_size: 0,
    }));
    criterion
        .bench_function("popularity of 10,000 paths", |bencher| bencher.iter(|| by_popularity(&closure)));
}

criterion_group!(benches, pack, plan);
criterion_main!(benches);
