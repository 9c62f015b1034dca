//! `cargo xtask …`: what is done to this repository.

mod crds;
mod generated;
mod yaml;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "What is done to this repository")]
enum Task {
    /// Writes the custom resource definitions into the chart and the manifests, from the types of the operator.
    Crds {
        /// Changes nothing; fails if a file is not as it would be written.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Crds { check: true } => generated::check(&crds::files()?),
        Task::Crds { check: false } => generated::write(&crds::files()?),
    }
}
