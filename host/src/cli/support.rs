//! `postern support-bundle`.

use std::path::PathBuf;

use clap::Args;

use super::place::Configured;
use super::terminal::say;
use crate::clock::timestamp;
use crate::support::Bundle;

/// Gathers what somebody needs who is asked for help: configuration, state, versions, metrics and the gateway's own log, without a secret. The gateway need not run.
#[derive(Args)]
pub struct SupportBundle {
    #[command(flatten)]
    configured: Configured,
    /// The archive that is made; `postern-support-TIME.tar.gz` in this directory unless said.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Where the gateway's data is, for a configuration that is not taken and so does not say it.
    #[arg(long)]
    data_directory: Option<PathBuf>,
}

impl SupportBundle {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let bundle = Bundle::gather(&self.configured.file()?, self.data_directory.as_deref())?;
        let time: String = timestamp().chars().filter(char::is_ascii_alphanumeric).take(15).collect();
        let output = self.output.unwrap_or_else(|| format!("postern-support-{time}.tar.gz").into());
        bundle.write(&output)?;
        for part in bundle.parts() {
            let struck = if part.struck > 0 { format!(", {} struck out", part.struck) } else { String::new() };
            let missing = part.text.strip_prefix("not there: ").map(|why| format!(": not there: {}", why.trim_end())).unwrap_or_default();
            say!("{:<20} {:>9} bytes{struck}{missing}", part.name, part.text.len());
        }
        let shown = output.display();
        say!("\n{shown} is made. Keys, tokens, settings and events are not in it; names are.");
        say!("Look at it before you give it away: tar xzf {shown}");
        if !bundle.is_taken() {
            say!(
                "\nThe configuration is not taken (`postern config check` says why), so that there is less in it; --data-directory adds the gateway's log and what it keeps."
            );
        }
        Ok(())
    }
}
