//! Adapts the number of concurrent requests to a registry: it grows with every success and is halved when the registry is overloaded.
//! Registries limit each action separately, so each has its own number. Source: additive increase, multiplicative decrease, as in TCP's
//! congestion control (RFC 5681, 3.1).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Initial number of concurrent requests.
const START: f64 = 6.0;

/// Overloads within this time count as one: the requests were sent before the first of them was known.
const ONE_OVERLOAD: Duration = Duration::from_secs(1);

/// An action that registries limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Reading: a manifest, a blob, or whether one exists.
    Read,
    /// Starting an upload, or sending a small blob.
    Start,
    /// Sending a blob.
    Upload,
    /// Writing a manifest.
    Manifest,
}

/// The limits of one registry.
#[derive(Debug, Default)]
pub(super) struct Paces([Pace; 4]);

/// The limit of one action.
#[derive(Debug)]
struct Pace {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug)]
struct State {
    limit: f64,
    running: usize,
    overloaded: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { state: Mutex::new(State { limit: START, running: 0, overloaded: None }), freed: Notify::new() }
    }
}

/// A running request. Dropping it makes room for another one.
pub(super) struct Running<'p>(&'p Pace);

impl Action {
    /// Maximum number of concurrent requests.
    fn most(self) -> f64 {
        match self {
            Self::Read | Self::Start => 32.0,
            // More connections do not speed up large bodies.
            Self::Upload => 12.0,
            Self::Manifest => 8.0,
        }
    }
}

impl Paces {
    fn of(&self, action: Action) -> &Pace {
        &self.0[action as usize]
    }

    /// Waits until the limit allows another request.
    pub(super) async fn begin(&self, action: Action) -> Running<'_> {
        let pace = self.of(action);
        loop {
            let freed = pace.freed.notified();
            tokio::pin!(freed);
            // From here on, the end of another request is not missed.
            freed.as_mut().enable();
            {
                let mut state = pace.lock();
                if (state.running as f64) < state.limit.floor() {
                    state.running += 1;
                    return Running(pace);
                }
            }
            freed.await;
        }
    }

    /// Raises the limit after a success.
    pub(super) fn succeeded(&self, action: Action) {
        let pace = self.of(action);
        let mut state = pace.lock();
        state.limit = (state.limit + 1.0 / state.limit).min(action.most());
        drop(state);
        pace.freed.notify_one();
    }

    /// Halves the limit because the registry is overloaded.
    pub(super) fn overloaded(&self, action: Action) {
        let mut state = self.of(action).lock();
        let now = Instant::now();
        if state.overloaded.is_none_or(|then| now.duration_since(then) > ONE_OVERLOAD) {
            state.overloaded = Some(now);
            state.limit = (state.limit / 2.0).max(1.0);
        }
    }
}

impl Pace {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(paces: &Paces, action: Action) -> f64 {
        paces.of(action).lock().limit
    }

    #[test]
    fn limits_grow_slowly_and_are_halved_once_for_each_overload() {
        let paces = Paces::default();
        for _ in 0..1000 {
            paces.succeeded(Action::Upload);
            paces.succeeded(Action::Read);
        }
        assert_eq!((limit(&paces, Action::Upload), limit(&paces, Action::Read)), (12.0, 32.0));
        paces.overloaded(Action::Read);
        paces.overloaded(Action::Read);
        assert_eq!((limit(&paces, Action::Read), limit(&paces, Action::Manifest)), (16.0, START));
        for _ in 0..10 {
            paces.of(Action::Read).lock().overloaded = None;
            paces.overloaded(Action::Read);
        }
        assert_eq!(limit(&paces, Action::Read), 1.0);
    }

    #[tokio::test]
    async fn requests_above_the_limit_wait_for_others_to_end() {
        let paces = Paces::default();
        let mut running = Vec::new();
        for _ in 0..6 {
            running.push(paces.begin(Action::Start).await);
        }
        let wait = tokio::time::timeout(Duration::from_millis(20), paces.begin(Action::Start)).await;
        assert!(wait.is_err());
        running.pop();
        let seventh = tokio::time::timeout(Duration::from_secs(5), paces.begin(Action::Start)).await;
        assert!(seventh.is_ok());
    }
}
