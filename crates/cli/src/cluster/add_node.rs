//! `duolog cluster add-node`.

use clap::Args;

use super::NodeArgs;
use super::steps::{Steps, fewest_voters, worth};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog start --config new-node.toml &      # node_id = 3, an empty data_dir, itself and the other nodes in [[nodes]]
  duolog cluster add-node --id 3

The node copies every broker group beside the load, and votes once it has caught up. Interrupted, the command goes on where it
stopped when it is run again.")]
pub struct AddNodeCommand {
    #[command(flatten)]
    node: NodeArgs,
    /// The node that comes: started, under an id that was never used.
    #[arg(long)]
    id: u64,
}

pub async fn run(command: AddNodeCommand) -> anyhow::Result<()> {
    let AddNodeCommand { node, id } = command;
    let mut steps = Steps::new(node.nodes);
    let status = steps.status().await?;
    let votes_everywhere =
        status.groups.iter().all(|group| group.replicas.iter().any(|replica| replica.node_id == id && replica.voter));
    if votes_everywhere {
        return steps.say(&format!("node {id} is a voter of every broker group already"));
    }
    steps.join(id).await?;
    steps.change(Some(id), None).await?;
    let status = steps.status().await?;
    steps.say(&format!("done: node {id} votes in every broker group. {}", worth(fewest_voters(&status, None))))
}
