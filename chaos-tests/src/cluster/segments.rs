//! The files of a node's logs: `groups/<id>/log/<first index>-<sequence>.segment`, the last one of each log being written.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Too small to be worth anything: a start that failed leaves one.
const SIZE_BYTES_MIN: u64 = 64 << 10;

/// All but the last one of each log, with their bytes.
pub fn sealed(data: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let groups = data.join("groups");
    let mut sealed = Vec::new();
    for group in fs::read_dir(&groups).with_context(|| format!("cannot list {}", groups.display()))? {
        let Ok(files) = fs::read_dir(group?.path().join("log")) else { continue };
        let files = files.filter_map(|file| Some(file.ok()?.path()));
        let mut segments: Vec<PathBuf> = files.filter(|path| is_segment(path)).collect();
        segments.sort_by_key(|path| sequence(path));
        segments.pop();
        // One that is deleted meanwhile is none.
        let sized = segments.into_iter().filter_map(|path| Some((fs::metadata(&path).ok()?.len(), path)));
        sealed.extend(sized.filter(|(bytes, _)| *bytes >= SIZE_BYTES_MIN).map(|(bytes, path)| (path, bytes)));
    }
    Ok(sealed)
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|name| name == "segment")
}

fn sequence(path: &Path) -> u64 {
    let name = path.file_stem().and_then(|name| name.to_str());
    name.and_then(|name| name.split_once('-')?.1.parse().ok()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_segment_of_each_log_and_what_is_no_segment_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("groups/1/log");
        fs::create_dir_all(&log).unwrap();
        let names = ["00-0000000009.segment", "07-0000000010.segment", "09-0000000011.segment", "00-0000000009.index"];
        for name in names {
            fs::write(log.join(name), vec![0; SIZE_BYTES_MIN as usize]).unwrap();
        }
        fs::write(log.join("00-0000000008.segment"), [0]).unwrap();
        let mut found: Vec<String> = sealed(dir.path())
            .unwrap()
            .iter()
            .map(|(path, _)| path.file_name().unwrap().to_str().unwrap().into())
            .collect();
        found.sort();
        assert_eq!(found, names[..2]);
    }
}
