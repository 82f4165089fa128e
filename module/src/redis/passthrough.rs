//! Running a client's command for it: what `SYNCER.CALL` does.

use std::ffi::{CStr, CString, c_int};
use std::ptr::NonNull;

use redis_module::raw;
use redis_module::raw::RedisModuleCallReply;

use super::Context;
use super::call::{Element, Reply, unfiltered};
use super::string::Args;

/// How a command is run for a client.
#[derive(Clone, Copy, Debug)]
pub struct As {
    /// Check the rights of the current user. Without it, for callers that have no user: other modules.
    pub user: bool,
    /// Pass it on to replicas and to the append-only file.
    pub replicated: bool,
}

/// Runs the command in `args` (its name first) so that it behaves as if the client had sent it: replicated, with the
/// client's protocol and rights, refused when out of memory.
#[must_use]
pub fn run(context: &Context, args: Args<'_>, run_as: As) -> Outcome {
    let format = match (run_as.replicated, run_as.user) {
        (true, true) => c"!v0EMC",
        (true, false) => c"!v0EM",
        (false, true) => c"v0EMC",
        (false, false) => c"v0EM",
    };
    run_with(context, args, format)
}

/// Runs a command of our own for a client whose rights were checked: replicated, with the client's protocol.
#[must_use]
pub fn run_replicated(context: &Context, args: Args<'_>) -> Outcome {
    run_with(context, args, c"!v0E")
}

/// Runs a command of our own that takes no arguments, as a unit of its own if nothing else runs: what it replicates goes out at its end.
#[must_use]
pub fn run_alone(context: &Context, name: &CStr) -> Outcome {
    // SAFETY: the context is valid, the name is a C string, and the format names no arguments.
    let raw = unfiltered(|| unsafe { api!(RedisModule_Call)(context.raw(), name.as_ptr(), c"!0E".as_ptr()) });
    Outcome { reply: Reply::adopt(NonNull::new(raw)) }
}

fn run_with(context: &Context, args: Args<'_>, format: &CStr) -> Outcome {
    let none = Outcome { reply: Reply::adopt(None) };
    let Some(name) = args.bytes(0).and_then(|name| CString::new(name).ok()) else { return none };
    let rest = args.from(1);
    // SAFETY: the context is valid, the strings are C strings, "v" takes a vector of strings and its length; the
    // server takes its own references.
    let raw = unfiltered(|| unsafe {
        api!(RedisModule_Call)(context.raw(), name.as_ptr(), format.as_ptr(), rest.raw(), rest.len())
    });
    Outcome { reply: Reply::adopt(NonNull::new(raw)) }
}

/// The reply of the command.
pub struct Outcome {
    reply: Reply,
}

/// An element of a reply, without its nesting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Leaf<'a> {
    /// A string, or an error.
    Bytes(&'a [u8]),
    /// An integer.
    Integer(i64),
    /// Null, double, ...
    Other,
}

impl Outcome {
    /// Gives the reply to the client.
    pub fn reply(&self, context: &Context) {
        match self.reply.raw() {
            // SAFETY: context and reply are valid.
            Some(raw) => unsafe { api!(RedisModule_ReplyWithCallReply)(context.raw(), raw.as_ptr()) },
            // SAFETY: the context is valid; the server copies the text.
            None => unsafe {
                api!(RedisModule_ReplyWithError)(context.raw(), c"ERR the command could not be run".as_ptr())
            },
        };
    }

    /// Whether the command failed.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.reply.raw().is_none_or(|raw| kind(raw) == raw::REDISMODULE_REPLY_ERROR)
    }

    /// Visits the elements in order, arrays flattened.
    pub fn leaves(&self, visit: &mut dyn FnMut(Leaf<'_>)) {
        if let Some(raw) = self.reply.raw() {
            walk(raw, visit);
        }
    }

    /// The reply with its nesting.
    #[must_use]
    pub fn root(&self) -> Option<Element<'_>> {
        self.reply.root()
    }
}

fn kind(raw: NonNull<RedisModuleCallReply>) -> isize {
    // SAFETY: the reply is valid.
    unsafe { api!(RedisModule_CallReplyType)(raw.as_ptr()) as isize }
}

fn walk(raw: NonNull<RedisModuleCallReply>, visit: &mut dyn FnMut(Leaf<'_>)) {
    let elements = |get: &dyn Fn(usize) -> *mut RedisModuleCallReply, visit: &mut dyn FnMut(Leaf<'_>)| {
        // SAFETY: the reply is valid and a collection.
        let len = unsafe { api!(RedisModule_CallReplyLength)(raw.as_ptr()) };
        (0..len).filter_map(|index| NonNull::new(get(index))).for_each(|element| walk(element, visit));
    };
    match kind(raw) {
        raw::REDISMODULE_REPLY_STRING => {
            let mut len = 0;
            // SAFETY: the reply is valid and a string, which lives as long.
            unsafe {
                let start = api!(RedisModule_CallReplyStringPtr)(raw.as_ptr(), &mut len);
                visit(Leaf::Bytes(std::slice::from_raw_parts(start.cast(), len)));
            }
        }
        raw::REDISMODULE_REPLY_INTEGER => {
            // SAFETY: the reply is valid and an integer.
            visit(Leaf::Integer(unsafe { api!(RedisModule_CallReplyInteger)(raw.as_ptr()) }));
        }
        raw::REDISMODULE_REPLY_ARRAY => {
            // SAFETY: the reply is valid and an array.
            elements(&|at| unsafe { api!(RedisModule_CallReplyArrayElement)(raw.as_ptr(), at) }, visit);
        }
        raw::REDISMODULE_REPLY_SET => {
            // SAFETY: the reply is valid and a set.
            elements(&|at| unsafe { api!(RedisModule_CallReplySetElement)(raw.as_ptr(), at) }, visit);
        }
        _ => visit(Leaf::Other),
    }
}

/// Whether the server calls a command only to be told where its keys are.
#[must_use]
pub fn is_keys_request(context: &Context) -> bool {
    // SAFETY: the context is valid.
    unsafe { api!(RedisModule_IsKeysPositionRequest)(context.raw()) != 0 }
}

/// Whether the server asks only where the keys of the arguments are (cluster routing, ACL, `COMMAND GETKEYS`), and
/// then answers: those of the inner command, which begins at `first`.
pub fn answer_key_positions(context: &Context, args: Args<'_>, first: usize) -> bool {
    if !is_keys_request(context) {
        return false;
    }
    keys(context, args.from(first), |position, flags| {
        if let Ok(position) = c_int::try_from(position + first) {
            // SAFETY: the context is that of a key position request.
            unsafe { api!(RedisModule_KeyAtPosWithFlags)(context.raw(), position, flags) };
        }
    });
    true
}

/// Visits the positions of a command's keys that it may write. Commands with plain key ranges come without flags.
pub fn written_keys(context: &Context, args: Args<'_>, mut visit: impl FnMut(usize)) {
    keys(context, args, |position, flags| {
        if flags.cast_unsigned() & raw::REDISMODULE_CMD_KEY_RO == 0 {
            visit(position);
        }
    });
}

fn keys(context: &Context, args: Args<'_>, mut visit: impl FnMut(usize, c_int)) {
    let Ok(argc) = c_int::try_from(args.len()) else { return };
    let (mut count, mut flags) = (0, std::ptr::null_mut());
    // SAFETY: context and strings are valid; the server allocates two arrays of `count` numbers with its allocator,
    // or returns null (no keys, wrong arguments).
    unsafe {
        let positions =
            api!(RedisModule_GetCommandKeysWithFlags)(context.raw(), args.raw(), argc, &mut count, &mut flags);
        if positions.is_null() {
            return;
        }
        for index in 0..usize::try_from(count).unwrap_or(0) {
            visit(usize::try_from(*positions.add(index)).unwrap_or(0), *flags.add(index));
        }
        api!(RedisModule_Free)(positions.cast());
        api!(RedisModule_Free)(flags.cast());
    }
}
