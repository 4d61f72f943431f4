use std::io::Write;

use clap::CommandFactory;

use super::Cli;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The page of this subcommand; without it the page of tandem itself.
    subcommand: Option<String>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut command = Cli::command();
    command.build();
    if let Some(name) = &arguments.subcommand {
        let Some(found) = command.find_subcommand(name) else {
            anyhow::bail!("there is no subcommand {name}; `tandem help` lists them");
        };
        // Built, it has the name tandem-sync, as git names its pages.
        command = found.clone();
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    std::io::stdout().write_all(&page)?;
    Ok(())
}
