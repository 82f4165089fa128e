//! A thin, blocking client: terse to write in a test, binary safe, errors as values.

use std::io::{self, Write};
use std::net::TcpStream;
use std::time::Duration;

use redis::{Parser, RedisResult, Value};

use crate::{reply, wait};

/// One connection to a server.
pub struct Client {
    stream: TcpStream,
    parser: Parser,
}

impl Client {
    /// Connects to a port on loopback, speaking RESP2.
    pub fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(wait::PATIENCE))?;
        Ok(Self { stream, parser: Parser::new() })
    }

    /// The same connection, speaking RESP3 from now on.
    pub fn resp3(mut self) -> Self {
        let hello = self.cmd("HELLO 3");
        assert!(!reply::is_error(&hello), "HELLO 3: {}", reply::text(&hello));
        self
    }

    /// How long [`Client::receive`] waits for a reply.
    pub fn patience(&mut self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).expect("a socket takes a timeout above zero");
    }

    /// Runs a command given as a line, as `redis-cli` takes it: words, or `"quoted \x00 words"`.
    ///
    /// # Panics
    /// When the connection breaks. An error of the server is a value.
    pub fn cmd(&mut self, line: &str) -> Value {
        self.args(&words(line))
    }

    /// Runs a command given as a line and returns the reply as [text](reply::text).
    pub fn text(&mut self, line: &str) -> String {
        reply::text(&self.cmd(line))
    }

    /// Runs a command given as a line and returns the elements of its reply as texts.
    pub fn text_items(&mut self, line: &str) -> Vec<String> {
        reply::text_items(&self.cmd(line))
    }

    /// Runs a command given as a line that must not fail, and returns its reply.
    ///
    /// # Panics
    /// On an error reply.
    pub fn ok(&mut self, line: &str) -> Value {
        let value = self.cmd(line);
        assert!(!reply::is_error(&value), "{line}: {}", reply::text(&value));
        value
    }

    /// Runs a command given as its arguments.
    ///
    /// # Panics
    /// When the connection breaks.
    pub fn args<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Value {
        let shown = || args.first().map(|name| reply::escape(name.as_ref())).unwrap_or_default();
        self.try_args(args).unwrap_or_else(|error| panic!("{}: {error}", shown()))
    }

    /// Runs a command; `Err` when the connection breaks or brings no reply in time.
    pub fn try_args<A: AsRef<[u8]>>(&mut self, args: &[A]) -> RedisResult<Value> {
        self.send(args)?;
        self.receive()
    }

    /// Runs a command given as a line; `Err` when the connection breaks or brings no reply in time.
    pub fn try_cmd(&mut self, line: &str) -> RedisResult<Value> {
        self.try_args(&words(line))
    }

    /// Runs all the lines in one pipeline; `Err` when the connection breaks or brings no reply in time.
    pub fn try_pipeline<L: AsRef<str>>(&mut self, lines: &[L]) -> RedisResult<Vec<Value>> {
        let mut bytes = Vec::new();
        for line in lines {
            encode(&words(line.as_ref()), &mut bytes);
        }
        self.send_raw(&bytes)?;
        lines.iter().map(|_| self.receive()).collect()
    }

    /// Runs all the lines in one pipeline and returns their replies.
    ///
    /// # Panics
    /// When the connection breaks.
    pub fn pipeline<L: AsRef<str>>(&mut self, lines: &[L]) -> Vec<Value> {
        let mut bytes = Vec::new();
        for line in lines {
            encode(&words(line.as_ref()), &mut bytes);
        }
        self.send_raw(&bytes).expect("the pipeline can be sent");
        lines.iter().map(|line| self.receive().unwrap_or_else(|error| panic!("{}: {error}", line.as_ref()))).collect()
    }

    /// Runs the lines in one transaction and returns the reply of EXEC.
    ///
    /// # Panics
    /// When the connection breaks.
    pub fn multi<L: AsRef<str>>(&mut self, lines: &[L]) -> Value {
        let all = [vec!["MULTI"], lines.iter().map(AsRef::as_ref).collect(), vec!["EXEC"]].concat();
        self.pipeline(&all).pop().expect("EXEC has a reply")
    }

    /// Sends a command and leaves its reply for [`Client::receive`].
    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<()> {
        let mut bytes = Vec::new();
        encode(args, &mut bytes);
        self.send_raw(&bytes)
    }

    /// Sends a blocking command and returns once the server shows, to `observer`, that this client is blocked.
    /// [`Client::receive`] takes the reply.
    ///
    /// # Panics
    /// When the command does not block.
    pub fn block(&mut self, line: &str, observer: &mut Self) {
        let id = reply::integer(&self.ok("CLIENT ID"));
        self.send(&words(line)).expect("the command can be sent");
        let blocked = || {
            let shown = observer.text(&format!("CLIENT LIST ID {id}"));
            shown.split(' ').any(|field| field.strip_prefix("flags=").is_some_and(|flags| flags.contains('b')))
        };
        wait::eventually(&format!("{line} blocks"), blocked);
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next reply (or push message).
    pub fn receive(&mut self) -> RedisResult<Value> {
        self.parser.parse_value(&mut self.stream)
    }
}

/// Appends a command as a client sends it.
pub fn encode<A: AsRef<[u8]>>(args: &[A], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.as_ref().len()).as_bytes());
        out.extend_from_slice(arg.as_ref());
        out.extend_from_slice(b"\r\n");
    }
}

/// Splits a line into arguments, as `redis-cli` does: blanks separate; `"…"` takes `\n`, `\r`, `\t`, `\\`, `\"` and
/// `\xHH`; `'…'` is taken as it is.
///
/// # Panics
/// On an open quote or a broken escape: the line is part of a test.
pub fn words(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut rest = line.bytes().peekable();
    while let Some(&first) = rest.peek() {
        match first {
            b' ' | b'\t' | b'\n' => {
                rest.next();
            }
            b'"' => words.push(quoted(&mut rest, line)),
            b'\'' => {
                rest.next();
                words.push(rest.by_ref().take_while(|&byte| byte != b'\'').collect());
            }
            _ => {
                let mut word = Vec::new();
                while let Some(byte) = rest.next_if(|byte| !byte.is_ascii_whitespace()) {
                    word.push(byte);
                }
                words.push(word);
            }
        }
    }
    words
}

fn quoted(rest: &mut impl Iterator<Item = u8>, line: &str) -> Vec<u8> {
    let mut word = Vec::new();
    rest.next();
    loop {
        match rest.next().unwrap_or_else(|| panic!("an open quote in: {line}")) {
            b'"' => return word,
            b'\\' => word.push(escaped(rest, line)),
            byte => word.push(byte),
        }
    }
}

fn escaped(rest: &mut impl Iterator<Item = u8>, line: &str) -> u8 {
    let mut next = || rest.next().unwrap_or_else(|| panic!("an open escape in: {line}"));
    match next() {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'x' => {
            let digits = [next(), next()].map(char::from);
            let text: String = digits.iter().collect();
            u8::from_str_radix(&text, 16).unwrap_or_else(|_| panic!("\\x{text} is no byte in: {line}"))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn a_line_splits_as_in_redis_cli() {
        assert_eq!(words("SET k  v"), [&b"SET"[..], b"k", b"v"]);
        assert_eq!(words(r#"SET "a b" "\x00\"\n" '' 'x "y'"#), [&b"SET"[..], b"a b", b"\0\"\n", b"", b"x \"y"]);
    }
}
