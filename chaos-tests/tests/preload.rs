//! Goal: what was flushed survives a loss of power, what was not may be lost or not, and both happen; flushes fail and are slow when asked;
//! the wall clock is shifted and the monotonic one is not.
//!
//! Method: this test program, started again with the library, is the node. It ends by an abort, then its data is cut.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant, SystemTime};

use duolog_chaos::power;
use duolog_chaos::preload::{self, Control};

const PAGE: usize = 4_096;
const SEEDS: u64 = 24;

/// A directory of its own, with the library and a node's places.
struct Place {
    dir: PathBuf,
    library: PathBuf,
    control: Control,
}

impl Place {
    fn new(name: &str) -> Place {
        let dir = std::env::temp_dir().join(format!("duolog-chaos-preload-{}-{name}", std::process::id()));
        fs::create_dir_all(dir.join("data")).expect("a directory");
        let dir = dir.canonicalize().expect("it exists");
        let control = Control::create(&dir.join("control")).expect("a control file");
        Place { library: preload::write_library(&dir).expect("the library"), control, dir }
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn run(&self, part: &str) -> ExitStatus {
        let mut command = Command::new(std::env::current_exe().expect("a path"));
        command.args(["--exact", "node", "--nocapture", "--test-threads=1"]).env("CHAOS_TEST_PART", part);
        command.env("LD_PRELOAD", &self.library).env("DUOLOG_CHAOS_CONTROL", self.dir.join("control"));
        command.env("DUOLOG_CHAOS_DATA", self.data()).env("DUOLOG_CHAOS_SHADOW", self.dir.join("shadow"));
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        command.status().expect("the test program")
    }

    fn cut(&self, seed: u64) {
        power::cut(&self.data(), &self.dir.join("shadow"), seed).expect("a cut");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The node: does nothing in the test program itself.
#[test]
fn node() {
    let Ok(part) = std::env::var("CHAOS_TEST_PART") else { return };
    let data = PathBuf::from(std::env::var("DUOLOG_CHAOS_DATA").expect("set"));
    match part.as_str() {
        "write" => write(&data),
        "fail" => assert!(File::create(data.join("f")).expect("a file").sync_data().is_err()),
        "full" => {
            let mut file = File::create(data.join("full")).expect("a file");
            let error = file.write_all(&[7; 8 * PAGE]).expect_err("there is no room");
            assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
            let length = file.metadata().expect("its length").len();
            assert!((1..8 * PAGE as u64).contains(&length), "the beginning was written: {length}");
            file.sync_data().expect("what is there can be flushed");
            assert!(file.write_all(&[7; 10]).is_err());
        }
        "slow" => {
            let begin = Instant::now();
            File::create(data.join("f")).expect("a file").sync_data().expect("a flush");
            assert!(begin.elapsed() >= Duration::from_millis(200));
        }
        "clock" => {
            let (wall, real) =
                (SystemTime::now(), fs::metadata(&data).and_then(|data| data.modified()).expect("a time"));
            let ahead = wall.duration_since(real).expect("ahead").as_secs();
            assert!((3_600..3_700).contains(&ahead), "{ahead} s");
            // The first look opens the control file; the wait is on the kernel's clock.
            std::thread::sleep(Duration::from_millis(1));
        }
        other => panic!("no part {other}"),
    }
}

fn write(data: &Path) -> ! {
    let create = |name: &str, byte: u8| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(data.join(name)).expect("a new file");
        file.write_all(&[byte; 8 * PAGE]).expect("a write");
        file
    };
    let sync_dir = || File::open(data).and_then(|dir| dir.sync_all()).expect("a flush");
    let kept = create("kept", 1);
    for name in ["removed", "replaced"] {
        create(name, 2).sync_all().expect("a flush");
    }
    kept.sync_data().expect("a flush");
    sync_dir();
    kept.write_all_at(&[9; 2 * PAGE], 3 * PAGE as u64).expect("a write");
    kept.write_all_at(&[9; PAGE], 8 * PAGE as u64).expect("a write");
    kept.write_all_at(&[7; 10], 0).expect("a write");
    kept.sync_data().expect("a flush");
    kept.write_all_at(&[5; 10], 0).expect("a write");
    kept.write_all_at(&[5; 10], 5 * PAGE as u64).expect("a write");
    create("unnamed", 3).sync_all().expect("a flush");
    create("replaced.new", 4).sync_all().expect("a flush");
    fs::rename(data.join("replaced.new"), data.join("replaced")).expect("a rename");
    fs::remove_file(data.join("removed")).expect("a removal");
    std::process::abort();
}

/// The byte that the whole file consists of; None: there is none.
fn all(path: &Path) -> Option<u8> {
    let bytes = fs::read(path).ok()?;
    assert_eq!(bytes.len(), 8 * PAGE, "{}", path.display());
    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "{}", path.display());
    Some(bytes[0])
}

#[test]
fn what_was_flushed_survives_and_the_rest_is_lost_or_kept_each_by_itself() {
    let mut seen = [const { BTreeSet::new() }; 4];
    for seed in 0..SEEDS {
        let place = Place::new(&format!("write-{seed}"));
        assert!(!place.run("write").success(), "it aborts");
        assert!(place.control.is_alive());
        place.cut(seed);
        let of = |name: &str| place.data().join(name);

        let kept = fs::read(of("kept")).expect("its name and length were flushed");
        assert_eq!(kept.len(), 9 * PAGE);
        assert_eq!((kept[10], kept[PAGE], kept[3 * PAGE], kept[8 * PAGE]), (1, 1, 9, 9), "flushed");
        assert!(kept[..10] == [7; 10] || kept[..10] == [5; 10], "{:?}", &kept[..10]);
        seen[0].insert((kept[0] == 5, kept[5 * PAGE] == 5));

        seen[1].insert((all(&of("unnamed")) == Some(3), all(&of("removed")) == Some(2)));
        let replaced = (all(&of("replaced")), all(&of("replaced.new")));
        assert!([(Some(4), None), (Some(2), Some(4)), (Some(2), None)].contains(&replaced), "{replaced:?}");
        seen[2].insert((replaced.0 == Some(4), false));

        // Everything is on the disk now: a second loss takes nothing.
        let before = fs::read_dir(place.data()).expect("a list").count();
        assert_eq!(
            power::cut(&place.data(), &place.dir.join("shadow"), seed + 1).expect("a cut"),
            power::Lost::default()
        );
        assert_eq!(fs::read_dir(place.data()).expect("a list").count(), before);
        seen[3].insert((true, true));
    }
    assert_eq!(seen.map(|seen| seen.len()), [4, 4, 2, 1]);
}

#[test]
fn flushes_and_writes_fail_flushes_are_slow_and_the_wall_clock_is_wrong_when_asked() {
    let place = Place::new("asked");
    assert!(!place.run("fail").success(), "nothing is asked yet: the flush succeeds, which the part does not want");
    place.control.set_flush_fails(true).expect("asked");
    assert!(place.run("fail").success());
    place.control.set_flush_fails(false).expect("asked");
    assert!(!place.run("full").success(), "there is room yet");
    place.control.set_no_room(true).expect("asked");
    assert!(place.run("full").success());
    place.control.set_no_room(false).expect("asked");
    place.control.set_flush_delay(Duration::from_millis(200)).expect("asked");
    assert!(place.run("slow").success());
    place.control.set_flush_delay(Duration::ZERO).expect("asked");
    place.control.set_clock_offset_ms(3_600_000).expect("asked");
    assert!(place.run("clock").success());
}
