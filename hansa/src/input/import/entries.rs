//! Our own entries: what `PUT` and `PATCH /api/v1/site/hosts` take, from a file.
//!
//! A document `{"entries":[…],"remove":[…]}`, a list of entries, or NDJSON whose lines are entries or
//! `{"remove":"…"}`.

use hansa_model::HostId;
use hansa_model::host::{HostEntry, SkippedEntry};
use serde_json::Value;

use super::{BadRowReason, Imported, Place, objects};
use crate::input::identity;

pub(super) fn parse(bytes: &[u8], imported: &mut Imported) {
    for (place, object) in objects(bytes) {
        match object {
            Ok(Value::Object(mut document)) if document.contains_key("entries") => {
                take_list(document.remove("entries"), imported, take_entry);
                take_list(document.remove("remove"), imported, take_removal);
            }
            Ok(Value::Object(mut line)) if line.contains_key("remove") => {
                take_removal(place, line.remove("remove").unwrap_or_default(), imported);
            }
            Ok(entry) => take_entry(place, entry, imported),
            Err(reason) => imported.refuse(place, reason),
        }
    }
}

fn take_list(list: Option<Value>, imported: &mut Imported, take: fn(Place, Value, &mut Imported)) {
    let Some(list) = list else { return };
    let Value::Array(elements) = list else {
        let reason = "`entries` and `remove` are lists".to_owned();
        return imported.refuse(Place::Line(1), BadRowReason::Malformed(reason));
    };
    for (index, element) in elements.into_iter().enumerate() {
        take(Place::Index(index), element, imported);
    }
}

fn take_entry(place: Place, value: Value, imported: &mut Imported) {
    match serde_json::from_value::<HostEntry>(value) {
        Ok(mut entry) => {
            if let (true, Some(fqdn)) = (entry.host_id.is_empty(), &entry.fqdn) {
                entry.host_id = identity::from_fqdn(fqdn).to_string();
            }
            imported.take(place, entry);
        }
        Err(_) => {
            imported.refuse(place, BadRowReason::Malformed("a field has another kind of value".to_owned()));
        }
    }
}

fn take_removal(place: Place, value: Value, imported: &mut Imported) {
    match value.as_str().unwrap_or_default().parse::<HostId>() {
        Ok(host_id) => imported.take_removal(place, host_id),
        Err(invalid) => imported.refuse(place, SkippedEntry::InvalidId(invalid).into()),
    }
}
