//! A disk in memory that keeps what was synced apart from what was written.
//!
//! After a power loss each 4096-byte page that was written and not synced is, on its own, as it was synced last or as
//! it was written last; so is each file's length, and each creation, renaming and removal whose directory was not
//! synced. Random choices follow the seed that is given. A failed sync behaves as on Linux: the pages count as clean
//! afterwards, so a second sync succeeds and still makes nothing durable.

mod medium;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::random::SplitMix;
use super::{Disk, DiskFile, DiskUsage};

const PAGE_BYTES: u64 = 4096;
type Page = Arc<[u8]>;

/// A simulated disk; clones share it.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    /// The life that this handle belongs to. `None` belongs to all: the hand of the test.
    life: Option<u64>,
}

#[derive(Clone, Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names whose directory was not synced, oldest first.
    unsynced_names: Vec<NameChange>,
    /// Handles of an earlier life of the machine or process fail.
    life: u64,
    salts: u64,
    operations: u64,
    syncs: u64,
    faults: Faults,
}

#[derive(Clone, Default)]
struct Faults {
    crash_at_operation: Option<u64>,
    crashed: bool,
    syncs_until_failure: Option<u64>,
    writes_until_failure: Option<u64>,
    space_bytes_max: Option<u64>,
    sync_does_nothing: bool,
    flush_delay: Duration,
}

#[derive(Clone)]
enum NameChange {
    Create(PathBuf, u64),
    Rename(PathBuf, PathBuf, u64),
    Remove(PathBuf),
}

#[derive(Clone, Default)]
struct Inode {
    current: Content,
    durable: Content,
    /// Pages that the next sync makes durable.
    dirty: BTreeSet<u64>,
    /// Pages that a power loss may take back.
    unsynced: BTreeSet<u64>,
    /// Pages that cannot be read.
    broken: BTreeSet<u64>,
}

#[derive(Clone, Default)]
struct Content {
    len: u64,
    pages: BTreeMap<u64, Page>,
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The disk as a process sees it that starts now: dead after the next kill or power loss, like its file handles.
    #[must_use]
    pub fn process(&self) -> Self {
        let life = self.state.lock().life;
        Self { state: self.state.clone(), life: Some(life) }
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state.lock();
        match self.life {
            Some(life) if life != state.life => Err(io::Error::other("the process is of an earlier life")),
            _ => Ok(state),
        }
    }

    /// Power fails and comes back: what was not synced is kept or lost at random, and every open handle is dead.
    /// All faults are over.
    pub fn power_loss(&self, seed: u64) {
        let mut state = self.state.lock();
        let mut random = SplitMix(seed);
        let mut names = state.durable_names.clone();
        for change in std::mem::take(&mut state.unsynced_names) {
            if random.flip() {
                change.apply(&mut names);
            }
        }
        state.names.clone_from(&names);
        state.durable_names = names;
        for inode in state.inodes.values_mut() {
            inode.lose_power(&mut random);
        }
        state.begin_life();
    }

    /// The process dies: everything written stays, every open handle is dead. All faults are over.
    pub fn kill(&self) {
        self.state.lock().begin_life();
    }

    /// A copy that shares nothing with this disk.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.state.lock().clone();
        Self { state: Arc::new(Mutex::new(state)), life: None }
    }

    /// The operation with this number (from now, the next is 0) and all later ones fail, as if the machine had
    /// stopped; a write that is hit may leave a part of itself.
    pub fn crash_at_operation(&self, number: u64) {
        let mut state = self.state.lock();
        state.faults.crash_at_operation = Some(state.operations + number);
    }

    /// The n-th sync from now (the next is 0) fails.
    pub fn fail_sync(&self, number: u64) {
        self.state.lock().faults.syncs_until_failure = Some(number);
    }

    /// The n-th write from now (the next is 0) fails.
    pub fn fail_write(&self, number: u64) {
        self.state.lock().faults.writes_until_failure = Some(number);
    }

    /// All files together may be this long; `None` means no limit.
    pub fn set_space_bytes_max(&self, bytes: Option<u64>) {
        self.state.lock().faults.space_bytes_max = bytes;
    }

    /// The mutant: syncs succeed and make nothing durable.
    pub fn set_sync_does_nothing(&self, mutant: bool) {
        self.state.lock().faults.sync_does_nothing = mutant;
    }

    /// All faults are over, and every handle goes on.
    pub fn end_faults(&self) {
        self.state.lock().faults = Faults::default();
    }

    /// What all files take together.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state.lock().used_bytes()
    }

    /// Every file sync takes this long; what is written meanwhile is not part of it.
    pub fn set_flush_delay(&self, delay: Duration) {
        self.state.lock().faults.flush_delay = delay;
    }

    /// Changing operations so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// File syncs so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// Paths of all files, sorted.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state.lock().names.keys().cloned().collect()
    }

    /// The bytes of a file.
    ///
    /// # Panics
    /// When there is no such file.
    #[must_use]
    pub fn file(&self, path: &Path) -> Vec<u8> {
        let state = self.state.lock();
        let content = &state.inodes[&state.names[path]].current;
        let mut bytes = vec![0; usize::try_from(content.len).expect("files in memory are small")];
        content.read(&mut bytes, 0);
        bytes
    }
}

impl State {
    fn used_bytes(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[inode].current.len).sum()
    }

    fn begin_life(&mut self) {
        self.life += 1;
        self.faults = Faults::default();
    }

    /// Counts a changing operation.
    fn operate(&mut self) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        if self.faults.crash_at_operation.is_some_and(|at| number >= at) {
            self.faults.crashed = true;
        }
        if self.faults.crashed { Err(io::Error::other("the simulated machine has stopped")) } else { Ok(()) }
    }

    fn check_space(&self, inode: u64, len: u64) -> io::Result<()> {
        let Some(max) = self.faults.space_bytes_max else { return Ok(()) };
        let others: u64 =
            self.names.values().filter(|other| **other != inode).map(|other| self.inodes[other].current.len).sum();
        let grows = self.inodes.get(&inode).is_none_or(|inode| inode.current.len < len);
        if grows && others + len > max { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn handle(&self, disk: &SimDisk, inode: u64) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { disk: disk.clone(), inode, life: self.life })
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Create(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }

    fn directory(&self) -> Option<&Path> {
        match self {
            Self::Create(path, _) | Self::Remove(path) | Self::Rename(_, path, _) => path.parent(),
        }
    }
}

impl Inode {
    fn lose_power(&mut self, random: &mut SplitMix) {
        let mut kept = self.durable.clone();
        // A length is only undecided while something of the file is: a synced length is part of `durable`.
        if random.flip() {
            kept.set_len(self.current.len);
        }
        for page in std::mem::take(&mut self.unsynced) {
            if random.flip() && page * PAGE_BYTES < kept.len {
                match self.current.pages.get(&page) {
                    Some(bytes) => kept.pages.insert(page, bytes.clone()),
                    None => kept.pages.remove(&page),
                };
            }
        }
        let len = kept.len;
        kept.set_len(len);
        self.dirty.clear();
        self.current = kept.clone();
        self.durable = kept;
    }

    fn touch(&mut self, position: u64, len: u64) {
        if len > 0 {
            let pages = position / PAGE_BYTES..=(position + len - 1) / PAGE_BYTES;
            self.dirty.extend(pages.clone());
            self.unsynced.extend(pages);
        }
    }
}

impl Content {
    fn read(&self, buffer: &mut [u8], position: u64) {
        let mut done = 0;
        while done < buffer.len() {
            let at = position + done as u64;
            let within = (at % PAGE_BYTES) as usize;
            let count = (buffer.len() - done).min(PAGE_BYTES as usize - within);
            match self.pages.get(&(at / PAGE_BYTES)) {
                Some(page) => buffer[done..done + count].copy_from_slice(&page[within..within + count]),
                None => buffer[done..done + count].fill(0),
            }
            done += count;
        }
    }

    fn write(&mut self, bytes: &[u8], position: u64) {
        let mut done = 0;
        while done < bytes.len() {
            let at = position + done as u64;
            let within = (at % PAGE_BYTES) as usize;
            let count = (bytes.len() - done).min(PAGE_BYTES as usize - within);
            let page = self.pages.entry(at / PAGE_BYTES).or_insert_with(|| vec![0; PAGE_BYTES as usize].into());
            let mut changed = page.to_vec();
            changed[within..within + count].copy_from_slice(&bytes[done..done + count]);
            *page = changed.into();
            done += count;
        }
        self.len = self.len.max(position + bytes.len() as u64);
    }

    /// Cut bytes read as zeros when the file grows again.
    fn set_len(&mut self, len: u64) {
        self.len = len;
        self.pages.split_off(&len.div_ceil(PAGE_BYTES));
        let within = (len % PAGE_BYTES) as usize;
        if within > 0
            && let Some(page) = self.pages.get_mut(&(len / PAGE_BYTES))
        {
            let mut cut = page.to_vec();
            cut[within..].fill(0);
            *page = cut.into();
        }
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.alive()?;
        state.operate()?;
        state.next_inode += 1;
        let inode = state.next_inode;
        state.inodes.insert(inode, Inode::default());
        state.change_name(NameChange::Create(path.to_owned(), inode));
        Ok(state.handle(self, inode))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.alive()?;
        let inode = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.handle(self, inode))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.alive()?;
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.alive()?;
        state.operate()?;
        let inode = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.change_name(NameChange::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.alive()?;
        state.operate()?;
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_name(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.alive()?;
        state.operate()?;
        if state.faults.sync_does_nothing {
            return Ok(());
        }
        let mut durable = std::mem::take(&mut state.durable_names);
        state.unsynced_names.retain(|change| {
            let synced = change.directory() == Some(dir);
            if synced {
                change.apply(&mut durable);
            }
            !synced
        });
        state.durable_names = durable;
        Ok(())
    }

    fn random_salt(&self) -> u64 {
        let mut state = self.state.lock();
        state.salts += 1;
        SplitMix(state.salts).next()
    }

    fn usage(&self, _: &Path) -> io::Result<DiskUsage> {
        let state = self.state.lock();
        let total_bytes = state.faults.space_bytes_max.unwrap_or(1 << 40);
        Ok(DiskUsage { total_bytes, free_bytes: total_bytes.saturating_sub(state.used_bytes()) })
    }
}

struct SimFile {
    disk: SimDisk,
    inode: u64,
    life: u64,
}

impl SimFile {
    fn with<T>(&self, act: impl FnOnce(&mut State, u64) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state.lock();
        if state.life != self.life {
            return Err(io::Error::other("the handle is of an earlier life"));
        }
        act(&mut state, self.inode)
    }

    fn inode(state: &mut State, inode: u64) -> &mut Inode {
        state.inodes.get_mut(&inode).expect("inodes are never dropped")
    }
}

impl DiskFile for SimFile {
    fn read_exact_at(&self, buffer: &mut [u8], position_bytes: u64) -> io::Result<()> {
        self.with(|state, inode| {
            let file = Self::inode(state, inode);
            if position_bytes + buffer.len() as u64 > file.current.len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            file.check_readable(position_bytes, buffer.len() as u64)?;
            file.current.read(buffer, position_bytes);
            Ok(())
        })
    }

    fn write_all_at(&self, slices: &[IoSlice<'_>], position_bytes: u64) -> io::Result<()> {
        let mut bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.with(|state, inode| {
            let mut outcome = state.operate();
            if state.faults.crash_at_operation.is_some_and(|at| state.operations - 1 == at) {
                let part = SplitMix(state.operations).next() % (bytes.len() as u64 + 1);
                bytes.truncate(usize::try_from(part).expect("at most the length"));
            } else if outcome.is_err() {
                return outcome;
            }
            if let Some(left) = &mut state.faults.writes_until_failure {
                if *left == 0 {
                    state.faults.writes_until_failure = None;
                    return Err(io::Error::other("simulated write error"));
                }
                *left -= 1;
            }
            let end = position_bytes + bytes.len() as u64;
            if outcome.is_ok() {
                outcome = state.check_space(inode, end);
                outcome.as_ref().map_err(|error| io::Error::from(error.kind()))?;
            }
            let file = Self::inode(state, inode);
            file.replace_broken(position_bytes, bytes.len() as u64)?;
            file.current.write(&bytes, position_bytes);
            file.touch(position_bytes, bytes.len() as u64);
            outcome
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let (snapshot, delay) = self.with(|state, inode| {
            state.operate()?;
            state.syncs += 1;
            let failure = match &mut state.faults.syncs_until_failure {
                Some(0) => true,
                Some(left) => {
                    *left -= 1;
                    false
                }
                None => false,
            };
            let mutant = state.faults.sync_does_nothing;
            let delay = state.faults.flush_delay;
            let file = Self::inode(state, inode);
            let dirty = std::mem::take(&mut file.dirty);
            if failure {
                state.faults.syncs_until_failure = None;
                return Err(io::Error::other("simulated sync error"));
            }
            let pages: Vec<(u64, Option<Page>)> =
                dirty.into_iter().map(|page| (page, file.current.pages.get(&page).cloned())).collect();
            Ok(((!mutant).then_some((file.current.len, pages)), delay))
        })?;
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        self.with(|state, inode| {
            if state.faults.crashed {
                return Err(io::Error::other("the simulated machine has stopped"));
            }
            let Some((len, pages)) = snapshot else { return Ok(()) };
            let file = Self::inode(state, inode);
            for (number, page) in pages {
                if !file.dirty.contains(&number) {
                    file.unsynced.remove(&number);
                }
                match page {
                    Some(page) => file.durable.pages.insert(number, page),
                    None => file.durable.pages.remove(&number),
                };
            }
            file.durable.set_len(len);
            Ok(())
        })
    }

    fn allocate(&self, position_bytes: u64, length_bytes: u64) -> io::Result<()> {
        self.with(|state, inode| {
            state.operate()?;
            let end = position_bytes + length_bytes;
            state.check_space(inode, end)?;
            let file = Self::inode(state, inode);
            file.current.len = file.current.len.max(end);
            Ok(())
        })
    }

    fn set_len(&self, length_bytes: u64) -> io::Result<()> {
        self.with(|state, inode| {
            state.operate()?;
            let file = Self::inode(state, inode);
            let before = file.current.len;
            file.touch(length_bytes, before.saturating_sub(length_bytes));
            file.current.set_len(length_bytes);
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|state, inode| Ok(Self::inode(state, inode).current.len))
    }
}

#[cfg(test)]
#[path = "sim_tests.rs"]
mod tests;
