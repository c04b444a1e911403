//! Measures the memory of packing: creates a large closure, packs it with the program `nixply`, and prints the process's peak
//! resident memory. `cargo build --release && cargo run --release -p nixply-benches --bin memory`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a program does")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::json;

/// Pack a large closure and print the peak memory
#[derive(Parser)]
struct Args {
    /// Number of store paths in the closure
    #[arg(long, default_value_t = 1_100)]
    paths: usize,

    /// Size of the closure in megabytes
    #[arg(long, default_value_t = 4_400)]
    megabytes: usize,

    /// Number of layers
    #[arg(long, default_value_t = 100)]
    layers: usize,

    /// Directory for the temporary closure
    #[arg(long, default_value = "/var/tmp")]
    directory: PathBuf,

    /// The program [default: nixply next to this program]
    #[arg(long)]
    nixply: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let beside = std::env::current_exe()?.with_file_name("nixply");
    let nixply = args.nixply.clone().unwrap_or(beside);
    ensure!(nixply.exists(), "cannot find {}: run cargo build --release", nixply.display());
    let directory = tempfile::tempdir_in(&args.directory)?;
    eprintln!("creating {} paths of {} MB in total", args.paths, args.megabytes);
    make(&args, directory.path())?;
    for compression in ["none", "gzip:1", "zstd:3"] {
        for layers in [1, args.layers] {
            let (seconds, kilobytes) = measure(&args, &nixply, directory.path(), compression, layers)?;
            println!(
                "{compression:>7}, {layers:>3} layers: {seconds:6.1} s, at most {:4} MB resident",
                kilobytes / 1000
            );
        }
    }
    Ok(())
}

/// Writes the store paths and the closure. Every 100th path is large, and the large ones have half of all bytes: sizes are
/// skewed as in real closures.
fn make(args: &Args, directory: &Path) -> Result<()> {
    let store = directory.join("store");
    let total = args.megabytes * 1_000_000;
    let large = args.paths.div_ceil(100);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut entries = Vec::new();
    for at in 0..args.paths {
        let name = format!("{at:032}-path{at}");
        let size = total / 2 / if at % 100 == 0 { large } else { args.paths - large };
        let bin = store.join(&name).join("bin");
        fs::create_dir_all(&bin)?;
        let mut rest = size;
        for file in 0.. {
            let length = rest.min(if at % 100 == 0 { 64 << 20 } else { 300_000 });
            let mut bytes = Vec::with_capacity(length + 8);
            while bytes.len() < length {
                // Half of the bits are noise, so that the bytes are compressible, but not to almost nothing.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes.extend_from_slice(&(state & 0x0f0f_0f0f_0f0f_0f0f).to_le_bytes());
            }
            fs::File::create(bin.join(format!("file{file}")))?.write_all(&bytes[..length])?;
            rest -= length;
            if rest == 0 {
                break;
            }
        }
        let references: Vec<_> =
            if at == 0 { vec![] } else { vec![format!("/nix/store/{:032}-path{}", at / 2, at / 2)] };
        entries
            .push(json!({"path": format!("/nix/store/{name}"), "references": references, "narSize": size}));
    }
    fs::write(directory.join("closure.json"), json!(entries).to_string())?;
    Ok(())
}

/// Packs once; returns seconds and peak resident memory in kilobytes.
fn measure(
    args: &Args,
    nixply: &Path,
    directory: &Path,
    compression: &str,
    layers: usize,
) -> Result<(f64, u64)> {
    let roots: Vec<_> = (0..args.paths).map(|at| format!("/nix/store/{at:032}-path{at}")).collect();
    let request = json!({
        "layers": [{"deps": roots, "maxLayers": layers, "strategy": "popularity"}], "arch": "amd64", "compression": compression,
    });
    fs::write(directory.join("request.json"), request.to_string())?;
    let begin = Instant::now();
    let mut command = Command::new(nixply);
    // The store paths are synthetic: the store of the environment and the user's cache are not used.
    command
        .env_remove("NIX_STORE_DIR")
        .args(["build", "--no-cache"])
        .arg(directory.join("request.json"))
        .arg("--closure")
        .arg(directory.join("closure.json"));
    command.arg("--real-store-dir").arg(directory.join("store")).arg("-o").arg(directory.join("image.json"));
    let mut child = command.stdin(Stdio::null()).spawn().context("cannot start nixply")?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        // VmHWM is the peak so far, so the last value is the peak of the process.
        let text = fs::read_to_string(&status).unwrap_or_default();
        let mark = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = peak.max(mark.and_then(|mark| mark.split_whitespace().next()?.parse().ok()).unwrap_or(0));
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "nixply ended with {status}");
            return Ok((begin.elapsed().as_secs_f64(), peak));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
