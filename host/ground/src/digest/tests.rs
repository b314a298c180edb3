use super::*;

#[test]
fn sha256_is_that_of_fips_180_4() {
    assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn one_part_is_never_two() {
    assert_ne!(of_parts(&[b"ab"]), of_parts(&[b"a", b"b"]));
    assert_ne!(of_parts(&[b"a", b""]), of_parts(&[b"", b"a"]));
    assert_eq!(of_parts(&[b"a", b"b"]), of_parts(&[b"a", b"b"]));
}
