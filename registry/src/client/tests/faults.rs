//! Pushes to registries that fail at random: each ends with the complete old or the complete new image. `NIXPLY_SEED` repeats one
//! schedule of failures.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the seed of a failure is for the reader of the test's output"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nixply_oci::Digest;

use super::fake::{Act, Auth, Fake, Got, Instead, Profile, Stored, TokenService};
use super::images::{BASIC, Content, Images, PASSWORD, anonymous, limits, user_with, without_certificates};
use crate::client::limits::Limits;

const SEEDS: u64 = 1000;

/// The tags of one push. Two are in the same repository.
const TAGS: [&str; 3] = ["one:t", "one:u", "two:t"];

/// A schedule of failures: it depends only on the seed, the request, and the number of equal requests before.
#[derive(Clone, Copy)]
struct Schedule(u64);

impl Schedule {
    /// Returns a number below `below` for a decision.
    fn choose(self, decision: &str, below: u64) -> u64 {
        let hash = blake3::hash(format!("{} {decision}", self.0).as_bytes());
        u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap()) % below
    }

    /// Share of failing requests, in percent.
    fn rate(self) -> u64 {
        [2, 10, 25, 50][self.choose("rate", 4) as usize]
    }

    fn act(self, got: &Got, nth: usize, challenge: &str) -> Act {
        let decision = format!("{} {nth}", got.line);
        if self.choose(&decision, 100) >= self.rate() {
            return Act::Own;
        }
        let instead = |status| Act::Instead(Instead::new(status));
        let later = |status| Act::Instead(Instead::new(status).with("Retry-After", "1"));
        match self.choose(&format!("{decision} kind"), 16) {
            0 => instead(500),
            1 => instead(502),
            2 => instead(503),
            3 => later(503),
            4 => instead(429),
            5 => later(429),
            6 => Act::DropBefore,
            7 => Act::DropAfter,
            8 => Act::Truncate,
            9 => Act::Stall(Duration::from_secs(30)),
            10 => Act::Twice,
            11 => Act::Instead(Instead::new(401).with("WWW-Authenticate", challenge)),
            12 => Act::Lose,
            13 => Act::Hide(1),
            14 => Act::Hide(3),
            _ => Act::Instead(Instead::error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown")),
        }
    }
}

/// The image of each tag.
fn tags(fake: &Fake) -> BTreeMap<&'static str, Option<Digest>> {
    let image = |reference: &'static str| {
        let (name, tag) = reference.split_once(':').unwrap();
        (reference, fake.change(|registry| registry.repository(name).image(tag)))
    };
    TAGS.map(image).into()
}

struct Fixture {
    images: Images,
    /// An old image and an old index, with repositories that have them.
    old: Vec<(Content, BTreeMap<String, Stored>)>,
    /// A new image and a new index.
    new: [Content; 2],
    service: TokenService,
}

impl Fixture {
    fn new() -> Self {
        let images = Images::new();
        let (old, new) = (images.spec(&["a", "c"], "old"), images.spec(&["b", "c", "d"], "new"));
        let other = images.spec(&["c", "d"], "other");
        let old = [Content::of(&old), Content::of_index(&[old, other.clone()])].into_iter().map(|old| {
            let fake = Fake::start();
            images.push_content(&anonymous(), &fake, &old, &TAGS).unwrap();
            (old, fake.change(|registry| registry.repositories.clone()))
        });
        let old = old.collect();
        let new = [Content::of(&new), Content::of_index(&[new, other])];
        // The token service fails now and then.
        let service = TokenService::with(Some(BASIC), |_, nth| (nth % 5 == 0).then(|| Instead::new(503)));
        Self { images, old, new, service: service.limited(12) }
    }

    /// Pushes the new image. Returns whether the push was successful.
    fn run(&self, seed: u64) -> bool {
        let schedule = Schedule(seed);
        let mut profile = Profile { single_post: schedule.choose("single", 2) == 0, ..Profile::default() };
        let mut challenge = "Basic realm=\"r\"".to_owned();
        if schedule.choose("auth", 2) == 0 {
            profile.auth = Auth::Bearer(self.service.clone());
            challenge = self.service.challenge();
        }
        let fake = Fake::new(profile, move |got, nth| schedule.act(got, nth, &challenge));
        let mut old = None;
        // A third of the registries is empty.
        if let Some((content, before)) = self.old.get(schedule.choose("old", 3) as usize) {
            fake.change(|registry| registry.repositories = before.clone());
            old = Some(content.digest);
        }
        let content = &self.new[schedule.choose("new", 2) as usize];
        let client = user_with(Limits {
            first_delay: Duration::from_micros(200),
            max_delay: Duration::from_millis(1),
            max_requested_delay: Duration::from_millis(1),
            stall_timeout: Duration::from_millis(250),
            ..limits()
        });
        let client = without_certificates(client, &fake);
        let pushed = self.images.push_content(&client, &fake, content, &TAGS);
        let found = tags(&fake);
        let new = Some(content.digest);
        match &pushed {
            Ok(pushed) => {
                assert!(found.values().all(|digest| *digest == new), "{found:?}");
                assert!(pushed.iter().all(|pushed| Some(pushed.digest) == new));
            }
            Err(error) => {
                assert!(found.values().all(|digest| *digest == new || *digest == old), "{found:?}");
                let text = format!("{} {error:?}", error.chain());
                assert!(!text.contains(PASSWORD) && !text.contains("opaque-"), "{text}");
            }
        }
        pushed.is_ok()
    }
}

/// Prints the seed of a failed run.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to repeat this failure: NIXPLY_SEED={}", self.0);
        }
    }
}

#[test]
fn a_push_that_fails_at_random_leaves_the_old_or_the_new_image() {
    let fixture = Arc::new(Fixture::new());
    if let Ok(seed) = std::env::var("NIXPLY_SEED") {
        let seed = seed.parse().expect("NIXPLY_SEED is a number");
        println!("successful: {}", fixture.run(seed));
        return;
    }
    let (next, successes) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEEDS {
                        return;
                    }
                    let _named = Named(seed);
                    successes.fetch_add(u64::from(fixture.run(seed)), Ordering::Relaxed);
                }
            });
        }
    });
    // The retries are of use: half of the schedules let at least every tenth request fail.
    let successes = successes.into_inner();
    assert!(successes > SEEDS / 2, "only {successes} of {SEEDS} pushes were successful");
}
