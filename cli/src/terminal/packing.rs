//! Progress of packing: bars on a terminal, otherwise lines.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nixply_packer::{PackedLayer, Progress};

use super::{Bars, count, human, is_live, say};

/// Maximum number of layers that get a line each. An image with more layers prints at most one line per [`PAUSE`].
const MAX_LAYER_LINES: usize = 20;
const PAUSE: Duration = Duration::from_secs(1);

/// Progress of packing. Clears the screen when dropped.
pub(crate) struct PackingProgress {
    output: Output,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Quietly,
    Lines,
    Bars,
}

#[derive(Default)]
struct State {
    /// Created when the first layer is packed.
    bars: Option<Bars>,
    /// Numbers of layers to pack and of packed layers.
    layers: usize,
    finished: usize,
    /// Bytes of the finished layers.
    bytes: u64,
    /// Expected and packed bytes of the active layers.
    work: HashMap<usize, (u64, u64)>,
    last_line: Option<Instant>,
}

impl PackingProgress {
    /// `quiet` prints nothing.
    pub(crate) fn new(quiet: bool) -> Self {
        let output = match quiet {
            true => Output::Quietly,
            false if is_live() => Output::Bars,
            false => Output::Lines,
        };
        Self { output, state: Mutex::default() }
    }

    /// Clears the screen at the end of packing, so that other messages can be printed.
    pub(crate) fn clear(&self) {
        self.with(|state| state.bars = None);
    }

    /// Clears the screen and prints a summary for an image with this number of layers.
    pub(crate) fn finish(self, layers: usize) {
        self.clear();
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if self.output != Output::Quietly {
            say(summary(layers, state.finished, state.bytes));
        }
    }

    fn with(&self, change: impl FnOnce(&mut State)) {
        if self.output != Output::Quietly {
            change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl Progress for PackingProgress {
    fn packing_started(&self, layers: usize, expected: u64) {
        self.with(|state| {
            state.layers += layers;
            if self.output == Output::Bars {
                let (finished, layers) = (state.finished, state.layers);
                let bars = state.bars.get_or_insert_with(Bars::new);
                bars.name_total(format!("{finished} of {}", count(layers, "layer")));
                if expected > 0 {
                    bars.expect(expected);
                }
            }
        });
    }

    fn layer_started(&self, layer: usize, expected: u64) {
        self.with(|state| {
            state.work.insert(layer, (expected, 0));
            if let Some(bars) = &mut state.bars {
                bars.begin(layer, format!("layer {}", layer + 1), Some(expected).filter(|bytes| *bytes > 0));
            }
        });
    }

    fn packed(&self, layer: usize, bytes: u64) {
        self.with(|state| {
            state.work.entry(layer).or_default().1 += bytes;
            if let Some(bars) = &mut state.bars {
                bars.advance(layer, bytes);
                bars.advance_total(bytes);
            }
        });
    }

    fn layer_finished(&self, layer: usize, _packed: &PackedLayer) {
        self.with(|state| {
            let (expected, packed) = state.work.remove(&layer).unwrap_or_default();
            state.finished += 1;
            state.bytes += packed;
            let text = format!("{} of {}", state.finished, count(state.layers, "layer"));
            if let Some(bars) = &mut state.bars {
                bars.end(layer);
                // If the cache had the start of the layer, add the bytes that were not packed.
                bars.advance_total(expected.saturating_sub(packed));
                bars.name_total(text);
                return;
            }
            let waited = state.last_line.is_none_or(|last| last.elapsed() >= PAUSE);
            if state.layers <= MAX_LAYER_LINES || state.finished == state.layers || waited {
                say(format!("{text} packed, {}", human(state.bytes)));
                state.last_line = Some(Instant::now());
            }
        });
    }
}

fn summary(layers: usize, packed: usize, bytes: u64) -> String {
    let before = layers.saturating_sub(packed);
    let packed = match packed {
        0 => "none packed".into(),
        _ => format!("{packed} packed ({})", human(bytes)),
    };
    let before = if before == 0 { String::new() } else { format!(", {before} reused") };
    format!("{}: {packed}{before}", count(layers, "layer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_counts_packed_and_reused_layers() {
        for (layers, packed, bytes, text) in [
            (12, 2, 34_500_000, "12 layers: 2 packed (34.5 MB), 10 reused"),
            (1, 1, 10_240, "1 layer: 1 packed (10.2 kB)"),
            (3, 0, 0, "3 layers: none packed, 3 reused"),
            (0, 0, 0, "0 layers: none packed"),
        ] {
            assert_eq!(summary(layers, packed, bytes), text);
        }
    }
}
