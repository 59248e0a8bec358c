//! `duolog cluster recover`.

use clap::Args;
use duolog_replication::admin::{AdminReply, AdminRequest};

use super::{ask, first_that_answers, node_address, unexpected};
use crate::output::Out;
use crate::run::confirm;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog cluster recover --node 10.0.0.1:7070                  # says what is at stake, changes nothing
  duolog cluster recover --node 10.0.0.1:7070 --accept-loss    # asks, then lets the node vote again")]
pub struct RecoverCommand {
    /// The guarded node's address for calls between nodes.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7070", value_parser = node_address)]
    node: String,
    /// Accept the loss that is printed.
    #[arg(long)]
    accept_loss: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

pub async fn run(command: RecoverCommand) -> anyhow::Result<()> {
    let RecoverCommand { node, accept_loss, yes } = command;
    let mut out = Out::default();
    // Whoever is not there is told of with what to do about it.
    first_that_answers(std::slice::from_ref(&node)).await?;
    let AdminReply::Done { lines } = ask(&node, &AdminRequest::RecoverPreview).await? else {
        return Err(unexpected(&node));
    };
    for line in &lines {
        out.line(line)?;
    }
    if !accept_loss {
        return out.line("nothing was changed; with --accept-loss the node votes again and this loss is accepted");
    }
    if !yes {
        confirm("the loss above is accepted, for good", "accept")?;
    }
    ask(&node, &AdminRequest::RecoverAcceptLoss).await?;
    out.line("the node votes again")
}
