//! What can be wrong with bytes from elsewhere.

/// Why bytes were not accepted. `what` names the field as docs/PROTOCOL.md does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Fewer bytes than announced.
    #[error("the bytes end within {what}")]
    Truncated {
        /// Where.
        what: &'static str,
    },
    /// Damaged on the way, or not cut at a frame boundary.
    #[error("the checksum is {computed:08x}, the frame says {stored:08x}: it was damaged or cut on the way")]
    Checksum {
        /// Of the bytes received.
        computed: u32,
        /// In the frame.
        stored: u32,
    },
    /// From another release.
    #[error("format version {0} is not known here; use the same release of Syncer on both sides")]
    Version(u8),
    /// Larger than any honest sender makes it.
    #[error("{what} is {found}, more than the limit of {limit}")]
    TooLarge {
        /// The field.
        what: &'static str,
        /// Its value.
        found: u64,
        /// See [`super::limits`].
        limit: u64,
    },
    /// A number that is not in its shortest form, or does not fit.
    #[error("{what} is not a well-formed variable-length number")]
    Varint {
        /// The field.
        what: &'static str,
    },
    /// Outside 1 to 63.
    #[error("{0} is no instance id (1 to 63)")]
    Instance(u8),
    /// A code that nothing is assigned to.
    #[error("{what} has the unknown code {code}")]
    Code {
        /// The field.
        what: &'static str,
        /// Its value.
        code: u8,
    },
    /// A combination or value that has no meaning.
    #[error("{what} has a value that is not allowed there")]
    Invalid {
        /// The field.
        what: &'static str,
    },
    /// Bytes behind the end.
    #[error("{0} bytes follow the end of what was expected")]
    Trailing(usize),
}
