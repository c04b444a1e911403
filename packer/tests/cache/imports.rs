//! Digests that come from the specs of other images.

use std::fs;

use nixply_oci::{DiffId, Digest};
use nixply_packer::image::Imported;
use nixply_packer::request::BuiltImage;
use nixply_packer::{ImageSpec, Layer};

use crate::world::{compressing_codecs, small};

/// After the import of an image's spec, a cache knows those layers of the next image that are unchanged.
#[test]
fn layers_of_an_imported_spec_are_known() {
    for codec in compressing_codecs() {
        let mut world = small();
        let former = world.build(&world.request(codec, 3), None).unwrap().spec;
        let (name, _) = world.paths[0].clone();
        let short = name.rsplit_once('-').unwrap().1;
        world.add(short, 54_321, 9);
        let expected = world.build(&world.request(codec, 3), None).unwrap();
        let same = |layer: &&Layer| former.layers.contains(layer);
        let unchanged: Vec<_> =
            expected.spec.layers.iter().filter(same).flat_map(|layer| &layer.paths).collect();
        assert_eq!(unchanged.len(), 2, "one path of three has changed");

        let written = String::from_utf8(former.write()).unwrap();
        let imported = world.cache().import(&ImageSpec::read(&written, "former.json").unwrap()).unwrap();
        assert_eq!(imported, Imported { known: 3, without_key: 0 });
        // The unchanged paths are deleted: they need not be packed.
        for path in unchanged {
            fs::remove_dir_all(world.store.real_path(&path.path)).unwrap();
        }
        assert_eq!(world.build(&world.request(codec, 3), Some(world.cache())).unwrap().json, expected.json);
    }
    let world = small();
    let plain = world.build(&world.request("none", 3), None).unwrap().spec;
    assert_eq!(world.cache().import(&plain).unwrap(), Imported { known: 0, without_key: 3 });
    let text =
        r#"{"version":1,"layers":[{"digest":"DIGEST","diff_ids":"DIGEST","mediatype":"","key":"0x"}]}"#;
    let text = text.replace("DIGEST", &plain.layers[0].digest.to_string());
    let error = ImageSpec::read(&text, "former.json").unwrap_err().to_string();
    assert!(
        error.contains("former.json")
            && error.contains("must be a layer's key, 64 hexadecimal digits, not \"0x\""),
        "{error}"
    );
    fs::write(world.directory(), "in the way").unwrap();
    let spec = world.build(&world.request("zstd", 3), None).unwrap().spec;
    let error = world.cache().import(&spec).unwrap_err().to_string();
    assert!(error.starts_with("cannot create directory: "), "{error}");
}

/// Returns the spec with its layers changed.
fn changed(image: &BuiltImage, change: impl Fn(usize, &mut Layer)) -> ImageSpec {
    let mut spec = image.spec.clone();
    spec.layers.iter_mut().enumerate().for_each(|(at, layer)| change(at, layer));
    spec
}

/// A spec does not replace known layers. If one of its layers is wrong, all of its layers are forgotten.
#[test]
fn a_wrong_spec_is_forgotten_once_a_layer_is_packed() {
    let world = small();
    let truth = world.build(&world.request("zstd", 3), Some(world.cache())).unwrap();
    let build = || world.build(&world.request("zstd", 3), Some(world.cache())).unwrap();
    type Lie = fn(usize, &mut Layer);
    let lies: [(&str, Lie); 5] = [
        ("a digest", |at, layer| {
            if at == 1 {
                layer.digest = Digest::of(b"no layer");
            }
        }),
        ("all digests", |at, layer| layer.digest = Digest::of(&[at as u8])),
        ("all diff_ids", |at, layer| layer.diff_id = DiffId::of(&[at as u8])),
        ("all sizes", |_, layer| layer.size += 1),
        ("everything", |at, layer| {
            (layer.digest, layer.diff_id, layer.size) = (Digest::of(&[at as u8]), DiffId::of(&[at as u8]), 7);
        }),
    ];
    for (what, lie) in lies {
        let lie = changed(&truth, lie);
        world.cache().import(&lie).unwrap();
        assert_eq!(build().json, truth.json, "{what}: known layers keep their digests");
        for first in ["build", "layout"] {
            let name = format!("{what}, {first}");
            fs::remove_dir_all(world.directory()).unwrap();
            world.cache().import(&lie).unwrap();
            let mut built = BuiltImage { spec: lie.clone(), ..truth.clone() };
            if first == "build" {
                built = build();
                assert_eq!(built.spec, lie, "{name}: the build uses the imported digests");
            }
            let error = world.layout(&built, &name, Some(world.cache())).unwrap_err().to_string();
            let words = match first {
                "build" => "the layer was imported from a wrong spec",
                _ => "its image spec records",
            };
            assert!(error.contains(words), "{name}: {error}");
            let again = build();
            assert_eq!(again.json, truth.json, "{name}: after one failure, no imported digest is used");
            world.layout(&again, &format!("{name}, again"), Some(world.cache())).unwrap();
        }
    }
    let without = changed(&truth, |_, layer| layer.size = 0);
    assert_eq!(world.cache().import(&without).unwrap(), Imported { known: 0, without_key: 3 });
}

/// Layers of a spec are verified once. A build that needs no bytes does not verify them.
#[test]
fn a_correct_spec_is_verified_once_its_layers_are_packed() {
    let world = small();
    let truth = world.build(&world.request("zstd", 2), None).unwrap();
    world.cache().import(&truth.spec).unwrap();
    let proven = || {
        let layers = world.entries().into_iter().filter(|path| path.to_str().unwrap().contains("/layers/"));
        layers.filter(|path| fs::read_to_string(path).unwrap().contains(r#""proven":true"#)).count()
    };
    assert_eq!(world.build(&world.request("zstd", 2), Some(world.cache())).unwrap().json, truth.json);
    assert_eq!(proven(), 0);
    world.layout(&truth, "first", Some(world.cache())).unwrap();
    assert_eq!(proven(), 2);
    world.cache().import(&truth.spec).unwrap();
    assert_eq!(proven(), 2);
}

#[test]
fn a_spec_that_contradicts_itself_is_not_imported() {
    let world = small();
    let truth = world.build(&world.request("gzip", 3), None).unwrap();
    let [first, second] = [0, 1].map(|at| truth.spec.layers[at].clone());
    let refused = |change: &dyn Fn(&mut Layer)| {
        let lie = changed(&truth, |at, layer| {
            if at == 1 {
                change(layer);
            }
        });
        let error = world.cache().import(&lie).unwrap_err().to_string();
        assert!(error.contains("layers 1 and 2 have one "), "{error}");
        assert!(world.entries().is_empty(), "no layer of the spec is imported");
    };
    refused(&|layer| layer.digest = first.digest);
    refused(&|layer| layer.key = first.key);
    refused(&|layer| *layer = Layer { size: 7, ..first.clone() });
    refused(&|layer| *layer = Layer { diff_id: second.diff_id, ..first.clone() });
    refused(&|layer| *layer = Layer { digest: second.digest, ..first.clone() });
    let twice = changed(&truth, |at, layer| {
        if at == 1 {
            *layer = first.clone();
        }
    });
    assert_eq!(world.cache().import(&twice).unwrap().known, 3, "an image may have a layer twice");
}

/// An error that packing again cannot fix lists the layer's paths.
#[test]
fn a_blob_that_differs_from_the_spec_is_reported_with_its_paths() {
    let world = small();
    let truth = world.build(&world.request("gzip", 3), None).unwrap();
    let lies: [fn(usize, &mut Layer); 2] =
        [|_, layer| layer.digest = Digest::of(b"another"), |_, layer| layer.size += 1];
    for (at, lie) in lies.into_iter().enumerate() {
        let wrong = BuiltImage { spec: changed(&truth, lie), ..truth.clone() };
        let error = world.layout(&wrong, &format!("wrong {at}"), None).unwrap_err().to_string();
        assert!(
            error.starts_with("layer 1 has a different blob than its image spec records: expected"),
            "{error}"
        );
        let path = &truth.spec.layers[0].paths[0].path;
        assert!(error.ends_with(&format!("build the image again: {path}")), "{error}");
    }
}
