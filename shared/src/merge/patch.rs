//! Patches of strings: a write costs by what it writes, not by how long the string is or how many patches live.

use super::local::note_ttl;
use super::{KeyRef, Merge, registers, view};
use crate::dot::{Dot, Seen};
use crate::effect::{Kind, Path, TtlNote};
use crate::hyperloglog::{self, HEADER, MAGIC};
use crate::keyspace::Keyspace;
use crate::metadata::patches::overlay_bits;
use crate::metadata::{Class, Part, PathMeta, Payload, Top};
use crate::patch::{Patch, Prior};

impl<K: Keyspace> Merge<'_, K> {
    pub(super) fn local_patch(
        &mut self,
        key: KeyRef<'_>,
        patch: Patch<'_>,
        prior: Prior<'_>,
        dot: Dot,
        ttl: TtlNote,
    ) -> bool {
        let id = self.table.entry(key.db, key.name);
        self.table.queue(id, &dot);
        let weak = self.rules.weak_ttl;
        let meta = self.table.meta_mut(id);
        meta.kinds.retain(|k| k.kind == Kind::String);
        if weak {
            note_ttl(&mut meta.ttl, dot, ttl);
        }
        self.patch_path(key, patch, prior, dot, ttl == TtlNote::Created);
        patch.class() == Class::Registers
    }

    /// Adds a local patch at the string of a key that has an entry.
    pub(super) fn patch_path(&mut self, key: KeyRef<'_>, patch: Patch<'_>, prior: Prior<'_>, dot: Dot, is_new: bool) {
        let id = self.table.entry(key.db, key.name);
        let known = self.table.meta_mut(id).kind_or_insert(Kind::String).paths.get_or_insert(Path::String);
        if known.is_empty() && !is_new {
            *known = PathMeta::stable(None);
        }
        known.patch(dot, patch, prior, self.origins);
    }

    /// Where registers were raised by a command, the dataset gets the text that all instances write.
    pub(super) fn correct_registers(&mut self, key: KeyRef<'_>) {
        let Some(id) = self.table.find(key.db, key.name) else { return };
        let Some(path) = self.table.meta(id).path(Path::String) else { return };
        if !path.patches().is_some_and(|patches| patches.has_registers()) {
            return;
        }
        if !path.has_other_than(Class::Registers) {
            return registers::correct(self.keyspace, key);
        }
        let is_implied = path.top(self.origins) != Top::Nothing && path.payload(path.top(self.origins)).is_none();
        if let Some(shown @ Payload::Bytes(text)) = &view::view(path, Kind::String, self.origins)
            && !is_implied
            && self.keyspace.string(key.db, key.name).is_some_and(|native| *native != **text)
        {
            self.put(key, Path::String, shown);
        }
    }

    /// A remote patch of a string, while the key, if it exists, is one.
    pub(super) fn patch_element(&mut self, key: KeyRef<'_>, patch: Patch<'_>, dot: Dot, seen: &Seen<'_>, exists: bool) {
        self.queue(key, &dot);
        let mut meta = self.take_path(key, Path::String);
        if meta.is_empty() && exists {
            meta = PathMeta::stable(None);
        }
        let class = patch.class();
        *self.conflicts += u64::from(meta.assigns.iter().any(|a| !seen.has(&a.dot)));
        let is_blended = meta.has_other_than(class);
        let is_below_unseen = matches!(meta.top(self.origins), Top::Assign(at) if meta.assigns.get(at).is_some_and(|a| !seen.has(&a.dot)));
        if is_blended || is_below_unseen {
            self.explain(key, Path::String, &mut meta);
        }
        if is_blended {
            meta.patch(dot, patch, Prior::NONE, self.origins);
            self.show(key, Path::String, meta);
            return;
        }
        if let Patch::Registers(registers) = patch {
            meta.patch(dot, patch, Prior::NONE, self.origins);
            registers::raise(self.keyspace, key, registers, exists);
            return self.return_path(key, Path::String, meta);
        }
        let beginning = self.keyspace.string_range(key.db, key.name, 0, HEADER);
        if hyperloglog::is_claimed(&beginning) || self.makes_hyperloglog(&beginning, patch, &dot, &meta) {
            // The dataset does not tell any more what is below the patches.
            self.explain(key, Path::String, &mut meta);
        }
        self.note_patch(key, patch, dot, &mut meta);
        if !meta.hides_text(self.origins) {
            self.write_patch(key, patch, dot, &mut meta);
        }
        self.return_path(key, Path::String, meta);
    }

    /// Adds a remote patch of bytes to the metadata.
    fn note_patch(&mut self, key: KeyRef<'_>, patch: Patch<'_>, dot: Dot, meta: &mut PathMeta) {
        let shown_len = self.keyspace.string_len(key.db, key.name);
        if meta.patches().is_some() {
            meta.patch(dot, patch, Prior::NONE, self.origins);
        } else if shown_len > Prior::TEXT_MAX as u64 {
            meta.patch(dot, patch, Prior::Length(shown_len), self.origins);
        } else {
            let text = self.keyspace.string_range(key.db, key.name, 0, Prior::TEXT_MAX);
            meta.patch(dot, patch, Prior::of(&text), self.origins);
        }
    }

    /// Whether with this patch a string, whose beginning is given, begins like a HyperLogLog, while the dataset stands for what is below: a long one. Most
    /// patches are behind its beginning, and cost nothing here.
    fn makes_hyperloglog(&self, beginning: &[u8], patch: Patch<'_>, dot: &Dot, meta: &PathMeta) -> bool {
        let beginning = beginning.first_chunk::<{ MAGIC.len() }>().copied();
        let is_at_start = patch.is_at_start(Prior::Length(MAGIC.len() as u64));
        let Some(mut beginning) = beginning.filter(|_| is_at_start) else { return false };
        match patch {
            Patch::Bytes { offset, bytes } => Part::Bytes { offset, bytes }.overlay(0, &mut beginning),
            Patch::Bits { offset, count, value } => overlay_bits(offset, count, value, 0, &mut beginning),
            Patch::Append(_) | Patch::Registers(_) => return false,
        }
        meta.patches().into_iter().for_each(|known| known.overlay_later(dot, 0, &mut beginning, self.origins));
        hyperloglog::is_claimed(&beginning)
    }

    /// Writes a patch whose metadata is noted. The dataset has all other live patches already (I-4), and is no HyperLogLog.
    fn write_patch(&mut self, key: KeyRef<'_>, patch: Patch<'_>, dot: Dot, meta: &mut PathMeta) {
        let shown_len = self.keyspace.string_len(key.db, key.name);
        let base_len = meta.base_len(self.origins);
        let patches = meta.patches_mut();
        let moves = match (patch, patch.end()) {
            (Patch::Append(_), _) => patches.grows_after(&dot, base_len, self.origins),
            (_, end) => end > Some(base_len) && patches.has_append_after(&dot, self.origins),
        };
        let (start, mut window) = self.window(key, patch, shown_len);
        patches.overlay_later(&dot, start, &mut window, self.origins);
        if moves {
            // What later patches have appended lies elsewhere now.
            let tail = patches.tail(base_len, self.origins);
            if patch.end().is_some() {
                window.truncate(base_len.saturating_sub(start) as usize);
                self.keyspace.write_range(key.db, key.name, start, &window);
            }
            self.keyspace.write_range(key.db, key.name, base_len, &tail);
        } else {
            self.keyspace.write_range(key.db, key.name, start, &window);
        }
    }

    /// Where a patch writes, and the bytes there with it alone.
    fn window(&mut self, key: KeyRef<'_>, patch: Patch<'_>, shown_len: u64) -> (u64, Vec<u8>) {
        match patch {
            Patch::Bytes { offset, bytes } => (offset, bytes.to_vec()),
            Patch::Append(bytes) => (shown_len, bytes.to_vec()),
            Patch::Bits { offset, count, value } => {
                let (start, end) = (offset / 8, patch.end().unwrap_or_default());
                let len = end.saturating_sub(start) as usize;
                let mut window = self.keyspace.string_range(key.db, key.name, start, len);
                window.resize(len, 0);
                overlay_bits(offset, count, value, start, &mut window);
                (start, window)
            }
            Patch::Registers(_) => (shown_len, Vec::new()),
        }
    }
}
