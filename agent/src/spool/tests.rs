use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use bytes::Bytes;
use syncer_shared::instance::InstanceId;
use syncer_shared::replid::ReplId;
use syncer_shared::snapshot::{SnapshotHead, SnapshotReign};
use syncer_shared::timestamp::Timestamp;
use syncer_shared::token::ClockToken;
use tempfile::TempDir;

use super::{Folder, Spool, SpoolError, Spools};

fn id(instance: u8) -> InstanceId {
    InstanceId::new(instance).unwrap()
}

fn folder(path: &TempDir) -> Folder {
    Folder::new(Some(path.path().join("spool")), &|_| None, "redis://local:1")
}

fn token(bits: u64) -> ClockToken {
    [(ReplId::from_bytes([7; 20]), id(2), Timestamp::from_bits(bits))].into_iter().collect()
}

fn head(applied: u64) -> SnapshotHead {
    let reign = SnapshotReign {
        replid: ReplId::from_bytes([7; 20]),
        instance: id(2),
        applied: Timestamp::from_bits(applied),
        stable: Timestamp::ZERO,
        start: Timestamp::ZERO,
        context: Vec::new(),
        had: None,
    };
    let (joins, forgotten, frozen, taken) = Default::default();
    let replid = ReplId::from_bytes([7; 20]);
    SnapshotHead { instance: id(2), replid, offset: 99, reigns: vec![reign], joins, forgotten, frozen, taken }
}

/// Pieces of all lengths, one longer than any buffer.
fn pieces() -> Vec<(Bytes, u64)> {
    [1, 24 << 10, 300 << 10, 3 << 20, 17].iter().zip(1..).map(|(len, at)| (vec![at as u8; *len].into(), at)).collect()
}

async fn written(spools: &Spools<'_>) -> Spool {
    written_of(spools, 500).await
}

async fn written_of(spools: &Spools<'_>, applied: u64) -> Spool {
    let mut encoded = Vec::new();
    head(applied).encode(&mut encoded);
    let mut writer = spools.create(id(2), 5, &encoded).await.unwrap();
    for (bytes, keys) in pieces() {
        writer.piece(&bytes, keys).await.unwrap();
    }
    spools.open(&writer.finish().await.unwrap()).unwrap()
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path().join("spool")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_was_written_is_read_again() {
    let place = TempDir::new().unwrap();
    let folder = folder(&place);
    let spools = folder.lock(id(1)).unwrap();
    let spool = written(&spools).await;
    spool.verify().await.unwrap();
    assert_eq!((&spool.head, spool.keys), (&head(500), 5));
    let mut read = spool.pieces().await.unwrap();
    for piece in pieces() {
        assert_eq!(read.next().await.unwrap(), Some(piece));
    }
    assert_eq!(read.next().await.unwrap(), None);
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let [whole, lock] = <[String; 2]>::try_from(names(&place)).unwrap();
    assert!(whole.starts_with("syncer-1-") && whole.ends_with("-from-2-1.snapshot") && lock.ends_with(".lock"));
    assert_eq!((mode(place.path().join("spool")), mode(place.path().join("spool").join(whole))), (0o700, 0o600));
}

#[tokio::test]
async fn only_what_is_whole_is_left_behind() {
    let place = TempDir::new().unwrap();
    let folder = folder(&place);
    let spools = folder.lock(id(1)).unwrap();
    drop(spools.create(id(2), 5, b"head").await.unwrap());
    assert_eq!(names(&place).len(), 1, "the part goes with its writer");
    let killed = spools.create(id(2), 5, b"head").await.unwrap();
    std::mem::forget(killed);
    assert_eq!(names(&place).len(), 2);
    assert!(spools.list().is_empty());
    assert_eq!(names(&place).len(), 1, "who is killed leaves it to the next one");
    assert!(!folder.may_hold());
}

/// Any bit, and any length: it is noticed before anything is merged.
#[tokio::test]
async fn damage_is_noticed() {
    let place = TempDir::new().unwrap();
    let folder = folder(&place);
    let spools = folder.lock(id(1)).unwrap();
    let spool = written(&spools).await;
    let path = place.path().join("spool").join(&names(&place)[0]);
    let bytes = fs::read(&path).unwrap();
    for at in [0, 12, 13, 14, 22, 30, 60, bytes.len() / 2, bytes.len() - 21, bytes.len() - 10, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, damaged).unwrap();
        let noticed = match spools.open(&path) {
            Ok(spool) => spool.verify().await,
            Err(error) => Err(error),
        };
        assert!(matches!(noticed, Err(SpoolError::Damaged { .. })), "byte {at} of {}: {noticed:?}", bytes.len());
    }
    for len in [0, 5, 25, 40, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..len]).unwrap();
        assert!(matches!(spools.open(&path), Err(SpoolError::Damaged { .. })), "{len} of {} bytes", bytes.len());
    }
    assert!(spools.list().is_empty());
    assert!(!path.exists(), "it is of no use to anybody");
    drop(spool);
}

#[tokio::test]
async fn a_file_stays_until_it_is_durable() {
    let place = TempDir::new().unwrap();
    let folder = folder(&place);
    let spools = folder.lock(id(1)).unwrap();
    written(&spools).await;
    spools.forget(&token(499));
    assert_eq!(spools.list().len(), 1);
    spools.forget(&token(500));
    assert!(spools.list().is_empty());
}

/// One of a source that has lost something since is no substitute for an earlier one, which stays; one that has all of it is.
#[tokio::test]
async fn a_file_goes_when_another_one_has_all_of_it() {
    let place = TempDir::new().unwrap();
    let folder = folder(&place);
    let spools = folder.lock(id(1)).unwrap();
    let applied = || {
        let mut applied: Vec<u64> = spools.list().iter().map(|spool| spool.head.reigns[0].applied.bits()).collect();
        applied.sort_unstable();
        applied
    };
    written_of(&spools, 500).await;
    let behind = written_of(&spools, 400).await;
    spools.supersede(&behind);
    assert_eq!(applied(), [400, 500]);
    let whole = written_of(&spools, 600).await;
    assert_eq!(applied(), [400, 500, 600], "until its merge has begun");
    spools.supersede(&whole);
    assert_eq!(applied(), [600]);
}

#[tokio::test]
async fn others_are_left_alone() {
    let place = TempDir::new().unwrap();
    let (folder, path) = (folder(&place), place.path().join("spool"));
    let other_server = Folder::new(Some(path.clone()), &|_| None, "redis://other:1");
    written(&other_server.lock(id(1)).unwrap()).await;
    written(&folder.lock(id(11)).unwrap()).await;
    fs::write(path.join("unrelated.part"), b"").unwrap();
    let spools = folder.lock(id(1)).unwrap();
    assert!(spools.list().is_empty());
    assert_eq!(names(&place).len(), 6, "{:?}", names(&place));
    assert!(matches!(folder.lock(id(1)), Err(SpoolError::Taken(_))), "one at a time");
    drop(spools);
    folder.lock(id(1)).unwrap();
}

/// The message says what to do, and the next attempt works when it is mended.
#[tokio::test]
async fn a_disk_that_takes_nothing_is_told() {
    let place = TempDir::new().unwrap();
    let blocked = place.path().join("file");
    fs::write(&blocked, b"").unwrap();
    let folder = Folder::new(Some(blocked.join("spool")), &|_| None, "");
    let error = folder.lock(id(1)).unwrap_err().to_string();
    assert!(error.starts_with("cannot create ") && error.ends_with("or set spool-dir"), "{error}");
    fs::remove_file(&blocked).unwrap();
    written(&folder.lock(id(1)).unwrap()).await;
}

#[test]
fn the_folder_is_as_said_or_as_systemd_says() {
    let systemd = |name: &str| (name == "STATE_DIRECTORY").then(|| "/var/lib/a:/var/lib/b".to_owned());
    let path = |folder: Folder| folder.path().to_owned();
    assert_eq!(path(Folder::new(Some("/said".into()), &systemd, "")).to_str(), Some("/said"));
    assert_eq!(path(Folder::new(None, &systemd, "")).to_str(), Some("/var/lib/a"));
    let default = path(Folder::new(None, &|_| None, ""));
    assert!(default.to_str().is_some_and(|path| path.starts_with("/var/tmp/syncer-agent-")));
}
