//! Data directories, backups and what is made of them hold every message and the secrets of users: only their owner may read them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What nobody but the owner may do.
const OTHERS: u32 = 0o077;

/// Files and directories that this process makes from now on are the owner's alone.
pub fn make_private() {
    let mask = OTHERS as libc::mode_t;
    // SAFETY: umask takes any value, has no memory to share, and cannot fail.
    unsafe { libc::umask(mask) };
}

/// A sentence about a directory that others may read; one that an older node made, or an operator.
pub fn warning(directory: &Path) -> Option<String> {
    let mode = std::fs::metadata(directory).ok()?.permissions().mode() & 0o777;
    let path = directory.display();
    (mode & OTHERS != 0).then(|| {
        format!("{path} has mode {mode:o}: other users of this machine may read messages and secrets in it; expected 700 (`chmod 700 {path}`)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_others_may_read_is_told_of() {
        let directory = tempfile::tempdir().unwrap();
        let with_mode = |mode| {
            std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            warning(directory.path())
        };
        assert_eq!(with_mode(0o700), None);
        assert!(with_mode(0o750).is_some_and(|said| said.contains("mode 750") && said.contains("chmod 700")));
        assert_eq!(warning(&directory.path().join("none")), None);
    }
}
