//! Image indexes: the tag is an index, and the manifests that it names are found by their digests.

use std::collections::BTreeMap;

use nixply_documents::go_json;
use nixply_oci::{Digest, INDEX, ImageIndex, Manifest, Platform, Processor, ZSTD_TWIN};
use nixply_packer::image::{IndexSpec, IndexedImage};

use super::fixture::{Answer, Fixture, MANIFEST, OCI, ask, blob, get};
use crate::content::Image;
use crate::server::Server;

const ACCEPT: &str =
    "Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json\r\n";

/// An index of one image for arm64 and two for amd64, in gzip and zstd.
fn spec(fixture: &Fixture, [arm, old, new]: [&str; 3]) -> IndexSpec {
    let image = |arch: &str, codec: &str| {
        let mut spec = fixture.spec(codec);
        spec.arch = arch.into();
        IndexedImage { spec, annotations: BTreeMap::new() }
    };
    let images = vec![image("amd64", new), image("arm64", arm), image("amd64", old)];
    IndexSpec::new(images, [("org.example".into(), "index".into())].into(), |at| at.to_string()).unwrap()
}

fn serve(fixture: &Fixture, spec: &IndexSpec, compression: &str) -> Server {
    let image = Image::of_index("some/image", "t", spec.clone()).unwrap();
    Server::start(vec![image], fixture.options(compression)).unwrap()
}

fn index(answer: &Answer) -> ImageIndex {
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(INDEX)));
    serde_json::from_slice(&answer.body).unwrap()
}

fn by_digest(server: &Server, digest: Digest) -> Answer {
    get(server, &format!("/v2/some/image/manifests/{digest}"))
}

#[test]
fn an_index_names_the_manifests_of_its_images() {
    let fixture = Fixture::new();
    let spec = spec(&fixture, ["gzip:1", "gzip:1", "zstd:1"]);
    let server = serve(&fixture, &spec, "auto");
    let answer = ask(&server, "GET", MANIFEST, ACCEPT);
    let manifests: Vec<_> = spec.images.iter().map(|image| image.spec.manifest()).collect();
    assert_eq!(answer.body, go_json::compact(&spec.index(&manifests)));
    let digest = Digest::of(&answer.body);
    assert_eq!(answer.header("docker-content-digest"), Some(&digest.to_string()[..]));
    assert_eq!(by_digest(&server, digest).body, answer.body);
    let made = index(&answer);
    let platforms: Vec<_> = made
        .manifests
        .iter()
        .map(|named| (named.platform.clone().unwrap().to_string(), named.annotations.contains_key(ZSTD_TWIN)))
        .collect();
    let expected = [("linux/amd64", false), ("linux/amd64", true), ("linux/arm64", false)];
    assert_eq!(platforms, expected.map(|(platform, is_twin)| (platform.to_owned(), is_twin)));
    assert_eq!(made.annotations["org.example"], "index");
    for (named, manifest) in made.manifests.iter().zip(&manifests) {
        let child = by_digest(&server, named.digest);
        assert_eq!(child.header("content-type"), Some(nixply_oci::MANIFEST));
        assert_eq!((child.body.len() as u64, child.body), (named.size, go_json::compact(manifest)));
    }
    assert_eq!(server.counts().packings, 0);
    for layer in manifests.iter().flat_map(|manifest| &manifest.layers) {
        assert_eq!(Digest::of(&get(&server, &blob(layer.digest)).body), layer.digest);
    }
    // The images for amd64 and arm64 share their layers in gzip.
    assert_eq!(server.counts().packings, 4);
    for manifest in &manifests {
        assert_eq!(Digest::of(&get(&server, &blob(manifest.config.digest)).body), manifest.config.digest);
    }
    assert_eq!(fixture.reports.lock().unwrap()[..], [""; 0]);
}

#[test]
fn clients_without_indexes_get_the_image_for_this_machine() {
    let fixture = Fixture::new();
    let spec = spec(&fixture, ["gzip:1", "gzip:1", "zstd:1"]);
    let server = serve(&fixture, &spec, "auto");
    let answer = ask(&server, "GET", MANIFEST, OCI);
    let processor = Processor::of_this_machine().unwrap();
    let own =
        Platform { os: "linux".into(), architecture: processor.arch.clone(), variant: processor.variant };
    let image = &spec.image_for(&own).unwrap().spec;
    assert_eq!(answer.header("content-type"), Some(nixply_oci::MANIFEST));
    assert_eq!(answer.body, go_json::compact(&image.manifest()));
    // Without an image for this machine, the server refuses.
    let others = spec.images.into_iter().filter(|image| image.spec.arch != processor.arch).collect();
    let others = IndexSpec::new(others, BTreeMap::new(), |at| at.to_string()).unwrap();
    let server = serve(&fixture, &others, "auto");
    let refused = ask(&server, "GET", MANIFEST, OCI);
    assert_eq!((refused.status, refused.code()), (404, "MANIFEST_UNKNOWN".into()));
    let message = refused.json()["errors"][0]["message"].as_str().unwrap().to_owned();
    assert!(message.ends_with(&format!("without an image for {own}")), "{message}");
}

#[test]
fn clients_without_zstd_get_another_index() {
    let fixture = Fixture::new();
    let spec = spec(&fixture, ["zstd:1", "gzip:1", "zstd:1"]);
    let server = serve(&fixture, &spec, "auto");
    let old = format!("{ACCEPT}User-Agent: docker/20.10.24+dfsg1 go/go1.19.8\r\n");
    let new = index(&ask(&server, "GET", MANIFEST, ACCEPT));
    let old = index(&ask(&server, "GET", MANIFEST, &old));
    assert_eq!((new.manifests.len(), old.manifests.len()), (3, 2));
    assert_eq!(new.manifests[0], old.manifests[0]);
    for named in old.manifests {
        let manifest: Manifest = serde_json::from_slice(&by_digest(&server, named.digest).body).unwrap();
        for layer in manifest.layers {
            assert!(layer.media_type.ends_with("tar+gzip"), "{layer:?}");
            assert_eq!(Digest::of(&get(&server, &blob(layer.digest)).body), layer.digest);
        }
    }
}

#[test]
fn twins_in_one_codec_are_one_image() {
    let fixture = Fixture::new();
    let mut spec = spec(&fixture, ["gzip:1", "gzip:1", "zstd:1"]);
    // The configs name the codec.
    let config = spec.images[0].spec.config.clone();
    spec.images.iter_mut().for_each(|image| image.spec.config = config.clone());
    let server = serve(&fixture, &spec, "zstd:3");
    let made = index(&ask(&server, "GET", MANIFEST, ACCEPT));
    assert_eq!(made.manifests.len(), 2);
    assert!(made.manifests.iter().all(|named| named.annotations.is_empty()));
}
