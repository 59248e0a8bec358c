//! Who a node is: cluster, node id, incarnation of its data directory. Every call between nodes carries it.
//!
//! Invariant: a data directory gets its incarnation once; a directory that was emptied gets another one and is refused
//! under its old node id, because it has forgotten what it acknowledged.

use std::path::{Path, PathBuf};

use duolog_types::{Incarnation, NodeId};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use crate::files;

/// Version of the data directory's layout.
pub const FORMAT_VERSION: u32 = 1;

/// What `node.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeFile {
    /// Layout of the data directory.
    pub format_version: u32,
    /// Name of the cluster, from the config.
    pub cluster_name: String,
    /// Id of the cluster, once it was initialized.
    pub cluster_id: Option<String>,
    /// The node.
    pub node_id: NodeId,
    /// The directory's incarnation.
    pub incarnation: Incarnation,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It belongs to another node.
    #[error("{path} belongs to node {found}, but this is node {expected}; check node_id and data_dir")]
    OtherNode {
        /// The file.
        path: PathBuf,
        /// Node id in it.
        found: NodeId,
        /// Node id of the config.
        expected: NodeId,
    },
    /// It belongs to another cluster.
    #[error("{path} belongs to cluster {found:?}, but this is cluster {expected:?}; check cluster_name and data_dir")]
    OtherCluster {
        /// The file.
        path: PathBuf,
        /// Cluster name in it.
        found: String,
        /// Cluster name of the config.
        expected: String,
    },
    /// It was written by a newer version.
    #[error("{path} has format version {found}; this binary understands up to {FORMAT_VERSION}: use a newer duolog")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Version in it.
        found: u32,
    },
    /// It cannot be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The identity of this node.
pub struct Identity {
    path: PathBuf,
    file: RwLock<NodeFile>,
}

const CLUSTER: &str = "duolog-cluster";
const FROM: &str = "duolog-from";
const FROM_INCARNATION: &str = "duolog-from-incarnation";
const TO: &str = "duolog-to";
const TO_INCARNATION: &str = "duolog-to-incarnation";

/// Who called, as the metadata of a call says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The calling node.
    pub node_id: NodeId,
    /// Incarnation of its directory.
    pub incarnation: String,
}

impl Identity {
    /// Reads `node.json`, or writes a new one with a new incarnation into an empty directory.
    ///
    /// # Errors
    /// The directory is another node's, another cluster's, of a newer version, or cannot be used.
    pub fn open(data_dir: &Path, cluster_name: &str, node_id: NodeId) -> Result<Self, IdentityError> {
        let path = data_dir.join("node.json");
        let file = match files::read_json::<NodeFile>(&path)? {
            Some(file) => {
                if file.format_version > FORMAT_VERSION {
                    return Err(IdentityError::Newer { path, found: file.format_version });
                }
                if file.node_id != node_id {
                    return Err(IdentityError::OtherNode { path, found: file.node_id, expected: node_id });
                }
                if file.cluster_name != cluster_name {
                    return Err(IdentityError::OtherCluster {
                        path,
                        found: file.cluster_name,
                        expected: cluster_name.to_owned(),
                    });
                }
                file
            }
            None => {
                let file = NodeFile {
                    format_version: FORMAT_VERSION,
                    cluster_name: cluster_name.to_owned(),
                    cluster_id: None,
                    node_id,
                    incarnation: Incarnation(uuid::Uuid::new_v4().to_string()),
                };
                files::write_json(&path, &file)?;
                file
            }
        };
        Ok(Self { path, file: RwLock::new(file) })
    }

    /// A copy of what is known.
    #[must_use]
    pub fn get(&self) -> NodeFile {
        self.file.read().clone()
    }

    /// This node's id.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.file.read().node_id
    }

    /// Takes the id of the cluster that is being initialized, or checks that it is the known one.
    ///
    /// # Errors
    /// Another cluster id is known already, or the file cannot be written.
    pub fn adopt(&self, cluster_id: &str) -> Result<(), String> {
        let mut file = self.file.write();
        match &file.cluster_id {
            Some(known) if known == cluster_id => Ok(()),
            Some(known) => Err(format!("this node belongs to cluster {known}, not to {cluster_id}")),
            None => {
                let mut next = file.clone();
                next.cluster_id = Some(cluster_id.to_owned());
                files::write_json(&self.path, &next).map_err(|error| error.to_string())?;
                *file = next;
                Ok(())
            }
        }
    }

    /// Adds this node's identity, and whom it means to reach, to a call.
    pub fn sign<T>(&self, request: &mut Request<T>, to: NodeId, to_incarnation: &str) {
        let file = self.file.read();
        let metadata = request.metadata_mut();
        let mut put = |key: &'static str, value: &str| {
            if let Ok(value) = value.parse() {
                metadata.insert(key, value);
            }
        };
        put(CLUSTER, file.cluster_id.as_deref().unwrap_or(""));
        put(FROM, &file.node_id.to_string());
        put(FROM_INCARNATION, &file.incarnation.0);
        put(TO, &to.to_string());
        put(TO_INCARNATION, to_incarnation);
    }

    /// Checks that a call is meant for this node and comes from this cluster.
    ///
    /// # Errors
    /// `failed_precondition` that says what was expected, what was found, and what to do.
    pub fn verify(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        let text = |key: &str| metadata.get(key).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
        let file = self.file.read();
        let cluster = text(CLUSTER);
        let known = file.cluster_id.as_deref().unwrap_or("");
        if cluster != known {
            return Err(Status::failed_precondition(format!(
                "call from cluster {cluster:?}, but node {} belongs to cluster {known:?}; check the nodes' addresses",
                file.node_id
            )));
        }
        let to = text(TO);
        if to != file.node_id.to_string() {
            return Err(Status::failed_precondition(format!(
                "call for node {to}, but this is node {}; check the list of nodes in node.toml",
                file.node_id
            )));
        }
        let to_incarnation = text(TO_INCARNATION);
        if !to_incarnation.is_empty() && to_incarnation != file.incarnation.0 {
            return Err(Status::failed_precondition(format!(
                "call for node {to} with incarnation {to_incarnation}, but its data directory has incarnation {}: the \
                 directory was emptied or exchanged. Give the node a new id and run `duolog cluster replace --old {to} --new ID`",
                file.incarnation
            )));
        }
        let node_id =
            text(FROM).parse().map_err(|_| Status::invalid_argument("a call between nodes names its sender"))?;
        Ok(Caller { node_id: NodeId(node_id), incarnation: text(FROM_INCARNATION) })
    }
}

/// Checks a caller against the member that is known under its id.
///
/// # Errors
/// `failed_precondition` that says what to do.
pub fn verify_member(caller: &Caller, known_incarnation: Option<&str>) -> Result<(), Status> {
    match known_incarnation {
        Some(known) if known != caller.incarnation => Err(Status::failed_precondition(format!(
            "node {} calls with incarnation {}, but the cluster knows it as {known}: its data directory was emptied or \
             exchanged. It must not return under its old identity: give it a new id and run `duolog cluster replace --old {} --new ID`",
            caller.node_id, caller.incarnation, caller.node_id
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(dir: &Path, node: u64) -> Identity {
        Identity::open(dir, "c", NodeId(node)).unwrap()
    }

    #[test]
    fn a_directory_keeps_its_identity_and_refuses_another() {
        let dir = tempfile::tempdir().unwrap();
        let first = identity(dir.path(), 1).get();
        assert_eq!(identity(dir.path(), 1).get(), first);
        let other_node = Identity::open(dir.path(), "c", NodeId(2)).err().unwrap().to_string();
        assert!(other_node.contains("belongs to node 1"), "{other_node}");
        let other_cluster = Identity::open(dir.path(), "d", NodeId(1)).err().unwrap().to_string();
        assert!(other_cluster.contains("belongs to cluster \"c\""), "{other_cluster}");
    }

    #[test]
    fn calls_are_refused_unless_everything_fits() {
        let (dir_a, dir_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (a, b) = (identity(dir_a.path(), 1), identity(dir_b.path(), 2));
        let incarnation = b.get().incarnation.0;
        let call = |to: u64, incarnation: &str| {
            let mut request = Request::new(());
            a.sign(&mut request, NodeId(to), incarnation);
            b.verify(request.metadata())
        };
        call(2, &incarnation).unwrap();
        assert!(call(3, &incarnation).unwrap_err().message().contains("this is node 2"));
        assert!(call(2, "older").unwrap_err().message().contains("duolog cluster replace"));
        b.adopt("x").unwrap();
        assert!(call(2, &incarnation).unwrap_err().message().contains("belongs to cluster"));
        b.adopt("y").unwrap_err();
    }

    #[test]
    fn an_emptied_node_is_refused_under_its_old_identity() {
        let caller = Caller { node_id: NodeId(1), incarnation: "new".to_owned() };
        verify_member(&caller, None).unwrap();
        verify_member(&caller, Some("new")).unwrap();
        let refused = verify_member(&caller, Some("old")).unwrap_err();
        assert!(refused.message().contains("must not return under its old identity"));
    }
}
