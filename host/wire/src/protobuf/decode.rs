//! Messages, after the table: every field there is, and of those that are not there what Go's `encoding/json` writes for them.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::schema::{self, Message, Type};
use super::unknown::{PathSegment, Trace};
use super::wire::{Field, Wire};
use super::{DEEPEST, Undecodable, scalar, short};

/// A value, and whether Go would call it zero.
struct Decoded {
    value: Value,
    zero: bool,
}

impl Decoded {
    fn new(value: Value, zero: bool) -> Self {
        Self { value, zero }
    }
}

/// Decodes a message.
pub(super) fn message(message: &'static Message, bytes: &[u8], depth: usize, trace: &mut Trace) -> Result<Value, Undecodable> {
    trace.object(message, |trace| decode_message(message, &[bytes], depth, trace)).map(|decoded| decoded.value)
}

/// A message that comes in pieces is one: protobuf merges them.
fn decode_message(message: &'static Message, pieces: &[&[u8]], depth: usize, trace: &mut Trace) -> Result<Decoded, Undecodable> {
    if depth > DEEPEST {
        return Err(Undecodable::new("it is nested too deep"));
    }
    let mut found: Vec<Vec<Field<'_>>> = vec![Vec::new(); message.fields.len()];
    for piece in pieces {
        let mut wire = Wire::new(piece);
        while let Some((number, field)) = wire.next()? {
            match message.fields.iter().position(|field| field.number == number) {
                Some(index) => found[index].push(field),
                None => trace.meets(number)?,
            }
        }
    }
    let (mut object, mut zero) = (Map::new(), true);
    for (field, found) in message.fields.iter().zip(found) {
        if field.elsewhere && found.is_empty() {
            continue;
        }
        let decoded = match field.inline {
            true => decode_field(field, &found, depth, trace),
            false => trace.within(PathSegment::Name(Cow::Borrowed(field.name)), |trace| decode_field(field, &found, depth, trace)),
        };
        let decoded = decoded.map_err(|why| match why.0.contains(" of ") {
            // The innermost place says most.
            true => why,
            false => Undecodable::new(format!("{} of {}: {why}", field.name, short(message.name))),
        })?;
        zero &= decoded.zero;
        if field.inline {
            if let Value::Object(members) = decoded.value {
                object.extend(members);
            }
        } else if !(field.omit_zero && decoded.zero || field.omit_empty && is_empty(field, &decoded)) {
            object.insert(field.name.to_owned(), decoded.value);
        }
    }
    Ok(Decoded::new(Value::Object(object), zero))
}

/// What `omitempty` leaves out: false, 0, null, and empty texts, lists and maps; never a struct.
fn is_empty(field: &schema::Field, decoded: &Decoded) -> bool {
    let value = &decoded.value;
    if field.pointer {
        return decoded.zero;
    }
    if field.repeated || field.map {
        return value.is_null() || value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
    }
    match field.kind {
        Type::Bool => *value == Value::Bool(false),
        Type::Int | Type::Int32 | Type::Uint | Type::Uint32 | Type::Double => value.as_f64() == Some(0.0),
        Type::String | Type::Bytes => value.is_null() || value.as_str() == Some(""),
        Type::Strings => value.is_null() || value.as_array().is_some_and(Vec::is_empty),
        _ => false,
    }
}

fn decode_field(field: &schema::Field, found: &[Field<'_>], depth: usize, trace: &mut Trace) -> Result<Decoded, Undecodable> {
    if field.map {
        return map(field, found, depth, trace);
    }
    if field.repeated {
        return repeated(field, found, depth, trace);
    }
    if found.is_empty() {
        return Ok(if field.pointer { Decoded::new(Value::Null, true) } else { default(field.kind, depth, trace)? });
    }
    let mut decoded = match (field.inline, field.kind) {
        (true, Type::Message(index)) => inlined(index, found, depth, trace)?,
        _ => value(field.kind, found, depth, trace)?,
    };
    // A pointer that is there is not zero, whatever it points to.
    decoded.zero &= !field.pointer;
    Ok(decoded)
}

/// A message whose members are those of the object around it.
fn inlined(index: usize, found: &[Field<'_>], depth: usize, trace: &mut Trace) -> Result<Decoded, Undecodable> {
    let pieces = found.iter().map(bytes_of).collect::<Result<Vec<_>, _>>()?;
    decode_message(schema::table().message(index), &pieces, depth + 1, trace)
}

fn repeated(field: &schema::Field, found: &[Field<'_>], depth: usize, trace: &mut Trace) -> Result<Decoded, Undecodable> {
    let mut list = Vec::new();
    for one in found {
        match (field.kind, one) {
            (Type::Int | Type::Int32 | Type::Uint | Type::Uint32 | Type::Bool, Field::Bytes(packed)) => {
                let mut packed = Wire::new(packed);
                while let Some(number) = packed.packed()? {
                    list.push(value(field.kind, &[Field::Varint(number)], depth, trace)?.value);
                }
            }
            _ => {
                let element =
                    trace.within(PathSegment::Index(list.len()), |trace| value(field.kind, std::slice::from_ref(one), depth, trace))?;
                list.push(element.value);
            }
        }
    }
    Ok(if found.is_empty() { Decoded::new(Value::Null, true) } else { Decoded::new(Value::Array(list), false) })
}

fn map(field: &schema::Field, found: &[Field<'_>], depth: usize, trace: &mut Trace) -> Result<Decoded, Undecodable> {
    if found.is_empty() {
        return Ok(Decoded::new(Value::Null, true));
    }
    let mut members = Map::new();
    for entry in found {
        let mut wire = Wire::new(bytes_of(entry)?);
        let (mut key, mut values) = (String::new(), Vec::new());
        while let Some((number, field)) = wire.next()? {
            match number {
                1 => key = scalar::string(bytes_of(&field)?)?,
                2 => values.push(field),
                _ => return Err(Undecodable::new(format!("an entry has a field {number} that nobody knows"))),
            }
        }
        let value = match (values.last(), field.kind) {
            (None, Type::Bytes) => Value::String(String::new()),
            (None, Type::Strings) => Value::Array(Vec::new()),
            (None, kind) => default(kind, depth, trace)?.value,
            // Upstream reads a value anew each time it comes.
            (
                Some(last),
                kind @ (Type::Message(_) | Type::PropsOrBool(_) | Type::PropsOrArray(_) | Type::PropsOrStrings(_) | Type::Raw),
            ) => {
                trace
                    .within(PathSegment::Name(Cow::Owned(key.clone())), |trace| value(kind, std::slice::from_ref(last), depth, trace))?
                    .value
            }
            (Some(last), kind) => value(kind, std::slice::from_ref(last), depth, trace)?.value,
        };
        members.insert(key, value);
    }
    Ok(Decoded::new(Value::Object(members), false))
}

fn bytes_of<'a>(field: &Field<'a>) -> Result<&'a [u8], Undecodable> {
    match field {
        Field::Bytes(bytes) => Ok(bytes),
        _ => Err(Undecodable::new("a number stands where text or a message is")),
    }
}

/// What a field that is not there is.
fn default(kind: Type, depth: usize, trace: &mut Trace) -> Result<Decoded, Undecodable> {
    Ok(match kind {
        Type::Bool => Decoded::new(false.into(), true),
        Type::Int | Type::Int32 | Type::Uint | Type::Uint32 | Type::Double | Type::IntOrString => Decoded::new(0.into(), true),
        Type::String => Decoded::new("".into(), true),
        Type::Bytes | Type::Strings | Type::Time | Type::MicroTime | Type::Raw => Decoded::new(Value::Null, true),
        Type::Duration => Decoded::new("0s".into(), true),
        Type::Quantity => Decoded::new("0".into(), true),
        Type::Message(index) => object(index, &[], depth, trace)?,
        Type::PropsOrBool(_) => Decoded::new(false.into(), true),
        Type::PropsOrArray(_) | Type::PropsOrStrings(_) => Decoded::new(Value::Null, true),
    })
}

/// A message with an object of its own.
fn object(index: usize, pieces: &[&[u8]], depth: usize, trace: &mut Trace) -> Result<Decoded, Undecodable> {
    let message = schema::table().message(index);
    trace.object(message, |trace| decode_message(message, pieces, depth + 1, trace))
}

/// Whether a value is a message that upstream reads on in where it comes again, as if all pieces were one. A time begins anew, as what is no message does.
fn is_merged(kind: Type) -> bool {
    matches!(
        kind,
        Type::Duration
            | Type::Quantity
            | Type::IntOrString
            | Type::Raw
            | Type::Strings
            | Type::PropsOrBool(_)
            | Type::PropsOrArray(_)
            | Type::PropsOrStrings(_)
    )
}

/// A value; of several the last counts, and messages are merged.
fn value(kind: Type, found: &[Field<'_>], depth: usize, trace: &mut Trace) -> Result<Decoded, Undecodable> {
    let Some(last) = found.last() else { return default(kind, depth, trace) };
    let joined;
    let last = match found.len() > 1 && is_merged(kind) {
        true => {
            joined = found.iter().map(bytes_of).collect::<Result<Vec<_>, _>>()?.concat();
            &Field::Bytes(&joined)
        }
        false => last,
    };
    let number = || match last {
        Field::Varint(number) => Ok(*number),
        _ => Err(Undecodable::new("something else stands where a number is")),
    };
    Ok(match kind {
        Type::Bool => Decoded::new((number()? != 0).into(), number()? == 0),
        Type::Int => Decoded::new(number()?.cast_signed().into(), number()? == 0),
        Type::Int32 => Decoded::new((number()? as i32).into(), number()? as i32 == 0),
        Type::Uint => Decoded::new(number()?.into(), number()? == 0),
        Type::Uint32 => Decoded::new((number()? as u32).into(), number()? as u32 == 0),
        Type::Double => match last {
            Field::Fixed64(bits) => Decoded::new(scalar::double(*bits)?, f64::from_bits(*bits) == 0.0),
            _ => return Err(Undecodable::new("something else stands where a number is")),
        },
        Type::String => {
            let text = scalar::string(bytes_of(last)?)?;
            let zero = text.is_empty();
            Decoded::new(text.into(), zero)
        }
        Type::Bytes => Decoded::new(scalar::bytes(bytes_of(last)?), false),
        Type::Strings => {
            let mut list = Vec::new();
            let mut wire = Wire::new(bytes_of(last)?);
            while let Some((number, field)) = wire.next()? {
                if number != 1 {
                    return Err(Undecodable::new(format!("a list has a field {number} that nobody knows")));
                }
                list.push(Value::String(scalar::string(bytes_of(&field)?)?));
            }
            Decoded::new(Value::Array(list), false)
        }
        Type::Message(index) => {
            let pieces = found.iter().map(bytes_of).collect::<Result<Vec<_>, _>>()?;
            object(index, &pieces, depth, trace)?
        }
        Type::Time | Type::MicroTime => match scalar::time(bytes_of(last)?, kind == Type::MicroTime)? {
            Some(time) => Decoded::new(time, false),
            None => Decoded::new(Value::Null, true),
        },
        Type::Duration => {
            let [Some(Field::Varint(nanos))] = fields(last, [1])? else { return default(kind, depth, trace) };
            Decoded::new(scalar::duration(nanos.cast_signed()).into(), nanos == 0)
        }
        Type::Quantity => match fields(last, [1])? {
            [Some(text)] => {
                let text = scalar::string(bytes_of(&text)?)?;
                let zero = text == "0";
                Decoded::new(text.into(), zero)
            }
            [None] => default(kind, depth, trace)?,
        },
        Type::IntOrString => {
            let [which, number, text] = fields(last, [1, 2, 3])?;
            match which {
                None | Some(Field::Varint(0)) => match number {
                    Some(Field::Varint(number)) => Decoded::new(i64::from(number as i32).into(), false),
                    _ => Decoded::new(0.into(), true),
                },
                Some(Field::Varint(1)) => Decoded::new(scalar::string(text.as_ref().map_or(Ok(&[][..]), bytes_of)?)?.into(), false),
                _ => return Err(Undecodable::new("it is neither a number nor a text")),
            }
        }
        Type::Raw => raw(last, depth, trace)?,
        Type::PropsOrBool(_) | Type::PropsOrArray(_) | Type::PropsOrStrings(_) => props(kind, last, depth, trace)?,
    })
}

/// The fields of a small message, the last of each.
fn fields<'a, const N: usize>(field: &Field<'a>, numbers: [u32; N]) -> Result<[Option<Field<'a>>; N], Undecodable> {
    let mut found = [None; N];
    let mut wire = Wire::new(bytes_of(field)?);
    while let Some((number, field)) = wire.next()? {
        let index = numbers.iter().position(|known| *known == number);
        found[index.ok_or_else(|| Undecodable::new(format!("it has a field {number} that nobody knows")))?] = Some(field);
    }
    Ok(found)
}

/// An object within an object: JSON as it is, or protobuf once more.
fn raw(field: &Field<'_>, depth: usize, trace: &mut Trace) -> Result<Decoded, Undecodable> {
    let [raw] = fields(field, [1])?;
    let raw = raw.as_ref().map_or(Ok(&[][..]), bytes_of)?;
    if raw.is_empty() {
        return Ok(Decoded::new(Value::Null, true));
    }
    if raw.starts_with(super::PREFIX) {
        return Ok(Decoded::new(super::decode_at(raw, depth + 1, trace)?, false));
    }
    let value = crate::json::read(raw).map_err(|why| {
        Undecodable::new(format!("an object within it is neither protobuf nor JSON that can be read in one way only: {why}"))
    })?;
    Ok(Decoded::new(value, false))
}

/// The three types of `apiextensions.k8s.io` that are one thing or another (`types_jsonschema.go`, `marshal.go`).
fn props(kind: Type, field: &Field<'_>, depth: usize, trace: &mut Trace) -> Result<Decoded, Undecodable> {
    let (Type::PropsOrBool(index) | Type::PropsOrArray(index) | Type::PropsOrStrings(index)) = kind else {
        return default(kind, depth, trace);
    };
    let (mut number, mut one, mut list) = (None, Vec::new(), Vec::new());
    let mut wire = Wire::new(bytes_of(field)?);
    while let Some((at, field)) = wire.next()? {
        match (kind, at) {
            (Type::PropsOrBool(_), 1) => number = Some(field),
            (Type::PropsOrBool(_), 2) | (_, 1) => one.push(bytes_of(&field)?),
            (_, 2) => list.push(bytes_of(&field)?),
            _ => return Err(Undecodable::new(format!("it has a field {at} that nobody knows"))),
        }
    }
    let value = match kind {
        Type::PropsOrArray(_) if !list.is_empty() => {
            let element =
                |(at, piece): (usize, &&[u8])| trace.within(PathSegment::Index(at), |trace| object(index, &[*piece], depth, trace));
            let elements = list.iter().enumerate().map(element).map(|decoded| decoded.map(|decoded| decoded.value));
            elements.collect::<Result<Vec<_>, _>>()?.into()
        }
        Type::PropsOrStrings(_) if !list.is_empty() => list.iter().map(|text| scalar::string(text)).collect::<Result<Vec<_>, _>>()?.into(),
        _ if !one.is_empty() => object(index, &one, depth, trace)?.value,
        Type::PropsOrBool(_) => Value::Bool(matches!(number, Some(Field::Varint(number)) if number != 0)),
        _ => Value::Null,
    };
    Ok(Decoded::new(value, false))
}
