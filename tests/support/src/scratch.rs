use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};

const PREFIX: &str = "tandem-test-";

/// A temporary directory, removed when dropped. Others may traverse it: PostgreSQL runs as another user.
///
/// Set `TANDEM_TEST_KEEP=1` to keep the directories, with all logs.
#[derive(Debug)]
pub struct Scratch {
    dir: Option<tempfile::TempDir>,
    path: PathBuf,
    _lock: Flock<File>,
}

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        sweep();
        let dir = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{name}-"))
            .tempdir()
            .unwrap_or_else(|e| panic!("create a temporary directory: {e}"));
        let path = dir.path().to_owned();
        let lock = File::create(path.join(".lock"))
            .map_err(|e| e.to_string())
            .and_then(|file| {
                Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| e.to_string())
            })
            .unwrap_or_else(|e| panic!("lock {}: {e}", path.display()));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))
            .unwrap_or_else(|e| panic!("chmod {}: {e}", path.display()));
        Scratch { dir: Some(dir), path, _lock: lock }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::env::var_os("TANDEM_TEST_KEEP").is_some()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("kept {}", dir.keep().display());
        }
    }
}

/// Removes what killed test processes left behind: directories over an hour old that nobody locks.
fn sweep() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
        for entry in entries.flatten() {
            let old = entry
                .metadata()
                .and_then(|m| m.modified())
                .ok()
                .and_then(|t| SystemTime::now().duration_since(t).ok())
                .is_some_and(|age| age > Duration::from_secs(3600));
            if !old || !entry.file_name().to_string_lossy().starts_with(PREFIX) {
                continue;
            }
            let abandoned = File::open(entry.path().join(".lock"))
                .is_ok_and(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok());
            if abandoned {
                // Another test process may be sweeping the same one.
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    });
}
