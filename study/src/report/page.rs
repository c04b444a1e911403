//! The page: descriptions, tables and charts. It uses no external resources. The `data` elements hold the
//! exact numbers.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use nixply_planning::Strategy;

use super::table::{Column, columns};
use super::text::{bytes, headline, layers, measure};
use super::{Report, chart, palette, treemap};
use crate::compare::{Comparison, Expectation, ExpectedBytes, LimitResults, StrategyResult};
use crate::replay::Contender;

const STYLE: &str = include_str!("page.css");

pub(super) fn of(report: &Report) -> String {
    let title = "Layer strategies";
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(palette::style_sheet())) (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                p.faint {
                    "The bytes that each strategy moves. "
                    @if report.propagation { "A path changes with each of its dependencies, as in Nix." }
                    @else { "A path changes alone, not with its dependencies." }
                }
                @for comparison in &report.histories { (history(comparison)) }
                @for expectation in &report.closures { (closure(expectation)) }
            }
        }
    };
    page.into_string()
}

fn history(comparison: &Comparison) -> Markup {
    let columns = columns(comparison);
    let [first, .., last] = comparison.releases.as_slice() else { return html! {} };
    html! {
        section {
            h2 { (comparison.history) }
            p.headline { (headline(comparison)) "." }
            p {
                (comparison.releases.len()) " releases from " (first) " to " (last) ", the last "
                (comparison.measured) " of them measured; " (comparison.images.len())
                @if comparison.images.len() == 1 { " image" } @else { " images" }
                ", " (comparison.paths) " paths, " (exact(comparison.bytes)) " in the last one. Bytes are " (measure(comparison)) "."
                @if !comparison.about.is_empty() { " " span.faint { (comparison.about) } }
            }
            @for (number, limit) in comparison.limits.iter().enumerate() {
                details open[number == 0] {
                    summary { "At most " (layers(limit.max_layers)) " per image" }
                    (table(comparison, limit, &columns))
                    (charts(comparison, limit))
                }
            }
            details {
                summary { "The columns" }
                ul {
                    @for column in &columns { li { strong { (column.title) } ": " (column.about) } }
                    li { "*: the best of its column. The floor, one layer per path, is a bound, not a strategy." }
                }
            }
        }
    }
}

/// Formats a size for people, with the exact number.
fn exact(number: u64) -> Markup {
    html! { data value=(number) title=(format!("{number} bytes")) { (bytes(number)) } }
}

fn table(comparison: &Comparison, limit: &LimitResults, columns: &[Column]) -> Markup {
    let row = |class: String, of: &StrategyResult, row_class: &str| {
        html! {
            tr class=(row_class) {
                td { span class=(format!("swatch {class}")) {} (of.strategy) }
                @for column in columns {
                    td.best[column.is_best(of, &limit.strategies)] {
                        @match column.value(of) {
                            Some(value) => data value=(value) { (column.text(of)) },
                            None => "-",
                        }
                    }
                }
            }
        }
    };
    html! {
        div.wide {
            table {
                thead { tr { th { "strategy" } @for column in columns { th title=(column.about) { (column.title) } } } }
                tbody {
                    @for (number, of) in limit.strategies.iter().enumerate() {
                        (row(format!("s{}", number % palette::STRATEGIES.len()), of, ""))
                    }
                    (row("floor".to_owned(), &comparison.floor, "of-floor"))
                }
            }
        }
    }
}

fn charts(comparison: &Comparison, limit: &LimitResults) -> Markup {
    let strategies = &limit.strategies;
    html! {
        figure.all {
            (caption("Pushed, release by release", "Logarithmic, all on one scale; the floor is grey. Values below the scale are on its lower edge."))
            (chart::per_release(comparison, strategies))
        }
        div.charts {
            figure {
                (caption("Pushed in a release", "The upper bar is the mean, the lighter one the 95th percentile."))
                (chart::spreads("Bytes pushed in a release", comparison, strategies, |of| of.summary.pushed))
            }
            figure {
                (caption("Pulled in a release", "By a client with the previous release: the mean of all images."))
                (chart::spreads("Bytes pulled in a release", comparison, strategies, |of| of.summary.pulled))
            }
            figure {
                (caption("In the registry", "If nothing is ever removed."))
                (chart::registry("Bytes in the registry after each release", comparison, strategies))
            }
            @if comparison.images.len() > 1 {
                figure {
                    (caption("Shared", "Part of all images' bytes that shared layers save in the last release."))
                    (chart::shares("Part of all bytes that shared layers save", comparison, strategies))
                }
            }
        }
        (maps(comparison, strategies))
    }
}

fn caption(title: &str, text: &str) -> Markup {
    html! { figcaption { h3 { (title) } p.faint { (text) } } }
}

/// Shows the layers of the user's present strategy and of the best alternative, if the study has both.
fn maps(comparison: &Comparison, strategies: &[StrategyResult]) -> Markup {
    let named = |name: &str| strategies.iter().find(|of| of.strategy == name);
    let ours = named(Contender::LOCKED).or_else(|| named(Strategy::MinChurn.name())).or(strategies.last());
    let theirs = named(Strategy::Popularity.name()).or(strategies.first());
    let mut shown: Vec<&StrategyResult> = ours.into_iter().chain(theirs).collect();
    shown.dedup_by_key(|of| of.strategy.clone());
    let most = shown.iter().map(|of| of.summary.stored).max().unwrap_or(0);
    html! {
        div.charts {
            @for of in shown {
                figure {
                    (caption(
                        &format!("Layers of {}: {}", of.strategy, bytes(of.summary.stored)),
                        "Layers of all images in the last release, each shown once; its area is its size. A layer is new in a release if its paths have changed.",
                    ))
                    (treemap::layers(comparison, of, most))
                    p.key.faint {
                        "New "
                        @for (class, _, text) in treemap::HEATS { span class=(class) { span.swatch {} (text) } }
                    }
                }
            }
        }
    }
}

fn closure(expectation: &Expectation) -> Markup {
    let row = |of: &ExpectedBytes, class: &str| {
        html! {
            tr class=(class) {
                td { (of.strategy) }
                @for number in [of.structural, of.even, of.leaves] { td { (exact(number)) } }
            }
        }
    };
    html! {
        section {
            h2 { (expectation.closure) }
            p {
                "No history: " (expectation.paths) " paths, " (exact(expectation.bytes))
                ". Bytes of uncompressed archives that one changed path and its dependents are expected to move."
            }
            @for limit in &expectation.limits {
                h3 { "At most " (layers(limit.max_layers)) }
                div.wide {
                    table {
                        thead {
                            tr {
                                th { "strategy" }
                                th { "paths with many dependents change less often" }
                                th { "all paths change equally often" }
                                th { "only leaves change" }
                            }
                        }
                        tbody {
                            @for of in &limit.strategies { (row(of, "")) }
                            (row(&expectation.floor, "of-floor"))
                        }
                    }
                }
            }
        }
    }
}
