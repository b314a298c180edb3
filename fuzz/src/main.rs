//! One target under libFuzzer, named by `POSTERN_FUZZ_TARGET`: one program for all, so that the gateway is linked once.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<fuzz::Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("POSTERN_FUZZ_TARGET").unwrap_or_default();
        let target = fuzz::target(&name).unwrap_or_else(|| panic!("POSTERN_FUZZ_TARGET={name} is none of {:?}", fuzz::names()));
        let _ = TARGET.set(target);
    },
    |data: &[u8]| {
        if let Some(target) = TARGET.get() {
            target(data);
        }
    }
);
