//! The page: what was studied, tables, charts. It takes nothing from elsewhere, and numbers that it rounds are exact in the `data`
//! elements.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::table::{Column, columns};
use super::text::{bytes, headline, layers, measure};
use super::{Report, chart, palette, treemap};
use crate::compare::{Comparison, Expectation, ExpectedBytes, LimitResults, StrategyResult};

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
                    "What each strategy moves. "
                    @if report.propagation { "A path changes with all that it depends on, as in Nix." }
                    @else { "A path changes alone, not with what it depends on." }
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
                    summary { "At most " (layers(limit.max_layers)) " an image" }
                    (table(comparison, limit, &columns))
                    (charts(comparison, limit))
                }
            }
            details {
                summary { "What the columns are" }
                ul {
                    @for column in &columns { li { strong { (column.title) } ": " (column.about) } }
                    li { "*: the best of its column. The floor, a layer for each path, is a bound and no strategy." }
                }
            }
        }
    }
}

/// A size as people read it, and exactly.
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
            (caption("Pushed, release by release", "Logarithmic, all on one scale; grey is the floor. What is below the scale lies on its lower edge."))
            (chart::per_release(comparison, strategies))
        }
        div.charts {
            figure {
                (caption("Pushed in a release", "Above the mean, below it in a lighter colour the 95th percentile."))
                (chart::spreads("Bytes pushed in a release", comparison, strategies, |of| of.summary.pushed))
            }
            figure {
                (caption("Pulled in a release", "By a client that has the release before: the mean of all images."))
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

/// The layers of the strategies that people have and of those that they could have, if both were studied.
fn maps(comparison: &Comparison, strategies: &[StrategyResult]) -> Markup {
    let named = |name: &str| strategies.iter().find(|of| of.strategy == name);
    let ours = named("nixply+lock").or_else(|| named("nixply")).or(strategies.last());
    let theirs = named("popularity").or(strategies.first());
    let mut shown: Vec<&StrategyResult> = ours.into_iter().chain(theirs).collect();
    shown.dedup_by_key(|of| of.strategy.clone());
    let most = shown.iter().map(|of| of.summary.stored).max().unwrap_or(0);
    html! {
        div.charts {
            @for of in shown {
                figure {
                    (caption(
                        &format!("Layers of {}: {}", of.strategy, bytes(of.summary.stored)),
                        "Of the last release, all images, each layer once; areas are bytes. A layer is new in a release if its paths are others.",
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
                ". Bytes that one changed path and its dependents are expected to move, of uncompressed archives."
            }
            @for limit in &expectation.limits {
                h3 { "At most " (layers(limit.max_layers)) }
                div.wide {
                    table {
                        thead {
                            tr {
                                th { "strategy" }
                                th { "what much depends on changes less often" }
                                th { "all change alike" }
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
