//! `postern`.

use clap::Parser;
use postern::cli::{Cli, LogFormat};
use postern::telemetry::recent;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, registry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let cli = Cli::parse();
    let is_json = cli.log_format == LogFormat::Json;
    registry()
        .with(EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .with((!is_json).then(|| fmt::layer().fmt_fields(postern::telemetry::fields()).with_writer(std::io::stderr)))
        .with(is_json.then(|| fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)))
        .with(postern::telemetry::layer())
        .with(recent::layer())
        .init();
    recent::keep_panics();
    if let Err(error) = cli.run() {
        recent::last(&format!("error: {error:#}"));
        eprintln!("error: {}", postern::cli::terminal::visible(&format!("{error:#}")));
        std::process::exit(1);
    }
}
