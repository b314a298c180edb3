use serde_json::Value;

use super::*;

#[test]
fn nothing_steers_a_terminal_and_json_stays_json() {
    let text = "a\u{1b}]0;t\u{7}\u{9b}2J\u{202e}b\u{2066}\u{200b}\u{feff}c\nd\te é 雪 😀";
    let shown = visible(text);
    assert_eq!(shown, "a\\u001b]0;t\\u0007\\u009b2J\\u202eb\\u2066\\u200b\\ufeffc\nd\te é 雪 😀");
    assert_eq!(in_a_line("a\nb\tc\r"), "a\\u000ab\\u0009c\\u000d");
    let value = serde_json::json!({ "x": text });
    assert_eq!(serde_json::from_str::<Value>(&visible(&value.to_string())).unwrap(), value);
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    #[allow(dead_code)]
    token: Option<String>,
}

/// Whatever is wrong with a file, and wherever: what stands around the mistake is not said.
#[test]
fn a_mistake_is_said_with_its_place_and_without_what_stands_around_it() {
    for text in [
        "token: s3cret-one\nx: s3cret-two\n",
        "token: s3cret-one\ntoken: s3cret-two\n",
        "token: 's3cret-one\n",
        "token: [s3cret-one]\n",
        "token: {a: s3cret-one}\n# s3cret-two\n",
        "token: |\n  s3cret-one\n s3cret-two\n",
        "token: !!int s3cret-one\n",
        "- s3cret-one\n",
        "s3cret-one\n",
        "token: *s3cret-one\n",
    ] {
        let Err(error) = secret_yaml::<Known>(text) else { panic!("{text:?} is taken") };
        let said = format!("{error:#}");
        assert!(!said.contains("s3cret") && said.starts_with("it is not what it should be"), "{said}");
        let said = format!("{:#}", yaml::<Known>(text).unwrap_err());
        assert!(!said.contains("s3cret-two") && !said.contains('\n'), "{text:?}: {said}");
    }
    let error = yaml::<Known>("token: a\nx: b\n").unwrap_err().context("the configuration");
    assert_eq!(place_of(&error), Some((2, 1)), "{error:#}");
}

#[test]
fn a_name_that_is_not_known_is_told_with_the_nearest() {
    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    #[allow(dead_code)]
    struct Settings {
        data_directory: String,
        drain: u64,
        #[serde(default)]
        listen: Vec<String>,
        #[serde(default)]
        limits: Vec<Limit>,
    }
    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Limit {
        most: u64,
        least: u64,
    }
    let why = |text: &str| yaml::<Settings>(text).unwrap_err().to_string();
    let typo = why("drain: 5\ndataDirectroy: data\n");
    assert!(
        typo.contains(
            "unknown field `dataDirectroy`: did you mean `dataDirectory`? There are dataDirectory, drain, listen, limits at line 2"
        ),
        "{typo}"
    );
    let strange = why("zzzzzzzzzzzz: data\n");
    assert!(!strange.contains("did you mean") && strange.contains("expected one of"), "{strange}");
    assert!(why("dataDirectory: a\ndrain: 5s\n").starts_with("drain: a whole number is expected at line 2"), "{}", why("drain: 5s\n"));
    let misspelt = why("dataDirectory: a\ndrain: 5\nlimits: [{leest: 5}]\n");
    assert!(misspelt.starts_with("limits[0]: unknown field `leest`: did you mean `least`? There are most, least"), "{misspelt}");
    let twice = why("drain: 5\ndrain: 6\n");
    assert!(twice.contains("write it once") && !twice.contains("Options"), "{twice}");
    assert!(
        why("dataDirectory: a\ndrain: 1\nlisten: {a: b}\n").contains("listen: a list is expected"),
        "{}",
        why("drain: 1\nlisten: {a: b}\n")
    );
    let within = why("dataDirectory: a\ndrain: 1\nlisten: [a, {b: c}]\n");
    assert!(within.starts_with("listen[1]: ") && within.contains("at line 3"), "{within}");
}
