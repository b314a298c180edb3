//! What a policy writes for its author: lines it prints, and why it panicked. They are shown by `postern policy test`, and else are in the gateway's log; no caller is
//! told.

use std::fmt::Arguments;

/// Standard error, as WASI 0.2 has it: of its interfaces no more than is called.
#[cfg(target_arch = "wasm32")]
mod wasi {
    wit_bindgen::generate!({
        inline: r"
            package postern:sdk;

            world output {
                import wasi:cli/stderr@0.2.0;
            }

            package wasi:io@0.2.0 {
                interface error {
                    resource error;
                }
                interface streams {
                    use error.{error};
                    variant stream-error { last-operation-failed(error), closed }
                    resource output-stream {
                        blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
                    }
                }
            }

            package wasi:cli@0.2.0 {
                interface stderr {
                    use wasi:io/streams@0.2.0.{output-stream};
                    get-stderr: func() -> output-stream;
                }
            }
        ",
        generate_all,
    });
}

/// Writes a line.
#[doc(hidden)]
pub fn write_line(line: Arguments<'_>) {
    #[cfg(target_arch = "wasm32")]
    {
        // Who cannot be told is not told.
        let _ = wasi::wasi::cli::stderr::get_stderr().blocking_write_and_flush(format!("{line}\n").as_bytes());
    }
    #[cfg(not(target_arch = "wasm32"))]
    std::eprintln!("{line}");
}

/// Has it said why and where the policy panics.
#[cfg(target_arch = "wasm32")]
pub(crate) fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| write_line(format_args!("{panic}"))));
}

/// Prints a line for the policy's author: in `postern policy test`, and else in the gateway's own log at the level `debug`. In a test that runs natively it goes to standard
/// error.
///
/// `std::println!` is silent in a module: Rust builds it for no operating system.
#[macro_export]
macro_rules! log {
    ($($part:tt)*) => { $crate::write_line(::core::format_args!($($part)*)) };
}
