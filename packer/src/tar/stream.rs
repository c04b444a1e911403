//! A layer's tar stream, one frame at a time, so that other threads can hash and compress a frame while the next one is read.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::vec;

use nixply_files::open;
use nixply_planning::{Ownership, Rules};

use super::header::{BLOCK, Header, Kind as HeaderKind};
use super::merge::{Item, Merged, merge};
use crate::casehack::strip_case_hack;
use crate::control::Control;
use crate::cpu_permits::CpuPermits;
use crate::error::{Error, Result};
use crate::layer_path::LayerPath;
use crate::store_check::StoreCheck;
use crate::walk::{Entry, Kind, REPLACED, Walker, gone_or, replaced_or};

/// The result of [`LayerStream::fill`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// A frame, perhaps a short one.
    Frame,
    /// The stream has ended.
    End,
}

/// Returns a layer's parent directories and segments, in the order of its stream, if all `paths` keep their places in one
/// directory. Returns none if they must be merged into one tree. Reads no files.
pub(crate) fn apart(paths: &[LayerPath]) -> Option<(Vec<Vec<u8>>, Vec<&LayerPath>)> {
    let name =
        |path: &LayerPath| path.path.as_str().rsplit_once('/').map(|(directory, _)| directory.to_owned());
    let directory = name(paths.first()?)?;
    let beside = |path: &LayerPath| path.rules.keeps_place() && name(path).as_deref() == Some(&directory);
    if !directory.starts_with('/')
        || directory.contains("//")
        || directory.contains("/.")
        || !paths.iter().all(beside)
    {
        return None;
    }
    let mut sorted: Vec<&LayerPath> = paths.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    if sorted.windows(2).any(|pair| pair[0].path == pair[1].path) {
        return None;
    }
    let ends = directory.match_indices('/').map(|(at, _)| at.max(1)).chain([directory.len()]);
    // "/" itself comes first: its slash is the first one found.
    let mut parents: Vec<Vec<u8>> = ends.map(|end| directory.as_bytes()[..end].to_vec()).collect();
    parents.dedup();
    Some((parents, sorted))
}

/// The stream's state. Memory: one header, and the names of one directory per level; the caller has one frame.
pub(crate) struct LayerStream<'l> {
    items: vec::IntoIter<(Vec<u8>, Item<'l>)>,
    whole: Option<Whole<'l>>,
    file: Option<OpenFile>,
    /// Headers and padding that did not fit into the frame yet.
    pending: Vec<u8>,
    pending_from: usize,
    ended: bool,
    reading: Reading<'l>,
}

/// How files are read.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'c> {
    pub(crate) control: &'c Control<'c>,
    /// CPU permits for checking store paths against Nix's records; none if the store is trusted.
    pub(crate) check: Option<&'c CpuPermits>,
}

impl<'c> Reading<'c> {
    /// Returns the check for a path whose walk is about to start.
    pub(super) fn check_of(&self, path: &'c LayerPath) -> Option<StoreCheck<'c>> {
        self.check.map(|permits| StoreCheck::new(path, permits, self.control))
    }
}

/// A store path that keeps its place, being walked.
struct Whole<'l> {
    walker: Walker,
    check: Option<StoreCheck<'l>>,
    rules: &'l Rules,
    /// Whether `fill` has returned none of its bytes yet.
    fresh: bool,
}

/// An open file. Reading fails if its size has changed.
pub(crate) struct OpenFile {
    fd: OwnedFd,
    path: PathBuf,
    root: PathBuf,
    size: u64,
    remaining: u64,
    /// The required hash of its content, and the hash of the bytes so far.
    expected: Option<(blake3::Hash, blake3::Hasher)>,
}

impl<'l> LayerStream<'l> {
    /// Makes a part of a layer's stream: `items`, and with `end` the end blocks.
    fn new(items: Vec<(Vec<u8>, Item<'l>)>, end: bool, reading: Reading<'l>) -> Self {
        Self {
            items: items.into_iter(),
            whole: None,
            file: None,
            pending: Vec::new(),
            pending_from: 0,
            ended: !end,
            reading,
        }
    }

    /// Makes the whole stream of `paths`. It walks rewritten paths now, so it finds conflicts before packing starts.
    pub(crate) fn merged(paths: &'l [LayerPath], reading: Reading<'l>) -> Result<Self> {
        Ok(Self::new(merge(paths, reading)?, true, reading))
    }

    /// Makes the segment of a path that is at its own place in the image, not at the root.
    pub(crate) fn segment(path: &'l LayerPath, reading: Reading<'l>) -> Self {
        Self::new(vec![(path.path.as_str().into(), Item::Whole(path))], false, reading)
    }

    /// Makes the headers of `parents`, which precede all segments.
    pub(crate) fn head(parents: Vec<Vec<u8>>, reading: Reading<'l>) -> Self {
        Self::new(parents.into_iter().map(|parent| (parent, Item::Parent)).collect(), false, reading)
    }

    /// Makes the blocks that follow all segments.
    pub(crate) fn end(reading: Reading<'l>) -> Self {
        Self::new(Vec::new(), true, reading)
    }

    /// Fills `frame` from its start, and returns the number of bytes. With `split`, a frame ends with a segment: a whole store
    /// path shares no frame with other content, and neither do the end blocks.
    pub(crate) fn fill(&mut self, frame: &mut [u8], split: bool) -> Result<(usize, Fill)> {
        let mut filled = 0;
        loop {
            filled += self.drain_pending(&mut frame[filled..]);
            if filled == frame.len() {
                break;
            }
            if let Some(file) = &mut self.file {
                let read = file.read(&mut frame[filled..])?;
                if let Some(check) = self.whole.as_mut().and_then(|whole| whole.check.as_mut()) {
                    check.content(&frame[filled..filled + read]);
                }
                filled += read;
                if file.is_at_end() {
                    let end = file.size as usize % BLOCK;
                    self.file = None;
                    self.pending.resize(if end == 0 { 0 } else { BLOCK - end }, 0);
                }
                continue;
            }
            if let Some(whole) = &mut self.whole {
                if split && std::mem::take(&mut whole.fresh) && filled > 0 {
                    break;
                }
                if self.next_of_whole()? {
                    continue;
                }
                let check = self.whole.take().and_then(|whole| whole.check);
                check.map_or(Ok(()), StoreCheck::finish)?;
                if split && filled > 0 {
                    break;
                }
                continue;
            }
            match self.items.next() {
                Some((_, Item::Whole(path))) => {
                    let (walker, check) = (path.walk(self.case_hack()), self.reading.check_of(path));
                    self.whole = Some(Whole { walker, check, rules: &path.rules, fresh: true });
                }
                Some((place, Item::File(merged))) => self.push_merged(&place, merged)?,
                Some((place, Item::Parent)) => {
                    push_header(&mut self.pending, &place, &HeaderKind::Directory, &Ownership::root(0o755));
                }
                None if self.ended => break,
                None if split && filled > 0 => break,
                None => {
                    self.ended = true;
                    self.pending.resize(2 * BLOCK, 0);
                }
            }
        }
        Ok((filled, if filled == 0 { Fill::End } else { Fill::Frame }))
    }

    fn case_hack(&self) -> bool {
        self.reading.control.case_hack
    }

    fn drain_pending(&mut self, frame: &mut [u8]) -> usize {
        let rest = &self.pending[self.pending_from..];
        let taken = rest.len().min(frame.len());
        frame[..taken].copy_from_slice(&rest[..taken]);
        self.pending_from += taken;
        if self.pending_from == self.pending.len() {
            self.pending.clear();
            self.pending_from = 0;
        }
        taken
    }

    /// Moves to the next file of the current store path. Returns false at its end.
    fn next_of_whole(&mut self) -> Result<bool> {
        let case_hack = self.case_hack();
        let whole = self.whole.as_mut().expect("a store path is being walked");
        let Some(entry) = whole.walker.next()? else { return Ok(false) };
        if let Some(check) = &mut whole.check {
            check.entry(&whole.walker, &entry)?;
        }
        let path = if case_hack { strip_case_hack(whole.walker.path()) } else { whole.walker.path().into() };
        let ownership = whole.rules.ownership(&path, entry.mode);
        push_entry(&mut self.pending, &path, &entry, &ownership);
        if let Kind::Regular { size: 1.. } = entry.kind {
            self.file = Some(OpenFile::of(&whole.walker, &entry)?);
        }
        Ok(true)
    }

    fn push_merged(&mut self, place: &[u8], merged: Merged<'_>) -> Result<()> {
        push_entry(&mut self.pending, place, &merged.entry, &merged.ownership);
        if let Kind::Regular { size: 1.. } = merged.entry.kind {
            self.file = Some(OpenFile::open(&merged)?);
        }
        Ok(())
    }
}

impl OpenFile {
    /// Opens the current entry of a walk, a regular file.
    pub(crate) fn of(walker: &Walker, entry: &Entry) -> Result<Self> {
        let fd = walker.open(entry)?;
        Ok(Self::new(fd, walker.real_path(), walker.real_root(), entry, None))
    }

    fn new(fd: OwnedFd, path: PathBuf, root: &Path, entry: &Entry, content: Option<blake3::Hash>) -> Self {
        let size = match entry.kind {
            Kind::Regular { size } => size,
            Kind::Directory | Kind::Symlink { .. } => 0,
        };
        let expected = content.map(|content| (content, blake3::Hasher::new()));
        Self { fd, path, root: root.into(), size, remaining: size, expected }
    }

    /// Returns whether all of the file has been read.
    pub(crate) fn is_at_end(&self) -> bool {
        self.remaining == 0
    }

    /// Opens a file that an earlier walk found. It must be the same file and not be below a link. If the walk hashed its content,
    /// the content must also be the same.
    pub(super) fn open(merged: &Merged<'_>) -> Result<Self> {
        let Merged { entry, real_path, real_root, content, .. } = merged;
        let below = real_path.strip_prefix(real_root).unwrap_or(Path::new(""));
        let opened = open::inside(real_root, below)
            .and_then(|file| if entry.is(&file)? { Ok(file) } else { Err(REPLACED) })
            .map_err(|errno| replaced_or("read file", real_root, real_path.clone(), errno))?;
        Ok(Self::new(opened, real_path.clone(), real_root, entry, *content))
    }

    /// Reads until `chunk` is full or the file ends.
    pub(super) fn read_full(&mut self, chunk: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < chunk.len() && !self.is_at_end() {
            filled += self.read(&mut chunk[filled..])?;
        }
        Ok(filled)
    }

    /// Reads as much of the rest of the file as fits. If there is room, it asks for one byte more, to detect without another call
    /// that the file has grown.
    pub(crate) fn read(&mut self, frame: &mut [u8]) -> Result<usize> {
        let room = frame.len().min(usize::try_from(self.remaining.saturating_add(1)).unwrap_or(usize::MAX));
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&self.fd, &mut frame[..room]))
            .map_err(|errno| gone_or("read file", &self.root, self.path.clone(), errno))?;
        if read as u64 > self.remaining || (read == 0 && self.remaining > 0) {
            let had = self.size - self.remaining + read as u64;
            let what = if read == 0 {
                format!("its size was {} bytes, but it ended after {had}", self.size)
            } else {
                format!("its size was {} bytes, but it has more", self.size)
            };
            return Err(Error::Changed { what, path: self.path.clone() });
        }
        self.remaining -= read as u64;
        if let Some((expected, hasher)) = &mut self.expected {
            hasher.update(&frame[..read]);
            if self.remaining == 0 && hasher.finalize() != *expected {
                let what = "its content changed after its archive was hashed".into();
                return Err(Error::Changed { what, path: self.path.clone() });
            }
        }
        Ok(read)
    }
}

/// Returns the header of an entry that keeps its place and its mode, as in the segment of a path without rules.
pub(crate) fn header_bytes(place: &[u8], entry: &Entry) -> Vec<u8> {
    let mut header = Vec::new();
    push_entry(&mut header, place, entry, &Ownership::root(entry.mode));
    header
}

fn push_entry(out: &mut Vec<u8>, place: &[u8], entry: &Entry, ownership: &Ownership<'_>) {
    let kind = match &entry.kind {
        Kind::Directory => HeaderKind::Directory,
        Kind::Regular { size } => HeaderKind::Regular(*size),
        Kind::Symlink { target } => HeaderKind::Symlink(target),
    };
    push_header(out, place, &kind, ownership);
}

fn push_header(out: &mut Vec<u8>, place: &[u8], kind: &HeaderKind<'_>, ownership: &Ownership<'_>) {
    let header = Header {
        name: place,
        kind: *kind,
        mode: ownership.mode,
        uid: ownership.uid,
        gid: ownership.gid,
        uname: ownership.uname.as_bytes(),
        gname: ownership.gname.as_bytes(),
    };
    header.write(out);
}
