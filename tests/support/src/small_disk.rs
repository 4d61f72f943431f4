use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Scratch;

const FILLER: &str = "filler";

/// A file system of its own in memory, small enough to be filled. It goes when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    _scratch: Scratch,
}

impl SmallDisk {
    /// `None`, visibly, where file systems cannot be mounted.
    pub fn new(mebibytes: u64) -> Option<SmallDisk> {
        let scratch = Scratch::new("disk");
        let path = scratch.path().join("mounted");
        std::fs::create_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let size = format!("size={mebibytes}m,mode=755");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).output();
        match mounted {
            Ok(output) if output.status.success() => Some(SmallDisk { path, _scratch: scratch }),
            _ => {
                eprintln!("SKIPPED: no disk that can be filled: tmpfs cannot be mounted here");
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let file = OpenOptions::new().create(true).append(true).open(self.path.join(FILLER));
        let mut file = file.unwrap_or_else(|e| panic!("{}: {e}", self.path.display()));
        for piece in [64 * 1024, 4096, 1] {
            while file.write_all(&vec![0; piece]).is_ok() {}
        }
    }

    /// Gives it back.
    pub fn free(&self) {
        // It may not have been filled.
        let _ = std::fs::remove_file(self.path.join(FILLER));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that is about to end may still have files there.
        let _ = Command::new("umount").arg("-l").arg(&self.path).output();
    }
}
