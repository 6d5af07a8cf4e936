//! The plain header of an archive entry: what is where (POSIX.1, `ustar`).

use std::ops::Range;

/// The unit of an archive.
pub(super) const BLOCK: usize = 512;

/// A place in the header.
pub(super) type Field = Range<usize>;

/// The places in the header.
pub(super) mod field {
    use super::Field;

    macro_rules! fields {
        ($($name:ident = $range:expr;)*) => {$(pub(crate) const $name: Field = $range;)*};
    }
    fields! {
        NAME = 0..100;
        MODE = 100..108;
        UID = 108..116;
        GID = 116..124;
        SIZE = 124..136;
        MODIFIED = 136..148;
        SUM = 148..156;
        KIND = 156..157;
        TARGET = 157..257;
        MAGIC = 257..263;
        VERSION = 263..265;
        MAJOR = 329..337;
        MINOR = 337..345;
        PREFIX = 345..500;
    }
}
