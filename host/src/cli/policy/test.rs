//! `postern policy test`: cases are tried, differences told, and what no case reaches.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use clap::Args;

use super::branches::Branches;
use super::check::rule_text;
use super::{build, read};
use crate::cli::table::printable;
use crate::cli::terminal::say;
use crate::policy::{Hook, Policy};
use crate::rehearse::cases::{CaseFile, Tried};
use crate::rehearse::{PolicyOutput, Stage};

/// How often files are looked at that a person is editing.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Tries the cases of a folder.
#[derive(Args)]
pub struct Test {
    /// A policy's folder, or a directory of modules with `NAME.cases.yaml` beside them.
    #[arg(default_value = ".")]
    directory: PathBuf,
    /// The module, where it is not the one that the folder builds.
    #[arg(long)]
    module: Option<PathBuf>,
    /// Tries them again whenever a file changes.
    #[arg(long)]
    watch: bool,
    /// Writes the results to this file too, in JUnit's XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// The cases of one file, tried.
pub(super) struct Run {
    pub(super) file: PathBuf,
    pub(super) tried: Vec<Tried>,
    policy: Option<Arc<Policy>>,
}

impl Run {
    pub(super) fn passed(&self) -> usize {
        self.tried.iter().filter(|tried| tried.differences.is_empty()).count()
    }
}

impl Test {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let stage = Stage::open()?;
        if !self.watch {
            return self.once(&stage);
        }
        loop {
            let before = newest(&self.directory);
            if let Err(error) = self.once(&stage) {
                say!("{error:#}");
            }
            say!("\nwaiting for changes ...");
            std::io::stdout().flush()?;
            while newest(&self.directory) == before {
                std::thread::sleep(LOOK_EVERY);
            }
        }
    }

    fn once(&self, stage: &Stage) -> anyhow::Result<()> {
        let mut runs = Vec::new();
        for (module, cases) in self.files()? {
            let bytes = read(&module)?;
            for file in cases {
                runs.push(try_file(stage, &bytes, &file)?);
            }
        }
        runs.iter().for_each(print);
        let (all, passed): (usize, usize) = (runs.iter().map(|run| run.tried.len()).sum(), runs.iter().map(Run::passed).sum());
        coverage(&runs);
        if let Some(file) = &self.junit {
            std::fs::write(file, junit(&runs)).with_context(|| format!("cannot write {}", file.display()))?;
        }
        say!("{passed} of {all} cases as expected");
        match all - passed {
            0 if all == 0 => bail!("there are no cases"),
            0 => Ok(()),
            1 => bail!("1 case differs"),
            differ => bail!("{differ} cases differ"),
        }
    }

    /// Modules, and the case files of each.
    fn files(&self) -> anyhow::Result<Vec<(PathBuf, Vec<PathBuf>)>> {
        let mut own: Vec<PathBuf> = listed(&self.directory)?.into_iter().filter(|file| is_yaml(file) && stem_is(file, "cases")).collect();
        if let Ok(more) = listed(&self.directory.join("cases")) {
            own.extend(more.into_iter().filter(|file| is_yaml(file)));
        }
        if !own.is_empty() {
            // What is wrong with them is said before anything is built.
            for file in &own {
                cases_in(file)?;
            }
            let module = match &self.module {
                Some(module) => module.clone(),
                None => {
                    let module = build::build(&self.directory)?;
                    // The one that knows its lines, where the language has two.
                    Some(build::traced(&module)).filter(|traced| traced.exists()).unwrap_or(module)
                }
            };
            return Ok(vec![(module, own)]);
        }
        let modules = listed(&self.directory)?.into_iter().filter(|file| file.extension().is_some_and(|e| e == "wasm"));
        let found: Vec<_> = modules.filter_map(|module| cases_of(&module).map(|cases| (module, vec![cases]))).collect();
        if found.is_empty() {
            bail!("{} has no cases.yaml, no cases/*.yaml and no NAME.cases.yaml beside a NAME.wasm", self.directory.display());
        }
        Ok(found)
    }
}

/// The case file beside a module.
pub(super) fn cases_of(module: &Path) -> Option<PathBuf> {
    Some(module.with_extension("cases.yaml")).filter(|file| file.is_file())
}

/// Reads a file of cases.
pub(super) fn cases_in(file: &Path) -> anyhow::Result<CaseFile> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    CaseFile::parse(&text).with_context(|| file.display().to_string())
}

pub(super) fn try_file(stage: &Stage, module: &[u8], file: &Path) -> anyhow::Result<Run> {
    let cases = cases_in(file)?;
    let mut run = Run { file: file.to_owned(), tried: Vec::new(), policy: None };
    for (index, case) in cases.cases.iter().enumerate() {
        match case.try_with(stage, module, &cases, index) {
            Ok((tried, policy)) => {
                run.tried.push(tried);
                run.policy = Some(policy);
            }
            Err(error) => run.tried.push(Tried { name: case.name.clone(), differences: vec![format!("{error:#}")], ..Tried::default() }),
        }
    }
    Ok(run)
}

fn print(run: &Run) {
    say!("{}", run.file.display());
    for tried in &run.tried {
        let mark = if tried.differences.is_empty() { "ok" } else { "DIFFERS" };
        say!("  {mark:<8} {}", tried.name);
        tried.differences.iter().for_each(|difference| say!("             {difference}"));
        tried.written.iter().for_each(|said| tell(said, "             "));
    }
}

/// Why a policy failed, and what it wrote, line by line after the hook in which it did.
pub(super) fn tell(said: &PolicyOutput, indent: &str) {
    if let Some(fault) = &said.fault {
        say!("{indent}{}", printable(fault));
    }
    said.text.lines().for_each(|line| say!("{indent}{}| {}", said.hook.name(), printable(line)));
}

/// What no case reaches: rules, and hooks.
fn coverage(runs: &[Run]) {
    let reached: BTreeSet<usize> = runs.iter().flat_map(|run| &run.tried).flat_map(|tried| tried.rules.iter().copied()).collect();
    let verdicts: BTreeSet<&str> =
        runs.iter().flat_map(|run| &run.tried).flat_map(|tried| tried.verdicts.iter().map(String::as_str)).collect();
    let Some(policy) = runs.iter().find_map(|run| run.policy.as_ref()) else { return };
    let rules = &policy.manifest.rules;
    say!("\nrules    {} of {} reached", reached.len(), rules.len().max(reached.len()));
    for (_, rule) in rules.iter().enumerate().filter(|(at, _)| !reached.contains(at)) {
        say!("         not reached: {}", rule_text(rule));
    }
    if let Some(branches) = Branches::of(runs.iter().flat_map(|run| &run.tried)) {
        branches.lines().iter().for_each(|line| say!("{line}"));
    }
    say!("verdicts {}", verdicts.into_iter().collect::<Vec<_>>().join(", "));
    if policy.has(Hook::OnChunk)
        && !runs.iter().flat_map(|run| &run.tried).any(|tried| tried.verdicts.contains("forward") || tried.verdicts.contains("replace"))
    {
        say!("hooks    on-chunk is not reached by any case");
    }
    say!("");
}

/// JUnit's XML, as CI systems read it.
fn junit(runs: &[Run]) -> String {
    let escape = |text: &str| {
        let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
    };
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for run in runs {
        let name = escape(&run.file.display().to_string());
        xml += &format!("  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{}\">\n", run.tried.len(), run.tried.len() - run.passed());
        for tried in &run.tried {
            let head =
                format!("    <testcase classname=\"{name}\" name=\"{}\" time=\"{:.6}\"", escape(&tried.name), tried.took.as_secs_f64());
            xml += &match tried.differences.first() {
                None => format!("{head}/>\n"),
                Some(first) => {
                    format!(
                        "{head}>\n      <failure message=\"{}\">{}</failure>\n    </testcase>\n",
                        escape(first),
                        escape(&tried.differences.join("; "))
                    )
                }
            };
        }
        xml += "  </testsuite>\n";
    }
    xml + "</testsuites>\n"
}

fn listed(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    Ok(files)
}

fn is_yaml(file: &Path) -> bool {
    file.extension().is_some_and(|e| e == "yaml" || e == "yml")
}

fn stem_is(file: &Path, stem: &str) -> bool {
    file.file_stem().is_some_and(|own| own == stem)
}

/// When something in a folder, or one folder down, changed last: what is built is not looked at.
fn newest(directory: &Path) -> Option<SystemTime> {
    let files = |directory: &Path| -> Vec<PathBuf> { listed(directory).unwrap_or_default() };
    let sources = [directory.to_owned(), directory.join("src"), directory.join("cases")];
    let is_source = |file: &PathBuf| file.extension().is_none_or(|e| e != "wasm");
    sources.iter().flat_map(|directory| files(directory)).filter(is_source).filter_map(|file| file.metadata().ok()?.modified().ok()).max()
}
