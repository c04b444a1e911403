//! Pushing to and reading from another implementation of the protocol: `ferro-oci-server`, which passes the conformance suite of the OCI
//! distribution specification, refuses mounts and sends only whole blobs.

use std::net::SocketAddr;
use std::sync::Arc;

use nixply_oci::{Digest, Platform};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::images::{Content, Images, anonymous};
use crate::client::{Pushed, Reference};

/// A running registry, which keeps everything in memory.
struct Server {
    address: SocketAddr,
    _runtime: Runtime,
}

impl Server {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let blobs = ferro_oci_server::Config::from_raw(None, None).blob_store().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, ferro_oci_server::build_app(blobs)).await });
        Self { address, _runtime: runtime }
    }

    fn at(&self, reference: &str) -> Reference {
        format!("{}/{reference}", self.address).parse().unwrap()
    }

    /// Pushes as a new process would do it.
    fn push(&self, images: &Images, content: &Content, to: &[&str]) -> Vec<Pushed> {
        let to = to.iter().map(|to| self.at(to)).collect();
        images.push_to(&anonymous(), content, to, None, Arc::new(())).unwrap()
    }

    /// Asserts that a tag has this image, and that all of its blobs are right.
    fn assert_has(&self, reference: &str, content: &Content, platform: &str) {
        let reference = self.at(reference);
        let reader = anonymous().reader(&reference.repository).unwrap();
        let image = reader.image(&reference.version, &platform.parse::<Platform>().unwrap()).unwrap();
        assert_eq!(image.digest(), content.digest);
        for (layer, spec) in image.fields.layers.iter().zip(&image.spec.layers) {
            let measured = reader.measured(layer.digest, layer.size).unwrap().unwrap();
            assert_eq!(
                (measured.digest, measured.size, measured.diff_id),
                (layer.digest, layer.size, Ok(spec.diff_id))
            );
        }
        assert_eq!(Digest::of(&image.config), image.fields.config.digest);
    }
}

#[test]
fn an_image_arrives_and_only_what_has_changed_is_sent() {
    let (server, images) = (Server::start(), Images::new());
    let large = Content::of(&images.large());
    let first = server.push(&images, &large, &["app:t"]);
    assert_eq!((first[0].digest, first[0].sent.len()), (large.digest, 3));
    server.assert_has("app:t", &large, "linux/amd64");

    let again = server.push(&images, &large, &["app:t"]);
    assert_eq!((again[0].is_unchanged(), again[0].requests), (true, 1));

    // Another layer and another config.
    let changed = Content::of(&images.spec(&["a", "c"], "changed"));
    let pushed = server.push(&images, &changed, &["app:t", "app:u"]);
    assert_eq!((pushed[0].sent.len(), pushed[0].there.len()), (2, 1));
    server.assert_has("app:t", &changed, "linux/amd64");
    server.assert_has("app:u", &changed, "linux/amd64");

    // Refused mounts become uploads.
    let both = server.push(&images, &large, &["app:v", "other/app:t"]);
    assert_eq!((both[0].sent.len(), both[1].mounted.len(), both[1].sent.len()), (0, 0, 3));
    server.assert_has("other/app:t", &large, "linux/amd64");
}

#[test]
fn an_index_arrives_with_all_of_its_images() {
    let (server, images) = (Server::start(), Images::new());
    let index = Content::of_index(&[images.large(), images.spec(&["c"], "small")]);
    let pushed = server.push(&images, &index, &["app:t"]);
    assert_eq!((pushed[0].digest, pushed[0].sent.len()), (index.digest, index.blobs));
    server.assert_has("app:t", &index, "linux/amd64");
    server.assert_has("app:t", &index, "linux/arm64");
    let again = server.push(&images, &index, &["app:t", "app:u"]);
    assert_eq!((again[0].sent.len(), again[0].there.len()), (0, index.blobs));
    server.assert_has("app:u", &index, "linux/arm64");
}

#[test]
fn layers_are_learned_from_an_image_of_another_tag() {
    let (server, images, client) = (Server::start(), Images::new(), anonymous());
    let large = Content::of(&images.large());
    server.push(&images, &large, &["app:t"]);
    let learned = client.learn(&server.at("app:t")).unwrap();
    assert_eq!((learned.layers.len(), learned.frames.is_none()), (2, true));
}
