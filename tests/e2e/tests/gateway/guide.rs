//! `docs/writing-a-policy.md`, followed to the letter: its commands are run exactly as it prints them, one after another.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use e2e::{Ran, scratch, setup};
use testbed::wait_until;

/// A block of the page.
struct Block {
    /// What stands after the backticks.
    kind: String,
    text: String,
    /// The file that the sentence before it names, where it says to put it there.
    file: Option<PathBuf>,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut before = "";
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else {
            before = if line.is_empty() { before } else { line };
            continue;
        };
        let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let file = before.strip_suffix("`:").and_then(|before| before.rsplit_once("Put this into `").map(|(_, file)| file.into()));
        blocks.push(Block { kind: kind.to_owned(), text: text.join("\n") + "\n", file });
    }
    blocks
}

#[test]
fn who_follows_the_page_has_a_policy_that_guards() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/writing-a-policy.md")).unwrap();
    let s = setup(vec![], "");
    let place = scratch("guide");
    let path = [testbed::postern().parent().unwrap(), &testbed::cache().join("bin")].map(|place| place.display().to_string()).join(":");
    let path = format!("{path}:{}", std::env::var("PATH").unwrap());
    let (mut written, mut run) = (0, 0);
    for block in blocks(&page) {
        match (block.kind.as_str(), &block.file) {
            ("sh" | "sh refused", _) => {
                let mut shell = Command::new("bash");
                shell.args(["-euc", &block.text]).current_dir(&place).env("PATH", &path).env("DEMO", &s.gateway.directory);
                shell.env("POSTERN_TOOLS", testbed::cache().join("tools/languages"));
                let ran = Ran::new(shell.output().unwrap());
                match block.kind.as_str() {
                    "sh" => drop(ran.success().to_owned()),
                    _ => assert!(
                        ran.failure().contains("blocked by policy 70-keep-protected: rates is labelled protected: yes"),
                        "{}",
                        ran.err
                    ),
                }
                run += block.text.lines().count();
                if block.text.contains("policies.d/70-keep-protected.wasm") {
                    // The page says that it takes some seconds, and how to see that it serves.
                    let list =
                        ["policy", "list", "--config", s.gateway.directory.join("postern.yaml").to_str().unwrap()].map(str::to_owned);
                    wait_until("the policy serves", Duration::from_secs(180), || {
                        let list: Vec<&str> = list.iter().map(String::as_str).collect();
                        Ok(Ran::new(testbed::Gateway::postern(&list)?).out.contains("70-keep-protected  serving"))
                    })
                    .unwrap();
                }
            }
            (_, Some(file)) => {
                std::fs::write(place.join(file), &block.text).unwrap();
                written += 1;
            }
            (kind, None) => panic!("the page has a block of {kind} that belongs nowhere"),
        }
    }
    assert!(written == 2 && run >= 14, "{written} files, {run} commands");
}
