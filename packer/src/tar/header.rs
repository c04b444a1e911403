//! Header blocks with the exact bytes of Go's `archive/tar`, which nix2container writes: USTAR, and PAX records only
//! for what USTAR cannot hold (`Header.allowedFormats`, `splitUSTARPath` and `writePAXHeader` in Go's source).

/// The unit of a tar stream, in bytes.
pub(crate) const BLOCK: usize = 512;

/// The kind of an entry.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind<'a> {
    Directory,
    /// A regular file of this many bytes.
    Regular(u64),
    /// A symlink with this target.
    Symlink(&'a [u8]),
}

/// One entry: its name in the stream (absolute, without a slash at the end of a directory's) and its owner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) kind: Kind<'a>,
    pub(crate) mode: u32,
    pub(crate) uid: i64,
    pub(crate) gid: i64,
    pub(crate) uname: &'a [u8],
    pub(crate) gname: &'a [u8],
}

// Offset and width of each USTAR field (POSIX pax, "ustar Header Block").
const NAME: (usize, usize) = (0, 100);
const MODE: (usize, usize) = (100, 8);
const UID: (usize, usize) = (108, 8);
const GID: (usize, usize) = (116, 8);
const SIZE: (usize, usize) = (124, 12);
const MTIME: (usize, usize) = (136, 12);
const CHECKSUM: (usize, usize) = (148, 8);
const TYPEFLAG: usize = 156;
const LINKNAME: (usize, usize) = (157, 100);
const MAGIC: (usize, usize) = (257, 8);
const UNAME: (usize, usize) = (265, 32);
const GNAME: (usize, usize) = (297, 32);
const DEVMAJOR: (usize, usize) = (329, 8);
const DEVMINOR: (usize, usize) = (337, 8);
const PREFIX: (usize, usize) = (345, 155);

/// The modification time of all entries: the one that Nix sets for all files of the store.
const MODIFIED: u64 = 1;

impl Header<'_> {
    /// Appends the header's blocks: one for USTAR; for PAX the records' header, the records, then the entry's USTAR block.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let records = self.pax_records();
        if records.is_empty() {
            let (prefix, name) = split_ustar(self.name).unwrap_or((b"", self.name));
            let mut block = self.block(|text| text.to_vec(), name);
            set_text(&mut block, PREFIX, prefix);
            finish(&mut block);
            out.extend_from_slice(&block);
            return;
        }
        let body: Vec<u8> = records.iter().flat_map(|(key, value)| pax_record(key, value)).collect();
        let mut block = [0; BLOCK];
        set_text(&mut block, NAME, trim_slashes(cut(&ascii(&pax_name(self.name)), NAME.1)));
        for field in [MODE, UID, GID, MTIME] {
            set_octal(&mut block, field, 0);
        }
        set_octal(&mut block, SIZE, body.len() as u64);
        block[TYPEFLAG] = b'x';
        finish(&mut block);
        out.extend_from_slice(&block);
        out.extend_from_slice(&body);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        let mut block = self.block(ascii, self.name);
        finish(&mut block);
        out.extend_from_slice(&block);
    }

    /// Returns the PAX records of values that do not fit into USTAR, sorted by key.
    fn pax_records(&self) -> Vec<(&'static str, Vec<u8>)> {
        let mut records = Vec::new();
        let mut forced = false;
        let number = |key, value: i64, field: (usize, usize), forced: &mut bool| {
            let fits = u64::try_from(value).is_ok_and(|value| fits_octal(value, field.1));
            *forced |= !fits;
            (!fits).then(|| (key, value.to_string().into_bytes()))
        };
        records.extend(number("gid", self.gid, GID, &mut forced));
        let text = |key, value: &[u8], size: usize, splits: bool, forced: &mut bool| {
            let fits = is_ascii(value) && value.len() <= size;
            *forced |= !fits && !splits;
            (!fits).then(|| (key, value.to_vec()))
        };
        records.extend(text("gname", self.gname, GNAME.1, false, &mut forced));
        if let Kind::Symlink(target) = self.kind {
            records.extend(text("linkpath", target, LINKNAME.1, false, &mut forced));
        }
        records.extend(text("path", self.name, NAME.1, split_ustar(self.name).is_some(), &mut forced));
        if let Kind::Regular(size) = self.kind
            && !fits_octal(size, SIZE.1)
        {
            forced = true;
            records.push(("size", size.to_string().into_bytes()));
        }
        records.extend(number("uid", self.uid, UID, &mut forced));
        records.extend(text("uname", self.uname, UNAME.1, false, &mut forced));
        // A name that can be split requires no PAX header. If another value requires one, Go also writes the name's record.
        if forced { records } else { Vec::new() }
    }

    /// Returns the entry's USTAR block, with each text passed through `encode`.
    fn block(&self, encode: impl Fn(&[u8]) -> Vec<u8>, name: &[u8]) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let (typeflag, size, target): (u8, u64, &[u8]) = match self.kind {
            Kind::Directory => (b'5', 0, b""),
            Kind::Regular(size) => (b'0', size, b""),
            Kind::Symlink(target) => (b'2', 0, target),
        };
        set_text(&mut block, NAME, &encode(name));
        set_octal(&mut block, MODE, u64::from(self.mode));
        // For a number that does not fit, Go writes 0 here and the number in a PAX record.
        set_octal(&mut block, UID, u64::try_from(self.uid).unwrap_or(0));
        set_octal(&mut block, GID, u64::try_from(self.gid).unwrap_or(0));
        set_octal(&mut block, SIZE, size);
        set_octal(&mut block, MTIME, MODIFIED);
        block[TYPEFLAG] = typeflag;
        set_text(&mut block, LINKNAME, &encode(target));
        set_text(&mut block, UNAME, &encode(self.uname));
        set_text(&mut block, GNAME, &encode(self.gname));
        set_octal(&mut block, DEVMAJOR, 0);
        set_octal(&mut block, DEVMINOR, 0);
        block
    }
}

/// Magic, version and checksum. The checksum is 6 digits, NUL, space, computed as if its field were spaces.
fn finish(block: &mut [u8; BLOCK]) {
    set_text(block, MAGIC, b"ustar\x0000");
    block[CHECKSUM.0..CHECKSUM.0 + CHECKSUM.1].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[CHECKSUM.0..CHECKSUM.0 + 7].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

/// Go's `formatString`: cuts text at the field's end. If slashes are left there, it drops them, because some readers treat such
/// a name as a directory.
fn set_text(block: &mut [u8; BLOCK], (offset, width): (usize, usize), text: &[u8]) {
    let kept = cut(text, width);
    block[offset..offset + kept.len()].copy_from_slice(kept);
    if text.len() > width && kept.last() == Some(&b'/') {
        block[offset + trim_slashes(&kept[..width - 1]).len()] = 0;
    }
}

fn set_octal(block: &mut [u8; BLOCK], (offset, width): (usize, usize), value: u64) {
    let digits = width - 1;
    let value = if fits_octal(value, width) { value } else { 0 };
    block[offset..offset + width].copy_from_slice(format!("{value:0digits$o}\0").as_bytes());
}

fn fits_octal(value: u64, width: usize) -> bool {
    value >> (3 * (width - 1)) == 0
}

/// For Go, NUL is not ASCII either; no file name contains it.
fn is_ascii(text: &[u8]) -> bool {
    text.iter().all(|byte| *byte != 0 && byte.is_ascii())
}

fn ascii(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| *byte != 0 && byte.is_ascii()).collect()
}

fn cut(text: &[u8], width: usize) -> &[u8] {
    &text[..text.len().min(width)]
}

fn trim_slashes(text: &[u8]) -> &[u8] {
    &text[..text.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1)]
}

/// Splits a name of 101 to 256 ASCII bytes at the last slash that fits (Go's `splitUSTARPath`).
fn split_ustar(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME.1 || !is_ascii(name) {
        return None;
    }
    let slash = cut(name, PREFIX.1 + 1).iter().rposition(|byte| *byte == b'/').filter(|slash| *slash > 0)?;
    let (prefix, rest) = (&name[..slash], &name[slash + 1..]);
    (!rest.is_empty() && rest.len() <= NAME.1 && prefix.len() <= PREFIX.1).then_some((prefix, rest))
}

/// `DIR/PaxHeaders.0/BASE`, Go's name for the records' header.
fn pax_name(name: &[u8]) -> Vec<u8> {
    let base = name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let mut path = name[..base].to_vec();
    path.extend_from_slice(b"PaxHeaders.0/");
    path.extend_from_slice(&name[base..]);
    path
}

/// `LENGTH KEY=VALUE\n`. The length includes its own digits.
fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3; // space, equals sign, newline
    let mut length = rest + rest.to_string().len();
    if rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    let mut record = format!("{length} {key}=").into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file<'a>(name: &'a [u8], size: u64) -> Header<'a> {
        Header {
            name,
            kind: Kind::Regular(size),
            mode: 0o444,
            uid: 0,
            gid: 0,
            uname: b"root",
            gname: b"root",
        }
    }

    fn written(header: Header<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        header.write(&mut out);
        out
    }

    /// The expected checksum was computed in Python, with the device numbers that Go writes. `tests/golden.rs` compares whole
    /// layers with nix2container's.
    #[test]
    fn each_field_has_the_bytes_of_go() {
        let header = Header { mode: 0o555, uid: 1000, ..file(b"/nix/store/x-hello/bin/hello", 5) };
        let block = written(header);
        let mut end = 0;
        for (field, (offset, width), expected) in [
            ("name", NAME, &b"/nix/store/x-hello/bin/hello"[..]),
            ("mode", MODE, b"0000555"),
            ("uid", UID, b"0001750"),
            ("gid", GID, b"0000000"),
            ("size", SIZE, b"00000000005"),
            ("mtime", MTIME, b"00000000001"),
            ("checksum", CHECKSUM, b"016206\0 "),
            ("typeflag", (TYPEFLAG, 1), b"0"),
            ("linkname", LINKNAME, b""),
            ("magic and version", MAGIC, b"ustar\x0000"),
            ("uname", UNAME, b"root"),
            ("gname", GNAME, b"root"),
            ("devmajor", DEVMAJOR, b"0000000"),
            ("devminor", DEVMINOR, b"0000000"),
            ("prefix", PREFIX, b""),
            ("padding", (500, 12), b""),
        ] {
            assert_eq!(offset, end, "{field} follows the previous field");
            end = offset + width;
            let found = block[offset..end].escape_ascii().to_string();
            let padded = [expected, &vec![0; width - expected.len()]].concat().escape_ascii().to_string();
            assert_eq!(found, padded, "{field}, at byte {offset} of the header");
        }
        assert_eq!(end, BLOCK);
    }

    #[test]
    fn a_record_counts_its_own_length() {
        assert_eq!(pax_record("k", b"v"), b"6 k=v\n");
        // 9 + 2 digits: here the length's own digits make it longer.
        assert_eq!(pax_record("k", b"vvvv"), b"9 k=vvvv\n");
        assert_eq!(pax_record("k", b"vvvvv"), b"11 k=vvvvv\n");
        assert_eq!(pax_record("k", &[b'v'; 93])[..4], *b"99 k");
        assert_eq!(pax_record("k", &[b'v'; 94])[..5], *b"101 k");
    }

    #[test]
    fn names_split_at_the_last_slash_that_fits() {
        let name = [&b"/"[..], &[b'a'; 60], b"/", &[b'b'; 60], b"/", &[b'c'; 90]].concat();
        let (prefix, rest) = split_ustar(&name).unwrap();
        assert_eq!((prefix.len(), rest.len()), (122, 90));
        assert_eq!(split_ustar(&[b'x'; 101]), None);
        assert_eq!(split_ustar(&[b'x'; 100]), None);
        let long_base = [&b"/nix/"[..], &[b'c'; 101]].concat();
        assert_eq!(split_ustar(&long_base), None);
    }

    #[test]
    fn sizes_of_8_gib_and_more_go_to_a_record() {
        assert_eq!(written(file(b"/f", 0o77777777777)).len(), BLOCK);
        let blocks = written(file(b"/f", 0o77777777777 + 1));
        assert_eq!(blocks.len(), 3 * BLOCK);
        assert!(blocks[BLOCK..].starts_with(b"19 size=8589934592\n"));
        assert_eq!(&blocks[2 * BLOCK + SIZE.0..][..12], b"00000000000\0");
    }

    #[test]
    fn other_readers_understand_every_name() {
        let names: Vec<Vec<u8>> = [99, 100, 101, 155, 156, 255, 256, 300]
            .map(|length| [&b"/nix/store/"[..], &vec![b'n'; length - 11]].concat())
            .into_iter()
            .chain(["/nix/é".into(), b"/nix/\xff\xfe".to_vec(), b"/a b+'\"\n".to_vec()])
            .collect();
        let mut stream = Vec::new();
        for name in &names {
            file(name, 0).write(&mut stream);
        }
        stream.extend_from_slice(&[0; 2 * BLOCK]);
        let mut archive = tar::Archive::new(&stream[..]);
        let read: Vec<Vec<u8>> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path_bytes().into_owned()).collect();
        assert_eq!(read, names);
    }
}
