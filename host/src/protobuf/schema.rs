//! The table of types, made from upstream's by `cargo xtask schema`.

use std::collections::HashMap;
use std::sync::OnceLock;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    /// A message of strings, which JSON knows as a list.
    Strings,
    Message(usize),
    Time,
    MicroTime,
    Duration,
    Quantity,
    IntOrString,
    /// JSON, or protobuf once more.
    Raw,
    PropsOrBool(usize),
    PropsOrArray(usize),
    PropsOrStrings(usize),
}

/// A field of a message.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) kind: Type,
    pub(super) pointer: bool,
    pub(super) repeated: bool,
    pub(super) map: bool,
    pub(super) inline: bool,
    pub(super) omit_empty: bool,
    pub(super) omit_zero: bool,
}

/// A message: its fields in the order of upstream's struct.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) name: &'static str,
    pub(super) fields: Vec<Field>,
}

/// All types.
#[derive(Debug, Default)]
pub(super) struct Table {
    kinds: HashMap<(&'static str, &'static str), usize>,
    messages: Vec<Message>,
}

/// The table, read when it is first needed.
pub(super) fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| Table::parse(include_str!("schema.txt")))
}

impl Table {
    /// The message of a kind.
    pub(super) fn kind(&self, api_version: &str, kind: &str) -> Option<&Message> {
        // A key of static text can only be asked for with one: the table is small enough to look through.
        let index = self.kinds.iter().find(|((v, k), _)| *k == kind && *v == api_version)?.1;
        self.messages.get(*index)
    }

    /// A message by its number.
    pub(super) fn message(&self, index: usize) -> &Message {
        &self.messages[index]
    }

    /// Reads lines that the generator wrote; what it did not write is left out, and a test compares the whole with a new one.
    fn parse(text: &'static str) -> Self {
        let mut table = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["kind", version, kind, index] => {
                    table.kinds.insert((version, kind), index.parse().unwrap_or(usize::MAX));
                }
                ["message", index, name] if index.parse() == Ok(table.messages.len()) => {
                    table.messages.push(Message { name, fields: Vec::new() });
                }
                [number, name, flags, kind] => {
                    if let (Some(message), Ok(number), Some(kind)) = (table.messages.last_mut(), number.parse(), Type::parse(kind)) {
                        let has = |flag| flags.contains(flag);
                        message.fields.push(Field {
                            number,
                            name,
                            kind,
                            pointer: has('p'),
                            repeated: has('r'),
                            map: has('m'),
                            inline: has('i'),
                            omit_empty: has('o'),
                            omit_zero: has('z'),
                        });
                    }
                }
                _ => {}
            }
        }
        table
    }
}

impl Type {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "bool" => Self::Bool,
            "int" => Self::Int,
            "uint" => Self::Uint,
            "double" => Self::Double,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "strings" => Self::Strings,
            "time" => Self::Time,
            "microtime" => Self::MicroTime,
            "duration" => Self::Duration,
            "quantity" => Self::Quantity,
            "intorstring" => Self::IntOrString,
            "raw" => Self::Raw,
            _ => match text.split_once(':') {
                Some(("propsorbool", index)) => Self::PropsOrBool(index.parse().ok()?),
                Some(("propsorarray", index)) => Self::PropsOrArray(index.parse().ok()?),
                Some(("propsorstrings", index)) => Self::PropsOrStrings(index.parse().ok()?),
                _ => Self::Message(text.parse().ok()?),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_understood() {
        let text = include_str!("schema.txt");
        let table = table();
        let lines = |first: &str| text.lines().filter(|line| line.starts_with(first)).count();
        assert_eq!((table.kinds.len(), table.messages.len()), (lines("kind "), lines("message ")));
        let fields: usize = table.messages.iter().map(|message| message.fields.len()).sum();
        assert_eq!(fields, text.lines().count() - table.kinds.len() - table.messages.len());
        assert!(table.kinds.values().all(|index| *index < table.messages.len()));
        for field in table.messages.iter().flat_map(|message| &message.fields) {
            if let Type::Message(index) | Type::PropsOrBool(index) | Type::PropsOrArray(index) | Type::PropsOrStrings(index) = field.kind {
                assert!(index < table.messages.len());
            }
        }
    }
}
