//! What an instance may grow to.

use wasmtime::{ResourceLimiter, Result};

/// Elements all tables of an instance may have together: what a Python interpreter needs, and more.
const MOST_TABLE_ELEMENTS: usize = 1 << 20;
/// Core instances, tables and memories of one component.
const MOST_PARTS: usize = 100;

/// The bounds of one store, and how much of them is used. What counts is the sum over its memories and over its tables: many small ones are as dear as a large one.
#[derive(Debug)]
pub(super) struct Bound {
    most: usize,
    tables: usize,
    /// Bytes of all memories. They never shrink.
    pub(super) memory: usize,
    /// Whether it was refused more.
    pub(super) was_refused: bool,
}

impl Bound {
    /// So much memory.
    pub(super) fn new(most: usize) -> Self {
        Self { most, tables: 0, memory: 0, was_refused: false }
    }
}

impl ResourceLimiter for Bound {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let grows = grow(&mut self.memory, current, desired, self.most);
        self.was_refused |= !grows;
        Ok(grows)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let grows = grow(&mut self.tables, current, desired, MOST_TABLE_ELEMENTS);
        self.was_refused |= !grows;
        Ok(grows)
    }

    fn instances(&self) -> usize {
        MOST_PARTS
    }

    fn tables(&self) -> usize {
        MOST_PARTS
    }
}

fn grow(sum: &mut usize, current: usize, desired: usize, most: usize) -> bool {
    let all = sum.saturating_add(desired.saturating_sub(current));
    if all > most {
        return false;
    }
    *sum = all;
    true
}

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, Memory, MemoryType, Ref, RefType, Store, Table, TableType};

    use super::*;

    const PAGE: usize = 64 << 10;

    fn store(pages: usize) -> Store<Bound> {
        let mut store = Store::new(&Engine::default(), Bound::new(pages * PAGE));
        store.limiter(|bound| bound);
        store
    }

    #[test]
    fn all_memories_together_have_a_bound() {
        let mut store = store(10);
        let one = Memory::new(&mut store, MemoryType::new(4, None)).unwrap();
        let other = Memory::new(&mut store, MemoryType::new(4, None)).unwrap();
        assert!(one.grow(&mut store, 3).is_err());
        assert!(one.grow(&mut store, 1).is_ok() && other.grow(&mut store, 1).is_ok());
        assert!(one.grow(&mut store, 1).is_err() && Memory::new(&mut store, MemoryType::new(1, None)).is_err());
        assert_eq!(store.data().memory, 10 * PAGE);
    }

    #[test]
    fn all_tables_together_have_a_bound() {
        let mut store = store(1);
        let table = |store: &mut Store<Bound>, size| Table::new(store, TableType::new(RefType::FUNCREF, size, None), Ref::Func(None));
        let (one, other) = (table(&mut store, 1).unwrap(), table(&mut store, 1).unwrap());
        let most = MOST_TABLE_ELEMENTS as u64;
        assert!(one.grow(&mut store, most / 2, Ref::Func(None)).is_ok());
        assert!(other.grow(&mut store, most / 2, Ref::Func(None)).is_err(), "two of them");
        assert!(other.grow(&mut store, u64::from(u32::MAX), Ref::Func(None)).is_err());
        assert!(other.grow(&mut store, most / 2 - 2, Ref::Func(None)).is_ok());
        assert!(one.grow(&mut store, 1, Ref::Func(None)).is_err() && table(&mut store, 1).is_err());
    }
}
