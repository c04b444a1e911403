//! Progress of programs that read an image from a server of this process, and a summary at the end.

mod summary;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nixply_packer::{Layer as ImageLayer, PackedLayer, Progress};
use nixply_registry::content::{Observer, Read};

use self::summary::Seen;
use crate::terminal::{Bars, count, human, is_live, say};

/// Maximum number of layers that get a line each. An image with more layers prints at most one line per [`PAUSE`].
const MAX_LAYER_LINES: usize = 20;
const PAUSE: Duration = Duration::from_secs(1);

/// Watches a transfer: shows bars for the layers that are read, or lines without a terminal. Clears the screen when dropped.
pub(crate) struct Watch {
    layers: Vec<ImageLayer>,
    transfer: Arc<Transfer>,
}

impl Watch {
    /// Watches the transfer of an image index, whose images have these layers in the order of the index.
    pub(crate) fn of_layers(layers: Vec<ImageLayer>, quiet: bool) -> Self {
        let state = State {
            layers: layers.iter().map(|_| Layer::default()).collect(),
            bars: None,
            sent: 0,
            last_line: None,
            over: quiet,
        };
        Self { layers, transfer: Arc::new(Transfer { live: is_live(), state: Mutex::new(state) }) }
    }

    /// Returns the observer for the server ([`Settings::observer`](nixply_registry::content::Settings::observer)).
    pub(crate) fn observer(&self) -> Arc<dyn Observer> {
        self.transfer.clone()
    }

    /// Prints which layers were sent and which the client had already. Call it after the server has stopped: later transfers are not
    /// counted.
    pub(crate) fn finish(self) {
        let mut state = self.transfer.lock();
        if !state.over {
            state.bars = None;
            let seen: Vec<Seen> = state.layers.iter().map(|layer| layer.seen).collect();
            summary::table(&self.layers, &seen).lines().for_each(say);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.transfer.lock();
        state.bars = None;
        // The server may still report events.
        state.over = true;
    }
}

struct Transfer {
    live: bool,
    state: Mutex<State>,
}

struct State {
    layers: Vec<Layer>,
    /// Created at the first event.
    bars: Option<Bars>,
    /// Number of sent layers.
    sent: usize,
    last_line: Option<Instant>,
    /// Events are ignored from now on.
    over: bool,
}

#[derive(Default)]
struct Layer {
    seen: Seen,
    /// Number of current readers.
    readers: usize,
    /// Number of packed bytes.
    packed: u64,
}

impl Transfer {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `show` with the state, unless events of this layer are ignored.
    fn with(&self, layer: usize, show: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        if !state.over && layer < state.layers.len() {
            show(&mut state);
        }
    }
}

impl State {
    /// Shows that work on a layer starts.
    fn begin(&mut self, live: bool, layer: usize, what: &str, bytes: Option<u64>) {
        if live {
            let bars = self.bars.get_or_insert_with(|| {
                let bars = Bars::new();
                bars.name_total(sent(0));
                bars
            });
            bars.begin(layer, format!("layer {}{what}", layer + 1), bytes);
        }
    }

    /// Shows that work on a layer has ended.
    fn end(&mut self, live: bool, layer: usize, done: Option<(&str, u64)>) {
        if let Some(bars) = &mut self.bars {
            bars.end(layer);
            bars.name_total(sent(self.sent));
        }
        let all = self.layers.len();
        let waited = self.last_line.is_none_or(|last| last.elapsed() >= PAUSE);
        if let Some((done, bytes)) = done.filter(|_| !live && (all <= MAX_LAYER_LINES || waited)) {
            say(format!("layer {} of {all} {done}, {}", layer + 1, human(bytes)));
            self.last_line = Some(Instant::now());
        }
    }
}

fn sent(layers: usize) -> String {
    format!("{} sent", count(layers, "layer"))
}

/// Shows packing only while no client reads the layer; otherwise the reading is shown.
impl Progress for Transfer {
    fn layer_started(&self, layer: usize, expected: u64) {
        self.with(layer, |state| {
            state.layers[layer].packed = 0;
            if state.layers[layer].readers == 0 {
                state.begin(self.live, layer, " packing", Some(expected).filter(|bytes| *bytes > 0));
            }
        });
    }

    fn packed(&self, layer: usize, bytes: u64) {
        self.with(layer, |state| {
            state.layers[layer].packed += bytes;
            if let Some(bars) = state.bars.as_mut().filter(|_| state.layers[layer].readers == 0) {
                bars.advance(layer, bytes);
            }
        });
    }

    fn layer_finished(&self, layer: usize, _packed: &PackedLayer) {
        self.with(layer, |state| {
            let Layer { readers, packed, seen } = state.layers[layer];
            // For a layer that a client reads, `read_ended` prints the line.
            if readers == 0 && !seen.whole {
                state.end(self.live, layer, Some(("packed", packed)));
            }
        });
    }
}

impl Observer for Transfer {
    fn read_begun(&self, read: &Read) {
        self.with(read.layer, |state| {
            let layer = &mut state.layers[read.layer];
            layer.readers += 1;
            layer.seen.size = read.size;
            if layer.readers == 1 {
                let bytes = read.part.end - read.part.start;
                state.begin(self.live, read.layer, "", Some(bytes));
            }
        });
    }

    fn sent(&self, read: &Read, bytes: u64) {
        self.with(read.layer, |state| {
            state.layers[read.layer].seen.sent += bytes;
            if let Some(bars) = &mut state.bars {
                bars.advance(read.layer, bytes);
                bars.advance_total(bytes);
            }
        });
    }

    fn read_ended(&self, read: &Read, whole: bool) {
        self.with(read.layer, |state| {
            let layer = &mut state.layers[read.layer];
            layer.readers -= 1;
            let seen = &mut layer.seen;
            // A client that lost its connection requests only the rest: the layer is complete once all its bytes have been sent.
            let first = whole && !seen.whole && seen.sent >= read.size;
            seen.whole |= first;
            let (sent, readers) = (seen.sent, layer.readers);
            state.sent += usize::from(first);
            if readers == 0 {
                state.end(self.live, read.layer, first.then_some(("sent", sent)));
            }
        });
    }
}
