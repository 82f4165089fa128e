//! What a server says of its role in `SYNCER.STATUS`.

use syncer_shared::replid::ReplId;

use super::Refusal;
use crate::resp::Reply;

/// The part of `SYNCER.STATUS` that tells whether the server is its site's primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Whether it takes effects.
    pub is_primary: bool,
    /// Its current reign.
    pub replid: ReplId,
    /// Reigns of its site that have ended.
    pub past: Vec<ReplId>,
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
        let past = past.iter().filter_map(|id| id.text()?.parse().ok()).collect();
        Ok(Self { is_primary: role == "primary", replid, past })
    }
}
