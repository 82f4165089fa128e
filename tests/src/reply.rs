//! Replies as text, for comparisons and messages: one form per value, whatever the protocol version.

use redis::Value;

/// The text of a reply: `OK`, `5`, `(nil)`, `[a, b]`, `{f: v}`, `-ERR no such key`. Bytes that are not printable
/// ASCII show as `\xHH`.
pub fn text(value: &Value) -> String {
    match value {
        Value::Nil => "(nil)".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::BulkString(bytes) => escape(bytes),
        Value::SimpleString(status) => status.clone(),
        Value::Okay => "OK".to_owned(),
        Value::Array(items) | Value::Set(items) => list(items),
        Value::Map(pairs) => map(pairs),
        Value::Double(number) => number.to_string(),
        Value::Boolean(flag) => i32::from(*flag).to_string(),
        Value::VerbatimString { text, .. } => text.clone(),
        Value::ServerError(error) => match error.details() {
            Some(details) => format!("-{} {details}", error.code()),
            None => format!("-{}", error.code()),
        },
        Value::Attribute { data, .. } => text(data),
        Value::Push { data, .. } => list(data),
        other => format!("{other:?}"),
    }
}

/// Whether the reply is an error.
pub fn is_error(value: &Value) -> bool {
    matches!(value, Value::ServerError(_))
}

/// The elements of an array, set or push; empty for anything else.
pub fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) | Value::Set(items) | Value::Push { data: items, .. } => items,
        _ => &[],
    }
}

/// The elements of an array, set or push as texts.
pub fn text_items(value: &Value) -> Vec<String> {
    items(value).iter().map(text).collect()
}

/// The bytes of a bulk or status reply.
///
/// # Panics
/// On any other reply: the test expected a string.
pub fn bytes(value: &Value) -> &[u8] {
    match value {
        Value::BulkString(bytes) => bytes,
        Value::SimpleString(status) => status.as_bytes(),
        Value::Okay => b"OK",
        other => panic!("expected a string, got {}", text(other)),
    }
}

/// An integer reply, also one sent as text.
///
/// # Panics
/// On any other reply: the test expected a number.
pub fn integer(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        other => text(other).parse().unwrap_or_else(|_| panic!("expected an integer, got {}", text(other))),
    }
}

/// The value of a field of a map, also of one that RESP2 has as a flat array.
///
/// # Panics
/// When there is no such field.
pub fn field<'a>(value: &'a Value, name: &str) -> &'a Value {
    let found = match value {
        Value::Map(pairs) => pairs.iter().find(|(key, _)| text(key) == name).map(|(_, value)| value),
        flat => items(flat).chunks_exact(2).find(|pair| text(&pair[0]) == name).map(|pair| &pair[1]),
    };
    found.unwrap_or_else(|| panic!("no {name} in {}", text(value)))
}

/// Printable form of bytes.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

fn list(items: &[Value]) -> String {
    format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(", "))
}

fn map(pairs: &[(Value, Value)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{}: {}", text(key), text(value))).collect();
    format!("{{{}}}", pairs.join(", "))
}
