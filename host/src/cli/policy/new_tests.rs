//! One API in six languages: each has every name, in its library and on its page.

/// What each language calls in its own spelling; methods have the type before their name.
const NAMES: [&str; 41] = [
    "allow",
    "block",
    "require_approval",
    "mask",
    "terminate",
    "field",
    "pattern",
    "pod_secrets",
    "mask.tokenize",
    "mask.keep_last",
    "mask.remove",
    "mask.when",
    "mask.unless",
    "forward",
    "replace",
    "end_stream",
    "request.body",
    "request.resource",
    "request.namespace",
    "request.object_name",
    "request.is_in",
    "request.claim",
    "request.query_value",
    "request.around",
    "request.annotate",
    "request.count",
    "request.is",
    "request.like",
    "request.has",
    "request.get",
    "request.query_like",
    "request.at",
    "request.spend",
    "document.get",
    "document.text",
    "document.select",
    "document.texts",
    "document.json",
    "document.size",
    "document.is",
    "document.matches",
];

fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + &capital(word))
}

fn capital(word: &str) -> String {
    if word == "json" { "JSON".into() } else { word[..1].to_uppercase() + &word[1..] }
}

fn pascal(name: &str) -> String {
    name.split('_').map(capital).collect()
}

/// How a name is spelt where it is called.
fn called(name: &str, spell: impl Fn(&str) -> String, before: &str) -> String {
    match name.split_once('.') {
        Some(("mask", method)) => format!(".{}", spell(method)),
        Some((of, method)) => format!("{of}.{}", spell(method)),
        None => before.to_owned() + &spell(name),
    }
}

/// How it is spelt in C: a function, with the type before its name.
fn in_c(name: &str) -> String {
    if name == "request.body" { "body".into() } else { name.replace('.', "_") }
}

fn holds(what: &str, text: &str, name: &str) {
    let ends = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let found = text.match_indices(name).any(|(at, _)| ends(text[at + name.len()..].chars().next()));
    assert!(found, "{what} has no {name}");
}

/// Whether one of these, each the beginning of a line, defines it.
fn defines(what: &str, text: &str, definitions: &[String]) {
    let is_there = |line: &str| definitions.iter().any(|definition| line.starts_with(definition.as_str()));
    assert!(text.lines().any(is_there), "{what} defines none of {definitions:?}");
}

#[test]
fn every_language_has_every_name_in_its_library_and_on_its_page() {
    let method = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let rust = [
        include_str!("../../../../policy-sdk/src/verdict.rs"),
        include_str!("../../../../policy-sdk/src/request.rs"),
        include_str!("../../../../policy-sdk/src/document.rs"),
    ]
    .concat();
    let go =
        [include_str!("../../../templates/go/postern/postern.go"), include_str!("../../../templates/go/postern/abi_wasip1.go")].concat();
    for name in NAMES {
        let (own, is_method) = (method(name), name.contains('.'));
        // A word of the language itself.
        let in_python = if own == "is" { "is_".to_owned() } else { own.clone() };
        let indent = if is_method { "    " } else { "" };
        defines("the library of Rust", &rust, &[format!("{indent}pub fn {own}("), format!("{indent}pub fn {own}<")]);
        holds("the page of Rust", include_str!("../../../../docs/languages/rust.md"), &called(name, str::to_owned, ""));
        let (go_name, types) = (pascal(&own), ["(m Masking)", "(r *Request)", "(d *Document)"]);
        let mut definitions: Vec<String> = types.iter().map(|of| format!("func {of} {go_name}(")).collect();
        definitions.extend([format!("func {go_name}("), format!("\t{go_name} ")]);
        defines("the library of Go", &go, &definitions);
        holds("the page of Go", include_str!("../../../../docs/languages/go.md"), &called(name, pascal, "postern."));
        let js_name = camel(&own);
        let definitions = match is_method {
            true => vec![format!("  {js_name}("), format!("  get {js_name}("), format!("    this.{js_name} =")],
            false => vec![format!("export const {js_name} =")],
        };
        defines("the library of JavaScript", include_str!("../../../templates/js/postern.js"), &definitions);
        holds("the page of JavaScript", include_str!("../../../../docs/languages/javascript.md"), &called(name, camel, ""));
        let definitions = [format!("{indent}def {in_python}("), format!("        self.{own} =")];
        defines("the library of Python", include_str!("../../../templates/python/postern.py"), &definitions);
        let spell = |name: &str| if name == "is" { "is_".to_owned() } else { name.to_owned() };
        holds("the page of Python", include_str!("../../../../docs/languages/python.md"), &called(name, spell, ""));
        let types = [
            "text_t",
            "texts_t",
            "bool",
            "void",
            "uint64_t",
            "uint32_t",
            "verdict_t",
            "mask_t",
            "chunk_verdict_t",
            "policy_module_list_tuple2_string_string_t",
        ];
        let mut definitions: Vec<String> = types.iter().map(|of| format!("{of} {}(", in_c(name))).collect();
        definitions.push(format!("  const document_t *{};", in_c(name)));
        defines("the library of C", include_str!("../../../templates/c/postern.h"), &definitions);
        for page in [include_str!("../../../../docs/languages/c.md"), include_str!("../../../../docs/languages/zig.md")] {
            holds("the page of C or Zig", page, &in_c(name));
        }
    }
}
