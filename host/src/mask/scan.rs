//! One pass over an object's bytes: what no mask names is copied as it is, what one names is written anew.

use std::fmt;
use std::ops::Range;

use super::plan::{At, Plan, Report, Transform};
use super::raw::{member, select, skip_space, skip_string, skip_value};
use super::sweep::Values;
use super::{path, placeholder};

/// Deepest nesting read. kube-apiserver's own objects are far below.
const DEEPEST: usize = 256;
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A body a mask must read and cannot. It is an error, never passed unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Not JSON.
    Malformed,
    /// Nested too deep.
    TooDeep,
    /// One object is over the limit.
    TooLarge,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "it is not JSON",
            Self::TooDeep => "it is nested too deep",
            Self::TooLarge => "one object is over limits.object",
        })
    }
}

impl std::error::Error for Unreadable {}

impl Plan {
    /// Masks one object, appending it to `out`. `partial` says that the server sent only its metadata, so that conditions on
    /// other fields cannot be told and are taken to hold.
    pub fn apply(&self, object: &[u8], resource: &str, partial: bool, out: &mut Vec<u8>, report: &mut Report) -> Result<(), Unreadable> {
        self.apply_collecting(object, resource, partial, out, report, &mut Values::default())
    }

    /// Masks one row of a Table: its object, and what of it shows in the cells. The object is written as the client asked.
    pub fn apply_row(
        &self,
        row: &[u8],
        resource: &str,
        include: RowObject,
        out: &mut Vec<u8>,
        report: &mut Report,
    ) -> Result<(), Unreadable> {
        let object = member(row, b"object")?.unwrap_or(b"null");
        let mut values = Values::default();
        let mut masked = Vec::with_capacity(object.len());
        self.apply_collecting(object, resource, false, &mut masked, report, &mut values)?;
        let mut cells = serde_json::from_slice(member(row, b"cells")?.unwrap_or(b"[]")).map_err(|_| Unreadable::Malformed)?;
        self.hide_cells(&mut cells, &values, report);
        out.extend_from_slice(b"{\"cells\":");
        serde_json::to_writer(&mut *out, &cells).map_err(|_| Unreadable::Malformed)?;
        if let Some(conditions) = member(row, b"conditions")? {
            out.extend_from_slice(b",\"conditions\":");
            out.extend_from_slice(conditions);
        }
        match include {
            RowObject::None => {}
            RowObject::Object => {
                out.extend_from_slice(b",\"object\":");
                out.extend_from_slice(&masked);
            }
            RowObject::Metadata => {
                out.extend_from_slice(b",\"object\":{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":");
                out.extend_from_slice(member(&masked, b"metadata")?.unwrap_or(b"{}"));
                out.push(b'}');
            }
        }
        out.push(b'}');
        Ok(())
    }

    fn hide_cells(&self, cells: &mut serde_json::Value, values: &Values, report: &mut Report) {
        match cells {
            serde_json::Value::String(text) => {
                let hidden = values.hide(text).into_owned();
                *text = self.hide_text(&hidden, report).unwrap_or(hidden);
            }
            serde_json::Value::Array(list) => list.iter_mut().for_each(|cell| self.hide_cells(cell, values, report)),
            serde_json::Value::Object(map) => map.values_mut().for_each(|cell| self.hide_cells(cell, values, report)),
            number => {
                let hidden = values.hide(&number.to_string()) == placeholder::MARKER;
                if hidden {
                    *number = 0.into();
                }
            }
        }
    }

    fn apply_collecting(
        &self,
        object: &[u8],
        resource: &str,
        partial: bool,
        out: &mut Vec<u8>,
        report: &mut Report,
        values: &mut Values,
    ) -> Result<(), Unreadable> {
        let mut active = 0u64;
        for (index, field) in self.fields.iter().enumerate() {
            let mut holds = true;
            for (path, equal, value) in if partial { &[] } else { field.when.as_slice() } {
                holds &= condition(object, path, value)? == *equal;
            }
            active |= u64::from(holds) << index;
        }
        let is_secret = resource == "secrets" || member(object, b"kind")? == Some(b"\"Secret\"");
        let mut scan =
            Scan { plan: self, src: object, pos: 0, copied: 0, out, active, report, values, annotations: Vec::new(), resource, partial };
        let states = if active == 0 { 0 } else { self.start };
        scan.value(states, Place::Root { is_secret }, None, 0)?;
        scan.pos = skip_space(object, scan.pos);
        if scan.pos != object.len() {
            return Err(Unreadable::Malformed);
        }
        scan.flush(object.len());
        scan.hide_in_annotations()
    }
}

/// What a Table's client asked to find in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RowObject {
    /// Nothing.
    None,
    /// The object's metadata, the default.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

fn condition(object: &[u8], path: &path::Path, value: &str) -> Result<bool, Unreadable> {
    let mut found = Vec::new();
    select(&object[skip_space(object, 0)..], path.steps(), &mut found, DEEPEST)?;
    Ok(found.iter().any(|raw| match serde_json::from_slice::<String>(raw) {
        Ok(text) => text == value,
        Err(_) => *raw == value.as_bytes(),
    }))
}

/// Where in an object the scanner is, as far as the type of a value depends on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root {
        is_secret: bool,
    },
    Metadata,
    Annotations,
    /// The values below are base64.
    Bytes,
    Other,
}

struct Scan<'a, 'o> {
    plan: &'a Plan,
    src: &'a [u8],
    pos: usize,
    /// Everything before this is in `out` already.
    copied: usize,
    out: &'o mut Vec<u8>,
    active: u64,
    report: &'o mut Report,
    values: &'o mut Values,
    /// Spans in `out` of annotation values, and whether each is the last-applied configuration.
    annotations: Vec<(Range<usize>, bool)>,
    resource: &'a str,
    partial: bool,
}

impl Scan<'_, '_> {
    /// Passes the value at `pos`. With `hide` every leaf of it is hidden.
    fn value(&mut self, states: u128, place: Place, hide: Option<usize>, depth: usize) -> Result<(), Unreadable> {
        if depth > DEEPEST {
            return Err(Unreadable::TooDeep);
        }
        self.pos = skip_space(self.src, self.pos);
        let start = self.pos;
        let looks_at_strings = !self.plan.texts.is_empty();
        let matters =
            states != 0 || hide.is_some() || looks_at_strings || matches!(place, Place::Root { .. } | Place::Metadata | Place::Annotations);
        match self.src.get(start).ok_or(Unreadable::Malformed)? {
            b'{' if matters => self.object(states, place, hide, depth),
            b'[' if matters => self.array(states, place, hide, depth),
            b'"' => {
                self.pos = skip_string(self.src, start)?;
                match hide {
                    Some(field) => self.hide_string(start, place, field),
                    None if looks_at_strings => self.hide_text(start, place),
                    None => Ok(()),
                }
            }
            first => {
                self.pos = skip_value(self.src, start)?;
                match (hide, first) {
                    (Some(field), b'0'..=b'9' | b'-') => {
                        self.values.add(&String::from_utf8_lossy(&self.src[start..self.pos]), false);
                        self.write(start, b"0", field)
                    }
                    (Some(field), b't' | b'f') => self.write(start, b"false", field),
                    _ => {}
                }
                Ok(())
            }
        }
    }

    fn object(&mut self, states: u128, place: Place, hide: Option<usize>, depth: usize) -> Result<(), Unreadable> {
        let mut delimiter = self.pos;
        let mut kept = false;
        self.pos = skip_space(self.src, self.pos + 1);
        while self.src.get(self.pos) != Some(&b'}') {
            let key_start = self.pos;
            if self.src.get(key_start) != Some(&b'"') {
                return Err(Unreadable::Malformed);
            }
            self.pos = skip_string(self.src, key_start)?;
            let written = &self.src[key_start..self.pos];
            let decoded: String;
            let key = if memchr::memchr(b'\\', written).is_some() {
                decoded = serde_json::from_slice(written).map_err(|_| Unreadable::Malformed)?;
                decoded.as_bytes()
            } else {
                &written[1..written.len() - 1]
            };
            self.pos = skip_space(self.src, self.pos);
            if self.src.get(self.pos) != Some(&b':') {
                return Err(Unreadable::Malformed);
            }
            self.pos = skip_space(self.src, self.pos + 1);
            let (next, hit) = if states == 0 { (0, None) } else { self.plan.step(states, self.active, At::Name(key)) };
            let hide = hide.or(hit);
            let inner = child_place(place, key, self.resource);
            if hide.is_some_and(|field| self.plan.fields[field].how == Transform::Remove) {
                self.collect_removed(inner)?;
                self.remove(&mut delimiter, &mut kept, hide)?;
                continue;
            }
            let is_string = self.src.get(self.pos) == Some(&b'"');
            if matches!(place, Place::Root { .. }) && key == b"items" && next == 0 && hide.is_none() {
                self.nested_list(depth)?;
            } else if place == Place::Annotations && is_string && hide.is_none() {
                self.annotation(key == LAST_APPLIED.as_bytes())?;
            } else {
                self.value(next, inner, hide, depth + 1)?;
            }
            kept = true;
            self.separator(&mut delimiter, b'}')?;
        }
        self.pos += 1;
        Ok(())
    }

    fn array(&mut self, states: u128, place: Place, hide: Option<usize>, depth: usize) -> Result<(), Unreadable> {
        let mut delimiter = self.pos;
        let (mut kept, mut index) = (false, 0);
        self.pos = skip_space(self.src, self.pos + 1);
        while self.src.get(self.pos) != Some(&b']') {
            let (next, hit) = if states == 0 { (0, None) } else { self.plan.step(states, self.active, At::Index(index)) };
            let hide = hide.or(hit);
            index += 1;
            if hide.is_some_and(|field| self.plan.fields[field].how == Transform::Remove) {
                self.collect_removed(place)?;
                self.remove(&mut delimiter, &mut kept, hide)?;
                continue;
            }
            self.value(next, if place == Place::Bytes { place } else { Place::Other }, hide, depth + 1)?;
            kept = true;
            self.separator(&mut delimiter, b']')?;
        }
        self.pos += 1;
        Ok(())
    }

    /// Passes the comma after a member or element, and remembers where it was.
    fn separator(&mut self, delimiter: &mut usize, close: u8) -> Result<(), Unreadable> {
        self.pos = skip_space(self.src, self.pos);
        match self.src.get(self.pos) {
            Some(b',') => {
                *delimiter = self.pos;
                self.pos = skip_space(self.src, self.pos + 1);
                // A comma before the close is no JSON.
                if self.src.get(self.pos) == Some(&close) { Err(Unreadable::Malformed) } else { Ok(()) }
            }
            Some(other) if *other == close => Ok(()),
            _ => Err(Unreadable::Malformed),
        }
    }

    /// Leaves out the member or element whose value ends at `pos`, and one comma with it.
    fn remove(&mut self, delimiter: &mut usize, kept: &mut bool, hide: Option<usize>) -> Result<(), Unreadable> {
        let upto = if *kept { *delimiter } else { *delimiter + 1 };
        self.flush(upto);
        self.copied = self.pos;
        self.pos = skip_space(self.src, self.pos);
        if self.src.get(self.pos) == Some(&b',') {
            *delimiter = self.pos;
            self.pos = skip_space(self.src, self.pos + 1);
            self.copied = if *kept { *delimiter } else { self.pos };
            // What follows begins like a first member, so that a second removal drops no delimiter twice.
            if !*kept {
                *delimiter = self.pos.saturating_sub(1);
            }
        }
        if let Some(field) = hide {
            self.count(field);
        }
        Ok(())
    }

    /// Passes a value that is left out, remembering the texts in it.
    fn collect_removed(&mut self, place: Place) -> Result<(), Unreadable> {
        let start = self.pos;
        self.pos = skip_value(self.src, start)?;
        let value = serde_json::from_slice(&self.src[start..self.pos]).map_err(|_| Unreadable::Malformed)?;
        let mut pending = vec![&value];
        while let Some(value) = pending.pop() {
            match value {
                serde_json::Value::String(text) => self.values.add(text, place == Place::Bytes),
                serde_json::Value::Array(list) => pending.extend(list),
                serde_json::Value::Object(map) => pending.extend(map.values()),
                _ => {}
            }
        }
        Ok(())
    }

    /// A List in an item: each element is an object of its own, with its own conditions.
    fn nested_list(&mut self, depth: usize) -> Result<(), Unreadable> {
        if self.src.get(self.pos) != Some(&b'[') {
            return self.value(0, Place::Other, None, depth + 1);
        }
        if depth > 4 {
            return Err(Unreadable::TooDeep);
        }
        let mut delimiter = self.pos;
        self.pos = skip_space(self.src, self.pos + 1);
        while self.src.get(self.pos) != Some(&b']') {
            let start = self.pos;
            let end = skip_value(self.src, start)?;
            self.flush(start);
            self.plan.apply_collecting(&self.src[start..end], "", self.partial, self.out, self.report, self.values)?;
            (self.pos, self.copied) = (end, end);
            self.separator(&mut delimiter, b']')?;
        }
        self.pos += 1;
        Ok(())
    }

    /// Passes an annotation and remembers where it was written: what it repeats is known only at the object's end.
    fn annotation(&mut self, is_last_applied: bool) -> Result<(), Unreadable> {
        let start = self.pos;
        self.pos = skip_string(self.src, start)?;
        self.flush(self.pos);
        let end = self.out.len();
        self.annotations.push((end - (self.pos - start)..end, is_last_applied));
        Ok(())
    }

    fn hide_in_annotations(mut self) -> Result<(), Unreadable> {
        for (span, is_last_applied) in std::mem::take(&mut self.annotations).into_iter().rev() {
            if self.values.is_empty() && !is_last_applied && self.plan.texts.is_empty() {
                continue;
            }
            let text: String = serde_json::from_slice(&self.out[span.clone()]).map_err(|_| Unreadable::Malformed)?;
            let mut hidden = text.clone();
            if is_last_applied {
                // kubectl wrote it, but any client may write anything here: what is no object cannot be masked by path.
                let mut masked = Vec::new();
                let trimmed = text.trim();
                hidden = if trimmed.starts_with('{')
                    && self
                        .plan
                        .apply_collecting(trimmed.as_bytes(), self.resource, self.partial, &mut masked, self.report, self.values)
                        .is_ok()
                {
                    String::from_utf8(masked).map_err(|_| Unreadable::Malformed)? + "\n"
                } else {
                    placeholder::MARKER.into()
                };
            }
            hidden = self.values.hide(&hidden).into_owned();
            if let Some(replaced) = self.plan.hide_text(&hidden, self.report) {
                hidden = replaced;
            }
            if hidden != text {
                let written = serde_json::to_vec(&hidden).map_err(|_| Unreadable::Malformed)?;
                self.out.splice(span, written);
            }
        }
        Ok(())
    }

    fn hide_string(&mut self, start: usize, place: Place, field: usize) -> Result<(), Unreadable> {
        let text: String = serde_json::from_slice(&self.src[start..self.pos]).map_err(|_| Unreadable::Malformed)?;
        if text.is_empty() {
            return Ok(());
        }
        let how = self.plan.fields[field].how;
        let hidden = match place {
            Place::Bytes => placeholder::hide_base64(how, text.as_bytes(), &self.plan.key),
            _ => placeholder::hide(how, text.as_bytes(), &self.plan.key),
        };
        self.values.add(&text, place == Place::Bytes);
        let written = serde_json::to_vec(&hidden).map_err(|_| Unreadable::Malformed)?;
        self.write(start, &written, field);
        Ok(())
    }

    fn hide_text(&mut self, start: usize, place: Place) -> Result<(), Unreadable> {
        use base64::Engine;
        use base64::engine::general_purpose::STANDARD;
        let text: String = serde_json::from_slice(&self.src[start..self.pos]).map_err(|_| Unreadable::Malformed)?;
        let hidden = match place {
            Place::Bytes => STANDARD
                .decode(&text)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .and_then(|plain| self.plan.hide_text(&plain, self.report))
                .map(|hidden| STANDARD.encode(hidden)),
            _ => self.plan.hide_text(&text, self.report),
        };
        if let Some(hidden) = hidden {
            let written = serde_json::to_vec(&hidden).map_err(|_| Unreadable::Malformed)?;
            self.flush(start);
            self.out.extend_from_slice(&written);
            self.copied = self.pos;
        }
        Ok(())
    }

    /// Writes `value` in the place of what stands between `start` and `pos`.
    fn write(&mut self, start: usize, value: &[u8], field: usize) {
        self.flush(start);
        self.out.extend_from_slice(value);
        self.copied = self.pos;
        self.count(field);
    }

    fn count(&mut self, field: usize) {
        let path = &self.plan.fields[field].path;
        match self.report.get_mut(path) {
            Some(count) => *count += 1,
            None => drop(self.report.insert(path.clone(), 1)),
        }
    }

    fn flush(&mut self, upto: usize) {
        if upto > self.copied {
            self.out.extend_from_slice(&self.src[self.copied..upto]);
            self.copied = upto;
        }
    }
}

/// Fields that hold bytes are base64 in JSON: typed clients decode them, so what replaces them must decode.
fn child_place(place: Place, key: &[u8], resource: &str) -> Place {
    match (place, key) {
        (Place::Root { .. }, b"metadata") => Place::Metadata,
        (Place::Metadata, b"annotations") => Place::Annotations,
        (Place::Root { is_secret: true }, b"data") | (Place::Root { .. }, b"binaryData") | (_, b"caBundle") => Place::Bytes,
        (_, b"request" | b"certificate") if resource == "certificatesigningrequests" => Place::Bytes,
        (Place::Bytes, _) => Place::Bytes,
        _ => Place::Other,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
