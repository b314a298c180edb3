//! Rows of a Table: the object is masked, and what of it shows in the cells.

use super::json::{Unreadable, member};
use super::placeholder;
use super::plan::{MaskCounts, Plan};
use super::scan::Extent;
use super::sweep::Values;
use super::token::Scope;

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

impl Plan {
    /// Masks one row of a Table: its object, and what of it shows in the cells. The object is written as the client asked.
    pub fn apply_row(
        &self,
        row: &[u8],
        resource: &str,
        include: RowObject,
        out: &mut Vec<u8>,
        report: &mut MaskCounts,
    ) -> Result<(), Unreadable> {
        let object = member(row, b"object")?.unwrap_or(b"null");
        let mut values = Values::default();
        let mut masked = Vec::with_capacity(object.len());
        let scope = self.scope_of(object, resource)?;
        self.apply_collecting(object, Extent::Whole, resource, false, &scope, &mut masked, report, Some(&mut values))?;
        let mut cells = serde_json::from_slice(member(row, b"cells")?.unwrap_or(b"[]")).map_err(|_| Unreadable::Malformed)?;
        self.hide_cells(&mut cells, &values, &scope, report);
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

    fn hide_cells(&self, cells: &mut serde_json::Value, values: &Values, scope: &Scope, report: &mut MaskCounts) {
        match cells {
            serde_json::Value::String(text) => {
                let hidden = values.hide(text).into_owned();
                *text = self.hide_text(&hidden, scope, report).unwrap_or(hidden);
            }
            serde_json::Value::Array(list) => list.iter_mut().for_each(|cell| self.hide_cells(cell, values, scope, report)),
            serde_json::Value::Object(map) => map.values_mut().for_each(|cell| self.hide_cells(cell, values, scope, report)),
            number => {
                let hidden = values.hide(&number.to_string()) == placeholder::MARKER;
                if hidden {
                    *number = 0.into();
                }
            }
        }
    }
}
