//! The tables of types, made from upstream's by `cargo xtask schema`: those of one Kubernetes, and what others, older and newer, have beside them.

use std::collections::HashMap;
use std::sync::OnceLock;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Int,
    /// Of 32 bits, as is `Uint32`: upstream keeps those of what is longer, and says nothing.
    Int32,
    Uint,
    Uint32,
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
    /// Whether the Kubernetes of the first table does not have it: where it is not there, it is not written either.
    pub(super) elsewhere: bool,
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
    TABLE.get_or_init(|| Table::parse(include_str!("schema.txt"), include_str!("schema-others.txt")))
}

/// A message without fields.
pub(super) fn nothing() -> &'static Message {
    static NOTHING: Message = Message { name: "", fields: Vec::new() };
    &NOTHING
}

impl Table {
    /// The message of a kind.
    pub(super) fn kind(&self, api_version: &str, kind: &str) -> Option<&Message> {
        // A key of static text can only be asked for with one: the table is small enough to look through.
        let index = self.kinds.iter().find(|((v, k), _)| *k == kind && *v == api_version)?.1;
        self.messages.get(*index)
    }

    /// The fields of all messages.
    pub(super) fn fields(&self) -> impl Iterator<Item = &Field> {
        self.messages.iter().flat_map(|message| &message.fields)
    }

    /// A message by its number.
    pub(super) fn message(&self, index: usize) -> &Message {
        &self.messages[index]
    }

    /// Reads lines that the generator wrote; what it did not write is left out, and a test compares the whole with a new one.
    fn parse(text: &'static str, others: &'static str) -> Self {
        let mut table = Self::default();
        let (mut current, mut extends) = (usize::MAX, false);
        // In the second, messages are known by their names, and may have fields in the first.
        let mut names: HashMap<&str, usize> = HashMap::new();
        let named = |text: &'static str, line: &str| text.lines().filter_map(|text| text.strip_prefix(line)).collect::<Vec<_>>();
        let first = named(text, "message ").into_iter().filter_map(|message| message.split_once(' ')).map(|(_, name)| name);
        for name in first.chain(named(others, "message ")) {
            let next = names.len();
            names.entry(name).or_insert(next);
        }
        let number_of = |text: &str| text.strip_prefix('@').map_or_else(|| text.parse().ok(), |name| names.get(name).copied());
        for line in text.lines().chain(others.lines()) {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["kind", version, kind, index] => {
                    table.kinds.insert((version, kind), number_of(index).unwrap_or(usize::MAX));
                }
                ["message", index, name] if index.parse() == Ok(table.messages.len()) => {
                    current = table.messages.len();
                    table.messages.push(Message { name, fields: Vec::new() });
                }
                ["message", name] => {
                    current = names.get(name).copied().unwrap_or(usize::MAX);
                    extends = current != table.messages.len();
                    if !extends {
                        table.messages.push(Message { name, fields: Vec::new() });
                    }
                }
                [number, name, flags, kind] => {
                    if let (Some(message), Ok(number), Some(kind)) =
                        (table.messages.get_mut(current), number.parse(), Type::parse(kind, number_of))
                    {
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
                            elsewhere: extends,
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
    fn parse(text: &str, message: impl Fn(&str) -> Option<usize>) -> Option<Self> {
        Some(match text {
            "bool" => Self::Bool,
            "int" => Self::Int,
            "int32" => Self::Int32,
            "uint" => Self::Uint,
            "uint32" => Self::Uint32,
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
                Some(("propsorbool", index)) => Self::PropsOrBool(message(index)?),
                Some(("propsorarray", index)) => Self::PropsOrArray(message(index)?),
                Some(("propsorstrings", index)) => Self::PropsOrStrings(message(index)?),
                _ => Self::Message(message(text)?),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_understood() {
        let text = concat!(include_str!("schema.txt"), include_str!("schema-others.txt"));
        let table = table();
        let is_of = |line: &&str| line.starts_with("kind ") || line.starts_with("message ");
        assert_eq!(table.kinds.len(), text.lines().filter(|line| line.starts_with("kind ")).count());
        let names: std::collections::HashSet<&str> =
            text.lines().filter(|line| line.starts_with("message ")).filter_map(|line| line.rsplit(' ').next()).collect();
        assert_eq!(table.messages.iter().map(|message| message.name).collect::<std::collections::HashSet<_>>(), names);
        assert_eq!(table.messages.len(), names.len());
        let fields: usize = table.messages.iter().map(|message| message.fields.len()).sum();
        assert_eq!(fields, text.lines().filter(|line| !is_of(line)).count());
        for message in &table.messages {
            let numbers: std::collections::HashSet<u32> = message.fields.iter().map(|field| field.number).collect();
            assert_eq!(numbers.len(), message.fields.len(), "{}", message.name);
        }
        // Of 1.38 and of 1.28: what neither has is in the first table.
        for (version, kind) in [("v1", "Pod"), ("scheduling.k8s.io/v1beta1", "CompositePodGroup"), ("policy/v1beta1", "PodSecurityPolicy")]
        {
            assert!(table.kind(version, kind).is_some(), "{kind}");
        }
        assert!(table.kinds.values().all(|index| *index < table.messages.len()));
        for field in table.messages.iter().flat_map(|message| &message.fields) {
            if let Type::Message(index) | Type::PropsOrBool(index) | Type::PropsOrArray(index) | Type::PropsOrStrings(index) = field.kind {
                assert!(index < table.messages.len());
            }
        }
    }
}
