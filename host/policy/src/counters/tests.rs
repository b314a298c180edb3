use super::*;

fn of(policy: &str) -> CounterOwner {
    CounterOwner { cluster: "c".into(), policy: policy.into() }
}

#[test]
fn a_window_slides_and_forgets_nothing_early() {
    let counters = Counters::default();
    let add = |policy, amount, now| counters.add(&of(policy), "k".into(), amount, 600, now).unwrap();
    assert_eq!((add("a", 2, 1000), add("a", 3, 1300), add("b", 1, 1300)), (2, 5, 1));
    assert_eq!(add("a", 0, 1599), 5, "both are in the last ten minutes");
    assert_eq!(add("a", 0, 1610), 3, "the first has left");
    assert_eq!(add("a", 1, 1899), 4);
    assert_eq!(add("a", 0, 1911), 1);
    assert_eq!(add("a", 7, 1911), 8);
    assert_eq!((add("a", 0, 2521), add("a", 1, 10)), (0, 1), "a clock that was put back");
}

#[test]
fn other_windows_and_other_policies_count_for_themselves() {
    let counters = Counters::default();
    for window in [1, 59, 60, 61, 3600, u32::MAX] {
        assert_eq!(counters.add(&of("a"), "k".into(), u64::MAX, window, 5000), Some(u64::MAX), "{window}");
        assert_eq!(counters.add(&of("a"), "k".into(), u64::MAX, window, 5001), Some(u64::MAX), "{window}");
    }
}

#[test]
fn a_policy_that_keeps_too_many_is_told_and_others_go_on() {
    let counters = Counters::default();
    assert!((0..MOST).all(|n| counters.add(&of("a"), n.to_string(), 1, 60, 100).is_some()));
    assert_eq!(counters.add(&of("a"), "one more".into(), 1, 60, 100), None);
    assert_eq!(counters.add(&of("a"), "5".into(), 1, 60, 100), Some(2));
    assert_eq!(counters.add(&of("b"), "k".into(), 1, 60, 100), Some(1));
    assert_eq!(counters.add(&of("a"), "one more".into(), 1, 60, 161), Some(1), "the others have ended");
}

proptest::proptest! {
    #[test]
    fn a_sum_is_never_under_what_was_counted_in_the_window(steps in proptest::collection::vec((0u64..200, 0u64..9), 1..60), window in 1u32..2000) {
        let counters = Counters::default();
        let (mut now, mut all) = (10_000, Vec::new());
        for (later, amount) in steps {
            now += later;
            all.push((now, amount));
            let sum = counters.add(&of("a"), "k".into(), amount, window, now).unwrap();
            let within = |seconds: u64| all.iter().filter(|(at, _)| at + seconds > now).map(|(_, amount)| amount).sum::<u64>();
            proptest::prop_assert!(within(u64::from(window)) <= sum && sum <= within(u64::from(window) + slice_of(window)));
        }
    }
}
