//! Places of which one owner may hold so many, and all together so many more: streams, requests in flight, connections.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places of one kind.
pub struct Slots {
    /// How many there are in all.
    most: usize,
    /// Owners are known by a keyed hash of what they are called: nobody can choose one that is another's.
    hasher: RandomState,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    of: HashMap<u64, usize, BuildHasherDefault<AsItIs>>,
}

/// Owners are keyed hashes already: hashed once more they would be no better spread.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |known, byte| known.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// A place that is taken; dropped, it is given back.
pub struct Slot {
    slots: Arc<Slots>,
    owner: u64,
}

/// Who has too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The owner who asked.
    Owner,
    /// All together.
    All,
}

impl Slots {
    /// So many places in all.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, hasher: RandomState::new(), taken: Mutex::default() })
    }

    /// Takes a place for an owner, who may have `most`.
    pub fn take(self: &Arc<Self>, owner: &[&str], most: usize) -> Result<Slot, Full> {
        let owner = self.hasher.hash_one(owner);
        let mut taken = self.lock();
        if taken.all >= self.most {
            return Err(Full::All);
        }
        let count = taken.of.entry(owner).or_default();
        if *count >= most {
            // Nobody is remembered who has none.
            if *count == 0 {
                taken.of.remove(&owner);
            }
            return Err(Full::Owner);
        }
        *count += 1;
        taken.all += 1;
        Ok(Slot { slots: Arc::clone(self), owner })
    }

    /// How many places are taken.
    pub fn count(&self) -> usize {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.lock();
        taken.all -= 1;
        if let Some(count) = taken.of.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                taken.of.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_for_each_and_for_all_and_come_back() {
        let slots = Slots::new(3);
        let take = |owner: &str, most| slots.take(&["issuer", owner], most);
        let (first, _second) = (take("ann", 2).unwrap(), take("ann", 2).unwrap());
        assert_eq!(take("ann", 2).err(), Some(Full::Owner));
        let third = take("bob", 2).unwrap();
        assert_eq!(take("bob", 2).err(), Some(Full::All));
        drop(first);
        assert!(take("ann", 2).is_ok() && take("bob", 2).is_ok());
        assert_eq!(take("eve", 0).err(), Some(Full::Owner));
        drop(third);
        let taken = slots.lock();
        assert_eq!((taken.all, taken.of.len()), (1, 1));
        drop(taken);
    }
}
