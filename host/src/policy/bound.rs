//! What an instance may grow to.

use wasmtime::{ResourceLimiter, Result};

/// Elements all tables of an instance may have together: what a Python interpreter needs, and more.
const MOST_TABLE_ELEMENTS: usize = 1 << 20;
/// Core instances, tables and memories of one component.
const MOST_PARTS: usize = 100;

/// The bounds of one store, and how much of its memory was used.
#[derive(Debug)]
pub(super) struct Bound {
    memory: usize,
    tables: usize,
    /// Bytes of the largest memory.
    pub(super) peak: usize,
}

impl Bound {
    /// So much memory.
    pub(super) fn new(memory: usize) -> Self {
        Self { memory, tables: 0, peak: 0 }
    }
}

impl ResourceLimiter for Bound {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let fits = desired <= self.memory;
        if fits {
            self.peak = self.peak.max(desired);
        }
        Ok(fits)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let all = self.tables.saturating_add(desired.saturating_sub(current));
        let fits = all <= MOST_TABLE_ELEMENTS;
        if fits {
            self.tables = all;
        }
        Ok(fits)
    }

    fn instances(&self) -> usize {
        MOST_PARTS
    }

    fn tables(&self) -> usize {
        MOST_PARTS
    }
}
