//! What a server says of its role in `SYNCER.STATUS`.

use syncer_shared::instance::InstanceId;
use syncer_shared::replid::ReplId;

use super::Refusal;
use crate::resp::Reply;

/// The part of `SYNCER.STATUS` that tells whether the server is its site's primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Whether it takes effects.
    pub is_primary: bool,
    /// Whose server it is; none if it cannot tell.
    pub instance: Option<InstanceId>,
    /// Its current reign.
    pub replid: ReplId,
    /// Reigns of its site that have ended.
    pub past: Vec<ReplId>,
    /// Peers have told it of a later reign of its site: they take nothing from this one any more.
    pub is_superseded: bool,
    /// What it was told that this site goes on with instead.
    pub replaced_by: Option<ReplId>,
    /// When its current reign began, Unix milliseconds; 0 if it cannot tell.
    pub began_ms: u64,
}

impl Role {
    /// From the reply; fields that are not known here are skipped.
    ///
    /// # Errors
    /// On an error reply, or when a field is missing.
    pub fn parse(reply: &Reply) -> Result<Self, Refusal> {
        if let Reply::Error(text) = reply {
            return Err(Refusal::from_error(text));
        }
        let (fields, _) = reply.elements().as_chunks::<2>();
        let field = |name: &str| fields.iter().find(|[key, _]| key.text() == Some(name)).map(|[_, value]| value);
        let missing = || Refusal::shape("SYNCER.STATUS");
        let replid = field("replid").and_then(|value| value.text()?.parse().ok()).ok_or_else(missing)?;
        let role = field("role").and_then(Reply::text).ok_or_else(missing)?;
        let past = field("past_replids").map(Reply::elements).unwrap_or_default();
        // Each with the offset where it ended.
        let past = past.iter().filter_map(|reign| reign.text()?.split(' ').next()?.parse().ok()).collect();
        let is_superseded = field("superseded_by").and_then(Reply::text).is_some_and(|by| !by.is_empty());
        let began_ms = field("began_ms").and_then(Reply::integer).and_then(|ms| ms.try_into().ok()).unwrap_or(0);
        let instance = field("instance").and_then(Reply::integer).and_then(|id| InstanceId::new(id.try_into().ok()?));
        let replaced_by = field("replaced_by").and_then(|value| value.text()?.parse().ok());
        Ok(Self { is_primary: role == "primary", instance, replid, past, is_superseded, replaced_by, began_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Reply {
        Reply::Bulk(text.as_bytes().to_vec().into())
    }

    #[test]
    fn past_reigns_are_read_with_the_offsets_where_they_ended() {
        let (now, before) = ("ab".repeat(20), "cd".repeat(20));
        let mut fields = vec![bulk("role"), bulk("primary"), bulk("replid"), bulk(&now)];
        fields.extend([bulk("past_replids"), Reply::Array(vec![bulk(&format!("{before} 822030"))])]);
        let role = Role::parse(&Reply::Array(fields.clone())).unwrap();
        assert_eq!(
            (role.is_primary, role.replid, role.past),
            (true, now.parse().unwrap(), vec![before.parse().unwrap()])
        );
        assert_eq!((role.is_superseded, role.began_ms), (false, 0));
        assert_eq!((role.instance, role.replaced_by), (None, None));
        fields.extend([bulk("superseded_by"), bulk(&before), bulk("began_ms"), Reply::Integer(7)]);
        fields.extend([bulk("replaced_by"), bulk(&now), bulk("instance"), Reply::Integer(3)]);
        let role = Role::parse(&Reply::Array(fields)).unwrap();
        assert_eq!((role.is_superseded, role.began_ms), (true, 7));
        assert_eq!((role.instance, role.replaced_by), (InstanceId::new(3), Some(now.parse().unwrap())));
    }
}
