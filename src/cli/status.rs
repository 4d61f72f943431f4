use super::Options;
use super::client::AdminClient;
use super::show;

pub fn run(options: &Options) -> anyhow::Result<()> {
    let status = AdminClient::new(options)?.get("/admin/database/status")?.data()?;
    show::print(&status, options.json)
}
