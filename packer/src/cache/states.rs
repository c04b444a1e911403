//! SHA-256 states within a layer. SHA-256 is sequential: when one path of a layer has changed, everything from that path on
//! must be hashed again. The bytes before it need no hashing if the state at that place is known.

use std::fs;

use serde::{Deserialize, Serialize};
use sha2::Sha256;
use sha2::digest::common::hazmat::SerializableState;

use super::entries::{self, Cache};
use super::kind::Kind;
use super::segments::SegmentKey;

/// Key of a layer's beginning: its first segments, in the order of its tar stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain(blake3::Hash);

impl Chain {
    /// Returns the chain extended by one segment. Without a chain before, returns the chain of the first segment.
    pub(crate) fn with(before: Option<Self>, segment: &SegmentKey) -> Self {
        let before = before.map_or(Vec::new(), |chain| chain.0.as_bytes().to_vec());
        Self(entries::key(Kind::States, [&before[..], segment.as_bytes()]))
    }
}

/// State of a hasher, with the number of bytes hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The sha2 crate's serialization, in hexadecimal digits.
    state: String,
    pub(crate) bytes: u64,
    /// Whether the store was checked when the bytes were read. Absent in entries of older versions, which means no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    checked: bool,
}

impl State {
    pub(crate) fn of(hasher: &Sha256, bytes: u64) -> Self {
        Self { state: hex::encode(hasher.serialize()), bytes, checked: false }
    }

    /// Restores the hasher. Returns none if another version of the crate wrote the state.
    pub(crate) fn hasher(&self) -> Option<Sha256> {
        let bytes = hex::decode(&self.state).ok()?;
        Sha256::deserialize(bytes[..].try_into().ok()?).ok()
    }
}

impl Cache {
    /// Returns the states of a layer's tar stream and of its blob after `chain`.
    pub(crate) fn states(&self, chain: Chain) -> Option<(State, State)> {
        self.get_if(Kind::States, &chain.0, |states| !self.checked || are_checked(states))
    }

    /// Stores the states of a layer's tar stream and of its blob after `chain`.
    pub(crate) fn put_states(&self, chain: Chain, states: &(State, State)) {
        let checked = |state: &State| State { checked: self.checked, ..state.clone() };
        self.put(Kind::States, &chain.0, &(checked(&states.0), checked(&states.1)));
    }

    /// If the store is checked, removes the states that were made without a check: they may be those of damaged bytes.
    pub(crate) fn forget_unchecked_states(&self, chains: impl Iterator<Item = Chain>) {
        for chain in chains.filter(|_| self.checked) {
            if self.get(Kind::States, &chain.0).is_some_and(|states| !are_checked(&states)) {
                let _ = fs::remove_file(entries::entry(&self.directory, Kind::States, &chain.0));
            }
        }
    }
}

fn are_checked((tar, blob): &(State, State)) -> bool {
    tar.checked && blob.checked
}

#[cfg(test)]
mod tests {
    use sha2::Digest;

    use super::*;

    #[test]
    fn a_restored_hasher_continues_from_its_state() {
        let mut whole = Sha256::new();
        whole.update(b"some bytes that fill no block, ");
        let state = State::of(&whole, 31);
        let text = serde_json::to_string(&state).unwrap();
        let mut resumed = serde_json::from_str::<State>(&text).unwrap().hasher().unwrap();
        for hasher in [&mut whole, &mut resumed] {
            hasher.update([7; 1000]);
        }
        assert_eq!(whole.finalize(), resumed.finalize());
        assert!(State { state: "00".into(), bytes: 0, checked: false }.hasher().is_none());
    }
}
