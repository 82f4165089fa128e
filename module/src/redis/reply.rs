//! Answers to clients, in RESP2 and RESP3 alike.

use std::ffi::{CString, c_long};

use redis_module::raw::RedisModuleCtx;

use super::Context;

/// Where an answer goes: the client of a context, or a blocked one.
#[derive(Clone, Copy)]
pub struct Replier {
    raw: *mut RedisModuleCtx,
}

/// A whole answer, for commands that people read: maps are maps in RESP3 and flat arrays in RESP2.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A bulk string.
    Text(String),
    /// A bulk string of any bytes.
    Bytes(Vec<u8>),
    /// An integer.
    Integer(i64),
    /// An array.
    Array(Vec<Answer>),
    /// A map, in the order given.
    Map(Vec<(&'static str, Answer)>),
    /// Nothing.
    Null,
}

impl Context {
    /// Where the answer to the current command goes.
    #[must_use]
    pub fn reply(&self) -> Replier {
        Replier { raw: self.raw() }
    }
}

impl Replier {
    /// # Safety
    /// `raw` is a valid context with a client as long as the value is used.
    pub(in crate::redis) unsafe fn new(raw: *mut RedisModuleCtx) -> Self {
        Self { raw }
    }

    /// `+OK`.
    pub fn ok(self) {
        // SAFETY: the context is valid and the text static.
        unsafe { api!(RedisModule_ReplyWithSimpleString)(self.raw, c"OK".as_ptr()) };
    }

    /// An integer.
    pub fn integer(self, value: i64) {
        // SAFETY: the context is valid.
        unsafe { api!(RedisModule_ReplyWithLongLong)(self.raw, value) };
    }

    /// A count or an offset. None gets anywhere near the end of the range.
    pub fn number(self, value: u64) {
        self.integer(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// A bulk string.
    pub fn bytes(self, value: &[u8]) {
        // SAFETY: the context is valid; the server copies the bytes.
        unsafe { api!(RedisModule_ReplyWithStringBuffer)(self.raw, value.as_ptr().cast(), value.len()) };
    }

    /// A bulk string.
    pub fn text(self, value: &str) {
        self.bytes(value.as_bytes());
    }

    /// An error; its first word is the code.
    pub fn error(self, text: &str) {
        let text = CString::new(text.replace(['\0', '\r', '\n'], " ")).unwrap_or_default();
        // SAFETY: the context is valid; the server copies the text.
        unsafe { api!(RedisModule_ReplyWithError)(self.raw, text.as_ptr()) };
    }

    /// The head of an array: `len` elements follow.
    pub fn array(self, len: usize) {
        // SAFETY: the context is valid.
        unsafe { api!(RedisModule_ReplyWithArray)(self.raw, head(len)) };
    }

    /// The head of a map for a client of RESP3, else of an array of as many elements. Whether it is a map.
    pub fn map_if_resp3(self, context: &Context, len: usize) -> bool {
        let is_map = context.flags().is_resp3();
        if is_map {
            // SAFETY: the context is valid.
            unsafe { api!(RedisModule_ReplyWithMap)(self.raw, head(len)) };
        } else {
            self.array(len);
        }
        is_map
    }

    /// A whole answer.
    pub fn answer(self, answer: &Answer) {
        match answer {
            Answer::Text(text) => self.text(text),
            Answer::Bytes(bytes) => self.bytes(bytes),
            Answer::Integer(value) => self.integer(*value),
            Answer::Array(elements) => {
                self.array(elements.len());
                elements.iter().for_each(|element| self.answer(element));
            }
            Answer::Map(entries) => {
                // SAFETY: the context is valid.
                unsafe { api!(RedisModule_ReplyWithMap)(self.raw, head(entries.len())) };
                for (name, value) in entries {
                    self.text(name);
                    self.answer(value);
                }
            }
            // SAFETY: the context is valid.
            Answer::Null => unsafe {
                api!(RedisModule_ReplyWithNull)(self.raw);
            },
        }
    }
}

fn head(len: usize) -> c_long {
    c_long::try_from(len).unwrap_or(c_long::MAX)
}

impl From<u64> for Answer {
    fn from(value: u64) -> Self {
        Self::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Answer {
    fn from(value: usize) -> Self {
        Self::from(value as u64)
    }
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Answer {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
