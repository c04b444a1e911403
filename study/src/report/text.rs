//! Numbers and sentences of reports.

use crate::compare::{Comparison, StrategyResult};
use crate::sizes::Prediction;
use crate::summary::Summary;

/// Formats a number of layers.
pub(super) fn layers(count: usize) -> String {
    format!("{count} layer{}", if count == 1 { "" } else { "s" })
}

/// Returns the main result of a comparison, as a sentence without a full stop.
pub fn headline(comparison: &Comparison) -> String {
    let all = comparison
        .limits
        .iter()
        .flat_map(|limit| limit.strategies.iter().map(move |strategy| (limit.max_layers, strategy)));
    let key = |(limit, strategy): &(usize, &StrategyResult)| (strategy.summary.pushed.mean, *limit);
    let Some((limit, best)) = all.clone().min_by_key(key) else {
        return format!("the floor pushes {} a release", bytes(comparison.floor.summary.pushed.mean));
    };
    let beside: Vec<&StrategyResult> =
        all.filter(|(of, _)| *of == limit).map(|(_, strategy)| strategy).collect();
    let mean = best.summary.pushed.mean;
    let alike = beside.iter().filter(|of| of.summary.pushed.mean == mean).map(|of| of.strategy.as_str());
    let alike: Vec<&str> = alike.collect();
    let who = match alike.as_slice() {
        [one] => format!("{one} pushes the least"),
        all if all.len() == beside.len() => "all strategies push the same".to_owned(),
        some => format!("{} push the least", some.join(", ")),
    };
    let mut text = format!("{who}: {} a release with {}", bytes(mean), layers(limit));
    if let Some(times) = best.to_floor {
        text.push_str(&format!(", {times:.2} times the floor"));
    }
    let worst = beside.into_iter().max_by_key(|of| of.summary.pushed.mean);
    let more = worst.map(|worst| (worst.summary.pushed.mean as f64 / mean.max(1) as f64, &worst.strategy));
    if let Some((more, worst)) = more.filter(|(more, _)| *more >= 1.05) {
        text.push_str(&format!("; {worst} pushes {more:.1} times as much"));
    }
    if comparison.images.len() > 1 {
        let Summary { shared, shareable, .. } = &best.summary;
        text.push_str(&format!(
            "; shared layers save {} of the {} that they could",
            percent(*shared),
            percent(*shareable)
        ));
    }
    text
}

/// Describes the bytes of a comparison, as a phrase that follows "bytes are".
pub fn measure(comparison: &Comparison) -> String {
    let Some(prediction) = &comparison.prediction else { return "of uncompressed archives".to_owned() };
    let Prediction { codec, paths, known_paths, package_paths, ratio, assumed } = prediction;
    match assumed {
        true => format!(
            "compressed with {codec}, estimated by an assumed ratio of {ratio}: the cache knows none of {paths} paths"
        ),
        false => format!(
            "compressed with {codec}: {known_paths} of {paths} paths measured (from the cache), {package_paths} estimated from \
             other versions, the rest from the mean ratio, {ratio}"
        ),
    }
}

/// Formats a size in powers of 1000.
pub fn bytes(number: u64) -> String {
    bytesize::ByteSize::b(number).display().si().to_string()
}

/// Formats a part as a percentage.
pub(super) fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
}
