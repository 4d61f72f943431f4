//! `tandem dev`: a private Redis, a private PostgreSQL and the proxy in front of them, for as long as the
//! command runs. The data stays in its directory.

mod child;
mod servers;

use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;

use self::child::{Children, Program};
use self::servers::{Postgres, Redis};
use super::show;
use crate::process::{Asked, Signals};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the data, the logs and the proxy's configuration are kept, from one run to the next.
    #[arg(long, default_value = ".dev/tandem")]
    dir: PathBuf,
    /// The port for clients; otherwise the first free one from 6380 on.
    #[arg(long)]
    port: Option<u16>,
    /// Print the addresses as one JSON object.
    #[arg(long)]
    json: bool,
}

struct Ports {
    clients: u16,
    admin: u16,
    redis: u16,
    postgres: u16,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (redis, postgres) = (Redis::find()?, Postgres::find()?);
    let dir = &arguments.dir;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let dir = &dir.canonicalize().with_context(|| format!("cannot read {}", dir.display()))?;
    let _lock = lock(dir)?;
    let data = postgres.create(dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    // On this thread, with which the children would end.
    runtime.block_on(async {
        let mut signals = Signals::new().context("cannot wait for signals")?;
        let mut children = Children::default();
        let served = async {
            // Each is chosen just before it is taken: others may look for ports at the same time.
            let postgres_port = any_port()?;
            let pid = children.start(&postgres.program(dir, &data, postgres_port))?;
            children.until(|| servers::postgres_is_ready(&data, pid)).await?;
            let redis_port = any_port()?;
            children.start(&redis.program(dir, redis_port))?;
            let address = (Ipv4Addr::LOCALHOST, redis_port);
            children.until(|| TcpStream::connect(address).is_ok()).await?;
            let ports = Ports {
                clients: arguments.port.map_or_else(|| free_port(6380), Ok)?,
                admin: free_port(9380)?,
                redis: redis_port,
                postgres: postgres_port,
            };
            children.start(&proxy(dir, &ports)?)?;
            children.until(|| is_ready(ports.admin)).await?;
            announce(arguments, (dir, &data), &ports)?;
            children.until_one_ends().await
        };
        let ended = tokio::select! {
            ended = served => ended,
            () = end_asked(&mut signals) => Ok(()),
        };
        // The proxy first: it brings to PostgreSQL what Redis has done.
        children.stop().await;
        ended
    })?;
    Ok(ExitCode::SUCCESS)
}

/// One `tandem dev` per directory.
fn lock(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another `tandem dev` runs in {}; name another place by --dir", dir.display())
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

fn any_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr().context("no port is free")?.port())
}

/// A port that is easily remembered.
fn free_port(from: u16) -> anyhow::Result<u16> {
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (from..from.saturating_add(1000))
        .find(free)
        .with_context(|| format!("no port is free from {from} on"))
}

async fn end_asked(signals: &mut Signals) {
    while let Asked::Reload = signals.next().await {}
}

/// The proxy, as this very program. Its environment counts as always, but for what says where the servers are.
fn proxy(dir: &Path, ports: &Ports) -> anyhow::Result<Program> {
    let path = dir.join("proxy.toml");
    let text = format!(
        "# Written by `tandem dev` at each start.\n\
         [listen]\naddress = \"127.0.0.1:{}\"\n\
         [redis]\nurl = \"redis://127.0.0.1:{}/0\"\n\
         [postgres]\nurl = \"postgres://postgres@127.0.0.1:{}/postgres\"\n\
         [mirror]\nspool_dir = {}\n\
         [admin]\naddress = \"127.0.0.1:{}\"\n",
        ports.clients,
        ports.redis,
        ports.postgres,
        toml::Value::from(dir.join("spool").display().to_string()),
        ports.admin,
    );
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    let own = std::env::current_exe().context("cannot find this program")?;
    let elsewhere = |name: &str| {
        let prefixes = ["REDIS_", "POSTGRES_", "TANDEM_REDIS_", "TANDEM_POSTGRES_"];
        prefixes.iter().any(|prefix| name.starts_with(prefix))
            || ["TANDEM_LISTEN_ADDRESS", "TANDEM_ADMIN_ADDRESS", "NOTIFY_SOCKET"].contains(&name)
    };
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    Ok(Program::new("the proxy", own)
        .args(["serve", "--config"])
        .args([path])
        .without(names.filter(|name| elsewhere(name)).collect()))
}

fn is_ready(admin: u16) -> bool {
    let limit = Some(Duration::from_secs(5));
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(limit).proxy(None).build().into();
    agent.get(format!("http://127.0.0.1:{admin}/ready")).call().is_ok()
}

fn announce(
    arguments: &Arguments,
    (dir, data): (&Path, &Path),
    ports: &Ports,
) -> anyhow::Result<()> {
    let config = dir.join("proxy.toml").display().to_string();
    let url = format!("redis://127.0.0.1:{}", ports.clients);
    let admin = format!("http://127.0.0.1:{}", ports.admin);
    let redis = format!("redis://127.0.0.1:{}", ports.redis);
    let postgres = format!("postgres://postgres@127.0.0.1:{}/postgres", ports.postgres);
    if arguments.json {
        let addresses = json!({
            "url": url, "admin": admin, "redis": redis, "postgres": postgres, "config": config,
        });
        return show::line(&addresses.to_string());
    }
    // PostgreSQL's own user may not get into the directory.
    let elsewhere = match data.starts_with(dir) {
        true => String::new(),
        false => format!(" and {}", data.display()),
    };
    show::line(&format!(
        "\nTandem is up. Point a Redis client at\n\n    {url}\n\n\
         status page  {admin}\n\
         data         psql {postgres}\n\
         Redis alone  {redis}\n\
         commands     tandem status --config {config}\n\
         stop         Ctrl-C; the data stays in {}{elsewhere}\n",
        dir.display()
    ))
}
