//! What everything is measured on.
//!
//! What a file costs depends on the file system it is on and on what that went through (an ext4 looks
//! long for a free inode when many were deleted in the last minutes), so that numbers of two runs could
//! not be compared. Each run makes a file system of its own, in memory where there is room.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use integration::Program;
use rustix::mount::{UnmountFlags, unmount};

/// The argument that says that the file system is there.
const MADE: &str = "--on-ground";

/// The largest that the file system can become, in bytes.
const SIZE: u64 = 12 << 30;

/// Runs this program again with its temporary files on a fresh ext4, and returns its exit status; none
/// if this is the run that is to measure.
pub(crate) fn prepare() -> anyhow::Result<Option<i32>> {
    if std::env::args().any(|argument| argument == MADE) {
        return Ok(None);
    }
    let ground = Ground::make()?;
    let itself = std::env::current_exe().context("find this program")?;
    #[expect(
        clippy::disallowed_methods,
        reason = "it prints as it measures, for any length of time"
    )]
    let mut again = std::process::Command::new(itself);
    again.args(std::env::args_os().skip(1)).arg(MADE).env("TMPDIR", &ground.mounted);
    let status = again.status().context("run this program again")?;
    Ok(Some(status.code().unwrap_or(1)))
}

/// A file system in a file. Dropping it takes both away.
struct Ground {
    mounted: PathBuf,
    _directory: tempfile::TempDir,
}

impl Ground {
    fn make() -> anyhow::Result<Self> {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let directory = tempfile::tempdir_in(place)?;
        let (image, mounted) = (directory.path().join("image"), directory.path().join("mounted"));
        fs::create_dir(&mounted)?;
        File::create(&image)?.set_len(SIZE)?;
        // What is written into the file later would be measured with the rest.
        let whole = "lazy_itable_init=0,lazy_journal_init=0";
        Program::new("mkfs.ext4").args(["-q", "-E", whole]).arg(&image).succeed()?;
        Program::new("mount").args(["-o", "loop"]).arg(&image).arg(&mounted).succeed()?;
        Ok(Self { mounted, _directory: directory })
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.mounted, UnmountFlags::DETACH) {
            eprintln!("{} stays mounted: {error}", self.mounted.display());
        }
    }
}
