use proptest::prelude::*;

use super::*;
use postern_mask::{Selector, Transform};

fn approval(approvers: usize, length: usize, required: u32, valid_seconds: u32) -> Approval {
    Approval { reason: "why".into(), approvers: vec!["g".repeat(length); approvers], required, valid_seconds }
}

fn denial() -> Denial {
    Denial { reason: "why".into(), hint: Some("ask\n\u{1b}[31msre".into()) }
}

fn mask() -> Mask {
    Mask { what: Selector::Field("$.data.*".into()), how: Transform::Redact, when: vec![] }
}

#[test]
fn a_hook_answers_what_it_may_and_anything_else_is_a_failure() {
    let of = |verdict: Verdict, hook| verdict.of_hook(hook).map(|verdict| crate::HookOutcome::of(&Ok(Arc::new(verdict))).name());
    for hook in [Hook::OnRequest, Hook::OnObject] {
        assert_eq!(of(Verdict::Allow, hook), Ok("allow"));
        assert_eq!(of(Verdict::Mask(vec![mask()]), hook), Ok("mask"));
        assert_eq!(of(Verdict::Mask(vec![]), hook), Ok("allow"), "nothing is hidden");
        assert_eq!(of(Verdict::Block(denial()), hook), Ok("block"));
    }
    assert_eq!(of(Verdict::Terminate(denial()), Hook::OnObject), Ok("terminate"));
    assert_eq!(of(Verdict::RequireApproval(approval(1, 1, 1, 1)), Hook::OnRequest), Ok("require-approval"));
    assert!(of(Verdict::Terminate(denial()), Hook::OnRequest).unwrap_err().contains("on-object only"));
    assert!(of(Verdict::RequireApproval(approval(1, 1, 1, 1)), Hook::OnObject).unwrap_err().contains("on-request only"));
}

#[test]
fn an_approval_names_who_how_many_and_for_how_long_within_bounds() {
    let of = |approval: Approval| Verdict::RequireApproval(approval).of_hook(Hook::OnRequest);
    let (most, longest) = (MOST_APPROVERS, LONGEST_GROUP);
    for (approvers, length, required, seconds) in [(1, 1, 1, 1), (most, longest, MOST_REQUIRED, LONGEST_VALID), (1, 1, 1, u32::MAX)] {
        let Ok(Verdict::RequireApproval(kept)) = of(approval(approvers, length, required, seconds)) else { panic!("it is one") };
        assert_eq!((kept.approvers.len(), kept.required, kept.valid_seconds), (approvers, required, seconds.min(LONGEST_VALID)));
    }
    for wrong in [
        approval(0, 1, 1, 1),
        approval(most + 1, 1, 1, 1),
        approval(1, longest + 1, 1, 1),
        approval(1, 1, 0, 1),
        approval(1, 1, MOST_REQUIRED + 1, 1),
        approval(1, 1, 1, 0),
    ] {
        assert!(of(wrong.clone()).is_err(), "{wrong:?}");
    }
}

proptest! {
    /// Whatever a policy writes, callers are told one line of it that steers no terminal and is not long; in verdicts and of streams.
    #[test]
    fn what_callers_are_told_is_a_line(reason in any::<String>(), hint in proptest::option::of(any::<String>()), long in 0usize..2000) {
        let denial = Denial { reason: reason.repeat(1 + long % 3) + &"x".repeat(long), hint };
        let asked = Approval { reason: denial.reason.clone(), ..approval(1, 1, 1, 1) };
        let told = [
            Verdict::Block(denial.clone()).of_hook(Hook::OnRequest),
            Verdict::Terminate(denial.clone()).of_hook(Hook::OnObject),
            Verdict::RequireApproval(asked).of_hook(Hook::OnRequest),
        ];
        let ChunkVerdict::Terminate(ended) = ChunkVerdict::Terminate(denial.clone()).in_a_line() else { panic!("it is one") };
        let mut texts: Vec<String> = told.iter().filter_map(|verdict| verdict.as_ref().ok()?.reason().map(str::to_owned)).collect();
        prop_assert_eq!(texts.len(), 3);
        texts.extend(ended.hint.clone());
        texts.push(ended.reason.clone());
        for text in &texts {
            prop_assert!(!text.contains(char::is_control) && text.chars().count() <= LONGEST_TEXT, "{:?}", text);
        }
        prop_assert_eq!(ended.hint.is_some(), denial.hint.is_some());
    }
}
