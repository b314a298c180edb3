//! How what is listed is written: the same flags, and the same five forms, for every command that lists.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::table::{self, printable};
use super::terminal::say;

/// Columns of names that may be long, as those of ServiceAccounts: of these the end tells more than the beginning.
const OF_CALLERS: [&str; 3] = ["CALLER", "REQUESTER", "USER"];

/// The flags.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(super) struct Output {
    /// How they are written.
    #[arg(id = "output", long = "output", short = 'o', value_enum, default_value_t)]
    form: Form,
    /// Prints JSON: `-o json`.
    #[arg(long, hide = true, conflicts_with = "output")]
    json: bool,
    /// Without the line that names the columns.
    #[arg(long)]
    no_headers: bool,
}

/// How what is listed is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// In columns; on a terminal no wider than it is.
    #[default]
    Table,
    /// In more columns, whole.
    Wide,
    /// In JSON.
    Json,
    /// In YAML.
    Yaml,
    /// Their names, or ids.
    Name,
}

/// One of what is listed.
pub(super) struct Listed {
    /// What it is called by.
    pub(super) name: String,
    /// All of it.
    pub(super) whole: Value,
    /// What the columns show, and those of [`Form::Wide`] after them.
    pub(super) cells: Vec<String>,
    pub(super) wide: Vec<String>,
}

/// The names of the columns, and of those that [`Form::Wide`] has after them.
pub(super) struct Heads<'h>(pub(super) &'h [&'h str], pub(super) &'h [&'h str]);

impl Output {
    /// How it is to be written.
    pub(super) fn form(self) -> Form {
        if self.json { Form::Json } else { self.form }
    }

    /// Whether it is for people, who are told also that there is nothing.
    pub(super) fn is_for_people(self) -> bool {
        matches!(self.form(), Form::Table | Form::Wide)
    }

    /// Whether the columns are named.
    pub(super) fn has_headers(self) -> bool {
        !self.no_headers
    }

    /// All columns, whole.
    pub(super) fn wide() -> Self {
        Self { form: Form::Wide, ..Self::default() }
    }

    /// The same with the columns named, or not.
    pub(super) fn with_headers(self, has_headers: bool) -> Self {
        Self { no_headers: !has_headers, ..self }
    }

    /// Writes them: a line of JSON each, a document of YAML each, a name each, or columns.
    pub(super) fn list(self, heads: &Heads<'_>, items: &[Listed]) -> anyhow::Result<()> {
        match self.form() {
            Form::Json => items.iter().for_each(|item| say!("{}", item.whole)),
            Form::Yaml => {
                for (at, item) in items.iter().enumerate() {
                    let text = serde_saphyr::to_string(&item.whole)?;
                    say!("{}{}", if at == 0 { "" } else { "---\n" }, text.trim_end());
                }
            }
            Form::Name => items.iter().for_each(|item| say!("{}", printable(&item.name))),
            Form::Table | Form::Wide => {
                let is_wide = self.form() == Form::Wide;
                let joined = |cells: &[String], wide: &[String]| -> Vec<String> {
                    cells.iter().chain(wide.iter().filter(|_| is_wide)).map(|cell| printable(cell)).collect()
                };
                let named = |heads: &[&str]| -> Vec<String> { heads.iter().map(|&head| head.to_owned()).collect() };
                let head = self.has_headers().then(|| joined(&named(heads.0), &named(heads.1)));
                let mut rows: Vec<_> = head.into_iter().chain(items.iter().map(|item| joined(&item.cells, &item.wide))).collect();
                if is_wide {
                    table::print(&rows);
                    return Ok(());
                }
                if let Some(name) = heads.0.iter().position(|head| OF_CALLERS.contains(head)) {
                    table::narrow(&mut rows, name);
                }
                table::print_cut(&rows);
            }
        }
        Ok(())
    }

    /// Writes one thing that is listed as a whole, where it is asked for as JSON or YAML; otherwise it is for [`Output::list`].
    pub(super) fn whole(self, value: &impl serde::Serialize) -> anyhow::Result<bool> {
        match self.form() {
            Form::Json => say!("{}", serde_json::to_string_pretty(value)?),
            Form::Yaml => say!("{}", serde_saphyr::to_string(value)?.trim_end()),
            Form::Table | Form::Wide | Form::Name => return Ok(false),
        }
        Ok(true)
    }
}
