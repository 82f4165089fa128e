//! Where the programs under test lie: the module, the agent and the pinned servers.

use std::env;
use std::path::{Path, PathBuf};

use crate::server::ServerKind;

/// The folder that holds the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests crate lies in the workspace")
}

/// The module as a shared library: `SYNCER_MODULE`, or the newest build of profile `ci` or `release`.
///
/// # Panics
/// When there is none, with the command that builds it.
pub fn module() -> PathBuf {
    built("SYNCER_MODULE", "libsyncer.so", "cargo build --profile ci -p syncer-module")
}

/// Another module than Syncer: `SYNCER_OTHER_MODULE`, or what lies beside [`module`].
///
/// # Panics
/// When there is none, with the command that builds it.
pub fn other_module() -> PathBuf {
    beside_module("SYNCER_OTHER_MODULE", "libother_module.so", "cargo build --profile ci -p syncer-other-module")
}

/// The module of `tests/listener`: `SYNCER_LISTENER`, or what lies beside [`module`].
///
/// # Panics
/// When there is none, with the command that builds it.
pub fn listener() -> PathBuf {
    beside_module("SYNCER_LISTENER", "liblistener.so", "cargo build --release -p syncer-listener")
}

/// The agent: `SYNCER_AGENT`, or the newest build of profile `ci` or `release`.
///
/// # Panics
/// When there is none, with the command that builds it.
pub fn agent() -> PathBuf {
    built("SYNCER_AGENT", "syncer-agent", "cargo build --profile ci -p syncer-agent")
}

/// The binary of a pinned server, brought by `./run servers`. `SYNCER_SERVERS` names another folder with those of each kind.
///
/// # Panics
/// When it is missing.
pub fn server(kind: ServerKind) -> PathBuf {
    let folder = env::var_os("SYNCER_SERVERS").map_or_else(|| workspace().join(".cache/servers"), PathBuf::from);
    let path = folder.join(kind.folder()).join(kind.binary());
    assert!(path.is_file(), "{} is missing: get it with ./run servers", path.display());
    path
}

/// The library that sets a process's clock off, of Debian's package `faketime`, brought by `./run`.
///
/// # Panics
/// When it is missing.
pub fn faketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1")).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("libfaketime.so.1 is missing: get it with `apt-get install faketime`, or by ./run"))
}

fn beside_module(variable: &str, file: &str, how: &str) -> PathBuf {
    let path = env::var_os(variable).map_or_else(|| module().with_file_name(file), PathBuf::from);
    assert!(path.is_file(), "{} is missing: build it with `{how}` or name it in {variable}", path.display());
    path.canonicalize().expect("a file has a canonical path")
}

fn built(variable: &str, file: &str, how: &str) -> PathBuf {
    if let Some(path) = env::var_os(variable) {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "{variable} names {}, which is no file", path.display());
        return path.canonicalize().expect("a file has a canonical path");
    }
    let candidates = ["ci", "release"].map(|profile| target().join(profile).join(file));
    let newest = candidates.iter().filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path))).max();
    match newest {
        Some((_, path)) => path.clone(),
        None => {
            panic!("{file} is in no profile of {}: build it with `{how}` or name it in {variable}", target().display())
        }
    }
}

/// The target folder of the running test or program: `CARGO_TARGET_DIR`, or where the executable lies.
fn target() -> PathBuf {
    if let Some(folder) = env::var_os("CARGO_TARGET_DIR") {
        return workspace().join(folder);
    }
    let executable = env::current_exe().expect("the running program has a path");
    let tagged = executable.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    tagged.map_or_else(|| workspace().join("target"), Path::to_path_buf)
}
