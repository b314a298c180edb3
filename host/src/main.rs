//! `postern`.

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .init();
    if let Err(error) = postern::cli::Cli::parse().run() {
        eprintln!("error: {}", postern::cli::terminal::visible(&format!("{error:#}")));
        std::process::exit(1);
    }
}
