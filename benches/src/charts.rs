//! Charts of the results, as SVG.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::summary::{Group, Median};

/// The contenders' colours, in the order of appearance. People with colour blindness can tell them apart.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(240, 200, 110),
    RGBColor(0, 158, 115),
    RGBColor(150, 150, 150),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
];

const INK: RGBColor = RGBColor(40, 40, 40);
const FAINT: RGBColor = RGBColor(222, 222, 222);
const FONT: &str = "sans-serif";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws bars of wall-clock seconds by scenario for the largest closure; returns `None` without such scenarios.
pub(crate) fn bars(groups: &[Group]) -> Result<Option<String>> {
    let contest = |group: &&Group| group.row.scenario.is_contest();
    let Some(largest) = groups.iter().filter(contest).max_by_key(|group| group.row.bytes) else {
        return Ok(None);
    };
    // The chart shows one codec; the tables have all.
    let codec =
        groups.iter().rev().find(|group| !group.row.codec.is_empty()).map(|group| group.row.codec.clone());
    let shown: Vec<&Group> = groups
        .iter()
        .filter(contest)
        .filter(|group| group.row.closure == largest.row.closure)
        .filter(|group| group.row.codec.is_empty() || Some(&group.row.codec) == codec.as_ref())
        .collect();
    let mut names: Vec<&str> = Vec::new();
    for median in shown.iter().flat_map(|group| &group.contenders) {
        if !names.contains(&median.contender.as_str()) {
            names.push(&median.contender);
        }
    }
    let title = format!(
        "Seconds for an image of {} store paths, {:.1} GB{} (log scale)",
        largest.row.paths,
        largest.row.bytes as f64 / 1e9,
        codec.map(|codec| format!(", {codec}")).unwrap_or_default()
    );
    let mut svg = String::new();
    draw_bars(&mut svg, &title, &shown, &names).map_err(|error| anyhow!("cannot draw: {error}"))?;
    Ok(Some(svg))
}

fn draw_bars(
    svg: &mut String,
    title: &str,
    shown: &[&Group],
    names: &[&str],
) -> Result<(), Box<dyn std::error::Error>> {
    const BAR: i32 = 15;
    const GAP: i32 = 14;
    const LEFT: i32 = 330;
    const RIGHT: i32 = 90;
    const WIDTH: i32 = 980;
    let top = 64 + 22 * i32::try_from(names.len().div_ceil(3))?;
    let heights: Vec<i32> = shown
        .iter()
        .map(|group| i32::try_from(group.contenders.len()).map(|n| n * BAR + GAP))
        .collect::<Result<_, _>>()?;
    let height = top + heights.iter().sum::<i32>() + 34;
    let seconds = || shown.iter().flat_map(|group| &group.contenders).map(|median| median.seconds);
    let low = 10f64.powf(seconds().fold(f64::MAX, f64::min).max(1e-3).log10().floor());
    let high = seconds().fold(0.0, f64::max).max(low * 10.0);
    let x = |value: f64| {
        let share = (value.max(low) / low).log10() / (high / low).log10();
        LEFT + (share * f64::from(WIDTH - LEFT - RIGHT)) as i32
    };
    let area: Area<'_> =
        SVGBackend::with_string(svg, (u32::try_from(WIDTH)?, u32::try_from(height)?)).into_drawing_area();
    area.fill(&WHITE)?;
    let style = |size: i32, h: HPos, v: VPos| (FONT, size).into_font().color(&INK).pos(Pos::new(h, v));
    area.draw(&Text::new(title.to_owned(), (16, 14), style(18, HPos::Left, VPos::Top)))?;
    for (at, name) in names.iter().enumerate() {
        let (column, row) = (i32::try_from(at % 3)?, i32::try_from(at / 3)?);
        let (left, y) = (16 + column * 290, 52 + row * 22);
        area.draw(&Rectangle::new([(left, y), (left + 13, y + 13)], COLOURS[at % COLOURS.len()].filled()))?;
        area.draw(&Text::new((*name).to_owned(), (left + 20, y + 6), style(14, HPos::Left, VPos::Center)))?;
    }
    let mut tick = low;
    while tick <= high * 1.0001 {
        area.draw(&PathElement::new([(x(tick), top - 6), (x(tick), height - 28)], FAINT))?;
        let label = format!("{tick}");
        area.draw(&Text::new(label, (x(tick), height - 22), style(13, HPos::Center, VPos::Top)))?;
        tick *= 10.0;
    }
    let mut y = top;
    for (group, height) in shown.iter().zip(heights) {
        let middle = y + (height - GAP) / 2;
        area.draw(&Text::new(
            group.row.scenario.name,
            (LEFT - 10, middle),
            style(14, HPos::Right, VPos::Center),
        ))?;
        for (row, median) in group.contenders.iter().enumerate() {
            let top = y + i32::try_from(row)? * BAR;
            let name = names.iter().position(|name| *name == median.contender).unwrap_or_default();
            let bar = Rectangle::new(
                [(LEFT, top), (x(median.seconds).max(LEFT + 1), top + BAR - 2)],
                COLOURS[name % COLOURS.len()].filled(),
            );
            area.draw(&bar)?;
            let place = (x(median.seconds) + 5, top + BAR / 2 - 1);
            area.draw(&Text::new(number(median), place, style(12, HPos::Left, VPos::Center)))?;
        }
        y += height;
    }
    area.present()?;
    Ok(())
}

fn number(median: &Median) -> String {
    match median.seconds {
        seconds if seconds < 10.0 => format!("{seconds:.2}"),
        seconds => format!("{seconds:.1}"),
    }
}

/// Draws nixply's wall-clock seconds against changed bytes, one line per closure; returns `None` without such rows.
pub(crate) fn changed(groups: &[Group]) -> Result<Option<String>> {
    let mut lines: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for group in groups {
        let (Some(changed), Some(median)) = (group.row.changed_mib, group.contenders.first()) else {
            continue;
        };
        let name = format!("{}, {:.1} GB", group.row.closure, group.row.bytes as f64 / 1e9);
        let point = (changed as f64, median.seconds);
        match lines.iter_mut().find(|(known, _)| *known == name) {
            Some((_, points)) => points.push(point),
            None => lines.push((name, vec![point])),
        }
    }
    if lines.is_empty() {
        return Ok(None);
    }
    let mut svg = String::new();
    draw_lines(&mut svg, &lines).map_err(|error| anyhow!("cannot draw: {error}"))?;
    Ok(Some(svg))
}

fn draw_lines(
    svg: &mut String,
    lines: &[(String, Vec<(f64, f64)>)],
) -> Result<(), Box<dyn std::error::Error>> {
    let all = || lines.iter().flat_map(|(_, points)| points);
    let right = all().map(|(x, _)| *x).fold(0.0, f64::max) * 1.15;
    let left = all().map(|(x, _)| *x).fold(f64::MAX, f64::min) / 1.15;
    let top = all().map(|(_, y)| *y).fold(0.0, f64::max) * 1.5;
    let bottom = all().map(|(_, y)| *y).fold(f64::MAX, f64::min) / 1.5;
    let area: Area<'_> = SVGBackend::with_string(svg, (900, 460)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .caption(
            "nixply build: seconds against changed bytes; the cache has the rest",
            (FONT, 18).into_font().color(&INK),
        )
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d((left..right).log_scale().base(2.0), (bottom..top).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("MiB of changed store paths")
        .y_desc("seconds")
        .x_label_formatter(&|x| format!("{x:.0}"))
        // The scale computes 0.6000000000000001 for 0.6.
        .y_label_formatter(&|y| format!("{}", (y * 1000.0).round() / 1000.0))
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .label_style((FONT, 13).into_font().color(&INK))
        .draw()?;
    for (at, (name, points)) in lines.iter().enumerate() {
        let colour = COLOURS[[0, 1, 3][at % 3]];
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font((FONT, 14).into_font().color(&INK))
        .background_style(WHITE)
        .border_style(FAINT)
        .draw()?;
    area.present()?;
    drop(chart);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Row;
    use crate::scenario::Scenario;
    use crate::summary::groups;

    #[test]
    fn charts_show_the_measured_scenarios() {
        assert!(bars(&[]).unwrap().is_none() && changed(&[]).unwrap().is_none());
        let row = |scenario: &str, contender: &str, seconds, changed_mib| Row {
            closure: "large".into(),
            scenario: Scenario::named(scenario).unwrap(),
            codec: "zstd:1".into(),
            contender: contender.into(),
            bytes: 5_000_000_000,
            changed_mib,
            seconds,
            ..Row::default()
        };
        let rows = [
            row("first push", "nixply", 12.0, None),
            row("first push", "other", 99.0, None),
            row("changed bytes", "nixply", 0.1, Some(2)),
            row("changed bytes", "nixply", 1.0, Some(32)),
        ];
        let groups = groups(&rows);
        let svg = bars(&groups).unwrap().unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("first push") && !svg.contains("changed bytes"));
        assert!(changed(&groups).unwrap().unwrap().contains("large, 5.0 GB"));
    }
}
