use super::*;

#[test]
fn words_are_written_as_they_are_called_and_numbered_in_order() {
    for (number, verdict) in Verdict::ALL.iter().enumerate() {
        assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.name());
        assert_eq!(*verdict as usize, number);
    }
    assert!(Verb::ALL.iter().all(|verb| Verb::of(verb.name()) == *verb));
    assert_eq!((Verb::of("LIST"), Verb::of("impersonate")), (Verb::Other, Verb::Other));
    assert!(Stage::ALL.iter().filter(|stage| stage.is_last()).eq(&[Stage::Completed, Stage::Refused]));
}
