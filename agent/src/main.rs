//! `syncer-agent`: see the library's documentation and `docs/AGENT.md`.
#![forbid(unsafe_code)]

fn main() {}
