//! One pass over an object's bytes: what no mask names is copied as it is, what one names is written anew.

mod repeats;

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use postern_ground::clock::thread_time;

use super::json::walk::{Name, read_name, select, separator, skip_space, skip_string, skip_value};
use super::json::{DEEPEST, Unreadable, member};
use super::path::RawSegment;
use super::placeholder::Transform;
use super::plan::{MOST_MASKS, MaskCounts, Plan};
use super::sweep::{Hidden, Values};
use super::token::Scope;
use super::{managed, path, placeholder};
use repeats::Repeats;

/// Texts of which it is measured how long a search takes.
const LONG: usize = 1024;
/// How long all searches in one object may take.
const LONGEST_SEARCH: Duration = Duration::from_secs(1);
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

impl Plan {
    /// Masks one object, appending it to `out`. `partial` says that the server sent only its metadata, so that conditions on
    /// other fields cannot be told and are taken to hold.
    pub fn apply(
        &self,
        object: &[u8],
        resource: &str,
        partial: bool,
        out: &mut Vec<u8>,
        report: &mut MaskCounts,
    ) -> Result<(), Unreadable> {
        self.apply_collecting(object, Extent::Whole, resource, partial, &self.scope_of(object, resource)?, out, report, None).map(drop)
    }

    /// Masks the object that `text` begins with, if it is all there, and says where it ends: nobody need look for its end before. None, with `out` as it
    /// was, when it is not there or cannot be read, and for masks of text, which count what they hide before the end is known.
    pub fn apply_to_first(&self, text: &[u8], resource: &str, partial: bool, out: &mut Vec<u8>, report: &mut MaskCounts) -> Option<usize> {
        if !self.texts.is_empty() {
            return None;
        }
        let before = out.len();
        let scope = self.scope_of(text, resource).ok()?;
        let end = self.apply_collecting(text, Extent::First, resource, partial, &scope, out, report, None);
        if end.is_err() {
            out.truncate(before);
        }
        end.ok()
    }

    /// The values that are hidden in an object.
    pub fn hidden_in(&self, object: &[u8], resource: &str) -> Result<Hidden, Unreadable> {
        let mut hidden = Hidden::default();
        let mut scratch = Vec::with_capacity(object.len());
        let scope = self.scope_of(object, resource)?;
        self.apply_collecting(object, Extent::Whole, resource, false, &scope, &mut scratch, &mut MaskCounts::new(), Some(&mut hidden.0))?;
        hidden.add_parts();
        Ok(hidden)
    }

    /// Where an object's tokens are compared; nowhere when there are none.
    pub(super) fn scope_of(&self, object: &[u8], resource: &str) -> Result<Scope, Unreadable> {
        let object = &object[skip_space(object, 0)..];
        if self.tokenizes { Scope::of_object(&Scope::default(), object, resource) } else { Ok(Scope::default()) }
    }

    /// Masks an object and says where it ends. Somebody who looks for the hidden values elsewhere gives a place for them; the object's own annotations are
    /// looked through in any case.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn apply_collecting(
        &self,
        object: &[u8],
        extent: Extent,
        resource: &str,
        partial: bool,
        scope: &Scope,
        out: &mut Vec<u8>,
        report: &mut MaskCounts,
        values: Option<&mut Values>,
    ) -> Result<usize, Unreadable> {
        let keep = values.is_some();
        let mut own = Values::default();
        let values = values.unwrap_or(&mut own);
        let mut active = 0u64;
        for (index, field) in self.fields.iter().enumerate() {
            let mut holds = true;
            for (path, equal, value) in if partial { &[] } else { field.when.as_slice() } {
                holds = condition(object, path, value)? == *equal;
                if !holds {
                    break;
                }
            }
            active |= u64::from(holds) << index;
        }
        // Without its group: what a type's bytes are does not depend on it.
        let resource = resource.split('.').next().unwrap_or_default();
        let mut scan = Scan {
            plan: self,
            src: object,
            pos: 0,
            copied: 0,
            out,
            active,
            report,
            counts: [0; MOST_MASKS],
            hidden: Vec::new(),
            values,
            repeating: Vec::new(),
            resource,
            is_secret: None,
            partial,
            scope,
            searching: Duration::ZERO,
            member: 0..0,
            decoded: Vec::new(),
        };
        let states = if active == 0 { 0 } else { self.start };
        scan.value(states, Region::Root, None, 0)?;
        if extent == Extent::Whole {
            scan.pos = skip_space(object, scan.pos);
            if scan.pos != object.len() {
                return Err(Unreadable::Malformed);
            }
        }
        let end = scan.pos;
        scan.flush(end);
        scan.report_counts();
        scan.hide_repeated(keep)?;
        Ok(end)
    }
}

/// What of a text is the object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of the text.
    Whole,
    /// The value it begins with.
    First,
}

fn condition(object: &[u8], path: &path::Path, value: &str) -> Result<bool, Unreadable> {
    let mut holds = false;
    select(&object[skip_space(object, 0)..], path, &mut |raw| {
        holds |= match serde_json::from_slice::<String>(raw) {
            Ok(text) => text == value,
            Err(_) => raw == value.as_bytes(),
        }
    })?;
    Ok(holds)
}

/// Where in an object the scanner is, as far as the type of a value depends on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Region {
    Root,
    Metadata,
    Annotations,
    ManagedFields,
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
    report: &'o mut MaskCounts,
    /// How many values each mask hid.
    counts: [u32; MOST_MASKS],
    /// Where in `src` the hidden values are, and whether they stand for bytes.
    hidden: Vec<(Range<usize>, bool)>,
    values: &'o mut Values,
    /// Spans in `out` of what may repeat hidden values, in order.
    repeating: Vec<(Range<usize>, Repeats)>,
    /// How long texts were searched.
    searching: Duration,
    /// Where the name of the member is that is being read.
    member: Range<usize>,
    /// Room for what a text stands for.
    decoded: Vec<u8>,
    resource: &'a str,
    /// Whether it is a Secret, once that was asked.
    is_secret: Option<bool>,
    partial: bool,
    /// Where its tokens are compared.
    scope: &'a Scope,
}

impl Scan<'_, '_> {
    /// Passes the value at `pos`. With `hide` every leaf of it is hidden.
    fn value(&mut self, states: u128, place: Region, hide: Option<usize>, depth: usize) -> Result<(), Unreadable> {
        if depth > DEEPEST {
            return Err(Unreadable::TooDeep);
        }
        self.pos = skip_space(self.src, self.pos);
        let start = self.pos;
        let looks_at_strings = !self.plan.texts.is_empty();
        let matters =
            states != 0 || hide.is_some() || looks_at_strings || matches!(place, Region::Root | Region::Metadata | Region::Annotations);
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
                        self.hidden.push((start..self.pos, false));
                        self.write(start, b"0", field)
                    }
                    (Some(field), b't' | b'f') => self.write(start, b"false", field),
                    _ => {}
                }
                Ok(())
            }
        }
    }

    fn object(&mut self, states: u128, place: Region, hide: Option<usize>, depth: usize) -> Result<(), Unreadable> {
        let mut delimiter = self.pos;
        let mut kept = false;
        self.pos = skip_space(self.src, self.pos + 1);
        while self.src.get(self.pos) != Some(&b'}') {
            let name = Name::at(self.src, self.pos)?;
            let key = name.read(self.src)?;
            let key = key.as_ref();
            self.pos = name.value;
            let around = std::mem::replace(&mut self.member, name.span);
            let (next, hit) = if states == 0 { (0, None) } else { self.plan.step(states, self.active, RawSegment::Name(key)) };
            let hide = self.plan.stronger(hide, hit);
            let inner = self.inner(place, key)?;
            if hide.is_some_and(|field| self.plan.fields[field].how == Transform::Remove) {
                self.collect_removed(inner)?;
                self.remove(&mut delimiter, &mut kept, hide)?;
                self.member = around;
                continue;
            }
            let is_string = self.src.get(self.pos) == Some(&b'"');
            if matches!(place, Region::Root) && key == b"items" && next == 0 && hide.is_none() {
                self.nested_list(depth)?;
            } else if place == Region::Annotations && is_string && hide.is_none() {
                self.annotation(key == LAST_APPLIED.as_bytes())?;
            } else {
                let (start, at) = (self.pos, self.out.len() + (self.pos - self.copied));
                self.value(next, inner, hide, depth + 1)?;
                if inner == Region::ManagedFields && managed::names_values(&self.src[start..self.pos]) {
                    self.repeating.push((at..self.out.len() + (self.pos - self.copied), Repeats::ManagedFields));
                }
            }
            self.member = around;
            kept = true;
            self.separator(&mut delimiter, b'}')?;
        }
        self.pos += 1;
        Ok(())
    }

    /// The place of a member's value. Fields that hold bytes are base64 in JSON: typed clients decode them, so what replaces them must decode.
    fn inner(&mut self, place: Region, key: &[u8]) -> Result<Region, Unreadable> {
        Ok(match (place, key) {
            (Region::Root, b"metadata") => Region::Metadata,
            (Region::Metadata, b"annotations") => Region::Annotations,
            (Region::Metadata, b"managedFields") => Region::ManagedFields,
            (Region::Root, b"data") if self.is_secret()? => Region::Bytes,
            (Region::Root, b"binaryData") | (_, b"caBundle") => Region::Bytes,
            (_, b"request" | b"certificate") if self.resource == "certificatesigningrequests" => Region::Bytes,
            (Region::Bytes, _) => Region::Bytes,
            _ => Region::Other,
        })
    }

    /// Whether it is a Secret. The objects of a list do not say so: they are read to their end for it, where that matters and nowhere else.
    fn is_secret(&mut self) -> Result<bool, Unreadable> {
        if self.is_secret.is_none() {
            self.is_secret = Some(self.resource == "secrets" || member(self.src, b"kind")? == Some(b"\"Secret\""));
        }
        Ok(self.is_secret == Some(true))
    }

    fn array(&mut self, states: u128, place: Region, hide: Option<usize>, depth: usize) -> Result<(), Unreadable> {
        let mut delimiter = self.pos;
        let (mut kept, mut index) = (false, 0);
        self.pos = skip_space(self.src, self.pos + 1);
        while self.src.get(self.pos) != Some(&b']') {
            let (next, hit) = if states == 0 { (0, None) } else { self.plan.step(states, self.active, RawSegment::Index(index)) };
            let hide = self.plan.stronger(hide, hit);
            index += 1;
            if hide.is_some_and(|field| self.plan.fields[field].how == Transform::Remove) {
                self.collect_removed(place)?;
                self.remove(&mut delimiter, &mut kept, hide)?;
                continue;
            }
            self.value(next, if place == Region::Bytes { place } else { Region::Other }, hide, depth + 1)?;
            kept = true;
            self.separator(&mut delimiter, b']')?;
        }
        self.pos += 1;
        Ok(())
    }

    /// Passes the comma after a member or element, and remembers where it was.
    fn separator(&mut self, delimiter: &mut usize, close: u8) -> Result<(), Unreadable> {
        let comma;
        (comma, self.pos) = separator(self.src, self.pos, close)?;
        *delimiter = comma.unwrap_or(*delimiter);
        Ok(())
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
    fn collect_removed(&mut self, place: Region) -> Result<(), Unreadable> {
        let start = self.pos;
        self.pos = skip_value(self.src, start)?;
        let value = serde_json::from_slice(&self.src[start..self.pos]).map_err(|_| Unreadable::Malformed)?;
        let mut pending = vec![&value];
        while let Some(value) = pending.pop() {
            match value {
                serde_json::Value::String(text) => self.values.add(text, place == Region::Bytes),
                serde_json::Value::Array(list) => pending.extend(list),
                serde_json::Value::Object(map) => pending.extend(map.values()),
                serde_json::Value::Number(number) => self.values.add(&number.to_string(), false),
                _ => {}
            }
        }
        Ok(())
    }

    /// A List in an item: each element is an object of its own, with its own conditions.
    fn nested_list(&mut self, depth: usize) -> Result<(), Unreadable> {
        if self.src.get(self.pos) != Some(&b'[') {
            return self.value(0, Region::Other, None, depth + 1);
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
            // What each hides is looked for in each, and that of all of them in what is around them.
            let mut own = Values::default();
            let element = &self.src[start..end];
            let scope = if self.plan.tokenizes { Scope::of_object(self.scope, element, "")? } else { Scope::default() };
            self.plan.apply_collecting(element, Extent::Whole, "", self.partial, &scope, self.out, self.report, Some(&mut own))?;
            self.values.absorb(own);
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
        // Where it will stand when all before it is written.
        let at = self.out.len() + (start - self.copied);
        let repeats = if is_last_applied { Repeats::LastApplied } else { Repeats::Annotation };
        self.repeating.push((at..at + (self.pos - start), repeats));
        Ok(())
    }

    fn hide_string(&mut self, start: usize, place: Region, field: usize) -> Result<(), Unreadable> {
        let raw = &self.src[start..self.pos];
        if raw == b"\"\"" {
            return Ok(());
        }
        let is_bytes = place == Region::Bytes;
        self.hidden.push((start..self.pos, is_bytes));
        match self.plan.fields[field].how {
            Transform::Redact => self.write(start, if is_bytes { placeholder::REDACTED_BASE64 } else { placeholder::REDACTED }, field),
            Transform::Tokenize if self.plan.texts.is_empty() && memchr::memchr(b'\\', raw).is_none() => {
                return self.write_token(start, is_bytes, field);
            }
            how => {
                let text: String = serde_json::from_slice(raw).map_err(|_| Unreadable::Malformed)?;
                // A mask of text may hide what this one would show.
                let how = self.plan.of_text(&text, is_bytes).map_or(how, |of_text| how.stronger(of_text));
                let member = name_of(self.src, &self.member)?;
                let hidden = match is_bytes {
                    true => placeholder::hide_base64(how, text.as_bytes(), &self.plan.key, self.scope, &member),
                    false => placeholder::hide(how, text.as_bytes(), &self.plan.key, self.scope, &member),
                };
                self.write(start, &serde_json::to_vec(&hidden).map_err(|_| Unreadable::Malformed)?, field);
            }
        }
        Ok(())
    }

    /// Writes a token in the place of a text without escapes: what most Secrets are.
    fn write_token(&mut self, start: usize, is_bytes: bool, field: usize) -> Result<(), Unreadable> {
        use base64::Engine;
        use base64::engine::general_purpose::STANDARD;
        let value = &self.src[start + 1..self.pos - 1];
        self.decoded.clear();
        let is_decoded = is_bytes && STANDARD.decode_vec(value, &mut self.decoded).is_ok();
        let member = name_of(self.src, &self.member)?;
        let token = placeholder::token(if is_decoded { &self.decoded } else { value }, &self.plan.key, self.scope, &member);
        self.flush(start);
        self.out.push(b'"');
        match is_bytes {
            true => {
                let mut encoded = [0; placeholder::TOKEN / 3 * 4];
                // Room for just that: a token's length is a multiple of three.
                let length = STANDARD.encode_slice(token, &mut encoded).unwrap_or_default();
                self.out.extend_from_slice(&encoded[..length]);
            }
            false => self.out.extend_from_slice(&token),
        }
        self.out.push(b'"');
        self.copied = self.pos;
        self.count(field);
        Ok(())
    }

    fn hide_text(&mut self, start: usize, place: Region) -> Result<(), Unreadable> {
        // A long text is searched at once: between them it is looked how long that has taken.
        let began = (self.pos - start > LONG).then(thread_time);
        let done = self.hide_in_text(start, place);
        self.searching += began.map_or(Duration::ZERO, |began| thread_time().saturating_sub(began));
        if self.searching > LONGEST_SEARCH { Err(Unreadable::TooCostly) } else { done }
    }

    fn hide_in_text(&mut self, start: usize, place: Region) -> Result<(), Unreadable> {
        use base64::Engine;
        use base64::engine::general_purpose::STANDARD;
        let text: String = serde_json::from_slice(&self.src[start..self.pos]).map_err(|_| Unreadable::Malformed)?;
        let hidden = match place {
            Region::Bytes => STANDARD
                .decode(&text)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .and_then(|plain| self.plan.hide_text(&plain, self.scope, self.report))
                .map(|hidden| STANDARD.encode(hidden)),
            _ => self.plan.hide_text(&text, self.scope, self.report),
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
        self.counts[field] = self.counts[field].saturating_add(1);
    }

    fn report_counts(&mut self) {
        for (field, count) in self.plan.fields.iter().zip(self.counts).filter(|(_, count)| *count > 0) {
            match self.report.get_mut(&field.path) {
                Some(known) => *known += u64::from(count),
                None => drop(self.report.insert(field.path.clone(), u64::from(count))),
            }
        }
    }

    fn flush(&mut self, upto: usize) {
        if upto > self.copied {
            self.out.extend_from_slice(&self.src[self.copied..upto]);
            self.copied = upto;
        }
    }
}

/// The name of a member that is read, or of the one around it; empty where there is none.
fn name_of<'a>(src: &'a [u8], member: &Range<usize>) -> Result<Cow<'a, [u8]>, Unreadable> {
    if member.is_empty() { Ok(Cow::Borrowed(b"")) } else { read_name(&src[member.clone()], src[member.clone()].contains(&b'\\')) }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
