//! The server programs of this machine, and how each is started on data of its own.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use rustix::process::{Signal, geteuid};

use super::child::Program;

/// PostgreSQL refuses to run as root.
const POSTGRES_USER: &str = "postgres";

pub struct Redis {
    server: PathBuf,
}

impl Redis {
    pub fn find() -> anyhow::Result<Redis> {
        let server = in_path("redis-server").context(
            "redis-server is not in PATH; install it (Debian and Ubuntu: apt install redis-server)",
        )?;
        Ok(Redis { server })
    }

    /// A snapshot at its end, and no append-only file: so a restarted Redis still has its replication id, and
    /// the mirror goes on where it was.
    pub fn program(&self, dir: &Path, port: u16) -> Program {
        let port = port.to_string();
        Program::new("Redis", &self.server)
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "3600 1", "--dir"])
            .args([dir])
            .log(dir.join("redis.log"))
    }
}

pub struct Postgres {
    /// With postgres and initdb.
    bin: PathBuf,
    user: Option<&'static str>,
}

impl Postgres {
    pub fn find() -> anyhow::Result<Postgres> {
        let installed = installed_versions().into_iter().map(|dir| dir.join("postgres"));
        let server = installed.chain(in_path("postgres")).find(|path| path.is_file()).context(
            "postgres is neither in PATH nor in /usr/lib/postgresql/*/bin; install it (Debian and Ubuntu: apt install postgresql)",
        )?;
        // A link in PATH leads to the directory that has initdb beside it.
        let server = server.canonicalize().unwrap_or(server);
        let bin = server.parent().unwrap_or(Path::new("/")).to_owned();
        if !bin.join("initdb").is_file() {
            bail!(
                "{} lacks initdb; install PostgreSQL's server as a whole (Debian and Ubuntu: apt install postgresql)",
                bin.display()
            );
        }
        let user = geteuid().is_root().then_some(POSTGRES_USER);
        if let Some(user) = user
            && !succeeds(Command::new("id").arg(user))
        {
            bail!(
                "PostgreSQL does not run as root, and there is no user {user}: run this as another user"
            );
        }
        Ok(Postgres { bin, user })
    }

    /// Makes the data directory, unless it is there, and says where it is: below `dir`, if PostgreSQL's own
    /// user can get there.
    pub fn create(&self, dir: &Path) -> anyhow::Result<PathBuf> {
        let name = "postgres";
        let data = match self.user {
            Some(_) if !succeeds(self.as_user("test").args([Path::new("-x"), dir])) => {
                let text = dir.display().to_string();
                let number = crc32fast::hash(text.as_bytes());
                PathBuf::from(format!("/var/lib/postgresql/tandem-dev-{number:08x}"))
            }
            _ => dir.join(name),
        };
        if data.join("PG_VERSION").is_file() {
            return Ok(data);
        }
        // Under another name until it is whole.
        let fresh = data.with_extension("new");
        let cannot = || format!("cannot make {}", fresh.display());
        let _ = std::fs::remove_dir_all(&fresh);
        std::fs::create_dir(&fresh).with_context(cannot)?;
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&fresh, mode).with_context(cannot)?;
        if let Some(user) = self.user
            && !succeeds(Command::new("chown").arg(user).arg(&fresh))
        {
            bail!("cannot give {} to the user {user}", fresh.display());
        }
        let mut initdb = self.as_user(self.bin.join("initdb"));
        initdb.arg("-D").arg(&fresh).args(["-U", "postgres", "-A", "trust", "-E", "UTF8"]);
        let output = initdb.arg("--locale=C").output().context("cannot start initdb")?;
        if !output.status.success() {
            bail!("initdb has failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
        }
        std::fs::rename(&fresh, &data)
            .with_context(|| format!("cannot make {}", data.display()))?;
        Ok(data)
    }

    pub fn program(&self, dir: &Path, data: &Path, port: u16) -> Program {
        Program::new("PostgreSQL", self.bin.join("postgres"))
            .args([Path::new("-D"), data])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-p"])
            .args([port.to_string()])
            .user(self.user)
            .log(dir.join("postgres.log"))
            // Fast shutdown: SIGTERM would wait for whoever looks at the data.
            .end(Signal::INT)
    }

    fn as_user(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = match self.user {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", user, "--regid", user, "--init-groups", "--"]);
                command.arg(program);
                command
            }
            None => Command::new(program),
        };
        command.current_dir("/");
        command
    }
}

/// What the server says of itself in the file that has its process's number.
pub fn postgres_is_ready(data: &Path, pid: u32) -> bool {
    let text = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let own = text.lines().next() == Some(&pid.to_string());
    own && text.lines().last().is_some_and(|line| line.trim() == "ready")
}

/// Debian keeps the server out of `PATH`. The newest comes first.
fn installed_versions() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut dirs: Vec<(u32, PathBuf)> = versions
        .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path().join("bin"))))
        .collect();
    dirs.sort_unstable_by_key(|(version, _)| std::cmp::Reverse(*version));
    dirs.into_iter().map(|(_, dir)| dir).collect()
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|program| program.is_file())
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
