//! CPU time that the cache costs and saves: packing with and without writing a segment, reading segments with and without
//! verifying checksums, and looking up layers. All files are in the page cache.

mod cpu_time;
mod sample;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use cpu_time::CpuTime;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use nixply_packer::{BlobSink, BlobWriter, Cache, Codec, Control, FRAME_BYTES, PackedLayer, Packer, Result};
use sample::Sample;

const BYTES: usize = 64 << 20;
/// The cache does not store plain segments.
const CODEC: &str = "zstd:1";
const LAYERS: usize = 100;

/// Accepts all blobs and drops them.
struct Dropped;

impl BlobWriter for Dropped {
    fn write(&mut self, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>, _packed: &PackedLayer) -> Result<()> {
        Ok(())
    }
}

impl BlobSink for Dropped {
    fn open(&self, _layer: usize) -> Result<Option<Box<dyn BlobWriter>>> {
        Ok(Some(Box::new(Self)))
    }
}

/// Returns a packer with one thread and a cache in this directory.
fn packer(directory: &Path) -> Packer {
    Packer::new(1).with_cache(Some(Cache::new(directory)))
}

/// Returns all files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(directory).expect("it exists").map(|entry| entry.expect("it can be read").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Reads files a frame at a time, like the cache, and returns their size.
fn read(files: &[PathBuf], buffer: &mut Vec<u8>) -> usize {
    let mut total = 0;
    for file in files {
        let mut file = File::open(file).expect("it exists");
        loop {
            buffer.clear();
            let read = (&mut file).take(FRAME_BYTES as u64).read_to_end(buffer).expect("it can be read");
            if read == 0 {
                break;
            }
            total += read;
        }
    }
    total
}

fn cache(criterion: &mut Criterion<CpuTime>) {
    let sample = Sample::new([("file".into(), sample::bytes(BYTES))]);
    let directory = || tempfile::tempdir().expect("a temporary directory");
    let filled = directory();
    let stop = AtomicBool::new(false);
    let control = Control::new(&stop, &());
    let codec: Codec = CODEC.parse().expect("a codec");
    let layer = sample.pack(&packer(filled.path()), CODEC);
    let (segments, mut buffer) = (files(&filled.path().join("segments")), Vec::new());
    let size = read(&segments, &mut buffer);
    assert!(size as u64 > layer.size, "a segment has the blob's frames and checksums");

    let mut group = criterion.benchmark_group("cache, 64 MiB, by the segment's bytes");
    group.throughput(Throughput::Bytes(size as u64)).sample_size(10);
    group.bench_function("packed, no cache", |bencher| bencher.iter(|| sample.pack(&Packer::new(1), CODEC)));
    group.bench_function("packed, segment written", |bencher| {
        bencher.iter_batched(
            directory,
            |directory| {
                sample.pack(&packer(directory.path()), CODEC);
                directory
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("read", |bencher| bencher.iter(|| read(&segments, &mut buffer)));
    group.bench_function("read and verified", |bencher| {
        bencher.iter(|| {
            let verified = Cache::new(filled.path()).verify().expect("it can be read");
            assert!(verified.removed.is_empty());
        });
    });
    group.bench_function("blob out of the cache, verified and hashed once", |bencher| {
        bencher.iter(|| {
            let packed = packer(filled.path()).pack(&[sample.layer()], codec, &Dropped, &control);
            assert_eq!(packed.expect("it packs"), [layer]);
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("cache, look-up");
    group.throughput(Throughput::Elements(LAYERS as u64));
    group.bench_function("100 layers' digests", |bencher| {
        bencher.iter_batched(
            || (0..LAYERS).map(|_| sample.layer()).collect::<Vec<_>>(),
            |layers| packer(filled.path()).pack(&layers, codec, &(), &control).expect("they are cached"),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = cache
}
criterion_main!(benches);
