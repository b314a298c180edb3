//! The project's commands: `cargo xtask demo`, `cargo xtask test`, and the tasks beneath them.

mod agent;
mod bindings;
mod build;
mod clients;
mod demo;
mod fuzz;
mod play;
mod policies;
mod release;
mod schema;
mod sessions;

use clap::{Parser, Subcommand};

/// The project's commands.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Xtask {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds what is needed, starts a cluster with a gateway before it, shows it working, and stays up.
    Demo {
        /// Plays the scenes and ends; status 0 only if each showed what it should.
        #[arg(long)]
        once: bool,
    },
    /// Runs every test, against the real parts.
    Test {
        /// Another build of the gateway, to run the end-to-end tests with: those, and no others.
        #[arg(long)]
        program: Option<std::path::PathBuf>,
        /// An older kube-apiserver, to run the end-to-end tests against: those, and no others.
        #[arg(long, conflicts_with = "program", value_parser = ["1.34", "1.36"])]
        kubernetes: Option<String>,
        /// With either, which of them: words of their names; all when none is given.
        #[arg(last = true)]
        tests: Vec<String>,
    },
    /// Measures the API server alone, nginx and Postern on the same work; the last line printed is the file of results.
    Bench {
        /// Plays each case once and briefly: to see that it works, not to measure.
        #[arg(long)]
        quick: bool,
        /// Another build of the gateway, with policies, as a further one of those compared: what a change of the code does shows in one run only.
        #[arg(long)]
        against: Option<std::path::PathBuf>,
        /// How often each takes its turn; 3 unless told.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: Option<u32>,
        /// Cases; all when none is named.
        cases: Vec<String>,
    },
    /// Looks for an input that a parser of what peers send does not bear, by libFuzzer; the tests do it for some seconds each.
    Fuzz {
        /// How long, for each target.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Stores inputs that reach new code in `fuzz/corpus`.
        #[arg(long)]
        keep: bool,
        /// Targets, by their files in `fuzz/corpus`; all when none is named.
        targets: Vec<String>,
    },
    /// Builds what the tests and the demo need, and nothing else.
    Build,
    /// Builds the gateway as it is shipped, guided by a profile of itself at work; the last line printed is the program.
    Release {
        /// A profile that an earlier run left as `release/postern.profdata` in the cache: it is used again, and nothing is counted.
        #[arg(long)]
        profile: Option<std::path::PathBuf>,
        /// Without what authors of policies need (`postern policy new`, `build`, `test` and others): `postern-gateway`, for machines that serve.
        #[arg(long)]
        serves_only: bool,
    },
    /// Makes the table that protobuf is decoded with, after the pinned version of Kubernetes changed.
    Schema {
        /// What other versions of Kubernetes add to it too, which is fetched from their modules.
        #[arg(long)]
        others: bool,
    },
    /// Makes what is derived from the contract, after it changed: the bindings of the C template, and its page of reference.
    Bindings,
    /// A cluster and a gateway in the background.
    #[command(subcommand)]
    Testbed(Testbed),
    /// Holds a testbed until it is told to end. Used by `testbed up`.
    #[command(hide = true)]
    Hold {
        /// Its directory.
        directory: std::path::PathBuf,
    },
}

#[derive(Subcommand)]
enum Testbed {
    /// Starts one and prints where things are.
    Up {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Ends every testbed of this user, or the one in a directory.
    Down {
        /// Its `directory`, as `up` printed it.
        directory: Option<std::path::PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    match Xtask::parse().command {
        Command::Build => build::everything(),
        Command::Release { profile, serves_only } => {
            build::everything()?;
            release::run(profile, serves_only)
        }
        Command::Demo { once } => {
            build::everything()?;
            demo::run(once)
        }
        Command::Schema { others } => schema::write(others),
        Command::Bindings => bindings::write(),
        Command::Test { program, kubernetes, tests } => {
            build::everything()?;
            let tests: Vec<&str> = tests.iter().map(String::as_str).collect();
            match (program, kubernetes) {
                (Some(program), _) => build::run_end_to_end(&program, &tests, &[]),
                (None, Some(version)) => build::run_against(&version, &tests),
                (None, None) if !tests.is_empty() => anyhow::bail!("name tests together with --program or --kubernetes, or use cargo test"),
                (None, None) => build::run_tests(),
            }
        }
        Command::Fuzz { seconds, keep, targets } => fuzz::run(&targets, seconds, keep),
        Command::Bench { quick, against, rounds, mut cases } => {
            build::everything()?;
            if quick {
                cases.push("--quick".into());
            }
            cases.extend(against.map(|file| format!("--against={}", file.display())));
            cases.extend(rounds.map(|rounds| format!("--rounds={rounds}")));
            build::run_bench(&cases, &[])
        }
        Command::Testbed(Testbed::Up { json }) => {
            build::everything()?;
            demo::up(json)
        }
        Command::Testbed(Testbed::Down { directory }) => demo::down(directory),
        Command::Hold { directory } => demo::hold(&directory),
    }
}
