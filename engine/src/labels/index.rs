//! From keys to where their rows wait, without a second copy of the keys.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

/// Bytes for each key, the free places of the table included.
pub(super) const ENTRY_BYTES: usize = 32;

/// Passes hashes through: they are keyed by the process already.
#[derive(Default)]
struct Through(u64);

impl Hasher for Through {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// Finds a row's place by a hash of its key; the caller holds the keys and says whether the one found is the one
/// meant. Never part of a state: it is rebuilt, and nothing depends on its order.
#[derive(Default)]
pub(super) struct Index {
    places: HashMap<u64, u64, BuildHasherDefault<Through>>,
    /// Keys whose hash was taken by another one. Practically always empty, and exact nevertheless.
    collided: HashMap<Box<[u8]>, u64>,
    /// Keyed by the process, so that nobody can choose keys that collide.
    hasher: RandomState,
}

impl Index {
    /// The place of `key`; `is` says whether the key at a place is `key`.
    pub(super) fn get(&self, key: &[u8], is: impl Fn(u64) -> bool) -> Option<u64> {
        let place = *self.places.get(&self.hasher.hash_one(key))?;
        if is(place) {
            return Some(place);
        }
        self.collided.get(key).copied()
    }

    /// Sets the place of `key`; `is` says whether the key at a place is `key`.
    pub(super) fn set(&mut self, key: &[u8], place: u64, is: impl Fn(u64) -> bool) {
        let hash = self.hasher.hash_one(key);
        match self.places.get_mut(&hash) {
            Some(held) if !is(*held) => {
                self.collided.insert(key.into(), place);
            }
            Some(held) => *held = place,
            None => {
                // Its hash may have become free since.
                self.collided.remove(key);
                self.places.insert(hash, place);
            }
        }
    }

    /// Forgets `key` if it is at `place`.
    pub(super) fn remove(&mut self, key: &[u8], place: u64) {
        let hash = self.hasher.hash_one(key);
        if self.places.get(&hash) == Some(&place) {
            self.places.remove(&hash);
            // A key that collided with this one becomes findable again by taking the free hash.
            let waiting = self
                .collided
                .keys()
                .find(|other| self.hasher.hash_one(&***other) == hash)
                .cloned();
            if let Some((_, place)) = waiting.and_then(|other| self.collided.remove_entry(&other)) {
                self.places.insert(hash, place);
            }
        } else if self.collided.get(key) == Some(&place) {
            self.collided.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_collide_are_told_apart() {
        // Both keys are given the same hash by taking the first one's place away from under the second.
        let keys: [&[u8]; 2] = [b"a", b"b"];
        let is = |key: &'static [u8]| move |place: u64| keys[place as usize] == key;
        let mut index = Index::default();
        index.places.insert(index.hasher.hash_one(keys[1]), 0);
        index.set(keys[1], 1, is(b"b"));
        assert_eq!(index.get(keys[1], is(b"b")), Some(1));
        index.remove(keys[1], 1);
        assert_eq!(index.get(keys[1], is(b"b")), None);
        index.set(keys[0], 0, is(b"a"));
        assert_eq!(index.get(keys[0], is(b"a")), Some(0));
        index.remove(keys[0], 1);
        assert_eq!(index.get(keys[0], is(b"a")), Some(0));
        index.remove(keys[0], 0);
        assert_eq!(index.get(keys[0], is(b"a")), None);
    }
}
