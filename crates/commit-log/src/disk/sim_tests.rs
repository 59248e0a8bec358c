//! The simulated disk loses what it may lose, and nothing else.

use super::*;

fn write(file: &Arc<dyn DiskFile>, bytes: &[u8], at: u64) {
    file.write_all_at(&[IoSlice::new(bytes)], at).unwrap();
}

#[test]
fn a_power_loss_keeps_what_was_synced_and_sometimes_loses_the_rest() {
    let (dir, path) = (Path::new("/d"), Path::new("/d/f"));
    let mut lost = 0;
    for seed in 0..64 {
        let disk = SimDisk::new();
        let file = disk.create(path).unwrap();
        write(&file, &[1; 5000], 0);
        file.sync_data().unwrap();
        disk.sync_dir(dir).unwrap();
        write(&file, &[2; 4096], 8192);
        disk.power_loss(seed);
        assert!(file.len().is_err(), "handles do not outlive a power loss");
        let bytes = disk.file(path);
        assert_eq!(bytes[..5000], [1; 5000]);
        lost += usize::from(bytes.len() < 8193 || bytes[8192] != 2);
    }
    assert!((10..64).contains(&lost), "{lost}");
}

#[test]
fn an_unsynced_name_may_vanish_and_a_failed_sync_stays_failed() {
    let (dir, path) = (Path::new("/d"), Path::new("/d/f"));
    let (mut vanished, mut emptied) = (0, 0);
    for seed in 0..64 {
        let disk = SimDisk::new();
        let file = disk.create(path).unwrap();
        if seed % 2 == 0 {
            disk.sync_dir(dir).unwrap();
        }
        write(&file, b"x", 0);
        disk.fail_sync(0);
        file.sync_data().unwrap_err();
        file.sync_data().unwrap();
        disk.power_loss(seed);
        vanished += usize::from(disk.paths().is_empty());
        emptied += usize::from(disk.paths().len() == 1 && disk.file(path) != b"x");
    }
    assert!((5..30).contains(&vanished), "{vanished}");
    assert!(emptied > 5, "{emptied}");
}

#[test]
fn a_flipped_bit_is_on_the_medium_until_it_is_flipped_back() {
    let path = Path::new("/d/f");
    let disk = SimDisk::new();
    disk.set_file(path, &[0b0101; 5000]);
    disk.flip_bit(path, 4500, 1);
    disk.flip_bit(path, 5000, 1);
    disk.power_loss(1);
    let mut expected = vec![0b0101; 5000];
    expected[4500] = 0b0111;
    assert_eq!(disk.file(path), expected);
    disk.flip_bit(path, 4500, 1);
    assert_eq!(disk.file(path), [0b0101; 5000]);
}

#[test]
fn a_broken_page_fails_reads_until_all_of_it_is_written() {
    let path = Path::new("/d/f");
    let disk = SimDisk::new();
    disk.set_file(path, &[5; 12_288]);
    disk.break_page(path, 5_000);
    disk.power_loss(1);
    let file = disk.open(path).unwrap();
    let read = |at: u64| file.read_exact_at(&mut [0; 100], at).map_err(|error| error.raw_os_error());
    assert_eq!([read(3_996), read(3_997), read(8_100), read(8_192)], [Ok(()), Err(Some(5)), Err(Some(5)), Ok(())]);
    let part = file.write_all_at(&[IoSlice::new(&[6; 4_096])], 4_097);
    assert_eq!(part.map_err(|error| error.raw_os_error()), Err(Some(5)));
    write(&file, &[6; 4_096], 4_096);
    assert_eq!(read(8_100), Ok(()));
    assert_eq!(disk.file(path), [vec![5; 4_096], vec![6; 4_096], vec![5; 4_096]].concat());
}
