//! `postern policy capture`: recorded operations become cases.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use super::super::audit::operation_of;
use super::super::place::Place;
use super::super::session::RecordingSource;
use super::recorded::{RecordedOperation, answered, operations};
use crate::cli::terminal::say;
use crate::rehearse::cases::{Case, CaseFile, ChunkCase, Expect, More, ObjectCase};
use crate::rehearse::given::RehearsedOperation;
use crate::rehearse::recorded;

/// Where recordings are.
#[derive(Args, Clone)]
pub(super) struct Where {
    #[command(flatten)]
    place: Place,
    /// A kubeconfig of the gateway, instead of its files.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "data_directory"])]
    kubeconfig: Option<PathBuf>,
}

impl Where {
    pub(super) fn open(&self) -> anyhow::Result<RecordingSource> {
        RecordingSource::of(&self.place, self.kubeconfig.clone())
    }
}

/// Cuts cases out of a recorded session. They are as the session is: after masking.
#[derive(Args)]
pub struct Capture {
    /// The session.
    session: String,
    /// Only the call with this id.
    #[arg(long)]
    call: Option<String>,
    /// What this policy answered then is what the cases expect.
    #[arg(long)]
    policy: Option<String>,
    /// The file; standard output when absent.
    #[arg(long, short)]
    output: Option<PathBuf>,
    #[command(flatten)]
    place: Where,
}

impl Capture {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut file = CaseFile::default();
        let place = self.place.open()?;
        for kept in operations(&place, &[place.session(&self.session)?])? {
            if self.call.as_ref().is_some_and(|call| kept.event["id"] != call.as_str()) {
                continue;
            }
            // What was refused before it was known what it is has nothing that a policy could be asked about.
            let Ok(given) = recorded::given(&kept.event, None) else { continue };
            file.cases.push(case(&kept, &given, self.policy.as_deref()));
        }
        if file.cases.is_empty() {
            bail!("nothing in session {} makes a case; `postern session show {}` prints what is in it", self.session, self.session);
        }
        let text = format!(
            "# Captured from session {}, after masking. Say under expect what a policy is to answer.\n{}",
            self.session,
            serde_saphyr::to_string(&file)?
        );
        match &self.output {
            Some(path) => {
                std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
                say!("{} cases in {}", file.cases.len(), path.display());
            }
            None => crate::cli::terminal::out(&text),
        }
        Ok(())
    }
}

fn case(kept: &RecordedOperation, given: &RehearsedOperation, policy: Option<&str>) -> Case {
    let json = |bytes: &Option<Vec<u8>>| bytes.as_ref().and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
    let objects = match json(&kept.response) {
        Some(Value::Object(mut answer)) => match answer.remove("items") {
            Some(Value::Array(items)) => items,
            _ if answer.get("kind").is_some_and(|kind| kind == "Status" || kind == "Table") => Vec::new(),
            _ => vec![Value::Object(answer)],
        },
        _ => Vec::new(),
    };
    let id = kept.event["id"].as_str().unwrap_or_default();
    let then = policy.and_then(|policy| answered(&kept.event, policy));
    Case {
        name: format!("{} by {} ({id})", operation_of(&kept.event), given.subject.username()),
        operation: recorded::wanted(given),
        body: json(&kept.request),
        expect: then.map(|said| Expect::More(More { verdict: said.verdict, reason: said.reason, ..More::default() })),
        objects: objects.into_iter().map(|object| ObjectCase { object, ..ObjectCase::default() }).collect(),
        chunks: kept.chunks.iter().map(|(channel, data)| ChunkCase::of(channel, data)).collect(),
        ..Case::default()
    }
}
