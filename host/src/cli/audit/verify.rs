//! `postern audit verify`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::cli::terminal::say;
use crate::record::chain::{Chain, Closing, Whole};
use crate::record::head::{Head, Heads};
use crate::record::rotated;
use crate::record::session::seal;

/// Says whether a log is whole: its chain, and all that the gateway signed of it, beside it and elsewhere.
pub(super) fn verify(log: &Path, first: u64, key: Option<PathBuf>, witnesses: &[PathBuf]) -> anyhow::Result<()> {
    let beside = log.with_file_name("session.pub");
    let key = key.or_else(|| beside.exists().then_some(beside));
    // What is signed is read before the log: of one that is written meanwhile there is more then, and not less.
    let mut signed = heads(log, key.as_deref(), witnesses);
    let read = || format!("cannot read {}; give --file, or --config", log.display());
    let whole = match Chain::verify_with(rotated::Log::open(log).with_context(read)?, first, |seq, hash| {
        if let Ok((heads, _)) = &mut signed {
            heads.see(seq, hash);
        }
    }) {
        Ok(whole) => whole,
        Err(broken) => bail!("line {}: {}", broken.line, broken.why),
    };
    told(&whole, key.as_deref())?;
    let (heads, known) = signed?;
    if let Err(why) = heads.told(first, whole.last) {
        bail!("{why}");
    }
    say!("{} events, the chain is whole; {known}", whole.events);
    Ok(())
}

/// The heads that a log is held against, and what is to be said of them.
fn heads(log: &Path, key: Option<&Path>, witnesses: &[PathBuf]) -> anyhow::Result<(Heads, String)> {
    let beside = Head::beside(log)?;
    let Some(file) = key else {
        if !witnesses.is_empty() || beside.is_some() {
            bail!(
                "the gateway signed how far this log had got, and its key is not here: give --key session.pub, as it is in the gateway's data directory, or a copy"
            );
        }
        return Ok((Heads::default(), NOT_SIGNED.to_owned()));
    };
    let key = seal::public_key(file)?;
    let is_beside = beside.is_some();
    let mut all: Vec<Head> = beside.into_iter().collect();
    let mut kept = 0;
    for witness in witnesses {
        let (heads, unread) = Head::all(witness)?;
        if heads.is_empty() {
            bail!("{} has no signed head: it is no witness", witness.display());
        }
        if unread > 0 {
            eprintln!("{}: {unread} lines are no signed heads, as a full disk leaves them, and say nothing", witness.display());
        }
        kept += heads.len();
        all.extend(heads);
    }
    let last = all.iter().max_by_key(|head| head.seq).map(|head| format!("up to event {} ({})", head.seq, head.time));
    let mut known = match (last, kept) {
        (None, _) => NOT_SIGNED.to_owned(),
        (Some(last), 0) => format!("its end is there {last}, as the gateway signed it"),
        (Some(last), kept) => format!("all that the gateway signed is in it {last}, {kept} times with the witness"),
    };
    if !is_beside && kept > 0 {
        known += &format!("; {} is not there", Head::file(log).display());
    }
    Ok((Heads::new(all, &key)?, known))
}

const NOT_SIGNED: &str =
    "whether its end was cut off CANNOT BE TOLD: nothing that the gateway signed of it is here, and no --witness is given";

/// Says what a log is of which no line was changed.
fn told(whole: &Whole, key: Option<&Path>) -> anyhow::Result<()> {
    if let Some(open) = whole.open() {
        bail!(
            "line {}: from here on several gateways wrote this log at once, each with a chain of its own ({} chains). None of the {} lines that are there was changed; `postern data repair` closes this with an event of its own",
            open.line,
            open.ends.len() + 1,
            whole.events
        );
    }
    if !whole.closings.is_empty() {
        let file = key.context("`postern data repair` closed what several gateways left in this log; give --key session.pub, to know that it was this gateway's")?;
        let key = seal::public_key(file)?;
        for Closing { event, says, signature } in &whole.closings {
            if !seal::holds(signature, says, &key) {
                bail!("event {event} closes what several gateways left, and the key {} did not sign it: it was put in", file.display());
            }
            let line = whole.crossings.iter().find(|crossing| crossing.closed == Some(*event)).map(|crossing| crossing.line);
            let place = line.map_or("in what is kept elsewhere".to_owned(), |line| format!("from line {line} on"));
            say!("{place} several gateways wrote it at once; event {event}, signed by {}, closed that", file.display());
        }
    }
    Ok(())
}
