use super::*;

#[test]
fn times_are_written_as_rfc_3339_has_them() {
    let of = |seconds, milliseconds: u32| timestamp_of(Duration::new(seconds, milliseconds * 1_000_000));
    assert_eq!(of(0, 0), "1970-01-01T00:00:00.000Z");
    assert_eq!(of(951_782_399, 999), "2000-02-28T23:59:59.999Z");
    assert_eq!(of(951_782_400, 1), "2000-02-29T00:00:00.001Z");
    assert_eq!(of(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
    assert_eq!(of(253_402_300_799, 0), "9999-12-31T23:59:59.000Z");
    assert_eq!(of(u64::MAX, 0), "9999-12-31T23:59:59.000Z");
}

#[test]
fn nothing_lasts_longer_than_a_year() {
    assert_eq!(time_left(0), Duration::ZERO);
    assert_eq!(time_left(u64::MAX), Duration::from_secs(365 * 86_400));
}

#[test]
fn what_a_thread_waits_is_no_time_of_its_own() {
    let (began, wall) = (thread_time(), std::time::Instant::now());
    std::thread::sleep(Duration::from_millis(50));
    assert!(thread_time() - began < wall.elapsed() / 2);
    let began = thread_time();
    while thread_time() - began < Duration::from_millis(5) {
        std::hint::black_box((0..1000).sum::<u64>());
    }
    std::thread::spawn(move || assert!(thread_time() < Duration::from_millis(5), "another thread's is another")).join().unwrap();
}
