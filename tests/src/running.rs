//! Programs that run in the background of a test.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::run::Output;

/// A program in its own process group, as a shell starts it. Dropping the value kills it.
pub struct Running {
    child: Child,
    command: String,
    readers: [Option<JoinHandle<()>>; 2],
    said: [Arc<Mutex<Vec<u8>>>; 2],
}

impl Running {
    /// Starts a program.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let shown = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
        let said = [Arc::default(), Arc::default()];
        let readers = [
            Some(collect(child.stdout.take().expect("it is piped"), &said[0])),
            Some(collect(child.stderr.take().expect("it is piped"), &said[1])),
        ];
        Self { child, command: shown, readers, said }
    }

    /// Returns its standard output so far.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.said[0].lock().unwrap()).into_owned()
    }

    /// Returns its standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.said[1].lock().unwrap()).into_owned()
    }

    /// Waits until `condition` holds. Panics if the program ends first, or when `limit` is over.
    #[track_caller]
    pub fn wait_until(&mut self, limit: Duration, mut condition: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            let ended = self.child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "{} ended: {ended:?}\n{}", self.command, self.stderr());
            assert!(start.elapsed() < limit, "{} takes too long\n{}", self.command, self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal (`INT`, `TERM`, ...) to the whole group, as a terminal does.
    pub fn signal(&self, signal: &str) {
        let _ = Command::new("sh").args(["-c", &format!("kill -{signal} -{}", self.child.id())]).output();
    }

    /// Sends a signal only to the program.
    pub fn signal_alone(&self, signal: &str) {
        let _ = Command::new("sh").args(["-c", &format!("kill -{signal} {}", self.child.id())]).output();
    }

    /// Waits until the program ends. Panics when `limit` is over.
    #[track_caller]
    pub fn finish(mut self, limit: Duration) -> Output {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            assert!(start.elapsed() < limit, "{} does not end\n{}", self.command, self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        };
        self.readers.iter_mut().filter_map(Option::take).for_each(|reader| reader.join().unwrap());
        let text = |said: &Mutex<Vec<u8>>| String::from_utf8_lossy(&said.lock().unwrap()).into_owned();
        Output {
            command: std::mem::take(&mut self.command),
            code: status.code(),
            stdout: text(&self.said[0]),
            stderr: text(&self.said[1]),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal("KILL");
            let _ = self.child.wait();
        }
    }
}

fn collect(mut from: impl Read + Send + 'static, into: &Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    let into = into.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            into.lock().unwrap().extend_from_slice(&buffer[..count]);
        }
    })
}
