use wasmtime::component::Component;
use wasmtime::{Config, Engine, Store};

use super::*;

fn engine() -> Engine {
    let mut config = Config::new();
    config.wasm_component_model(true);
    Engine::new(&config).unwrap()
}

/// A component that calls a function of an interface; its answer is of the last of the types.
fn calling(interface: &str, types: &str, answer: &str) -> anyhow::Result<Vec<u8>> {
    let text = format!(
        r#"(component
            (import "{interface}" (instance $i {types} (export "get" (func (result {answer})))))
            (core module $m (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 16))
            (core instance $c (instantiate $m))
            (core func (canon lower (func $i "get") (memory $c "memory") (realloc (func $c "realloc")))))"#
    );
    replace(&wat::parse_str(text)?)
}

/// Each type is twice the one before it: a few hundred bytes of module stand for gigabytes of an answer.
fn doubling(times: usize) -> (String, String) {
    let types: String = (1..=times).map(|n| format!("(type $t{n} (tuple $t{} $t{}))", n - 1, n - 1)).collect();
    (format!("(type $t0 (tuple u64 u64)){types}"), format!("$t{times}"))
}

#[test]
fn what_calls_itself_wasi_and_answers_without_bound_is_refused() {
    let (types, answer) = doubling(3);
    calling("wasi:cli/environment@0.2.0", &types, &answer).unwrap();
    for times in [6, 12, 16] {
        let (types, answer) = doubling(times);
        let why = format!("{:#}", calling("wasi:cli/environment@0.2.0", &types, &answer).unwrap_err());
        assert!(why.contains("not the one of WASI") && why.contains("too large"), "{why}");
    }
    // Of more than a million parts the parser itself takes none.
    let (types, answer) = doubling(40);
    assert!(calling("wasi:cli/environment@0.2.0", &types, &answer).is_err());
    let many: String = (0..300).map(|n| format!(r#"(export "f{n}" (func))"#)).collect();
    let text = format!(r#"(component (import "wasi:cli/environment@0.2.0" (instance {many})))"#);
    let engine = engine();
    let component = Component::new(&engine, wat::parse_str(text).unwrap()).unwrap();
    let why = grant_nothing(&mut Linker::new(&engine), &component).unwrap_err().to_string();
    assert!(why.contains("more than 200 items"), "{why}");
}

/// A few bytes of module that lower a function once more must not have the host write and compile kilobytes.
#[test]
fn what_is_lowered_again_and_again_is_answered_by_one_function_and_the_ways_are_few() {
    let component = |lowerings: &str, functions: &str| {
        let text = format!(
            r#"(component (import "wasi:random/random@0.2.0" (instance $i {functions}))
                (core module $m (memory (export "memory") 1) (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 16))
                (core instance $c (instantiate $m))
                {lowerings})"#
        );
        replace(&wat::parse_str(text).unwrap())
    };
    let large = format!("(func (result (tuple{})))", " (result)".repeat(300));
    let lower = |name: usize| format!(r#"(core func (canon lower (func $i "f{name}") (memory $c "memory")))"#);
    let one = component(&lower(0), &format!(r#"(export "f0" {large})"#)).unwrap().len();
    let many = component(&lower(0).repeat(5000), &format!(r#"(export "f0" {large})"#)).unwrap().len();
    assert!(many < one + 5000 * 40, "{one} and {many} bytes");
    let functions: String = (0..600).map(|n| format!(r#"(export "f{n}" (func (result u8)))"#)).collect();
    let why = component(&(0..600).map(lower).collect::<String>(), &functions).unwrap_err().to_string();
    assert!(why.contains("more of WASI"), "{why}");
    // Each is another allocator.
    let allocators: String =
        (0..20).map(|n| format!(r#"(func (export "r{n}") (param i32 i32 i32 i32) (result i32) i32.const 16)"#)).collect();
    let ways: String = (0..20)
        .map(|n| format!(r#"(core func (canon lower (func $i "f0") (memory $c "memory") (realloc (func $others "r{n}"))))"#))
        .collect();
    let ways = format!("(core module $n {allocators}) (core instance $others (instantiate $n)) {ways}");
    let why = component(&ways, r#"(export "f0" (func (result string)))"#).unwrap_err().to_string();
    assert!(why.contains("more of WASI"), "{why}");
}

/// Cases without anything in them are parts too: a byte or two of type stands for ten thousand.
#[test]
fn a_type_of_many_cases_is_refused() {
    let cases: String = (0..6000).map(|n| format!(r#"(case "c{n}")"#)).collect();
    let types = format!(r#"(type $v (variant {cases})) (export "v" (type $e (eq $v)))"#);
    calling("wasi:filesystem/types@0.2.0", &types, "$e").unwrap();
    let why = format!("{:#}", calling("wasi:filesystem/types@0.2.0", &types, "(tuple $e $e)").unwrap_err());
    assert!(why.contains("too large"), "{why}");
}

#[test]
fn only_the_interfaces_of_wasi_are_there() {
    for known in ["wasi:cli/environment@0.2.0", "wasi:io/streams@0.2.6"] {
        assert!(is_known(known), "{known}");
    }
    for other in [
        "wasi:cli/blow@0.2.0",
        "wasi:cli/environment@0.3.0",
        "wasi:cli/environment",
        "wasi:evil/environment@0.2.0",
        "wasix:cli/environment@0.2.0",
    ] {
        assert!(!is_known(other), "{other}");
    }
}

/// What is answered, as a core function with these parameters finds it: the value it returns, or the bytes it writes.
const ASKED: [(&str, &str, &str, &str); 14] = [
    ("bool", "", "i32", "0"),
    ("char", "", "i32", "32"),
    ("u64", "", "i64", "0"),
    ("f32", "", "f32", "0"),
    ("(option u8)", "i32", "", "00"),
    ("(result)", "", "i32", "1"),
    ("(result u64)", "i32", "", "01 00 00 00 00 00 00 00"),
    ("(result u64 (error u8))", "i32", "", "01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"),
    ("(list u8)", "i32", "", "10 00 00 00 00 00 00 00"),
    ("string", "i32", "", "10 00 00 00 00 00 00 00"),
    ("(tuple u8 char u16)", "i32", "", "00 00 00 00 20 00 00 00 00 00"),
    ("(tuple (result (error u32)) u8)", "i32", "", "01 00 00 00 00 00 00 00 00"),
    ("$simple", "i32", "", "01 00 00 00"),
    ("$named", "", "i32", "0"),
];

#[test]
fn an_answer_is_the_least_that_its_type_allows_where_the_canonical_abi_has_it() {
    let engine = engine();
    for (answer, params, results, wanted) in ASKED {
        let types = r#"(type $v (variant (case "says" u32) (case "says-nothing"))) (export "v" (type $simple (eq $v)))
            (type $e (enum "first" "second")) (export "e" (type $named (eq $e)))"#;
        let in_memory = !params.is_empty();
        let (call, given) = match in_memory {
            true => ("(call $get (i32.const 64))", "(param i32)".to_owned()),
            false => (
                match results {
                    "i64" => "(i64.store (i32.const 64) (call $get))",
                    "f32" => "(f32.store (i32.const 64) (call $get))",
                    _ => "(i32.store (i32.const 64) (call $get))",
                },
                format!("(result {results})"),
            ),
        };
        // What the host reads is a text at 64; before the call nothing in it is zero.
        let text = format!(
            r#"(component
                (import "wasi:filesystem/types@0.2.0" (instance $i {types} (export "get" (func (result {answer})))))
                (core module $libc (memory (export "memory") 1)
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024))
                (core instance $c (instantiate $libc))
                (core func $get (canon lower (func $i "get") (memory $c "memory") (realloc (func $c "realloc"))))
                (core module $m
                    (import "libc" "memory" (memory 1))
                    (import "wasi" "get" (func $get {given}))
                    (func (export "run") (result i32)
                        (memory.fill (i32.const 64) (i32.const 255) (i32.const 64))
                        {call}
                        (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 64))
                        (i32.const 0)))
                (core instance $u (instantiate $m (with "libc" (instance $c)) (with "wasi" (instance (export "get" (func $get))))))
                (func (export "run") (result (list u8)) (canon lift (core func $u "run") (memory $c "memory"))))"#
        );
        let component = replace(&wat::parse_str(text).unwrap()).unwrap();
        let component = Component::new(&engine, component).unwrap();
        let mut linker = Linker::new(&engine);
        grant_nothing(&mut linker, &component).unwrap();
        let mut store = Store::new(&engine, HostState::new(1 << 20));
        let instance = linker.instantiate(&mut store, &component).unwrap();
        let run = instance.get_typed_func::<(), (Vec<u8>,)>(&mut store, "run").unwrap();
        let (bytes,) = run.call(&mut store, ()).unwrap();
        if in_memory {
            let wanted: Vec<u8> = wanted.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
            // What is behind the discriminant and before the payload is anybody's.
            assert_eq!(&bytes[..wanted.len()], wanted, "{answer}");
            let end = wanted.len().next_multiple_of(4) + 8;
            assert_eq!(bytes[end], 255, "{answer}: no more than the answer is written");
        } else {
            assert_eq!(bytes[0], wanted.parse::<u8>().unwrap(), "{answer}");
        }
        assert_eq!(store.data().wasi_calls.iter().next().unwrap(), "wasi:filesystem/types@0.2.0 get");
    }
}

/// A program that writes to standard output with a handle that it has from before, asks for random bytes, and waits.
const PROGRAM: &str = r#"(component
    (import "wasi:random/random@0.2.3" (instance $r (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
    (import "wasi:io/poll@0.2.3" (instance $p
        (export "pollable" (type $pollable (sub resource)))
        (export "poll" (func (param "in" (list (borrow $pollable))) (result (list u32))))))
    (import "wasi:clocks/monotonic-clock@0.2.3" (instance $t (export "now" (func (result u64)))))
    (import "wasi:io/streams@0.2.3" (instance $s
        (export "output-stream" (type $os (sub resource)))
        (export "[method]output-stream.check-write" (func (param "self" (borrow $os)) (result (result u64))))
        (export "[method]output-stream.write" (func (param "self" (borrow $os)) (param "contents" (list u8)) (result (result (error u8)))))))
    (alias export $s "output-stream" (type $out))
    (import "wasi:cli/stdout@0.2.3" (instance $o
        (export "output-stream" (type $t (eq $out)))
        (export "get-stdout" (func (result (own $t))))))
    (core module $libc (memory (export "memory") 2)
        (data (i32.const 256) "it goes on\n")
        (global $next (mut i32) (i32.const 4096))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32)
            (global.get $next) (global.set $next (i32.add (global.get $next) (local.get 3)))))
    (core instance $c (instantiate $libc))
    (core func $now (canon lower (func $t "now")))
    (core func $stdout (canon lower (func $o "get-stdout")))
    (core func $drop (canon resource.drop $out))
    (core func $check (canon lower (func $s "[method]output-stream.check-write") (memory $c "memory")))
    (core func $write (canon lower (func $s "[method]output-stream.write") (memory $c "memory")))
    (core func $random (canon lower (func $r "get-random-bytes") (memory $c "memory") (realloc (func $c "realloc"))))
    (core func $poll (canon lower (func $p "poll") (memory $c "memory") (realloc (func $c "realloc"))))
    (core module $m
        (import "libc" "memory" (memory 1))
        (import "wasi" "now" (func $now (result i64)))
        (import "wasi" "stdout" (func $stdout (result i32)))
        (import "wasi" "drop" (func $drop (param i32)))
        (import "wasi" "check" (func $check (param i32 i32)))
        (import "wasi" "write" (func $write (param i32 i32 i32 i32)))
        (import "wasi" "random" (func $random (param i64 i32)))
        (import "wasi" "poll" (func $poll (param i32 i32 i32)))
        (func (export "handle") (result i32) (call $stdout))
        (func (export "run") (param $handle i32) (result i32)
            (if (i64.eqz (call $now)) (then unreachable))
            (call $check (local.get $handle) (i32.const 64))
            (if (i32.load8_u (i32.const 64)) (then unreachable))
            (if (i64.lt_u (i64.load (i32.const 72)) (i64.const 11)) (then unreachable))
            (call $write (local.get $handle) (i32.const 256) (i32.const 11) (i32.const 64))
            (if (i32.load8_u (i32.const 64)) (then unreachable))
            (call $drop (local.get $handle))
            (call $poll (i32.const 256) (i32.const 1) (i32.const 64))
            (if (i32.ne (i32.load (i32.const 68)) (i32.const 1)) (then unreachable))
            (if (i32.load (i32.load (i32.const 64))) (then unreachable))
            (call $random (i64.const 1000000000000) (i32.const 64))
            (i32.load (i32.const 68))))
    (core instance $u (instantiate $m (with "libc" (instance $c)) (with "wasi" (instance
        (export "now" (func $now)) (export "stdout" (func $stdout)) (export "drop" (func $drop)) (export "check" (func $check))
        (export "write" (func $write)) (export "random" (func $random)) (export "poll" (func $poll))))))
    (func (export "handle") (result u32) (canon lift (core func $u "handle")))
    (func (export "run") (param "handle" u32) (result u32) (canon lift (core func $u "run"))))"#;

#[test]
fn a_handle_holds_in_an_instance_that_never_asked_for_it() {
    let engine = engine();
    let component = Component::new(&engine, replace(&wat::parse_str(PROGRAM).unwrap()).unwrap()).unwrap();
    let mut linker = Linker::new(&engine);
    grant_nothing(&mut linker, &component).unwrap();
    let instance = || {
        let mut store = Store::new(&engine, HostState::new(1 << 20));
        let instance = linker.instantiate(&mut store, &component).unwrap();
        (store, instance)
    };
    let (mut store, first) = instance();
    let handle = first.get_typed_func::<(), (u32,)>(&mut store, "handle").unwrap().call(&mut store, ()).unwrap().0;
    for _ in 0..2 {
        let (mut store, other) = instance();
        let run = other.get_typed_func::<(u32,), (u32,)>(&mut store, "run").unwrap();
        // Of a terabyte that is asked for no more is given than a module may have the host fill.
        assert_eq!(run.call(&mut store, (handle,)).unwrap(), (64 << 10,));
        assert_eq!(store.data_mut().output.take(), "it goes on\n");
        assert!(store.data().wasi_calls.is_empty(), "what every program does is not worth a word: {:?}", store.data().wasi_calls);
    }
}

#[test]
fn a_component_that_calls_nothing_of_wasi_stays_as_it_is() {
    let component = wat::parse_str(r#"(component (import "wasi:cli/environment@0.2.0" (instance)))"#).unwrap();
    assert_eq!(replace(&component).unwrap(), component);
}
