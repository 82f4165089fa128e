//! Libraries of functions, as keys of a database that no server has (`FUNCTIONS_DB`).

use syncer_shared::effect::FUNCTIONS_DB;

use crate::redis::{Context, Element, OwnedText, Reply, call, log};

/// A library: name and code.
pub type Library = (Vec<u8>, Vec<u8>);

/// Whether the keys of this database are libraries.
#[must_use]
pub const fn is(db: u32) -> bool {
    db == FUNCTIONS_DB
}

/// All libraries of the server.
#[must_use]
pub fn list(context: &Context) -> Vec<Library> {
    let mut libraries = Vec::new();
    run(context, &[b"LIST", b"WITHCODE"]).each(|library: Element<'_>| {
        let field = |name: &[u8]| {
            let at =
                (0..library.len()).step_by(2).find(|at| library.get(*at).and_then(Element::bytes) == Some(name))?;
            library.get(at + 1)?.bytes().map(<[u8]>::to_vec)
        };
        libraries.extend(field(b"library_name").zip(field(b"library_code")));
    });
    libraries
}

/// The code of a library.
#[must_use]
pub fn code(context: &Context, name: &[u8]) -> Option<Vec<u8>> {
    list(context).into_iter().find(|(known, _)| known == name).map(|(_, code)| code)
}

/// Loads a library. Whether the server took it; if not, there is no library of that name any more.
pub fn load(context: &Context, name: &[u8], code: &[u8]) -> bool {
    let error = if declared(code) == Some(name) {
        run(context, &[b"LOAD", b"REPLACE", code]).error()
    } else {
        Some("its code declares another name".to_owned())
    };
    if let Some(error) = &error {
        delete(context, name);
        let name = String::from_utf8_lossy(name);
        log::warning(&format!("syncer: this server cannot load the library of functions '{name}' of a peer: {error}"));
    }
    error.is_none()
}

/// Deletes a library if it is there.
pub fn delete(context: &Context, name: &[u8]) {
    run(context, &[b"DELETE", name]);
}

fn run(context: &Context, args: &[&[u8]]) -> Reply {
    let args: Vec<OwnedText> = args.iter().map(|arg| OwnedText::new(arg)).collect();
    call(context, c"FUNCTION", &args.iter().map(OwnedText::text).collect::<Vec<_>>())
}

/// The name in `#!lua name=mylib`.
fn declared(code: &[u8]) -> Option<&[u8]> {
    let head = code.split(|byte| *byte == b'\n').next()?.strip_prefix(b"#!")?;
    head.split(u8::is_ascii_whitespace).find_map(|word| word.strip_prefix(b"name="))
}

#[cfg(test)]
mod tests {
    use super::declared;

    #[test]
    fn code_declares_a_name() {
        assert_eq!(declared(b"#!lua name=mylib\nredis.register_function('f', g)"), Some(&b"mylib"[..]));
        assert_eq!(declared(b"#!lua  name=a_1 \r\n"), Some(&b"a_1"[..]));
        assert_eq!(declared(b"return 1"), None);
        assert_eq!(declared(b"#!lua\nname=x"), None);
    }
}
