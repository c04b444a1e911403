//! Signals and child processes. Other modules only describe a program to run, as a [`Command`](std::process::Command).
//!
//! Each command handles termination signals in one of these four ways:
//!
//! | | commands | when a signal arrives |
//! |---|---|---|
//! | [`stop_flag`] | those that pack | sets a flag; the packer sees it, stops and removes temporary files |
//! | [`TerminationSignals`] | `serve` | ends the wait; the command then stops the server |
//! | [`forward_signals`] | `container`, `strategies` | passes the signal to the running child, or ends the process |
//! | [`Passthrough`] | `skopeo` | passes the signal to skopeo, which decides |
//!
//! All commands handle the signals of resource limits with [`handle_limit_signals`].

mod child;
mod passthrough;
mod signals;

pub(crate) use self::child::{captured, check, forward_signals, messages, output, status};
pub(crate) use self::passthrough::{Passthrough, become_program, exit_code};
pub(crate) use self::signals::{
    Blocking, TerminationSignals, handle_limit_signals, stop_flag, stopped, unless_stopped,
};
