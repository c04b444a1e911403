//! Runs the packer on another thread, so that the caller's thread can report progress and poll for interrupts: Nix's interrupt flag
//! and its logger belong to the thread that evaluates, and no other thread may use them.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::Builder;
use std::time::Duration;

use nixply_packer::{Control, Error, PackedLayer, Progress, Result};

use crate::bridge::Observer;

/// Interval at which the observer is asked whether to stop.
const POLL: Duration = Duration::from_millis(50);

enum Event {
    Started(usize, u64),
    Packed(usize, u64),
    Finished(usize),
}

struct Channel(Sender<Event>);

impl Channel {
    fn send(&self, event: Event) {
        // Sending fails only if the receiver has panicked; then no caller needs the event.
        let _ = self.0.send(event);
    }
}

impl Progress for Channel {
    fn layer_started(&self, layer: usize, expected: u64) {
        self.send(Event::Started(layer, expected));
    }

    fn packed(&self, layer: usize, bytes: u64) {
        self.send(Event::Packed(layer, bytes));
    }

    fn layer_finished(&self, layer: usize, _packed: &PackedLayer) {
        self.send(Event::Finished(layer));
    }
}

/// Runs `work` on another thread, which ends before this function returns, and passes its panics on. Fails if the system cannot
/// start a thread: if `work` ran on the caller's thread, nothing would ask the observer whether to stop.
pub(crate) fn drive<T: Send>(
    mut observer: Pin<&mut Observer>,
    work: impl FnOnce(&Control<'_>) -> Result<T> + Send,
) -> Result<T> {
    let stop = AtomicBool::new(false);
    let (sender, events) = mpsc::channel();
    std::thread::scope(|scope| {
        let work = || {
            let channel = Channel(sender);
            work(&Control::new(&stop, &channel))
        };
        let worker = Builder::new().spawn_scoped(scope, work).map_err(|source| Error::Threads { source })?;
        let mut packed: Vec<u64> = Vec::new();
        loop {
            match events.recv_timeout(POLL) {
                Ok(Event::Started(layer, expected)) => {
                    observer.as_mut().layer_started(layer as u32, expected)
                }
                Ok(Event::Packed(layer, bytes)) => {
                    packed.resize(packed.len().max(layer + 1), 0);
                    packed[layer] += bytes;
                    observer.as_mut().layer_progress(layer as u32, packed[layer]);
                }
                Ok(Event::Finished(layer)) => observer.as_mut().layer_finished(layer as u32),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if !stop.load(Ordering::Relaxed) && observer.as_mut().interrupted() {
                stop.store(true, Ordering::Relaxed);
            }
        }
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
