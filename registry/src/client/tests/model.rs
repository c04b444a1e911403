//! Random sequences of pushes, against a model of the registry's tags.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use nixply_oci::Digest;
use proptest::prelude::*;

use super::fake::{Fake, Mount, Profile};
use super::images::{Content, Images, anonymous, without_certificates};
use crate::client::Version;

const REPOSITORIES: [&str; 3] = ["one", "two", "three/four"];
const TAGS: [&str; 2] = ["t", "u"];

/// The store, and images that share layers.
static IMAGES: LazyLock<(Images, Vec<Content>)> = LazyLock::new(|| {
    let images = Images::new();
    let all: [&[&str]; 5] = [&["c"], &["c", "d"], &["d", "c", "f"], &["g", "h"], &["a", "c"]];
    let mut specs: Vec<_> = all.iter().map(|paths| images.spec(paths, "model")).collect();
    // The same layers, with another config.
    specs.push(images.spec(&["c", "d"], "other"));
    let mut contents: Vec<_> = specs.iter().map(Content::of).collect();
    contents.push(Content::of_index(&specs[..2]));
    contents.push(Content::of_index(&[specs[1].clone(), specs[3].clone(), specs[5].clone()]));
    (images, contents)
});

/// A tag: indices of its repository and its name.
type Tag = (usize, usize);

#[derive(Debug, Clone)]
enum Step {
    /// Pushes an image to tags, perhaps by a client that has pushed before.
    Push { image: usize, tags: Vec<Tag>, is_new_client: bool },
    /// Deletes a tag.
    Delete(Tag),
    /// Deletes the manifests without tags of a repository, and all blobs that no other manifest names.
    Collect(usize),
    /// Loses a blob of a repository, even if a manifest names it.
    Lose(usize, prop::sample::Index),
    /// Loses a manifest of a repository that no tag has itself.
    LoseManifest(usize, prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let tag = || (0..REPOSITORIES.len(), 0..TAGS.len());
    let push = (0..8usize, prop::collection::vec(tag(), 1..4), any::<bool>())
        .prop_map(|(image, tags, is_new_client)| Step::Push { image, tags, is_new_client });
    let step = prop_oneof![
        5 => push,
        1 => tag().prop_map(Step::Delete),
        1 => (0..REPOSITORIES.len()).prop_map(Step::Collect),
        1 => (0..REPOSITORIES.len(), any::<prop::sample::Index>()).prop_map(|(at, index)| Step::Lose(at, index)),
        1 => (0..REPOSITORIES.len(), any::<prop::sample::Index>())
            .prop_map(|(at, index)| Step::LoseManifest(at, index)),
    ];
    prop::collection::vec(step, 1..12)
}

#[derive(Default)]
struct Model {
    tags: BTreeMap<Tag, Digest>,
    /// Repositories that have lost blobs.
    damaged: BTreeSet<usize>,
}

impl Model {
    /// Checks that all tags have the images that they should have.
    fn check(&self, fake: &Fake) {
        for (at, name) in REPOSITORIES.iter().enumerate() {
            let expected = self.tags.iter().filter(|((repository, _), _)| *repository == at);
            let expected: BTreeMap<_, _> =
                expected.map(|((_, tag), digest)| (TAGS[*tag].to_owned(), *digest)).collect();
            fake.change(|registry| {
                let stored = registry.repository(name);
                assert_eq!(stored.tags, expected, "{name}");
                if !self.damaged.contains(&at) {
                    expected.keys().for_each(|tag| assert_eq!(stored.image(tag), Some(expected[tag])));
                }
            });
        }
    }

    /// Checks the result of a push of one image.
    fn push(&mut self, image: usize, tags: &[Tag], pushed: &[crate::client::Pushed], fake: &Fake) {
        let content = &IMAGES.1[image];
        let (expected, blobs, children) = (content.digest, content.blobs as u64, content.children as u64);
        let asked: BTreeSet<Tag> = tags.iter().copied().collect();
        let mut seen = BTreeSet::new();
        for pushed in pushed {
            assert_eq!(pushed.digest, expected);
            let all = pushed.sent.len() + pushed.mounted.len() + pushed.there.len();
            assert_eq!(all as u64, blobs, "{pushed:?}");
            let count = pushed.tags.len() as u64;
            let mut at = 0;
            for (reference, is_unchanged) in &pushed.tags {
                let Version::Tag(tag) = &reference.version else { panic!("a tag") };
                let name = &reference.repository.name;
                at = REPOSITORIES.iter().position(|repository| repository == name).unwrap();
                let key = (at, TAGS.iter().position(|one| one == tag).unwrap());
                assert_eq!(*is_unchanged, self.tags.get(&key) == Some(&expected), "{reference}");
                self.tags.insert(key, expected);
                seen.insert(key);
                if !is_unchanged {
                    fake.change(|registry| assert_eq!(registry.repository(name).image(tag), Some(expected)));
                }
            }
            let most = match (pushed.is_unchanged(), self.damaged.contains(&at)) {
                (true, _) => count,
                // An old index has at most three manifests.
                (false, false) => 2 * count + 3 * blobs + children + 3,
                // Each manifest may be the first one to miss blobs.
                (false, true) => 3 * count + 2 * children + 3 + (3 + 3 + count + children) * blobs,
            };
            assert!(pushed.requests <= most, "{} requests, at most {most}: {pushed:?}", pushed.requests);
        }
        assert_eq!(seen, asked);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_push_leaves_the_whole_image_under_its_tags(steps in steps(), is_committed in any::<bool>()) {
        let (images, contents) = &*IMAGES;
        let mount = if is_committed { Mount::Committed } else { Mount::Any };
        let fake = Fake::of(Profile { mount, ..Profile::default() });
        let (mut model, mut client) = (Model::default(), without_certificates(anonymous(), &fake));
        for step in steps {
            match step {
                Step::Push { image, tags, is_new_client } => {
                    if is_new_client {
                        client = without_certificates(anonymous(), &fake);
                    }
                    let to: Vec<String> =
                        tags.iter().map(|(at, tag)| format!("{}:{}", REPOSITORIES[*at], TAGS[*tag])).collect();
                    let to: Vec<&str> = to.iter().map(String::as_str).collect();
                    let pushed = images.push_content(&client, &fake, &contents[image], &to).unwrap();
                    model.push(image, &tags, &pushed, &fake);
                }
                Step::Delete((at, tag)) => {
                    model.tags.remove(&(at, tag));
                    fake.change(|registry| registry.repository(REPOSITORIES[at]).tags.remove(TAGS[tag]));
                }
                Step::Collect(at) => {
                    model.damaged.insert(at);
                    fake.change(|registry| registry.repository(REPOSITORIES[at]).collect());
                }
                Step::Lose(at, index) => {
                    model.damaged.insert(at);
                    fake.change(|registry| {
                        let blobs = &mut registry.repository(REPOSITORIES[at]).blobs;
                        if !blobs.is_empty() {
                            let digest = *index.get(&blobs.keys().copied().collect::<Vec<_>>());
                            blobs.remove(&digest);
                        }
                    });
                }
                Step::LoseManifest(at, index) => {
                    model.damaged.insert(at);
                    fake.change(|registry| {
                        let stored = registry.repository(REPOSITORIES[at]);
                        let tagged: Vec<_> = stored.tags.values().copied().collect();
                        let all = stored.manifests.keys().filter(|digest| !tagged.contains(digest));
                        let all: Vec<_> = all.copied().collect();
                        if !all.is_empty() {
                            stored.manifests.remove(index.get(&all));
                        }
                    });
                }
            }
            model.check(&fake);
        }
    }
}
