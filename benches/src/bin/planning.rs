//! Measures the time to plan synthetic fleets of growing size with the strategy `min-churn`: without a lock file, to update a lock
//! file, and with the updated lock file. Prints seconds by number of store paths; `--chart FILE` draws the first two.
//! `cargo run --release -p nixply-benches --bin planning`.

#![allow(clippy::print_stdout, reason = "printing is what a program does")]

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, anyhow};
use clap::Parser;
use nixply_planning::plan::{Lock, Member, plan_fleet};
use nixply_planning::{Closure, PlannedPath, StorePath};
use nixply_study::history::{Fleet, Propagation};
use plotters::prelude::*;

/// Plan synthetic fleets of growing size
#[derive(Parser)]
struct Args {
    /// Number of images
    #[arg(long, default_value_t = 50)]
    images: usize,

    /// Number of layers of each image
    #[arg(long, default_value_t = 100)]
    max_layers: usize,

    /// Number of runs for each fleet; prints the median
    #[arg(long, default_value_t = 3)]
    repeat: usize,

    /// SVG file for a chart of seconds by store paths
    #[arg(long)]
    chart: Option<PathBuf>,
}

/// The fleets: number of packages, and number of roots of each image. The closures of all images together have about two thirds of
/// the packages.
const SIZES: [(usize, usize); 6] =
    [(1_250, 12), (2_500, 25), (5_000, 60), (10_000, 140), (20_000, 330), (30_000, 620)];

fn main() -> Result<()> {
    let args = Args::parse();
    println!(
        "paths of all images, paths of each image (mean), GB, share % of ceiling %, seconds (median of {}) without a \
         lock file, to update it, to follow it",
        args.repeat
    );
    let mut points = Vec::new();
    for (packages, roots) in SIZES {
        let fleet = Fleet { seed: 1, packages, images: args.images, roots, releases: 2 };
        let history = fleet.history(Propagation::Dependents)?;
        let [closures, next] = [0, 1].map(|release: usize| &history.releases[release].closures);
        let [members, changed] = [closures, next].map(|closures| {
            let names = history.images.iter().map(String::as_str);
            let members = names.zip(closures).map(|(name, closure)| member(name, closure, args.max_layers));
            members.collect::<Vec<Member<'_>>>()
        });
        let median = |work: &dyn Fn() -> Result<()>| -> Result<f64> {
            let mut seconds = Vec::new();
            for _ in 0..args.repeat.max(1) {
                let started = Instant::now();
                work()?;
                seconds.push(started.elapsed().as_secs_f64());
            }
            seconds.sort_by(f64::total_cmp);
            Ok(seconds[seconds.len() / 2])
        };
        let plans = plan_fleet(&members, None)?;
        let alone = median(&|| Ok(plan_fleet(&members, None).map(drop)?))?;
        let lock = Lock::update(None, &members)?;
        let updated = Lock::update(Some(&lock), &changed)?;
        let update = median(&|| Ok(Lock::update(Some(&lock), &changed).map(drop)?))?;
        let follow = median(&|| Ok(plan_fleet(&changed, Some(&updated)).map(drop)?))?;

        let sizes: HashMap<&StorePath, u64> = closures
            .iter()
            .flat_map(|closure| closure.iter())
            .map(|info| (&info.path, info.nar_size))
            .collect();
        let apart: u64 = closures.iter().flat_map(|closure| closure.iter()).map(|info| info.nar_size).sum();
        let layers: HashMap<&[PlannedPath], u64> = plans
            .iter()
            .flatten()
            .map(|layer| (&layer[..], layer.iter().map(|path| sizes[&path.path]).sum()))
            .collect();
        let share = |stored: u64| 100.0 * (1.0 - stored as f64 / apart as f64);
        let all: u64 = sizes.values().sum();
        let each = closures.iter().map(|closure| closure.len()).sum::<usize>() / closures.len();
        println!(
            "{:6} {each:6} {:6.1} {:5.1} of {:4.1} {alone:7.2} {update:7.2} {follow:7.2}",
            sizes.len(),
            all as f64 / 1e9,
            share(layers.values().sum()),
            share(all),
        );
        points.push((sizes.len() as f64, [alone, update]));
    }
    if let Some(file) = args.chart {
        let mut svg = String::new();
        draw(&mut svg, &points, args.images).map_err(|error| anyhow!("cannot draw: {error}"))?;
        fs::write(file, svg)?;
    }
    Ok(())
}

/// Returns an image for a plan of all paths of its closure.
fn member<'m>(name: &'m str, closure: &'m Closure, max_layers: usize) -> Member<'m> {
    let paths = closure.iter().map(|info| PlannedPath { path: info.path.clone(), options: None }).collect();
    Member { name, closure, paths, max_layers }
}

/// Draws seconds by paths, both logarithmic, with a line of slope 1 through the first point.
fn draw(
    svg: &mut String,
    points: &[(f64, [f64; 2])],
    images: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    const BLUE: RGBColor = RGBColor(0, 114, 178);
    const VERMILION: RGBColor = RGBColor(213, 94, 0);
    const GREY: RGBColor = RGBColor(150, 150, 150);
    let area = SVGBackend::with_string(svg, (760, 440)).into_drawing_area();
    area.fill(&WHITE)?;
    let (first, last) = (points[0], points[points.len() - 1]);
    let title = format!("Seconds to plan {images} images together");
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(
            (first.0 * 0.8..last.0 * 1.2).log_scale(),
            (first.1[0] * 0.5..last.1[1].max(5.0) * 1.5).log_scale(),
        )?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("store paths of all images")
        .y_desc("seconds")
        // Further labels would overlap.
        .x_label_formatter(&|x| match format!("{x:.0}") {
            label if label.starts_with(['1', '2', '5']) => label,
            _ => String::new(),
        })
        .y_label_formatter(&|y| format!("{y:.1}"))
        .draw()?;
    let linear = [(first.0, first.1[0]), (last.0, first.1[0] * last.0 / first.0)];
    chart
        .draw_series(LineSeries::new(linear, GREY))?
        .label("linear")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], GREY));
    for (at, (label, colour)) in
        [("nixply without a lock file", BLUE), ("update of a lock file", VERMILION)].into_iter().enumerate()
    {
        let points = points.iter().map(|(paths, seconds)| (*paths, seconds[at]));
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(4))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(GREY)
        .draw()?;
    area.present()?;
    Ok(())
}
