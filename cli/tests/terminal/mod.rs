//! A terminal for a program's standard error, and its screen.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::fs::File;
use std::io::Read;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

const ROWS: NonZero<u16> = NonZero::new(24).unwrap();
const COLUMNS: NonZero<u16> = NonZero::new(100).unwrap();

/// A program with a terminal as its standard error.
pub(crate) struct Running {
    pub(crate) child: Child,
    said: Receiver<Vec<u8>>,
    screen: vt100::Parser,
    /// The screen after each write.
    seen: Vec<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let leader = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&leader).and_then(|()| unlockpt(&leader)).unwrap();
        let size = Winsize { ws_row: ROWS.get(), ws_col: COLUMNS.get(), ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&leader, size).unwrap();
        let name = ptsname(&leader, Vec::new()).unwrap().into_string().unwrap();
        let follower: OwnedFd = File::options().read(true).write(true).open(name).unwrap().into();
        if !command.get_envs().any(|(name, _)| name == "TERM") {
            command.env("TERM", "xterm");
        }
        command.stderr(Stdio::from(follower));
        let child = command.spawn().unwrap();
        // This process must close its own copy of the terminal to notice the end of the program.
        command.stderr(Stdio::null());
        let (sender, said) = channel();
        std::thread::spawn(move || {
            let (mut leader, mut bytes) = (File::from(leader), [0; 4096]);
            // On Linux, an error means that the last writer has closed the terminal.
            while let Ok(read @ 1..) = leader.read(&mut bytes) {
                let _ = sender.send(bytes[..read].to_vec());
            }
        });
        Self { child, said, screen: vt100::Parser::new(ROWS, COLUMNS, 0), seen: Vec::new() }
    }

    /// Waits until a text is on the screen, or the program has ended.
    pub(crate) fn until(&mut self, text: &str) {
        let begin = Instant::now();
        while !self.shown().contains(text) {
            assert!(begin.elapsed() < Duration::from_secs(60), "{}", self.shown());
            match self.said.recv_timeout(Duration::from_millis(100)) {
                Ok(bytes) => self.take(&bytes),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => panic!("{}", self.shown()),
            }
        }
    }

    /// Waits for the end of the program. Returns its status, the final screen, and all output.
    pub(crate) fn end(mut self) -> (ExitStatus, String, Vec<String>) {
        while let Ok(bytes) = self.said.recv() {
            self.take(&bytes);
        }
        (self.child.wait().unwrap(), self.shown(), self.seen)
    }

    /// Waits for the end of the program. Returns all output.
    pub(crate) fn bytes(mut self) -> Vec<u8> {
        let bytes = self.said.iter().flatten().collect();
        self.child.wait().unwrap();
        bytes
    }

    fn take(&mut self, bytes: &[u8]) {
        self.screen.process(bytes);
        self.seen.push(self.shown());
    }

    fn shown(&self) -> String {
        // `Screen::contents` would join a full row with the next.
        let rows = self.screen.screen().rows(0, COLUMNS.get()).map(|row| row.trim_end().to_owned());
        rows.collect::<Vec<_>>().join("\n").trim_end().to_owned()
    }
}
