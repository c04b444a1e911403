//! Progress reports of packing.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use nixply_packer::image::layout;
use nixply_packer::{Control, ImageRequest, ImageSpec, PackedLayer, Packer, Packing, Progress};
use nixply_planning::{Closure, PathInfo, Store};

const PATHS: [&str; 3] = [
    "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a",
    "/nix/store/123456789abcdfghijklmnpqrsvwxyz0-b",
    "/nix/store/23456789abcdfghijklmnpqrsvwxyz01-c",
];

/// A progress report, with the bytes of a layer added up.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Begin { layers: usize, expected: u64 },
    Started { layer: usize, expected: u64 },
    Finished { layer: usize, bytes: u64 },
}

#[derive(Default)]
struct Ear(Mutex<(Vec<Event>, [u64; 3])>);

impl Progress for Ear {
    fn packing_started(&self, layers: usize, expected: u64) {
        self.0.lock().unwrap().0.push(Event::Begin { layers, expected });
    }

    fn layer_started(&self, layer: usize, expected: u64) {
        self.0.lock().unwrap().0.push(Event::Started { layer, expected });
    }

    fn packed(&self, layer: usize, bytes: u64) {
        self.0.lock().unwrap().1[layer] += bytes;
    }

    fn layer_finished(&self, layer: usize, _packed: &PackedLayer) {
        let mut heard = self.0.lock().unwrap();
        let bytes = std::mem::take(&mut heard.1[layer]);
        heard.0.push(Event::Finished { layer, bytes });
    }
}

#[test]
fn progress_reports_have_the_layers_index_and_size() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store { dir: "/nix/store".into(), real_dir: directory.path().join("store") };
    fs::create_dir(&store.real_dir).unwrap();
    let infos = PATHS.map(|path| {
        fs::write(store.real_file(path), path.repeat(1000)).unwrap();
        PathInfo {
            path: path.parse().unwrap(),
            references: Default::default(),
            nar_hash: String::new(),
            nar_size: 50_000,
        }
    });
    let layers = PATHS.map(|path| format!(r#"{{"deps": ["{path}"]}}"#)).join(",");
    let request = ImageRequest::from_json(&format!(r#"{{"layers": [{layers}]}}"#), "request").unwrap();
    let stop = AtomicBool::new(false);
    let heard = |work: &dyn Fn(&Control<'_>)| {
        let ear = Ear::default();
        work(&Control::new(&stop, &ear));
        ear.0.into_inner().unwrap().0
    };
    let built = Mutex::new(None);
    let packer = Packer::new(1);
    let events = heard(&|control| {
        let closure = Closure::new(infos.clone());
        *built.lock().unwrap() =
            Some(request.build(&closure, &Packing::new(&store, &packer, control)).unwrap());
    });
    let spec = built.into_inner().unwrap().unwrap().spec;
    let size = spec.layers[0].size;
    assert_eq!(size, 48_128);
    assert_eq!(events[0], Event::Begin { layers: 3, expected: 150_000 });
    assert_eq!(events[1], Event::Started { layer: 0, expected: 50_000 });
    let finished = |bytes: u64| move |event: &&Event| matches!(event, Event::Finished { bytes: all, .. } if *all == bytes);
    assert_eq!(events.iter().filter(finished(size)).count(), 3, "{events:?}");

    // The layout already has the first layer. The other two, the image's second and third, are packed.
    let out = directory.path().join("out");
    let write = |spec: &ImageSpec, control: &Control<'_>| {
        layout::write(spec, &out, "t", None, &Packing::new(&store, &packer, control)).unwrap();
    };
    let mut first = spec.clone();
    first.layers.truncate(1);
    heard(&|control| write(&first, control));
    let events = heard(&|control| write(&spec, control));
    let [second, third] = [spec.layers[1].size, spec.layers[2].size];
    assert_eq!(
        events,
        [
            Event::Begin { layers: 2, expected: second + third },
            Event::Started { layer: 1, expected: second },
            Event::Finished { layer: 1, bytes: second },
            Event::Started { layer: 2, expected: third },
            Event::Finished { layer: 2, bytes: third },
        ]
    );
    assert_eq!(heard(&|control| write(&spec, control)), [], "a complete layout needs no packing");
}
