use proptest::prelude::*;
use serde_json::json;

use super::*;

/// An image with one layer, whose content is `content`.
fn image(arch: &str, codec: &str, content: &str) -> IndexedImage {
    let codec: Codec = codec.parse().unwrap();
    let digest = nixply_oci::Digest::of(content.as_bytes());
    let layer = json!({
        "digest": digest, "size": content.len(), "diff_ids": digest, "mediatype": codec.media_type(),
        "compression": codec.to_string(), "History": {},
        "paths": [{"path": "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-x"}],
    });
    let spec = json!({"version": 1, "image-config": {}, "layers": [layer], "arch": "", "created": null});
    let mut spec = ImageSpec::read(&spec.to_string(), "image").unwrap();
    spec.arch = arch.into();
    IndexedImage { spec, annotations: BTreeMap::new() }
}

fn index(images: Vec<IndexedImage>) -> Result<IndexSpec> {
    IndexSpec::new(images, BTreeMap::new(), |at| format!("images[{at}]"))
}

fn titles(index: &IndexSpec) -> Vec<String> {
    index.images.iter().map(IndexedImage::title).collect()
}

fn all() -> Vec<IndexedImage> {
    let kinds = [
        ("arm64", "zstd"),
        ("amd64", "zstd"),
        ("arm/v7", "gzip"),
        ("windows/amd64", "gzip"),
        ("arm/v6", "none"),
        ("amd64", "gzip"),
        ("arm64", "none"),
        ("386", "zstd"),
    ];
    kinds.map(|(arch, codec)| image(arch, codec, &format!("{arch} {codec}"))).into()
}

const ORDER: [&str; 8] = [
    "linux/386 (zstd)",
    "linux/amd64",
    "linux/amd64 (zstd)",
    "linux/arm/v6",
    "linux/arm/v7",
    "linux/arm64",
    "linux/arm64 (zstd)",
    "windows/amd64",
];

proptest! {
    #[test]
    fn the_order_does_not_depend_on_the_input(images in Just(all()).prop_shuffle()) {
        let spec = index(images).unwrap();
        prop_assert_eq!(titles(&spec), ORDER);
        prop_assert_eq!(spec.write(), index(all()).unwrap().write());
        let text = String::from_utf8(spec.write()).unwrap();
        prop_assert_eq!(IndexSpec::read(&text, "index.json").unwrap(), spec);
    }
}

#[test]
fn an_index_has_the_bytes_of_go_and_marks_the_zstd_twin() {
    let mut images =
        vec![image("amd64", "zstd", "a"), image("arm/v7", "zstd", "b"), image("amd64", "gzip", "c")];
    images[1].annotations.insert("org.example".into(), "<7>".into());
    let spec =
        IndexSpec::new(images, [("k".to_owned(), "v".to_owned())].into(), |at| at.to_string()).unwrap();
    let manifests: Vec<_> = spec.images.iter().map(|image| image.spec.manifest()).collect();
    let descriptors: Vec<_> = manifests
        .iter()
        .map(|manifest| nixply_oci::Descriptor::of("", &go_json::compact(manifest)))
        .collect();
    let entry = |at: usize, more: &str| {
        let nixply_oci::Descriptor { digest, size, .. } = &descriptors[at];
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{size},{more}}}"#
        )
    };
    let expected = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{},{},{}],"annotations":{{"k":"v"}}}}"#,
        entry(0, r#""platform":{"architecture":"amd64","os":"linux"}"#),
        entry(
            1,
            r#""annotations":{"io.github.containers.compression.zstd":"true"},"platform":{"architecture":"amd64","os":"linux"}"#
        ),
        // This platform has only one image.
        entry(
            2,
            r#""annotations":{"org.example":"\u003c7\u003e"},"platform":{"architecture":"arm","os":"linux","variant":"v7"}"#
        ),
    );
    let bytes = go_json::compact(&spec.index(&manifests));
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
}

#[test]
fn twins_with_the_same_bytes_are_named_once() {
    let spec = index(vec![image("amd64", "zstd", "a"), image("amd64", "gzip", "a")]).unwrap();
    let manifest = spec.images[1].spec.manifest();
    let made = spec.index(&[manifest.clone(), manifest]);
    assert_eq!((made.manifests.len(), made.manifests[0].annotations.len()), (1, 0));
}

#[test]
fn clients_without_zstd_get_the_twins_that_they_can_read() {
    let spec = index(all()).unwrap();
    assert_eq!(titles(&spec.for_client(|_| true)), ORDER);
    let old = titles(&spec.for_client(Codec::is_universal));
    let expected =
        ["linux/386 (zstd)", "linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64", "windows/amd64"];
    assert_eq!(old, expected);
}

#[test]
fn an_image_is_found_for_a_platform() {
    let spec = index(all()).unwrap();
    let title = |platform: &str| spec.image_for(&platform.parse().unwrap()).map(IndexedImage::title);
    assert_eq!(title("linux/amd64").as_deref(), Some("linux/amd64"));
    assert_eq!(title("linux/arm/v7").as_deref(), Some("linux/arm/v6"));
    assert_eq!(title("linux/s390x"), None);
}

#[test]
fn wrong_indexes_are_refused() {
    let error = |images: Vec<IndexedImage>| index(images).unwrap_err().to_string();
    assert_eq!(error(vec![]), "images is not valid: expected at least one image");
    assert_eq!(
        error(vec![image("amd64", "gzip", "a"), image("", "gzip", "b")]),
        "images[1] is not valid: its spec names no processor (arch)"
    );
    for (codecs, layers) in [
        (["gzip", "none"], "layers in gzip or without compression"),
        (["zstd:1", "zstd:9"], "layers in zstd"),
    ] {
        let [a, b] = codecs;
        assert_eq!(
            error(vec![image("arm64", a, "a"), image("arm", a, "x"), image("arm64/v8", b, "b")]),
            format!(
                "index of images[0] and images[2] is not valid: both are for linux/arm64/v8 and have {layers}: \
                 leave one of them out, or give them different codecs"
            )
        );
    }
    let mut empty = image("amd64", "gzip", "a");
    empty.annotations.insert(String::new(), "x".into());
    assert_eq!(
        error(vec![empty]),
        "images[0]: annotations is not valid: the key of an annotation cannot be empty"
    );
}

#[test]
fn documents_of_other_kinds_are_refused() {
    let read = |text: &str| IndexSpec::read(text, "x.json").unwrap_err().to_string();
    let image = String::from_utf8(image("amd64", "gzip", "a").spec.write()).unwrap();
    assert_eq!(read(&image), "x.json is an image's spec, not the spec of an image index");
    assert_eq!(
        read(r#"{"schemaVersion":2,"manifests":[]}"#),
        "x.json is an OCI manifest or index, not an image's spec"
    );
    assert_eq!(
        read(r#"{"version":2,"images":[]}"#),
        "x.json is not valid: its version is 2, but this nixply supports only version 1"
    );
    let other = image.replacen("1", "2", 1);
    let text = format!(r#"{{"version":1,"images":[{{"image":{other}}}]}}"#);
    assert_eq!(
        read(&text),
        "x.json: images[0].image is not valid: its version is 2, but this nixply supports only version 1"
    );
    assert_eq!(
        read(r#"{"version":1,"images":[]}"#),
        "x.json: images is not valid: expected at least one image"
    );
    let index = String::from_utf8(index(all()).unwrap().write()).unwrap();
    let error = ImageSpec::read(&index, "x.json").unwrap_err().to_string();
    assert_eq!(error, "x.json is the spec of an image index, not of one image");
}
