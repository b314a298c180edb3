//! Bodies as they are read here, against upstream's own decoders: what is read is read the same, or it is refused.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postern::body::RequestBody;
use serde_json::json;

const JSON: usize = 40_000;
const YAML: usize = 25_000;

/// Numbers that come one after another, as if by chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % most as u64).unwrap()
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

const KINDS: [(&str, &str); 7] = [
    ("v1", "ConfigMap"),
    ("v1", "Pod"),
    ("v1", "Secret"),
    ("v1", "List"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("apps/v1", "Deployment"),
    ("example.org/v1", "Thing"),
];
const KEYS: [&str; 22] = [
    "metadata",
    "name",
    "labels",
    "annotations",
    "data",
    "spec",
    "containers",
    "image",
    "rules",
    "verbs",
    "apiGroups",
    "hostNetwork",
    "replicas",
    "template",
    "items",
    "stringData",
    "Spec",
    "DATA",
    "x",
    "a.b/c",
    "é",
    "",
];
const STRINGS: [&str; 14] = ["", "a", "nginx", "*", "aGk=", "é", "雪", "😀", "a b", "\\", "/", "<&>", "\u{2028}", "\u{feff}"];
const NUMBERS: [&str; 22] = [
    "0",
    "-0",
    "1",
    "-1",
    "1.0",
    "1.5",
    "1e3",
    "1E-2",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "1e400",
    "01",
    "+1",
    ".5",
    "1.",
    "0x10",
    "NaN",
    "1_0",
    "-0.0",
    "0e0",
];

/// A text as JSON may write it.
fn written(text: &str, chance: &mut Chance) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        if chance.one_in(8) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out += &format!("\\u{unit:04x}"));
        } else if matches!(c, '"' | '\\') {
            out.extend(['\\', c]);
        } else {
            out.push(c);
        }
    }
    if chance.one_in(400) {
        out += chance.of(&["\\ud800", "\\x41", "\u{1}", "\\u00", "\u{7f}", "\\/"]);
    }
    out + "\""
}

fn json_value(chance: &mut Chance, depth: usize) -> String {
    match chance.below(if depth > 5 { 4 } else { 8 }) {
        0 => chance.of(&["null", "true", "false", "null", "True"]).to_owned(),
        1 => {
            let most = if chance.one_in(6) { NUMBERS.len() } else { 11 };
            chance.of(&NUMBERS[..most]).to_owned()
        }
        2 | 3 => {
            let text = chance.of(&STRINGS);
            written(text, chance)
        }
        4 => {
            let elements: Vec<String> = (0..chance.below(4)).map(|_| json_value(chance, depth + 1)).collect();
            format!("[{}]", elements.join(","))
        }
        _ => json_object(chance, depth + 1, &[]),
    }
}

fn json_object(chance: &mut Chance, depth: usize, first: &[String]) -> String {
    let mut members = first.to_vec();
    for _ in 0..chance.below(5) {
        let key = chance.of(&KEYS);
        let value = if matches!(key, "name" | "image") && !chance.one_in(5) { "\"a\"".to_owned() } else { json_value(chance, depth) };
        let place = chance.below(members.len() + 1);
        members.insert(place, format!("{}:{value}", written(key, chance)));
    }
    if chance.one_in(6) && !members.is_empty() {
        // A key that is there twice: with the same value, another, or none.
        let again = members[chance.below(members.len())].clone();
        let key = again[1..].find('"').map_or(again.clone(), |end| again[..end + 2].to_owned());
        let value = json_value(chance, depth);
        members.push(if chance.one_in(2) { again } else { format!("{key}:{value}") });
    }
    let space = chance.of(&["", "", " ", "\n", "\t"]);
    format!("{{{space}{}{space}}}", members.join(","))
}

fn json_body(chance: &mut Chance) -> String {
    let (version, kind) = KINDS[chance.below(KINDS.len())];
    let head = [format!("\"apiVersion\":\"{version}\""), format!("\"kind\":\"{kind}\""), "\"metadata\":{\"name\":\"a\"}".to_owned()];
    let body = json_object(chance, 0, &head);
    match chance.below(60) {
        0 => format!("\u{feff}{body}"),
        1 => format!("{body}{{}}"),
        2 => format!("{body} \n\t"),
        3 => body[..body.len() - 1].to_owned(),
        4 => format!("{}{body}{}", "[".repeat(200), "]".repeat(200)),
        5 => chance.of(&["", "null", "[]", "1", "\"x\"", "{}"]).to_owned(),
        _ => body,
    }
}

const SCALARS: [&str; 60] = [
    "a",
    "nginx:1",
    "true",
    "True",
    "yes",
    "No",
    "on",
    "OFF",
    "y",
    "N",
    "null",
    "~",
    "Null",
    "",
    "0",
    "-0",
    "1",
    "+1",
    "-1",
    "0644",
    "0o7",
    "0x1F",
    "0b11",
    "1_0",
    "1_000.5",
    "089",
    "-089",
    "12:30",
    "1:2:3",
    "1e3",
    "1E-2",
    "-1.5e+3",
    ".5",
    "5.",
    ".",
    "..",
    "1.2.3",
    "10.0.0.1",
    "100m",
    "1Gi",
    "2001-12-14",
    "2001-12-14t21:59:43.10-05:00",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    ".nan",
    ".inf",
    "-.Inf",
    "0xZZ",
    "0o9",
    "-0x10",
    "+0o17",
    "_1",
    "1_",
    "é",
    "雪",
    "a#b",
    "-x",
];
const QUOTED: [&str; 12] = [
    "'0644'",
    "\"a\\x2db\"",
    "\"\\u00e9\"",
    "\"a\\\n    b\"",
    "'it''s'",
    "\"\\/\"",
    "\"\\e\\_\"",
    "|\n    a\n    b\n",
    ">-\n    a\n    b\n",
    "\"\u{2028}\"",
    "\"\u{85}\"",
    "\"\"",
];

fn yaml_value(chance: &mut Chance, depth: usize, out: &mut String) {
    match chance.below(if depth > 3 { 6 } else { 10 }) {
        0..=3 => {
            let _ = writeln!(out, " {}", chance.of(&SCALARS));
        }
        4 => {
            let quoted = chance.of(&QUOTED).replace("\n    ", &format!("\n{}", " ".repeat(depth * 2 + 4)));
            let _ = writeln!(out, " {}", quoted.trim_end_matches('\n'));
        }
        5 => {
            let odd = chance.of(&[
                "!!str 1",
                "!!binary aGk=",
                "&x a",
                "*x",
                "!!int \"1\"",
                "{<<: {a: b}}",
                "[a, {b: c}]",
                "{a: 1, 'b': [x]}",
                "# nothing",
                "{\"a\":\"\\u0041\"}",
            ]);
            let _ = writeln!(out, " {odd}");
        }
        6 | 7 => {
            out.push('\n');
            for _ in 0..=chance.below(2) {
                let _ = write!(out, "{}-", "  ".repeat(depth));
                yaml_value(chance, depth + 1, out);
            }
        }
        _ => {
            out.push('\n');
            yaml_members(chance, depth + 1, out);
        }
    }
}

fn yaml_members(chance: &mut Chance, depth: usize, out: &mut String) {
    let mut used = Vec::new();
    for _ in 0..=chance.below(3) {
        let key = chance
            .of(&["name", "data", "spec", "labels", "x", "\"a b\"", "'q'", "1", "true", "yes", "0x1", "1.5", "null", "<<", "é", "a-b"]);
        // The same key again is rare: most bodies should be read.
        if used.contains(&key) && !chance.one_in(8) {
            continue;
        }
        used.push(key);
        let _ = write!(out, "{}{key}:", "  ".repeat(depth));
        yaml_value(chance, depth, out);
    }
    if used.is_empty() {
        let _ = writeln!(out, "{}z: z", "  ".repeat(depth));
    }
}

fn yaml_body(chance: &mut Chance) -> String {
    let (version, kind) = KINDS[chance.below(KINDS.len())];
    let mut body = format!("apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: a\n");
    let _ = write!(body, "{}:", chance.of(&["data", "spec", "x"]));
    yaml_value(chance, 0, &mut body);
    match chance.below(40) {
        0 => format!("---\n{body}"),
        1 => format!("{body}---\na: b\n"),
        2 => format!("%YAML 1.1\n---\n{body}"),
        3 => format!("\u{feff}{body}"),
        4 => json_body(chance),
        5 => body.replace('\n', "\r\n"),
        6 => format!("{body}...\n"),
        _ => body,
    }
}

#[test]
fn what_is_read_here_is_what_the_api_server_reads() {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let cases = (0..JSON).map(|_| ("application/json", json_body(&mut chance))).collect::<Vec<_>>();
    let mut chance = Chance(0x2545_f491_4f6c_dd1d);
    let cases = cases.into_iter().chain((0..YAML).map(|_| ("application/yaml", yaml_body(&mut chance)))).collect::<Vec<_>>();
    // Where a typed object has an integer every way to write a number is tried.
    let with = |media_type, number: &&str| {
        (
            media_type,
            format!(r#"{{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {{"name": "a"}}, "spec": {{"replicas": {number}}}}}"#),
        )
    };
    let typed = ["application/json", "application/yaml"]
        .into_iter()
        .flat_map(|media_type| NUMBERS.iter().map(move |number| with(media_type, number)));
    let cases: Vec<_> = cases.into_iter().chain(typed).collect();
    let mut helper = Command::new(testbed::binary("bodies")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = helper.stdin.take().unwrap();
    let (mut refused, mut asked) = (0, Vec::new());
    for (media_type, text) in &cases {
        let body = RequestBody::new(text.clone().into(), media_type);
        match body.read() {
            Ok(value) => {
                let case = json!({"mediaType": media_type, "original": STANDARD.encode(text), "sent": STANDARD.encode(body.to_send()), "read": STANDARD.encode(value.to_string())});
                asked.push((text, case.to_string()));
            }
            Err(refusal) => {
                assert_eq!(refusal.code, 400, "{text}");
                refused += 1;
            }
        }
    }
    let (mut same, mut theirs) = (0, 0);
    std::thread::scope(|scope| {
        let lines: Vec<String> = asked.iter().map(|(_, line)| format!("{line}\n")).collect();
        scope.spawn(move || {
            lines.iter().for_each(|line| input.write_all(line.as_bytes()).unwrap());
            drop(input);
        });
        let mut answers = BufReader::new(helper.stdout.take().unwrap()).lines();
        for (text, _) in &asked {
            match answers.next().expect("an answer for each").unwrap().as_str() {
                "same" => same += 1,
                "refused" => theirs += 1,
                difference => panic!("{difference}\n{text}"),
            }
        }
    });
    assert!(helper.wait().unwrap().success());
    assert!(same > cases.len() / 5 && refused > cases.len() / 20, "{same} the same, {refused} refused here");
    println!(
        "compared {} bodies with upstream's decoders: {same} read the same, {refused} refused here, {theirs} refused there, no difference",
        cases.len()
    );
}
