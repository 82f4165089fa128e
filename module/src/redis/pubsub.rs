//! Messages to subscribers.

use super::Context;
use super::string::OwnedText;

/// Hands a message to the subscribers of this server, and in cluster mode to its other nodes; not to replicas, and no command
/// filter sees it. `sharded`: as `SPUBLISH`.
pub fn publish(context: &Context, sharded: bool, channel: &[u8], message: &[u8]) {
    let (channel, message) = (OwnedText::new(channel), OwnedText::new(message));
    let (context, channel, message) = (context.raw(), channel.text().raw(), message.text().raw());
    // SAFETY: the context is valid, and so are the strings during the call.
    unsafe {
        if sharded {
            api!(RedisModule_PublishMessageShard)(context, channel, message);
        } else {
            api!(RedisModule_PublishMessage)(context, channel, message);
        }
    }
}
