use super::*;
use base64::Engine;

fn rules(patterns: &[&str], values: &[&str]) -> Arc<TextRules> {
    let patterns = patterns.iter().map(|p| Arc::new(Pattern::compile(p, Transform::Redact).unwrap())).collect();
    let literals = Literals::of(values.iter().map(|v| v.as_bytes())).unwrap().map(|l| (Arc::new(l), Transform::Redact));
    Arc::new(TextRules { patterns, literals, key: TokenKey::new(&[1; 32]), scope: Scope::default() })
}

fn masked(rules: &Arc<TextRules>, pieces: &[&[u8]]) -> String {
    let (mut mask, mut out) = (TextMask::new(Arc::clone(rules), false), Vec::new());
    pieces.iter().for_each(|piece| mask.push(piece, &mut out));
    mask.flush(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn a_match_is_found_however_the_text_is_cut() {
    let rules = rules(&["tok-[0-9]+", "pässwörd=\\S+"], &["hunter2-is-secret"]);
    let text = "a tok-123 b\npässwörd=größe hunter2-is-secret tok-4".as_bytes();
    let expected = "a postern-masked b\npostern-masked postern-masked postern-masked";
    for size in [1, 2, 3, 5, 7, 11, text.len()] {
        assert_eq!(masked(&rules, &text.chunks(size).collect::<Vec<_>>()), expected, "pieces of {size}");
    }
}

#[test]
fn only_what_may_be_the_beginning_of_a_match_is_held() {
    let rules = rules(&["tok-[0-9]+"], &["hunter2"]);
    let (mut mask, mut out) = (TextMask::new(Arc::clone(&rules), true), Vec::new());
    mask.push(b"$ ls -l", &mut out);
    assert_eq!((out.as_slice(), mask.wait()), (&b"$ ls -l"[..], None), "what is typed shows at once");
    mask.push(b" t", &mut out);
    assert_eq!((out.as_slice(), mask.wait()), (&b"$ ls -l "[..], Some(SHORT_WAIT)));
    mask.push(b"o", &mut out);
    mask.push(b"k-1", &mut out);
    assert_eq!((out.as_slice(), mask.wait()), (&b"$ ls -l "[..], Some(LONG_WAIT)), "it may grow");
    mask.push(b" and", &mut out);
    assert_eq!((out.as_slice(), mask.wait()), (&b"$ ls -l postern-masked and"[..], None));
    out.clear();
    mask.push(b"hunt", &mut out);
    mask.flush(&mut out);
    assert_eq!((out.as_slice(), mask.wait()), (&b"hunt"[..], None));
}

#[test]
fn colours_do_not_hide_a_match_and_stay() {
    let rules = rules(&[], &["hunter2-is-secret"]);
    let text = b"x \x1b[1mhun\x1b[31mter2-is-\x1b]0;title\x07secret\x1b[0m y";
    let expected = "x \x1b[1mpostern-masked\x1b[31m\x1b]0;title\x07\x1b[0m y";
    for size in [1, 2, 3, text.len()] {
        assert_eq!(masked(&rules, &text.chunks(size).collect::<Vec<_>>()), expected, "pieces of {size}");
    }
    assert_eq!(masked(&rules, &[b"plain \x1b[31mred\x1b[0m \x1b"]), "plain \x1b[31mred\x1b[0m \x1b");
}

#[test]
fn a_value_in_a_sequence_is_hidden_too() {
    let rules = rules(&["tok-[0-9]{6}"], &["hunter2-is-secret"]);
    for (text, expected) in [
        ("a\x1b]0;tok-123456\x07b", "a\x1b]0;postern-masked\x07b"),
        ("a\x1b]0;hunter2-is-secret\x1b\\b", "a\x1b]0;postern-masked\x1b\\b"),
        ("a\x1b[tok-123456 b", "a\x1b[postern-masked b"),
        ("a\x1b]0;tok-123456", "a\x1b]0;postern-masked"),
        // A title within a value: neither is shown.
        ("tok-\x1b]0;hunter2-is-secret\x07123456", "postern-masked"),
        ("tok-12\x1b[1m3456 tok-654321", "postern-masked\x1b[1m postern-masked"),
    ] {
        for size in [1, 2, 3, 7, text.len()] {
            assert_eq!(masked(&rules, &text.as_bytes().chunks(size).collect::<Vec<_>>()), expected, "{text:?} in pieces of {size}");
        }
    }
}

#[test]
fn archives_keep_their_length() {
    let rules = rules(&["tok-[0-9]+"], &["hunter2"]);
    let mut archive = b"name\0\0\0\0".to_vec();
    archive.extend_from_slice(b"password=hunter2 tok-1\0");
    let (mut mask, mut out) = (TextMask::new(rules, false), Vec::new());
    archive.chunks(5).for_each(|piece| mask.push(piece, &mut out));
    mask.flush(&mut out);
    assert_eq!(out, b"name\0\0\0\0password=******* *****\0");
}

#[test]
fn base64_of_a_value_is_hidden_too() {
    let rules = rules(&[], &["hunter2-is-secret"]);
    let encoded = base64::engine::general_purpose::STANDARD.encode("user:hunter2-is-secret");
    let out = masked(&rules, &[encoded.as_bytes()]);
    assert!(out.contains("postern-masked") && !out.contains("aHVudGVy") && !out.contains("bnRlcjI"), "{out}");
}

#[test]
fn base64_of_a_value_is_hidden_where_lines_end_within_it() {
    let value = "hunter2-is-secret-and-long";
    let rules = rules(&[], &[value]);
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{}{value}\0PATH=/bin\0", "x".repeat(45)));
    for end in ["\n", "\r\n", "\x1b[0m\r\n\x1b[31m"] {
        let lines: Vec<&str> = encoded.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let text = format!("$ base64\n{}\n", lines.join(end));
        for size in [1, 2, 3, 7, 76, text.len()] {
            let out = masked(&rules, &text.as_bytes().chunks(size).collect::<Vec<_>>());
            let plain = Plain::of(out.as_bytes()).text(out.as_bytes()).to_vec();
            let left = &encoded[encoded.len() - 17..];
            assert_eq!(
                String::from_utf8(plain).unwrap(),
                format!("$ base64\n{}postern-masked{left}\n", "eHh4".repeat(15)),
                "pieces of {size}"
            );
        }
    }
}

#[test]
fn whoever_follows_a_log_waits_no_second_for_the_end_of_a_line() {
    let rules = rules(&[], &["hunter2-is-secret"]);
    let (mut mask, mut out) = (TextMask::new(rules, false), Vec::new());
    mask.push(b"a line that ends like base64 begins: a\n", &mut out);
    assert_eq!((out.as_slice(), mask.wait()), (&b"a line that ends like base64 begins: "[..], Some(SHORT_WAIT)));
    mask.push(b"HVu\n", &mut out);
    assert_eq!(mask.wait(), Some(LONG_WAIT));
    mask.push(b"done\n", &mut out);
    assert_eq!((out.as_slice(), mask.wait()), (&b"a line that ends like base64 begins: a\nHVu\ndone\n"[..], None));
}

#[test]
fn what_is_held_is_bounded() {
    let rules = rules(&["a[^z]*z"], &[]);
    let (mut mask, mut out) = (TextMask::new(rules, false), Vec::new());
    for _ in 0..100 {
        mask.push(&[b'a'; 4096], &mut out);
        assert!(mask.pending.len() <= MOST_HELD + 4096);
    }
    assert!(out.len() > 100 * 4096 - MOST_HELD - 4096);
}

proptest::proptest! {
    #[test]
    fn text_without_a_match_goes_on_as_it_was(pieces in proptest::collection::vec(proptest::collection::vec(0u8..=255, 0..60), 0..10)) {
        let rules = rules(&["tok-[0-9]{30}", "(?i)\\bsecret\\b.{30}"], &["hunter2-is-secret-and-long"]);
        let (mut mask, mut out) = (TextMask::new(rules, false), Vec::new());
        for piece in &pieces {
            mask.push(piece, &mut out);
        }
        mask.flush(&mut out);
        proptest::prop_assert_eq!(out, pieces.concat());
    }

    #[test]
    fn no_cut_shows_a_value(before in "[a-z \n]{0,20}", after in "[a-z \n]{0,20}", cut in 1usize..40) {
        let text = format!("{before}hunter2-is-secret{after}");
        let out = masked(&rules(&[], &["hunter2-is-secret"]), &text.as_bytes().chunks(cut).collect::<Vec<_>>());
        proptest::prop_assert_eq!(out, format!("{before}postern-masked{after}"));
    }
}
