//! The two wasmtime engines: one that runs policies, one that configures them.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::counters::Counters;

/// How often the epoch moves on; deadlines are multiples of it.
const TICK: Duration = Duration::from_millis(5);
/// Most instances alive at a time: one a thread, and one for each response whose objects are still looked at.
const INSTANCES: u32 = 1000;
/// Memory an instance keeps between operations, reset in place.
const KEEP_RESIDENT: usize = 4 << 20;

/// What policies run in.
pub struct Runtime {
    pub(super) engine: Engine,
    pub(super) configuring: Engine,
    pub(super) counters: Counters,
}

impl Runtime {
    /// Makes the engines and starts the clock that deadlines are measured by. `memory` is the most any instance may have.
    pub fn start(memory: usize) -> anyhow::Result<Arc<Self>> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(INSTANCES)
            .total_core_instances(INSTANCES * 4)
            .total_memories(INSTANCES)
            .total_tables(INSTANCES * 4)
            .max_core_instances_per_component(60)
            .max_tables_per_component(60)
            .max_memories_per_component(1)
            .max_component_instance_size(16 << 20)
            .max_core_instance_size(16 << 20)
            .max_memory_size(memory)
            .linear_memory_keep_resident(KEEP_RESIDENT)
            .table_keep_resident(64 << 10)
            .pagemap_scan(Enabled::Auto);
        let mut config = base();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool)).memory_init_cow(true);
        let engine = Engine::new(&config)?;
        let runtime = Arc::new(Self { engine, configuring: Engine::new(&base())?, counters: Counters::default() });
        let weak = [runtime.engine.weak(), runtime.configuring.weak()];
        std::thread::Builder::new().name("epoch".into()).spawn(move || {
            while let [Some(a), Some(b)] = weak.each_ref().map(|engine| engine.upgrade()) {
                a.increment_epoch();
                b.increment_epoch();
                drop((a, b));
                std::thread::sleep(TICK);
            }
        })?;
        Ok(runtime)
    }
}

/// Epochs that last at least `milliseconds`.
pub(super) fn ticks(milliseconds: u64) -> u64 {
    milliseconds.div_ceil(TICK.as_millis() as u64) + 1
}

fn base() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true).epoch_interruption(true).max_wasm_stack(512 << 10);
    // What differs from one machine to another has no place in a policy's answer.
    config.cranelift_nan_canonicalization(true).wasm_relaxed_simd(false);
    config
}
