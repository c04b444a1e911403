//! What a push learns from the image that it replaces, and from images in other tags and repositories.

use std::sync::Arc;

use hyper::body::Bytes;
use nixply_oci::{Digest, Manifest};
use nixply_packer::LayerKey;

use super::fake::Fake;
use super::images::{Images, anonymous, assert_has};
use super::{Fixture, Push, client, fates, push};
use crate::content::{Compression, Image};
use crate::error::Error;

/// Returns the manifest of a tag.
fn manifest(fake: &Fake, tag: &str) -> Manifest {
    serde_json::from_slice(&fake.manifest("team/app", tag)).unwrap()
}

#[test]
fn layers_without_recorded_digests_are_not_packed_if_the_old_image_names_them() {
    let (fixture, fake) = (Fixture::new(), Fake::start());
    // The codec is chosen by the push, so the spec has no digests of the blobs.
    let spec = fixture.spec("none");
    let first = push(&fixture, &spec, &fake, "t").unwrap();
    assert_eq!((fates(&first), first.packed), ((3, 0, 0), 2));
    let keys: Vec<_> = manifest(&fake, "t")
        .layers
        .iter()
        .map(|layer| layer.annotations[LayerKey::ANNOTATION].clone())
        .collect();
    assert!(keys.len() == 2 && keys.iter().all(|key| key.len() == 64) && keys[0] != keys[1], "{keys:?}");

    // A new process: it packs nothing, and the tag is unchanged after one request.
    let again = push(&fixture, &spec, &fake, "t").unwrap();
    assert_eq!((again.is_unchanged(), again.packed, again.requests), (true, 0, 1));
    let mut changed = spec.clone();
    changed.config.env = vec!["A=b".into()];
    let changed = push(&fixture, &changed, &fake, "t").unwrap();
    assert_eq!((fates(&changed), changed.packed), ((1, 0, 2), 0));

    // A push to another repository knows the layers only after `learn`. The registry mounts the blobs.
    let client = client(Arc::new(()));
    client.learn(&format!("{}/team/app:t", fake.address).parse().unwrap()).unwrap();
    let mut content = fixture.options("auto").content;
    content.compression = Compression::Recorded("gzip".parse().unwrap());
    let image = Image::new("i", "t", spec).unwrap();
    let to = vec![format!("{}/other/app:t", fake.address).parse().unwrap()];
    let mut other = None;
    let push = Push { image, to, content, cache_to: None, dry_run: false };
    client.push(push, &mut |pushed| other = Some(pushed)).unwrap();
    assert_eq!(other.unwrap().packed, 0);
}

#[test]
fn an_index_of_frames_replaces_no_image() {
    let (images, fake) = (Images::new(), Fake::start());
    let (spec, other) = (images.large(), images.spec(&["c"], "other"));
    images.push(&anonymous(), &fake, &other, &["app:prod"]).unwrap();
    let push = |frames| images.push_with(&anonymous(), &fake, &spec, &["app:t"], Some(frames), Arc::new(()));
    let pushed = push("app:prod").unwrap();
    let error = pushed[0].frames.clone().unwrap().unwrap_err();
    assert!(
        error
            .ends_with("/app:prod has an image, which an index of frames must not replace; name another tag"),
        "{error}"
    );
    assert_has(&fake, "app:prod", &other);
    assert_has(&fake, "app:t", &spec);
    // A free tag, and one that has an index of frames.
    for _ in 0..2 {
        assert_eq!(push("app:frames").unwrap()[0].frames, Some(Ok(0)));
    }
}

#[test]
fn a_wrong_digest_of_a_registry_is_an_error_that_names_it() {
    let (fixture, fake) = (Fixture::new(), Fake::start());
    let spec = fixture.spec("none");
    push(&fixture, &spec, &fake, "t").unwrap();
    // The old image exchanges the keys of its layers, and the registry has lost the blobs.
    let mut wrong = manifest(&fake, "t");
    let keys: Vec<_> =
        wrong.layers.iter().map(|layer| layer.annotations[LayerKey::ANNOTATION].clone()).collect();
    for (layer, key) in wrong.layers.iter_mut().zip(keys.iter().rev()) {
        layer.annotations.insert(LayerKey::ANNOTATION.into(), key.clone());
    }
    let bytes = Bytes::from(serde_json::to_vec(&wrong).unwrap());
    let digest = Digest::of(&bytes);
    fake.change(|registry| {
        let stored = registry.repository("team/app");
        stored.blobs.clear();
        stored.manifests = [(digest, bytes)].into();
        stored.tags = [("t".to_owned(), digest)].into();
    });
    let error = push(&fixture, &spec, &fake, "t").unwrap_err();
    assert!(matches!(error, Error::Packer(nixply_packer::Error::LayerChanged { .. })), "{error}");
    let expected = format!("a layer differs from the one that {}/team/app:t names", fake.address);
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert_eq!(manifest(&fake, "t"), wrong);
}

/// The registry compares the bytes with the digest. If it refuses them, the second try names the file.
#[test]
fn a_file_with_other_bytes_is_an_error_that_names_it() {
    let (fixture, fake) = (Fixture::new(), Fake::start());
    let mut spec = fixture.spec("none");
    let file = fixture.directory.path().join("blob");
    std::fs::write(&file, vec![b'x'; 200_000]).unwrap();
    let layer = &mut spec.layers[0];
    layer.paths.clear();
    (layer.layer_path, layer.size) = (Some(file.display().to_string()), 200_000);
    layer.digest = Digest::of(&vec![b'y'; 200_000]);
    let error = push(&fixture, &spec, &fake, "t").unwrap_err().chain();
    assert!(error.starts_with("blob has the digest sha256:") && error.ends_with("/blob"), "{error}");
    assert!(!fake.lines().iter().any(|line| line.starts_with("PUT /v2/team/app/manifests/")));
}
