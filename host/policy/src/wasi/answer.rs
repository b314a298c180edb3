//! What a function of WASI answers when it grants nothing, as the canonical ABI lays it out in memory.
//!
//! The layout is that of `CanonicalABI.md` in the component model's specification (alignment, size, storing).

use anyhow::bail;
use wasmparser::component_types::{ComponentDefinedType, ComponentValType};
use wasmparser::{PrimitiveValType, types::TypesRef};

/// The most parts a type may have, and bytes its default may take: WASI's own are far below.
const MOST_PARTS: usize = 10_000;
const LARGEST: u32 = 512;
/// Where a list of nothing lies: nowhere, and aligned for whatever is in it.
const NOWHERE: u32 = 16;
/// How many bytes may be written at a time.
const PERMITTED: u64 = 4096;

/// How a type lies in memory.
#[derive(Clone, Copy)]
struct Layout {
    size: u32,
    align: u32,
}

/// What is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The least its type allows: zero, empty, none, the simplest case, and `err` of a result.
    Least,
    /// `ok` of a result, with the least in it.
    Ok,
    /// `ok` of a result, with how many bytes may be written.
    OkToWrite,
    /// One: true, or a clock that runs.
    One,
}

/// Makes the answers of a component's functions.
pub(super) struct Answers<'a> {
    types: TypesRef<'a>,
    parts: usize,
    /// The number that stands for every resource in it.
    handle: u32,
}

impl<'a> Answers<'a> {
    pub(super) fn new(types: TypesRef<'a>, handle: u32) -> Self {
        Self { types, parts: 0, handle }
    }

    /// The bytes of an answer. A type that is larger than any of WASI's is refused before any of it is made: types refer to types, and a few bytes of them can stand
    /// for gigabytes.
    pub(super) fn bytes(&mut self, ty: &ComponentValType, wanted: Wanted) -> anyhow::Result<Vec<u8>> {
        self.parts = 0;
        let layout = self.layout(ty)?;
        let mut out = vec![0; layout.size as usize];
        let result = match ty {
            ComponentValType::Type(id) => match &self.types[*id] {
                ComponentDefinedType::Result { ok, err, .. } => Some((*ok, *err)),
                _ => None,
            },
            ComponentValType::Primitive(_) => None,
        };
        match (wanted, result) {
            (Wanted::Ok, Some(_)) => {}
            (Wanted::OkToWrite, Some((Some(ComponentValType::Primitive(PrimitiveValType::U64)), _))) => {
                out[8..16].copy_from_slice(&PERMITTED.to_le_bytes());
            }
            (Wanted::One, None) if out.len() <= 8 => out[0] = 1,
            _ => self.store(ty, &mut out)?,
        }
        Ok(out)
    }

    fn layout(&mut self, ty: &ComponentValType) -> anyhow::Result<Layout> {
        self.parts += 1;
        if self.parts > MOST_PARTS {
            bail!("what it answers is too large");
        }
        let layout = match ty {
            ComponentValType::Primitive(primitive) => of_primitive(*primitive),
            ComponentValType::Type(id) => {
                let types = self.types;
                match &types[*id] {
                    ComponentDefinedType::Primitive(primitive) => of_primitive(*primitive),
                    ComponentDefinedType::Record(record) => self.sequence(record.fields.values())?.1,
                    ComponentDefinedType::Tuple(tuple) => self.sequence(tuple.types.iter())?.1,
                    ComponentDefinedType::Variant(variant) => self.variant(variant.cases.values().map(|case| case.ty))?.1,
                    ComponentDefinedType::Option { ty, .. } => self.variant([None, Some(*ty)].into_iter())?.1,
                    ComponentDefinedType::Result { ok, err, .. } => self.variant([*ok, *err].into_iter())?.1,
                    ComponentDefinedType::Enum(names) => square(discriminant(names.len())),
                    ComponentDefinedType::Flags(names) => square(if names.len() <= 8 {
                        1
                    } else if names.len() <= 16 {
                        2
                    } else {
                        4
                    }),
                    ComponentDefinedType::List { .. } | ComponentDefinedType::Map { .. } => Layout { size: 8, align: 4 },
                    ComponentDefinedType::Own(_) | ComponentDefinedType::Borrow(_) => square(4),
                    _ => bail!("what it answers is of a type that WASI 0.2 does not have"),
                }
            }
        };
        if layout.size > LARGEST {
            bail!("what it answers is too large");
        }
        Ok(layout)
    }

    /// Where parts lie that follow one another, and the whole of them.
    fn sequence<'t>(&mut self, parts: impl Iterator<Item = &'t ComponentValType>) -> anyhow::Result<(Vec<u32>, Layout)> {
        let (mut places, mut whole) = (Vec::new(), Layout { size: 0, align: 1 });
        for part in parts {
            let part = self.layout(part)?;
            let place = whole.size.next_multiple_of(part.align);
            places.push(place);
            whole = Layout { size: place + part.size, align: whole.align.max(part.align) };
            if whole.size > LARGEST {
                bail!("what it answers is too large");
            }
        }
        whole.size = whole.size.next_multiple_of(whole.align);
        Ok((places, whole))
    }

    /// Where the payload of a variant lies, and the whole of it.
    fn variant(&mut self, cases: impl ExactSizeIterator<Item = Option<ComponentValType>>) -> anyhow::Result<(u32, Layout)> {
        let first = discriminant(cases.len());
        // Those without a payload are walked too.
        self.parts += cases.len();
        let mut payload = Layout { size: 0, align: 1 };
        for case in cases.flatten() {
            let case = self.layout(&case)?;
            payload = Layout { size: payload.size.max(case.size), align: payload.align.max(case.align) };
        }
        let place = first.next_multiple_of(payload.align);
        let align = first.max(payload.align);
        Ok((place, Layout { size: (place + payload.size).next_multiple_of(align), align }))
    }

    /// Writes the least that a type allows where there are zeros.
    fn store(&mut self, ty: &ComponentValType, out: &mut [u8]) -> anyhow::Result<()> {
        let types = self.types;
        let id = match ty {
            ComponentValType::Primitive(primitive) => {
                store_primitive(*primitive, out);
                return Ok(());
            }
            ComponentValType::Type(id) => *id,
        };
        match &types[id] {
            ComponentDefinedType::Primitive(primitive) => store_primitive(*primitive, out),
            ComponentDefinedType::Record(record) => self.store_all(record.fields.values(), out)?,
            ComponentDefinedType::Tuple(tuple) => self.store_all(tuple.types.iter(), out)?,
            ComponentDefinedType::Variant(variant) => {
                let cases: Vec<_> = variant.cases.values().map(|case| case.ty).collect();
                // The case that says nothing more, for example `closed` of a stream's error.
                let simplest = cases.iter().position(Option::is_none).unwrap_or(0);
                self.store_case(&cases, simplest, out)?;
            }
            ComponentDefinedType::Result { ok, err, .. } => self.store_case(&[*ok, *err], 1, out)?,
            ComponentDefinedType::List { .. } | ComponentDefinedType::Map { .. } => out[..4].copy_from_slice(&NOWHERE.to_le_bytes()),
            ComponentDefinedType::Own(_) | ComponentDefinedType::Borrow(_) => out[..4].copy_from_slice(&self.handle.to_le_bytes()),
            // None, no flag, and the first name are zeros.
            _ => {}
        }
        Ok(())
    }

    fn store_all<'t>(&mut self, parts: impl Iterator<Item = &'t ComponentValType> + Clone, out: &mut [u8]) -> anyhow::Result<()> {
        let places = self.sequence(parts.clone())?.0;
        for (part, place) in parts.zip(places) {
            self.store(part, &mut out[place as usize..])?;
        }
        Ok(())
    }

    fn store_case(&mut self, cases: &[Option<ComponentValType>], case: usize, out: &mut [u8]) -> anyhow::Result<()> {
        let place = self.variant(cases.iter().copied())?.0;
        let discriminant = discriminant(cases.len()) as usize;
        out[..discriminant].copy_from_slice(&(case as u32).to_le_bytes()[..discriminant]);
        match cases.get(case).copied().flatten() {
            Some(payload) => self.store(&payload, &mut out[place as usize..]),
            None => Ok(()),
        }
    }
}

/// Bytes that say which of so many cases it is.
fn discriminant(cases: usize) -> u32 {
    match cases {
        0..=0x100 => 1,
        0x101..=0x1_0000 => 2,
        _ => 4,
    }
}

/// What is aligned to its own size.
fn square(size: u32) -> Layout {
    Layout { size, align: size }
}

fn of_primitive(primitive: PrimitiveValType) -> Layout {
    match primitive {
        PrimitiveValType::Bool | PrimitiveValType::S8 | PrimitiveValType::U8 => square(1),
        PrimitiveValType::S16 | PrimitiveValType::U16 => square(2),
        PrimitiveValType::S64 | PrimitiveValType::U64 | PrimitiveValType::F64 => square(8),
        PrimitiveValType::String => Layout { size: 8, align: 4 },
        _ => square(4),
    }
}

fn store_primitive(primitive: PrimitiveValType, out: &mut [u8]) {
    match primitive {
        PrimitiveValType::Char => out[0] = b' ',
        PrimitiveValType::String => out[..4].copy_from_slice(&NOWHERE.to_le_bytes()),
        _ => {}
    }
}
