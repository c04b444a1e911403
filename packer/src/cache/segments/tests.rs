use nixply_planning::StorePath;

use super::*;

fn segment(path: &str, nar_hash: &str, options: Option<&PathOptions>, codec: &str) -> SegmentKey {
    SegmentKey::new([(path, nar_hash, options)], codec.parse().unwrap())
}

fn origin() -> Origin {
    Origin::new(Codec::None, std::iter::empty())
}

#[test]
fn the_key_depends_on_path_hash_options_and_codec() {
    let options = PathOptions::default();
    let both = SegmentKey::new([("/a", "h", None), ("/b", "h", None)], Codec::None);
    let keys = [
        segment("/a", "h", None, "none"),
        segment("/b", "h", None, "none"),
        segment("/a", "i", None, "none"),
        segment("/a", "h", Some(&options), "none"),
        segment("/a", "h", None, "zstd"),
        segment("/a", "h", None, "zstd:4"),
        both,
    ];
    for (at, key) in keys.iter().enumerate() {
        assert!(keys[..at].iter().all(|other| other != key), "{at}");
    }
    assert_eq!(segment("/a", "h", None, "none"), keys[0]);
}

#[test]
fn compressed_size_finds_segments_without_rules() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::new(directory.path());
    let path = StorePath::parse("/nix/store/00000000000000000000000000000000-a").unwrap();
    let info = |nar_hash: &str| PathInfo {
        path: path.clone(),
        references: Vec::new(),
        nar_hash: nar_hash.into(),
        nar_size: 30,
    };
    let key = segment(path.as_str(), &nar_hash::canonical("h"), None, "zstd");
    let writer = cache.new_segment(&key, &origin()).unwrap();
    writer.add(10, b"first").unwrap().add(20, b"second").unwrap().finish().unwrap();
    let size = |nar_hash, codec: &str| cache.compressed_size(&info(nar_hash), codec.parse().unwrap());
    assert_eq!(size("h", "zstd"), Some(11));
    assert_eq!((size("", "zstd"), size("i", "zstd"), size("h", "gzip")), (None, None, None));
}

#[test]
fn damage_is_reported_at_the_damaged_frame() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::new(directory.path());
    let key = segment("/a", "h", None, "zstd");
    assert!(cache.segment(&key).is_none());
    let writer = cache.new_segment(&key, &origin()).unwrap();
    assert!(cache.segment(&key).is_none(), "an unfinished segment is not found");
    writer.add(10, b"first").unwrap().add(20, b"second").unwrap().finish().unwrap();
    let read = || {
        let (mut reader, mut frame, mut frames) = (cache.segment(&key)?, Vec::new(), Vec::new());
        loop {
            let stored = reader.next(&mut frame);
            match stored {
                Stored::Frame(plain) => frames.push((plain, frame.clone())),
                end => return Some((frames, end)),
            }
        }
    };
    let (first, second) = ((10, b"first".to_vec()), (20, b"second".to_vec()));
    assert_eq!(read(), Some((vec![first.clone(), second], Stored::End)));

    let file = entries::entry(directory.path(), Kind::Segments, &key.0);
    let bytes = fs::read(&file).unwrap();
    assert!(verify(&file, &key.0));
    for at in [0, 7, 11, 20, bytes.len() - 50, bytes.len() - 1] {
        let mut wrong = bytes.clone();
        wrong[at] ^= 1;
        fs::write(&file, &wrong).unwrap();
        assert!(!verify(&file, &key.0), "byte {at}");
        let expected = match at {
            0 => Some((vec![], Stored::Damaged(0))),
            7 => Some((vec![first.clone()], Stored::Damaged(1))),
            _ => None,
        };
        assert_eq!(read(), expected, "byte {at}");
    }
    for length in [0, 5, FOOTER, bytes.len() - 1] {
        fs::write(&file, &bytes[..length]).unwrap();
        assert_eq!(read(), None, "{length} bytes");
    }
    fs::write(&file, &bytes).unwrap();
    assert!(
        cache.clone().with_checked(true).segment(&key).is_none(),
        "an unchecked segment counts as absent"
    );
    let end = bytes.len() - FOOTER;
    let (frames, index) = (b"firstsecond", &bytes[11..11 + 2 * ENTRY]);
    let check = index_check(&key.0, &[index]);
    let former = [&frames[..], index, &bytes[end..end + 8], check.as_bytes(), FORMER_MAGIC].concat();
    fs::write(&file, &former).unwrap();
    assert!(
        verify(&file, &key.0) && read().is_some_and(|(_, end)| end == Stored::End),
        "an older version's segment can be read"
    );
    assert!(
        cache.clone().with_checked(true).segment(&key).is_none(),
        "an older version's segment counts as unchecked"
    );
    let checked = cache.clone().with_checked(true);
    checked.new_segment(&key, &origin()).unwrap().add(3, b"new").unwrap().finish().unwrap();
    assert!(checked.segment(&key).is_some());
    assert_eq!(
        read(),
        Some((vec![(3, b"new".to_vec())], Stored::End)),
        "a checked segment also serves readers that do not check"
    );
    let mut wrong = fs::read(&file).unwrap();
    let flags = wrong.len() - FOOTER + 12;
    assert_eq!(wrong[flags], 1);
    wrong[flags] = 0;
    fs::write(&file, wrong).unwrap();
    assert_eq!(read(), None, "the flag is part of the checksum");

    let other = segment("/b", "h", None, "zstd");
    let elsewhere = entries::entry(directory.path(), Kind::Segments, &other.0);
    fs::create_dir_all(elsewhere.parent().unwrap()).unwrap();
    fs::write(elsewhere, &bytes).unwrap();
    assert!(cache.segment(&other).is_none(), "a moved segment counts as absent");
}
