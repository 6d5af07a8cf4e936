//! The content of one file, from one descriptor to another.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// Copies the first `size` bytes of `from` to the empty file `to`, in the kernel where it can (which
/// shares the blocks on file systems that do so), keeping holes.
pub(crate) fn copy_content(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    size: u64,
    blocks: u64,
) -> io::Result<()> {
    if size == 0 {
        return Ok(());
    }
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    // `st_blocks` counts 512 bytes each: fewer than the size means that there are holes.
    if blocks.saturating_mul(512) < size {
        return copy_with_holes(from, to, size);
    }
    copy_range(from, to, 0, size)
}

fn copy_with_holes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, size: u64) -> io::Result<()> {
    rustix::fs::ftruncate(to, size)?;
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            // No data behind here.
            Err(Errno::NXIO) => return Ok(()),
            Err(Errno::INVAL) => return copy_range(from, to, at, size),
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(data))?.min(size);
        copy_range(from, to, data, end)?;
        at = end;
    }
    Ok(())
}

fn copy_range(from: BorrowedFd<'_>, to: BorrowedFd<'_>, start: u64, end: u64) -> io::Result<()> {
    let (mut read_at, mut write_at) = (start, start);
    while read_at < end {
        let length = usize::try_from(end - read_at).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), length)
        {
            // The file has shrunk meanwhile.
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => {
                return copy_by_hand(from, to, read_at, end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(from: BorrowedFd<'_>, to: BorrowedFd<'_>, start: u64, end: u64) -> io::Result<()> {
    let mut from = std::fs::File::from(from.try_clone_to_owned()?);
    let mut to = std::fs::File::from(to.try_clone_to_owned()?);
    rustix::fs::seek(from.as_fd(), SeekFrom::Start(start))?;
    rustix::fs::seek(to.as_fd(), SeekFrom::Start(start))?;
    let mut left = end - start;
    // No larger than the file: most are small.
    let mut buffer = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(128 << 10)];
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = from.read(&mut buffer[..wanted])?;
        if count == 0 {
            break;
        }
        to.write_all(&buffer[..count])?;
        left -= count as u64;
    }
    Ok(())
}
