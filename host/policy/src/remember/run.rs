//! What one run of a policy asked, and was answered.

use super::{Asked, AskedQuestions};
use crate::contract::asked::{Answer, Answered, Question};

/// The longest answer, and the longest question, that is kept.
const LONGEST_ANSWER: usize = 1 << 10;
const LONGEST_QUESTION: usize = 16 << 10;
/// The most questions of a run.
const MOST_QUESTIONS: usize = 128;

/// The questions of a run and their answers, in order, as long as its verdict can be known by them.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(super) steps: Vec<(Question, Answer)>,
    /// What it asked that no memory can answer, the first of it.
    open: Option<&'static str>,
}

impl Run {
    /// It asked, and was answered.
    pub(crate) fn note(&mut self, question: Question, answered: &Answered<'_>) {
        if self.open.is_some() {
            return;
        }
        if self.steps.len() >= MOST_QUESTIONS {
            return self.leave("more than 128 questions");
        }
        if question.size() > LONGEST_QUESTION {
            return self.leave("a question of more than 16 KiB");
        }
        let answer = answered.kept();
        if answer.size() > LONGEST_ANSWER {
            return self.leave("an answer of more than 1 KiB");
        }
        self.steps.push((question, answer));
    }

    /// It asked what is another thing in each run, or did something: its verdict is known by nothing that is kept.
    pub(crate) fn leave(&mut self, what: &'static str) {
        if self.open.is_none() {
            self.open = Some(what);
        }
    }

    /// What was asked, as far as it is kept.
    pub(crate) fn asked(&self) -> AskedQuestions {
        let questions = self.steps.iter().map(|(question, answer)| Asked::of(question, answer)).collect();
        AskedQuestions { questions, spoilt_by: self.open }
    }

    /// What it asked that no memory can answer.
    pub(crate) fn open(&self) -> Option<&'static str> {
        self.open
    }
}
