//! `cargo xtask …`: what is done to this repository.

#[cfg(test)]
mod chart;
mod crds;
#[cfg(test)]
mod dependencies;
mod fields;
mod generated;
mod helm;
mod image;
mod manifests;
mod yaml;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "What is done to this repository")]
enum Task {
    /// Writes the custom resource definitions into chart, manifests and docs, from the types of the operator.
    Crds {
        /// Changes nothing; fails if a file is not as it would be written.
        #[arg(long)]
        check: bool,
    },
    /// Writes the manifests and the chart's README, from the chart. Needs Helm: e2e/peers/build.sh helm
    Manifests {
        /// Changes nothing; fails if a file is not as it would be written.
        #[arg(long)]
        check: bool,
    },
    /// Packs servers and operator as a container image, without a container engine.
    Image(image::Keelson),
    /// Packs other programs as a container image.
    Pack(image::Other),
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Crds { check } => generated::bring(&crds::files()?, check),
        Task::Manifests { check } => generated::bring(&manifests::files()?, check),
        Task::Image(image) => image.run(),
        Task::Pack(image) => image.run(),
    }
}
