//! Expiry against a longer TTL: what one instance expired lives on if another had extended it (rules T6 to T8).

use super::{Element, KeyRef, Merge};
use crate::dot::{Dot, Seen};
use crate::effect::{Kind, UnixMs};
use crate::instance::InstanceSet;
use crate::keyspace::Keyspace;
use crate::metadata::{PathMeta, Top, TtlDot, TtlMeta};

/// What an expiry removed although a TTL that its author had not seen lives on.
#[derive(Clone, Debug)]
pub struct Revival {
    /// Logical database.
    pub db: u32,
    /// Key.
    pub name: Box<[u8]>,
    /// What its elements showed just before.
    pub elements: Vec<Element>,
    /// The TTL of its view after the expiry.
    pub expire_at: Option<UnixMs>,
    /// Who authored a surviving TTL dot: one of them writes the key again.
    pub authors: InstanceSet,
}

/// A revival that another instance is to write: kept until it has (T8).
#[derive(Clone, Debug)]
pub struct Aside {
    /// What would be written.
    pub revival: Revival,
    /// The expiry.
    pub expired: Dot,
}

impl<K: Keyspace> Merge<'_, K> {
    /// T6, before the expiry is applied. `None` when there is nothing to revive.
    pub(super) fn revival(&mut self, key: KeyRef<'_>, seen: &Seen<'_>) -> Option<Revival> {
        let meta = self.table.meta(self.table.find(key.db, key.name)?);
        let unseen: Vec<TtlDot> = meta.ttl.dots.iter().filter(|t| t.strong && !seen.has(&t.dot)).copied().collect();
        let newest = unseen.iter().max_by(|a, b| a.dot.effect_order(&b.dot, self.origins))?.dot;
        let mut ttl = meta.ttl.clone();
        ttl.remove_seen(seen);
        let kind = self.keyspace.kind(key.db, key.name)?;
        let known = meta.kind(kind);
        let older = |dot: &Dot| seen.has(dot) && dot.effect_order(&newest, self.origins).is_lt();
        let mut elements = Vec::new();
        if kind == Kind::List {
            let origins = self.origins;
            self.items(key, |path, meta, value| {
                if loses(&meta, seen, older, meta.top(origins)) {
                    elements.push(Element::new(path, value));
                }
            });
            return self.revived(key, elements, &unseen, &ttl);
        }
        self.keyspace.elements(key.db, key.name, &mut |path, value| {
            let is_lost = match known.and_then(|k| k.paths.get(path)) {
                Some(meta) => loses(meta, seen, older, meta.top(self.origins)),
                None => true,
            };
            if is_lost {
                elements.push(Element::new(path, value));
            }
        });
        self.revived(key, elements, &unseen, &ttl)
    }

    fn revived(&self, key: KeyRef<'_>, elements: Vec<Element>, unseen: &[TtlDot], ttl: &TtlMeta) -> Option<Revival> {
        let authors = unseen.iter().map(|t| self.origins.instance(t.dot.origin)).collect();
        let expire_at = if ttl.is_empty() { None } else { ttl.view() };
        (!elements.is_empty()).then(|| Revival { db: key.db, name: key.name.into(), elements, expire_at, authors })
    }
}

/// Whether a path loses something older than the surviving TTL, and what survives there does not show already.
fn loses(meta: &PathMeta, seen: &Seen<'_>, older: impl Fn(&Dot) -> bool, top: Top) -> bool {
    let base = meta.has_base() && seen.has_stable();
    if !base && !meta.dots().any(&older) {
        return false;
    }
    let top_survives = matches!(top, Top::Assign(i) if meta.assigns.get(i).is_some_and(|a| !seen.has(&a.dot)));
    let increment_lost = meta.increments().iter().map(|i| &i.dot).chain(meta.patch_dots()).any(&older);
    !top_survives || increment_lost
}
