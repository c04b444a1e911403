//! Red Hat Quay.

use super::super::fake::{Fake, Profile};
use super::super::images::{Images, anonymous, assert_has, manifest};

/// go-containerregistry's `write.go`: a mount without `from` fails.
#[test]
fn mounts_always_name_their_source() {
    let (images, fake) = (Images::new(), Fake::start());
    let (spec, changed) = (images.large(), images.spec(&["a", "c"], "changed"));
    let client = anonymous();
    images.push(&client, &fake, &spec, &["one:t", "two:t"]).unwrap();
    images.push(&client, &fake, &changed, &["two:t", "one:t"]).unwrap();
    let lines = fake.lines();
    let mounts: Vec<_> = lines.iter().filter(|line| line.contains("mount=")).collect();
    assert!(mounts.len() >= 3 && mounts.iter().all(|line| line.contains("&from=")), "{lines:#?}");
    assert_has(&fake, "one:t", &changed);
    assert_has(&fake, "two:t", &changed);
}

/// ko#970: unknown types of manifests, configs and layers are refused.
#[test]
fn images_have_only_the_types_of_the_image_specification() {
    let (images, fake) = (Images::new(), Fake::of(Profile::default()));
    images.push(&anonymous(), &fake, &images.large(), &["app:t"]).unwrap();
    let (value, manifest) = manifest(&fake, "app:t");
    assert_eq!(value["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(value.get("artifactType"), None);
    assert_eq!(manifest.config.media_type, "application/vnd.oci.image.config.v1+json");
    let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
    assert!(manifest.layers.iter().all(|layer| layer.media_type == zstd));
}

/// go-containerregistry#1193: uploads over HTTP/2 are slow.
#[test]
fn requests_use_http_1_1() {
    let (images, fake) = (Images::new(), Fake::start());
    images.push(&anonymous(), &fake, &images.large(), &["app:t"]).unwrap();
    assert!(fake.requests().iter().all(|got| got.version == hyper::Version::HTTP_11));
}
