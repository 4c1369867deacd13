//! The rules by which power is lost, on files written by hand, and that nothing goes past the shim.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tempfile::TempDir;

use crate::content::{Content, Loss, SECTOR_BYTES, Step};
use crate::disk::Disk;
use crate::harness::under_the_shim;
use crate::journal::Journal;

const DIRECTORY: &str = "ANNULUS_POWER_LOSS_RULES";

/// The process: what it syncs is the only thing that must stay.
#[test]
fn files_process() {
    let Ok(root) = std::env::var(DIRECTORY) else { return };
    let root = Path::new(&root);
    let mut kept = File::create(root.join("kept")).unwrap();
    kept.write_all(b"synced").unwrap();
    kept.sync_data().unwrap();
    let mut renamed = File::create(root.join("old name")).unwrap();
    renamed.write_all(b"renamed").unwrap();
    renamed.sync_all().unwrap();

    kept.write_all(b" and not synced").unwrap();
    fs::rename(root.join("old name"), root.join("new name")).unwrap();
    renamed.sync_all().unwrap();
    fs::create_dir(root.join("directory")).unwrap();
    File::create(root.join("directory/file")).unwrap().sync_all().unwrap();
    fs::write(root.join("lost"), b"never synced").unwrap();
    fs::remove_file(root.join("kept")).unwrap();
}

struct Watched {
    _place: TempDir,
    root: PathBuf,
    disk: Disk,
    journal: Journal,
}

impl Watched {
    fn run() -> Watched {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap().join("disk");
        let journal = place.path().join("journal");
        let disk = Disk::of_empty(&root).unwrap();
        Journal::create(&journal).unwrap();
        let mut process = under_the_shim("rules::files_process", &root, &journal);
        assert!(process.env(DIRECTORY, &root).output().unwrap().status.success());
        let journal = Journal::read(&journal).unwrap().unwrap();
        Watched {
            _place: place,
            root,
            disk,
            journal,
        }
    }

    fn lose_power(&mut self, loss: Loss, seed: u64) -> Result<BTreeMap<String, Vec<u8>>, String> {
        let random = &mut StdRng::seed_from_u64(seed);
        self.disk.lose_power(&self.root, &self.journal, loss, random)?;
        let entries = fs::read_dir(&self.root).unwrap().map(|entry| entry.unwrap().path());
        let files = entries.filter(|path| path.is_file()).map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        });
        Ok(files.collect())
    }
}

#[test]
fn what_was_synced_stays_and_the_rest_can_go() {
    let files = Watched::run().lose_power(Loss::All, 0).unwrap();
    let expected = [("kept", "synced"), ("old name", "renamed")];
    assert_eq!(
        files,
        expected.map(|(name, text)| (name.to_owned(), text.into())).into()
    );
}

#[test]
fn names_change_in_order_whatever_is_kept() {
    for seed in 0..30 {
        let files = Watched::run()
            .lose_power(Loss::Some { kept_permille: 500 }, seed)
            .unwrap();
        let has = |name: &str| files.contains_key(name);
        assert!(has("old name") != has("new name"), "seed {seed}: {files:?}");
        assert!(!has("lost") || has("new name"), "seed {seed}: {files:?}");
        assert!(has("kept") || has("lost"), "seed {seed}: {files:?}");
        if let Some(kept) = files.get("kept") {
            assert!(kept.starts_with(b"synced"), "seed {seed}: {files:?}");
        }
    }
}

#[test]
fn what_goes_past_the_shim_is_noticed() {
    for (name, text) in [
        ("unheard of", "synced"),
        ("new name", "RENAMED"),
        ("new name", "renamed, and longer"),
    ] {
        let mut watched = Watched::run();
        fs::write(watched.root.join(name), text).unwrap();
        let wrong = watched.lose_power(Loss::All, 0).unwrap_err();
        assert!(wrong.contains("went past the shim"), "{wrong}");
    }
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Truncate { length: u64 },
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let write = (0..3000_u64, 1..2000_usize, 1..255_u8).prop_map(|(offset, length, byte)| Change::Write {
        offset,
        bytes: vec![byte; length],
    });
    let truncate = (0..4000_u64).prop_map(|length| Change::Truncate { length });
    proptest::collection::vec(prop_oneof![4 => write, 1 => truncate], 1..12)
}

/// The naive twin: the whole file after each change.
fn versions(changes: &[Change]) -> Vec<Vec<u8>> {
    let mut versions = vec![Vec::new()];
    for change in changes {
        let mut file = versions[versions.len() - 1].clone();
        match change {
            Change::Write { offset, bytes } => {
                let (from, until) = (*offset as usize, *offset as usize + bytes.len());
                file.resize(file.len().max(until), 0);
                file[from..until].copy_from_slice(bytes);
            }
            Change::Truncate { length } => file.resize(*length as usize, 0),
        }
        versions.push(file);
    }
    versions
}

fn steps(changes: &[Change]) -> Vec<Step<'_>> {
    let steps = changes.iter().map(|change| match change {
        Change::Write { offset, bytes } => Step::Write { offset: *offset, bytes },
        Change::Truncate { length } => Step::Truncate { length: *length },
    });
    steps.collect()
}

fn bytes_of(content: &Content) -> Vec<u8> {
    let mut bytes = vec![0; content.length() as usize];
    for (offset, stretch) in content.stretches() {
        bytes[offset as usize..][..stretch.len()].copy_from_slice(&stretch);
    }
    bytes
}

proptest! {
    #[test]
    fn prop_every_sector_is_of_one_moment_after_the_sync(
        changes in changes(),
        synced in 0..12_usize,
        kept_permille in 0..1000_u32,
        seed in any::<u64>(),
    ) {
        let synced = synced.min(changes.len());
        let steps = steps(&changes);
        let mut seen = Content::default();
        let random = &mut StdRng::seed_from_u64(seed);
        let kept = bytes_of(&seen.play(&steps, synced, Loss::Some { kept_permille }, random));
        let versions = versions(&changes);
        prop_assert_eq!(bytes_of(&seen), versions[changes.len()].clone());

        let later = &versions[synced..];
        prop_assert!(kept.len() >= later.iter().map(Vec::len).min().unwrap());
        let cut = changes[synced..].iter().any(|change| matches!(change, Change::Truncate { .. }));
        for (number, sector) in kept.chunks(SECTOR_BYTES as usize).enumerate() {
            let from = number * SECTOR_BYTES as usize;
            // A truncation that is kept cuts what is there, also where the write before it was lost.
            let uncut = sector.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let until = if cut { uncut } else { sector.len() };
            let same = |version: &Vec<u8>| {
                let then = version.get(from..).unwrap_or_default();
                (0..until).all(|at| sector[at] == then.get(at).copied().unwrap_or(0))
            };
            prop_assert!(later.iter().any(same), "sector {number} is of no moment");
        }
    }

    #[test]
    fn prop_what_was_synced_and_not_touched_since_is_all_there(changes in changes(), seed in any::<u64>()) {
        let steps = steps(&changes);
        let random = &mut StdRng::seed_from_u64(seed);
        let kept = Content::default().play(&steps, steps.len(), Loss::All, random);
        prop_assert_eq!(bytes_of(&kept), versions(&changes)[changes.len()].clone());
    }
}
