//! The tables that protobuf is decoded with, made from upstream's own types: one of the pinned Kubernetes, and what other versions have beside it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use testbed::cache;

use crate::build::{go, root};

/// The other versions, the newest first: where two know a message, the newer one's fields go before.
const OTHERS: [&str; 6] = ["v0.38.0-beta.0", "v0.36.1", "v0.34.3", "v0.32.10", "v0.30.14", "v0.28.15"];
/// Built beside `table.go` with another version of the modules.
const MAIN: &str = r#"package main

import (
	"bufio"
	"log"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kubernetes "k8s.io/client-go/kubernetes/scheme"
)

func main() {
	if err := kubernetes.AddToScheme(scheme); err != nil {
		log.Fatal(err)
	}
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		log.Fatal(err)
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	table(out)
}
"#;

/// Makes the table of the pinned Kubernetes anew, and with `others` what the other versions add to it.
pub(crate) fn write(others: bool) -> anyhow::Result<()> {
    go("kubernetes", "protobuf", "./protobuf", "-s -w")?;
    let table = printed(Command::new(cache().join("bin/protobuf")).arg("schema"))?;
    let folder = root().join("host/wire/src/protobuf");
    let mut all = Schema::parse(&table);
    let mut more = Schema::default();
    for version in OTHERS.into_iter().filter(|_| others) {
        all.add(Schema::parse(&of_version(version)?), &mut more)?;
    }
    std::fs::write(folder.join("schema.txt"), &table)?;
    if !others {
        return Ok(());
    }
    let file = folder.join("schema-others.txt");
    std::fs::write(&file, more.text()).with_context(|| format!("cannot write {}", file.display()))
}

fn printed(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("the table cannot be made: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The table of another version, from a module of its own.
fn of_version(version: &str) -> anyhow::Result<String> {
    let folder = cache().join("schema").join(version);
    std::fs::create_dir_all(&folder)?;
    std::fs::copy(root().join("tests/go/kubernetes/protobuf/table.go"), folder.join("table.go"))?;
    std::fs::write(folder.join("main.go"), MAIN)?;
    if !folder.join("go.mod").exists() {
        let modules = ["api", "apimachinery", "client-go"].map(|name| format!("require k8s.io/{name} {version}\n"));
        std::fs::write(folder.join("go.mod"), format!("module schema\n\ngo 1.26.0\n\n{}", modules.concat()))?;
        // Modules that only tests of these need may be missing: what matters is whether it builds.
        in_module(&folder).args(["mod", "tidy", "-e"]).output()?;
    }
    // Go takes another version where it cannot have this one, and says nothing.
    let required = std::fs::read_to_string(folder.join("go.mod"))?;
    if !required.contains(&format!("k8s.io/api {version}")) {
        std::fs::remove_file(folder.join("go.mod"))?;
        bail!("k8s.io/api {version} cannot be had: try again where the Go proxy has it; the tables are as they were");
    }
    println!("   Kubernetes {version}");
    printed(in_module(&folder).args(["run", "."]))
}

fn in_module(folder: &Path) -> Command {
    let mut go = Command::new("go");
    // 1.38 asks for a newer Go than the rest, which Go fetches by itself.
    go.current_dir(folder).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=mod").env("GOTOOLCHAIN", "auto");
    go
}

/// A table whose messages are known by their names.
#[derive(Default)]
struct Schema {
    kinds: BTreeMap<(String, String), String>,
    messages: BTreeMap<String, BTreeMap<u32, [String; 3]>>,
}

impl Schema {
    fn parse(text: &str) -> Self {
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
        let names: BTreeMap<&str, &str> = words.iter().filter(|w| w[0] == "message").map(|w| (w[1], w[2])).collect();
        let by_name = |kind: &str| match kind.rsplit_once(':') {
            Some((of, index)) => format!("{of}:@{}", names[index]),
            None => names.get(kind).map_or_else(|| kind.to_owned(), |name| format!("@{name}")),
        };
        let mut schema = Self::default();
        let mut message = "";
        for word in &words {
            match word[..] {
                ["kind", version, kind, index] => {
                    schema.kinds.insert((version.into(), kind.into()), names[index].into());
                }
                ["message", _, name] => {
                    message = name;
                    schema.messages.entry(name.into()).or_default();
                }
                [number, name, flags, kind] => {
                    let fields = schema.messages.entry(message.into()).or_default();
                    fields.insert(number.parse().unwrap_or_default(), [name.into(), flags.into(), by_name(kind)]);
                }
                _ => {}
            }
        }
        schema
    }

    /// Adds what is not there yet, and tells it. Only what is reached from a kind, or from a message that was there, is of use.
    fn add(&mut self, other: Self, told: &mut Self) -> anyhow::Result<()> {
        for (kind, message) in other.kinds {
            if !self.kinds.contains_key(&kind) {
                self.kinds.insert(kind.clone(), message.clone());
                told.kinds.insert(kind, message);
            }
        }
        for (name, fields) in other.messages {
            let known = self.messages.entry(name.clone()).or_default();
            let names: BTreeSet<String> = known.values().map(|field| field[0].clone()).collect();
            let is_new = known.is_empty() && !told.messages.contains_key(&name);
            for (number, field) in fields {
                // What is known of a message is taken for all there is of that name (`protobuf/unknown.rs`): neither may a number have two names, nor a name two
                // numbers.
                match known.get(&number) {
                    Some(there) if there[0] != field[0] => {
                        bail!("{name} {number} is {} in one version and {} in another", there[0], field[0])
                    }
                    None if field[0] != "-" && names.contains(&field[0]) => bail!("{name} has {} under two numbers", field[0]),
                    _ => {}
                }
                if let Entry::Vacant(place) = known.entry(number) {
                    place.insert(field.clone());
                    told.messages.entry(name.clone()).or_default().insert(number, field);
                }
            }
            if is_new {
                told.messages.entry(name).or_default();
            }
        }
        Ok(())
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for ((version, kind), message) in &self.kinds {
            let _ = writeln!(text, "kind {version} {kind} @{message}");
        }
        for (name, fields) in &self.messages {
            let _ = writeln!(text, "message {name}");
            for (number, [name, flags, kind]) in fields {
                let _ = writeln!(text, "{number} {name} {flags} {kind}");
            }
        }
        text
    }
}
