//! Signals and child processes. Each command handles signals in one of these four ways:
//!
//! | | commands | when a signal arrives |
//! |---|---|---|
//! | [`stop_flag`] | those that pack | sets a flag; the packer sees it, stops and removes temporary files |
//! | [`TerminationSignals`] | `serve` | ends the wait; the command then stops the server |
//! | [`forward_signals`] | `container`, `strategies` | passes the signal to the running child, or ends the process |
//! | [`Passthrough`] | `skopeo` | passes the signal to skopeo, which decides |

mod child;
mod passthrough;
mod signals;

pub(crate) use self::child::{check, forward_signals, messages, output, status};
pub(crate) use self::passthrough::{Passthrough, exit_code};
pub(crate) use self::signals::{Blocking, TerminationSignals, stop_flag, stopped, unless_stopped};
