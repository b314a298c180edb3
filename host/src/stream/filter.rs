//! What is done with text on its way to the caller: policies look at it, and masks hide values in it.

use std::sync::Arc;
use std::time::Duration;

use crate::mask::{MaskCounts, TextMask, TextRules};
use crate::policy::contract::{ChunkVerdict, Output};
use crate::policy::{HookOutcome, Mode, ObservedOutcomes, StreamInstance};
use crate::status::Refusal;
use crate::wire::Channel;

/// The text of a stream or of a log.
pub struct Filter {
    policies: Vec<StreamInstance>,
    /// Standard output or a log, and standard error.
    masks: Option<[TextMask; 2]>,
    observed: ObservedOutcomes,
    /// How many bytes may go on yet.
    left: u64,
}

impl Filter {
    /// Begins a text; `terminal` says whether somebody may be typing.
    pub fn new(policies: Vec<StreamInstance>, rules: Option<Arc<TextRules>>, terminal: bool) -> Self {
        let masks = rules.map(|rules| [TextMask::new(Arc::clone(&rules), terminal), TextMask::new(rules, terminal)]);
        Self { policies, masks, observed: ObservedOutcomes::default(), left: u64::MAX }
    }

    /// Changes nothing.
    pub fn idle() -> Self {
        Self::new(Vec::new(), None, false)
    }

    /// Whether it changes nothing, whatever comes.
    pub fn is_idle(&self) -> bool {
        self.policies.is_empty() && self.masks.is_none()
    }

    /// The caller wants so many bytes and no more.
    pub fn limit(&mut self, bytes: Option<u64>) {
        self.left = bytes.unwrap_or(u64::MAX);
    }

    /// Whether the caller has all that is wanted.
    pub fn is_full(&self) -> bool {
        self.left == 0
    }

    /// Takes a piece; what goes on is appended to `out`. An error ends the stream.
    pub fn push(&mut self, output: Output, data: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let mut changed: Option<Vec<u8>> = None;
        for live in &mut self.policies {
            let piece = changed.as_deref().unwrap_or(data);
            let answer = live.on_chunk(output, piece);
            let policy = live.policy();
            if policy.mode == Mode::Observe {
                self.observed.add(&policy.name, HookOutcome::of_chunk(&answer));
            }
            match policy.in_force(answer, false) {
                Ok(None | Some(ChunkVerdict::Forward)) => {}
                Ok(Some(ChunkVerdict::Replace(with))) => changed = Some(with),
                Ok(Some(ChunkVerdict::Terminate(denial))) => {
                    return Err(Refusal::forbidden(format!("policy {} ended this: {denial}", policy.name)));
                }
                Err(why) => {
                    return Err(Refusal::internal(format!("the policy {} failed on a piece of this stream: {why}", policy.name)));
                }
            }
        }
        let data = changed.as_deref().unwrap_or(data);
        let before = out.len();
        match &mut self.masks {
            Some(masks) => masks[side(output)].push(data, out),
            None => out.extend_from_slice(data),
        }
        self.keep_to_limit(before, out);
        Ok(())
    }

    /// What of it is beyond what the caller wants is cut off.
    fn keep_to_limit(&mut self, before: usize, out: &mut Vec<u8>) {
        let more = usize::try_from(self.left).unwrap_or(usize::MAX);
        out.truncate(before.saturating_add(more));
        self.left = self.left.saturating_sub((out.len() - before) as u64);
    }

    /// How long what is held back may be held yet; none when nothing is.
    pub fn wait(&self) -> Option<Duration> {
        self.masks.iter().flatten().filter_map(TextMask::wait).min()
    }

    /// The same of one channel.
    pub(super) fn wait_of(&self, output: Output) -> Option<Duration> {
        self.masks.as_ref().and_then(|masks| masks[side(output)].wait())
    }

    /// Lets go what is held back.
    pub fn flush(&mut self, output: Output, out: &mut Vec<u8>) {
        let before = out.len();
        if let Some(masks) = &mut self.masks {
            masks[side(output)].flush(out);
        }
        self.keep_to_limit(before, out);
    }

    /// What policies that are observed would have done.
    pub fn observed(&self) -> &ObservedOutcomes {
        &self.observed
    }

    /// How much was hidden.
    pub fn report(&self) -> MaskCounts {
        let mut sum = MaskCounts::new();
        for (path, count) in self.masks.iter().flatten().flat_map(|mask| &mask.report) {
            *sum.entry(path.clone()).or_default() += count;
        }
        sum
    }
}

fn side(output: Output) -> usize {
    usize::from(output == Output::Stderr)
}

/// Which output a channel that text flows on carries.
pub(super) fn output_of(channel: Channel) -> Output {
    if channel == Channel::Stderr { Output::Stderr } else { Output::Stdout }
}
