//! RDB files that the server itself writes and reads, of a dataset and what its modules have beside it.

use std::ffi::{CString, c_int};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

use redis_module::raw;

use super::{Context, ok};

/// Opens a file in the server's folder that has no name any more: it goes when its last user goes, however that ends.
///
/// # Errors
/// The system's.
pub fn nameless(purpose: &str) -> io::Result<File> {
    let name = format!("syncer-{purpose}-{}.rdb", std::process::id());
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&name)?;
    fs::remove_file(&name)?;
    Ok(file)
}

/// Another handle on the same file, with a position of its own.
///
/// # Errors
/// The system's.
pub fn reopen(file: &File) -> io::Result<File> {
    File::open(path_of(file))
}

/// How a file is opened that has no name.
fn path_of(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Writes the dataset, in a forked child.
///
/// # Errors
/// The server has logged why.
pub fn save(context: &Context, file: &File) -> io::Result<()> {
    let save = |stream| {
        // SAFETY: the context is valid, the stream was just made.
        unsafe { api!(RedisModule_RdbSave)(context.raw(), stream, 0) }
    };
    with_stream(file, save)
}

/// Replaces the dataset of a primary, while the server answers `LOADING`. Its replicas have to begin anew, its append-only file is
/// rewritten. **The server ends itself when the file is damaged.**
///
/// # Errors
/// The file cannot be opened, or this is a replica.
pub fn load(context: &Context, file: &File) -> io::Result<()> {
    let load = |stream| {
        // SAFETY: the context is valid, the stream was just made.
        unsafe { api!(RedisModule_RdbLoad)(context.raw(), stream, 0) }
    };
    with_stream(file, load)
}

fn with_stream(file: &File, act: impl FnOnce(*mut raw::RedisModuleRdbStream) -> c_int) -> io::Result<()> {
    let path = CString::new(path_of(file))?;
    // SAFETY: the path is a C string, which the server copies; the stream is freed once.
    let status = unsafe {
        let stream = api!(RedisModule_RdbStreamCreateFromFile)(path.as_ptr());
        let status = act(stream);
        api!(RedisModule_RdbStreamFree)(stream);
        status
    };
    // The server sets errno, which the call that frees may change.
    ok(status).ok_or_else(|| io::Error::other("the server says why in its log"))
}

/// Empties a dataset that was just loaded.
pub fn empty() {
    // SAFETY: needs no data. Restarts the append-only file; not in the background.
    unsafe { api!(RedisModule_ResetDataset)(1, 0) };
}
