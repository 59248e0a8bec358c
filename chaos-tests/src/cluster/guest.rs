//! A node that joins the cluster and leaves it again, by the operator's commands. Ids are used once, so each guest has a new one; the ports
//! and the place in the network stay.
//!
//! ```text
//!  started ─ add-node ─▶ member ─ remove-node ─▶ ends by itself
//!             └─ a command that fails is run again ─┘
//! ```

use std::path::Path;
use std::process::Child;

use anyhow::{Context, Result};

use super::{Node, cluster_command};

pub struct Guest {
    pub(super) node: Node,
    standing: Standing,
    command: Option<Running>,
}

/// The operator's command; it ends with the guest.
struct Running(Child);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Joining,
    Member,
    Leaving,
    Gone,
}

/// What a step has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A command runs.
    Waits,
    /// A command failed and was run again.
    Again,
    Joined,
    Left,
}

impl Guest {
    pub(super) fn new(node: Node) -> Guest {
        Guest { node, standing: Standing::Joining, command: None }
    }

    pub fn id(&self) -> u32 {
        self.node.id
    }

    pub fn is_member(&self) -> bool {
        self.standing == Standing::Member
    }

    /// Whether its process may end: it was taken out, or may be any moment.
    pub(super) fn may_end(&self) -> bool {
        matches!(self.standing, Standing::Leaving | Standing::Gone)
    }

    pub(super) fn into_node(self) -> Node {
        self.node
    }

    /// It shall leave.
    pub fn ask_to_leave(&mut self) {
        self.standing = Standing::Leaving;
    }

    /// Looks at the command that is under way, and runs it if it is not. `addresses`: where the others are called.
    pub(super) fn step(&mut self, binary: &Path, addresses: &str) -> Result<Step> {
        let verb = match self.standing {
            Standing::Joining => "add-node",
            Standing::Leaving => "remove-node",
            Standing::Member => return Ok(Step::Joined),
            Standing::Gone => return Ok(Step::Left),
        };
        let ended = match &mut self.command {
            Some(Running(command)) => match command.try_wait()? {
                None => return Ok(Step::Waits),
                Some(status) => Some(status),
            },
            None => None,
        };
        self.command = None;
        match (ended, self.standing) {
            (Some(status), Standing::Joining) if status.success() => {
                self.standing = Standing::Member;
                return Ok(Step::Joined);
            }
            (Some(status), _) if status.success() => {
                self.standing = Standing::Gone;
                return Ok(Step::Left);
            }
            _ => {}
        }
        let mut command = cluster_command(binary, &[verb, "--id", &self.node.id.to_string()], addresses);
        let command = command.spawn().with_context(|| format!("cannot run duolog cluster {verb}"))?;
        self.command = Some(Running(command));
        Ok(if ended.is_some() { Step::Again } else { Step::Waits })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
