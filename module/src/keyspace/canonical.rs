//! Whole values in a form that is equal for equal values on every server, for the digest.

use crate::redis::{Element, Reply};

/// What of a stream counts: entries, ids, and groups with what they have delivered. Not consumers and what is pending,
/// whose times differ everywhere.
pub fn stream(entries: &Reply, info: &Reply, groups: &Reply) -> Vec<u8> {
    let mut out = vec![b'S'];
    entries.root().into_iter().for_each(|root| flatten(root, &mut out));
    fields(info.root(), &[b"last-generated-id", b"max-deleted-entry-id", b"entries-added"], &mut out);
    let mut names: Vec<Vec<u8>> = Vec::new();
    groups.each(|group| {
        let mut one = Vec::new();
        fields(Some(group), &[b"name", b"last-delivered-id"], &mut one);
        names.push(one);
    });
    names.sort_unstable();
    names.iter().for_each(|group| out.extend_from_slice(group));
    out
}

/// The values of some fields of a flat array of names and values.
fn fields(map: Option<Element<'_>>, wanted: &[&[u8]], out: &mut Vec<u8>) {
    let Some(map) = map else { return };
    for index in (0..map.len()).step_by(2) {
        let name = map.get(index).and_then(Element::bytes);
        if name.is_some_and(|name| wanted.contains(&name))
            && let Some(value) = map.get(index + 1)
        {
            name.into_iter().for_each(|name| bytes(name, out));
            flatten(value, out);
        }
    }
}

fn flatten(element: Element<'_>, out: &mut Vec<u8>) {
    if let Some(text) = element.bytes() {
        bytes(text, out);
    } else if let Some(number) = element.integer() {
        out.push(b':');
        out.extend_from_slice(&number.to_le_bytes());
    } else {
        out.push(b'*');
        out.extend_from_slice(&(element.len() as u64).to_le_bytes());
        element.each(&mut |part| flatten(part, out));
    }
}

fn bytes(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'$');
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text);
}
