//! Regressed effects: an old backup came back and wrote without having seen what is stable here (2.2 rule 5).

use super::whole::is_stable;
use super::{Element, KeyRef, Merge};
use crate::effect::{Effect, FlushScope, Op, Path, TtlNote, UnixMs};
use crate::keyspace::Keyspace;

/// Elements of a key to author again.
#[derive(Clone, Debug, PartialEq)]
pub struct AtRisk {
    /// Logical database.
    pub db: u32,
    /// Key.
    pub name: Box<[u8]>,
    /// Elements without metadata that the effect would remove elsewhere.
    pub elements: Vec<Element>,
    /// The key's TTL without dot.
    pub expire_at: Option<UnixMs>,
    /// It has no TTL, and the effect brings one: that there is none may have no dot any more.
    pub is_persistent: bool,
}

impl<K: Keyspace> Merge<'_, K> {
    /// What has no metadata here and would be removed by a regressed effect at those who still have its dots, or who
    /// count it as seen. The receiver authors it anew, flagged, *before* it applies the effect: so the new dots are concurrent
    /// to it, stay, and rank below everything newer.
    pub fn at_risk(&mut self, effect: &Effect<'_>) -> Vec<AtRisk> {
        let mut keys = self.at_risk_elements(effect);
        let brings_ttl = matches!(effect.op, Op::Set { expire_at: Some(_), .. } | Op::Expire { .. })
            || matches!(effect.ttl, TtlNote::Kept(_));
        if !brings_ttl {
            keys.iter_mut().for_each(|key| key.is_persistent = false);
            keys.retain(|key| !key.elements.is_empty() || key.expire_at.is_some());
        }
        keys
    }

    fn at_risk_elements(&mut self, effect: &Effect<'_>) -> Vec<AtRisk> {
        let key = KeyRef { db: effect.db, name: effect.key };
        let everything = |_: Path<'_>| true;
        match effect.op {
            Op::Set { .. } | Op::Clear { .. } => self.stable_elements(key, everything).into_iter().collect(),
            Op::Assign { path, .. } | Op::Remove { path } => {
                self.stable_elements(key, |p| p == path || p.kind() != path.kind()).into_iter().collect()
            }
            Op::Increment { path, .. } => self.stable_elements(key, |p| p.kind() != path.kind()).into_iter().collect(),
            Op::Expire { .. } | Op::Persist => self.stable_elements(key, |_| false).into_iter().collect(),
            Op::Flush { scope } => self.stable_dataset(scope),
            Op::Reign | Op::Join { .. } | Op::Forget { .. } => Vec::new(),
        }
    }

    fn stable_dataset(&mut self, scope: FlushScope) -> Vec<AtRisk> {
        let mut names: Vec<(u32, Box<[u8]>)> = Vec::new();
        self.keyspace.keys(scope, &mut |db, name| names.push((db, name.into())));
        names.iter().filter_map(|(db, name)| self.stable_elements(KeyRef { db: *db, name }, |_| true)).collect()
    }

    fn stable_elements(&mut self, key: KeyRef<'_>, wanted: impl Fn(Path<'_>) -> bool) -> Option<AtRisk> {
        let kind = self.keyspace.kind(key.db, key.name)?;
        let meta = self.table.find(key.db, key.name).map(|id| self.table.meta(id));
        let known = meta.and_then(|m| m.kind(kind));
        let mut stable = Vec::new();
        self.keyspace.elements(key.db, key.name, &mut |path, value| {
            if wanted(path) && is_stable(known.and_then(|k| k.paths.get(path))) {
                stable.push(Element::new(path, value));
            }
        });
        let has_ttl_dots = meta.is_some_and(|m| !m.ttl.is_empty());
        let expire_at = if has_ttl_dots { None } else { self.keyspace.expire_at(key.db, key.name) };
        // Dots beside it may be the author's own: what was there without dot can no longer be told, but for what it shows.
        let is_persistent = self.keyspace.expire_at(key.db, key.name).is_none();
        let found = !stable.is_empty() || expire_at.is_some() || is_persistent;
        found.then(|| AtRisk { db: key.db, name: key.name.into(), elements: stable, expire_at, is_persistent })
    }
}
