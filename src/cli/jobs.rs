use super::Options;
use super::client::AdminClient;
use super::show;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Show this job alone, with its result.
    id: Option<u64>,
    /// Cancel it; what it has done stays.
    #[arg(long, requires = "id")]
    cancel: bool,
}

const COLUMNS: [&str; 5] = ["id", "kind", "state", "startedAt", "seconds"];

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let client = AdminClient::new(&arguments.options)?;
    let json = arguments.options.json;
    let Some(id) = arguments.id else {
        let jobs = client.get("/admin/jobs")?.data()?;
        if json {
            return show::print(&jobs, true);
        }
        let row = |job: &serde_json::Value| {
            COLUMNS.iter().map(|column| show::text(&job[*column])).collect()
        };
        let rows: Vec<Vec<String>> =
            jobs["jobs"].as_array().into_iter().flatten().map(row).collect();
        return show::table(&COLUMNS, &rows);
    };
    let path = format!("/admin/jobs/{id}");
    let answer = if arguments.cancel { client.delete(&path)? } else { client.get(&path)? };
    show::print(&answer.data()?, json)
}
