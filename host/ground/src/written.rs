//! YAML that people write, and text that others wrote: what is said of either.

use serde::de::DeserializeOwned;

/// Reads YAML. What is wrong is said with the key, line and column, and without the lines around it: secrets stand in files beside mistakes.
pub fn yaml<T: DeserializeOwned>(text: &str) -> anyhow::Result<T> {
    let mut key = String::new();
    let options = serde_saphyr::options! { with_snippet: false };
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            key = error.path().to_string();
            error.into_inner()
        })
    });
    read.map_err(|error| {
        let why = helpful(&error.to_string());
        match section(&key, &why) {
            "" | "." => anyhow::anyhow!(why),
            key => anyhow::anyhow!("{key}: {why}"),
        }
    })
}

/// Where something is wrong, for a sentence that says what: the name of a key that is not known is in the sentence already.
fn section<'a>(key: &'a str, why: &str) -> &'a str {
    let unknown = why.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    let within = unknown.and_then(|unknown| key.strip_suffix(unknown));
    within.map_or(key, |section| section.strip_suffix('.').unwrap_or(section))
}

const WHOLE_NUMBER: &str = "a whole number is expected";

/// What a reader of YAML says is wrong, in words for those who write it: with the name that is nearest to one that is not known.
fn helpful(why: &str) -> String {
    let why = [
        (", set DuplicateKeyPolicy in Options if acceptable", "; write it once"),
        ("expected mapping start", "a mapping (name: value) is expected"),
        ("expected sequence start", "a list is expected"),
        ("invalid u64", WHOLE_NUMBER),
        ("invalid u32", WHOLE_NUMBER),
        ("invalid u16", WHOLE_NUMBER),
        ("invalid usize", WHOLE_NUMBER),
        ("invalid i64", WHOLE_NUMBER),
    ]
    .iter()
    .fold(why.to_owned(), |why, (said, meant)| why.replace(said, meant));
    let Some((before, known)) = why.split_once(", expected one of ") else { return why };
    let Some(wrong) = before.rsplit_once("unknown field `").and_then(|(_, rest)| rest.strip_suffix('`')) else { return why };
    let names = known.split(" at line ").next().unwrap_or_default().split(", ").map(|name| name.trim_matches('`'));
    let near = names.map(|name| (strsim::damerau_levenshtein(&wrong.to_lowercase(), &name.to_lowercase()), name)).min();
    match near {
        Some((distance, name)) if distance <= 3 && distance < name.len() => format!("{before}: did you mean `{name}`? There are {known}"),
        _ => why,
    }
}

/// Reads YAML in which any value may be a secret: what is wrong is said with line and column, and without a word of the text.
pub fn secret_yaml<T: DeserializeOwned>(text: &str) -> anyhow::Result<T> {
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { with_snippet: false }).map_err(|error| {
        let at = error.location().map(|at| format!(" at line {}, column {}", at.line(), at.column())).unwrap_or_default();
        anyhow::anyhow!("it is not what it should be{at}")
    })
}

/// The place that an error of one of these names.
pub fn place_of(error: &anyhow::Error) -> Option<(u64, u64)> {
    let text = format!("{error:#}");
    let (_, rest) = text.rsplit_once("at line ")?;
    let (line, rest) = rest.split_once(", column ")?;
    let column: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((line.parse().ok()?, column.parse().ok()?))
}

/// A text in which what moves a cursor, sets a title, turns the direction of writing or has no width is written as JSON would escape it, so that JSON stays
/// JSON. Line ends and tabs are for the layout.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    text.chars().for_each(|c| push(&mut shown, c, steers(c) && !matches!(c, '\n' | '\t')));
    shown
}

/// A text made [`visible`], in one line.
pub fn in_a_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    text.chars().for_each(|c| push(&mut shown, c, steers(c)));
    shown
}

fn push(shown: &mut String, c: char, escapes: bool) {
    match escapes {
        true => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| *shown += &format!("\\u{unit:04x}")),
        false => shown.push(c),
    }
}

/// C0 and C1 controls, line and paragraph separators, bidirectional controls, and what has no width.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests;
