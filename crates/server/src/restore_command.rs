//! `duolog restore`: a new cluster from a backup.

use std::path::PathBuf;

use clap::Args;
use duolog_cli::{Exit, Out};

use crate::config::Loaded;
use crate::node;

#[derive(Args)]
#[command(after_help = "Examples:
  duolog restore --from /backups/2026-11-27 --to /var/lib/duolog-restored --config node.toml

Makes the data directories of all nodes that the config lists, DIR/node-ID each; cluster_name, broker_groups and [[nodes]] are taken from
it. Copy each one to its machine as data_dir, then start all nodes. The restored cluster has an id of its own and knows nothing of the
old one's nodes; clients find everything up to the backup.")]
pub struct RestoreCommand {
    /// The backup: a directory that `duolog cluster backup` wrote.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Where the data directories are made: new or empty.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The config of any node of the new cluster.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl RestoreCommand {
    pub fn run(self) -> anyhow::Result<Exit> {
        let config = Loaded::read(&self.config)?.config;
        let options = node::cluster_options(&config);
        let name = &config.cluster_name;
        let made = duolog_replication::restore(
            &self.from,
            &self.to,
            (name, config.broker_groups),
            &options.nodes,
            &options.log,
        );
        let mut out = Out::default();
        made?.iter().try_for_each(|line| out.line(line))?;
        out.line("done: give each node its directory as data_dir, and start all of them")?;
        Ok(Exit::Success)
    }
}
