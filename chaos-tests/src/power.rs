//! A loss of power of a node that was killed: its data is cut back to a state that the disk could have had at that moment.
//!
//! What is certainly on the disk is in the shadow that the preloaded library keeps (`chaos-tests/preload` describes it). Of the rest each
//! page, and each change of names, is kept or lost by itself. Names that mean the same file go together: a rename happened or not.
//!
//! Not simulated: pages that are half written, and files that come back after their whole directory was removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const PAGE_BYTES: u64 = 4_096;

/// What was lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Pages that were written and not flushed.
    pub pages: u64,
    /// Names that were given, changed or removed, and not flushed.
    pub names: u64,
}

/// The state of `data` after the loss is what `shadow` says, too. Nobody else uses either.
pub fn cut(data: &Path, shadow: &Path, seed: u64) -> Result<Lost> {
    let mut cut = Cut { shadow, random: StdRng::seed_from_u64(seed), live: BTreeMap::new(), lost: Lost::default() };
    for dir in ["content", "names", "removed", "limbo"] {
        fs::create_dir_all(shadow.join(dir))?;
    }
    cut.collect(data)?;
    cut.dir(data).with_context(|| format!("cannot cut {} back", data.display()))?;
    fs::remove_dir_all(shadow.join("removed"))?;
    fs::remove_dir_all(shadow.join("limbo"))?;
    fs::create_dir_all(shadow.join("removed"))?;
    Ok(cut.lost)
}

struct Cut<'a> {
    shadow: &'a Path,
    random: StdRng,
    /// A path of each file before the loss, by inode.
    live: BTreeMap<u64, PathBuf>,
    lost: Lost,
}

/// An inode, and whether it is a directory's: that of a removed directory may be another file's now.
type Id = (u64, bool);

type Names = BTreeMap<String, Id>;

impl Cut<'_> {
    fn collect(&mut self, dir: &Path) -> Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.collect(&entry.path())?;
            } else {
                self.live.insert(entry.ino(), entry.path());
            }
        }
        Ok(())
    }

    fn dir(&mut self, dir: &Path) -> Result<()> {
        let inode = fs::metadata(dir)?.ino();
        self.names(dir, inode)?;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.dir(&entry.path())?;
            } else {
                self.content(&entry.path(), entry.ino())?;
            }
        }
        let left = names_in(dir)?.into_iter().fold(String::new(), |mut text, (name, (inode, is_dir))| {
            let _ = writeln!(text, "{inode} {} {name}", if is_dir { 'd' } else { 'f' });
            text
        });
        Ok(fs::write(self.names_file(inode), left)?)
    }

    fn names_file(&self, inode: u64) -> PathBuf {
        self.shadow.join(format!("names/{inode}"))
    }

    /// Keeps or loses each change of names since the directory's last flush.
    fn names(&mut self, dir: &Path, inode: u64) -> Result<()> {
        let text = fs::read_to_string(self.names_file(inode)).unwrap_or_default();
        let durable: Names = text.lines().filter_map(parse_name).collect();
        let live = names_in(dir)?;
        for group in groups(&durable, &live) {
            if self.random.random_ratio(1, 2) {
                continue;
            }
            let limbo = self.shadow.join("limbo");
            for (name, (inode, _)) in group.iter().filter_map(|name| live.get_key_value(name)) {
                fs::rename(dir.join(name), limbo.join(inode.to_string()))?;
            }
            for (name, id) in group.iter().filter_map(|name| durable.get_key_value(name)) {
                self.bring_back(*id, &dir.join(name))?;
            }
            self.lost.names += group.len() as u64;
        }
        Ok(())
    }

    /// Gives an inode the name that it had; nothing where it is gone with its directory.
    fn bring_back(&self, (inode, is_dir): Id, to: &Path) -> Result<()> {
        let limbo = self.shadow.join(format!("limbo/{inode}"));
        let removed = self.shadow.join(format!("removed/{inode}"));
        let elsewhere = self.live.get(&inode).cloned();
        let is_it = |path: &PathBuf| {
            fs::symlink_metadata(path).is_ok_and(|found| found.ino() == inode && found.is_dir() == is_dir)
        };
        match [Some(limbo), Some(removed), elsewhere].into_iter().flatten().find(is_it) {
            Some(from) if is_dir => Ok(fs::rename(from, to)?),
            Some(from) => Ok(fs::hard_link(from, to)?),
            None => Ok(()),
        }
    }

    /// Keeps or loses each page that was not flushed, and what of the length was not.
    fn content(&mut self, path: &Path, inode: u64) -> Result<()> {
        let live = OpenOptions::new().read(true).write(true).open(path)?;
        let durable = self.shadow.join(format!("content/{inode}"));
        let durable = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(durable)?;
        let (live_bytes, durable_bytes) = (live.metadata()?.len(), durable.metadata()?.len());
        let length = match self.random.random_range(0..3) {
            0 => durable_bytes,
            1 => live_bytes,
            _ => {
                let (least, most) = (live_bytes.min(durable_bytes), live_bytes.max(durable_bytes));
                self.random.random_range(least..=most).next_multiple_of(PAGE_BYTES).min(most)
            }
        };
        for at in (0..live_bytes.max(durable_bytes)).step_by(PAGE_BYTES as usize) {
            let (written, flushed) = (read_page(&live, at)?, read_page(&durable, at)?);
            if written == flushed {
                continue;
            }
            let bytes = length.saturating_sub(at).min(PAGE_BYTES) as usize;
            let is_lost = self.random.random_ratio(1, 2);
            self.lost.pages += u64::from(is_lost || bytes == 0);
            let kept = if is_lost { flushed } else { written };
            live.write_all_at(&kept[..bytes], at)?;
            durable.write_all_at(&kept[..bytes], at)?;
        }
        live.set_len(length)?;
        Ok(durable.set_len(length)?)
    }
}

/// A line of a directory's names: inode, kind, name.
fn parse_name(line: &str) -> Option<(String, Id)> {
    let mut parts = line.splitn(3, ' ');
    let (inode, kind, name) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
    Some((name.to_string(), (inode, kind == "d")))
}

fn names_in(dir: &Path) -> Result<Names> {
    let mut names = Names::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        names.insert(entry.file_name().to_string_lossy().into_owned(), (entry.ino(), entry.file_type()?.is_dir()));
    }
    Ok(names)
}

/// Names whose file is another one now, those that share an inode before or now together.
fn groups(durable: &Names, live: &Names) -> Vec<BTreeSet<String>> {
    let changed = durable.iter().filter(|(name, id)| live.get(*name) != Some(id));
    let changed = changed.chain(live.iter().filter(|(name, id)| durable.get(*name) != Some(id)));
    let mut groups: Vec<(BTreeSet<String>, BTreeSet<Id>)> = Vec::new();
    for (name, _) in changed {
        let inodes: BTreeSet<Id> = [durable, live].iter().filter_map(|names| names.get(name)).copied().collect();
        let mut joined = (BTreeSet::from([name.clone()]), inodes);
        let (together, apart): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|(names, of)| names.contains(name) || !of.is_disjoint(&joined.1));
        for (names, inodes) in together {
            joined.0.extend(names);
            joined.1.extend(inodes);
        }
        groups = apart;
        groups.push(joined);
    }
    groups.into_iter().map(|(names, _)| names).collect()
}

fn read_page(file: &File, at: u64) -> Result<[u8; PAGE_BYTES as usize]> {
    let mut page = [0; PAGE_BYTES as usize];
    let mut length = 0;
    while length < page.len() {
        match file.read_at(&mut page[length..], at + length as u64)? {
            0 => break,
            n => length += n,
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &[(&str, u64)]) -> Names {
        of.iter().map(|(name, inode)| (name.to_string(), (*inode, false))).collect()
    }

    #[test]
    fn a_rename_is_one_change_and_others_are_their_own() {
        let durable = names(&[("a.new", 1), ("a", 2), ("gone", 3), ("same", 4)]);
        let mut live = names(&[("a", 1), ("come", 5), ("same", 4)]);
        // A removed file's inode, if it is a directory's now, joins nothing.
        live.insert("dir".to_string(), (3, true));
        let groups: BTreeSet<Vec<String>> =
            groups(&durable, &live).into_iter().map(|group| group.into_iter().collect()).collect();
        let expected = [vec!["a", "a.new"], vec!["come"], vec!["dir"], vec!["gone"]];
        assert_eq!(groups, expected.into_iter().map(|group| group.into_iter().map(String::from).collect()).collect());
    }
}
