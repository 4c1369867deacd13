//! A file's bytes in sectors: after power loss each holds what it held after one of the writes to it, and never less than what was synced.

use std::collections::BTreeMap;

use rand::RngExt;
use rand::rngs::StdRng;

/// What a disk writes whole or not at all.
pub(crate) const SECTOR_BYTES: u64 = 512;

type Sector = [u8; SECTOR_BYTES as usize];
const ZEROS: Sector = [0; SECTOR_BYTES as usize];

/// How likely un-synced changes are on the disk when power goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    /// None of them is.
    All,
    /// Each with this probability, in a thousand; as likely it is torn.
    Some { kept_permille: u32 },
}

impl Loss {
    pub(crate) fn draw(random: &mut StdRng) -> Loss {
        match random.random_range(0..4) {
            0 => Loss::All,
            1 => Loss::Some { kept_permille: 50 },
            2 => Loss::Some { kept_permille: 500 },
            _ => Loss::Some { kept_permille: 900 },
        }
    }

    pub(crate) fn keeps(self, random: &mut StdRng) -> bool {
        match self {
            Loss::All => false,
            Loss::Some { kept_permille } => random.random_range(0..1000) < kept_permille,
        }
    }
}

/// A change of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    Write { offset: u64, bytes: &'a [u8] },
    Truncate { length: u64 },
}

/// The bytes of a file; sectors that are not there are zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    length: u64,
    sectors: BTreeMap<u64, Sector>,
}

/// What of one step reaches the disk.
struct Fate {
    /// For a write, whether each of its sectors does.
    sectors: Vec<bool>,
    /// Whether the length that it leaves behind does. A length may be there before the bytes, which are zeros then.
    length: bool,
}

impl Fate {
    fn draw(step: Step<'_>, loss: Loss, random: &mut StdRng) -> Fate {
        let count = match step {
            Step::Truncate { .. } => 0,
            Step::Write { offset, bytes } => sectors(offset, bytes.len()).count(),
        };
        let keep = |random: &mut StdRng| loss.keeps(random);
        let sectors = match random.random_range(0..4) {
            // A prefix of it, or any part.
            0 if keep(random) => {
                let prefix = random.random_range(0..=count);
                (0..count).map(|sector| sector < prefix).collect()
            }
            1 if keep(random) => (0..count).map(|_| random.random_bool(0.5)).collect(),
            0 | 1 => vec![false; count],
            _ => vec![keep(random); count],
        };
        let length = keep(random);
        Fate { sectors, length }
    }

    fn synced(step: Step<'_>) -> Fate {
        let count = match step {
            Step::Truncate { .. } => 0,
            Step::Write { offset, bytes } => sectors(offset, bytes.len()).count(),
        };
        Fate {
            sectors: vec![true; count],
            length: true,
        }
    }

    fn leaves_something(&self) -> bool {
        self.length || self.sectors.contains(&true)
    }
}

impl Content {
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Makes all steps, and says what is on the disk if power goes after them and the first `synced` were synced.
    pub(crate) fn play(&mut self, steps: &[Step<'_>], synced: usize, loss: Loss, random: &mut StdRng) -> Content {
        let mut fates = Vec::new();
        for (at, step) in steps.iter().enumerate() {
            fates.push(if at < synced {
                Fate::synced(*step)
            } else {
                Fate::draw(*step, loss, random)
            });
        }
        // New blocks of a file are found only once those that a truncation freed are gone.
        let mut later = false;
        for (step, fate) in steps.iter().zip(&mut fates).rev() {
            fate.length |= later && matches!(step, Step::Truncate { .. });
            later |= fate.leaves_something();
        }
        let mut kept = self.clone();
        for (step, fate) in steps.iter().zip(&fates) {
            match *step {
                Step::Write { offset, bytes } => {
                    self.write(offset, bytes);
                    kept.keep(self, offset, bytes.len(), fate);
                }
                Step::Truncate { length } => {
                    self.truncate(length);
                    if fate.length {
                        kept.truncate(length);
                    }
                }
            }
        }
        kept.truncate(kept.length);
        kept
    }

    /// Takes over those sectors of a write that reach the disk, with everything that was written to them before.
    fn keep(&mut self, seen: &Content, offset: u64, length: usize, fate: &Fate) {
        let end = offset + length as u64;
        for (sector, kept) in sectors(offset, length).zip(&fate.sectors) {
            if *kept {
                self.sectors.insert(sector, seen.sector(sector));
                self.length = self.length.max(end.min((sector + 1) * SECTOR_BYTES));
            }
        }
        if fate.length {
            self.length = self.length.max(end);
        }
    }

    fn sector(&self, number: u64) -> Sector {
        self.sectors.get(&number).copied().unwrap_or(ZEROS)
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut rest = bytes;
        let mut within = (offset % SECTOR_BYTES) as usize;
        for number in sectors(offset, bytes.len()) {
            let (part, later) = rest.split_at(rest.len().min(SECTOR_BYTES as usize - within));
            let sector = self.sectors.entry(number).or_insert(ZEROS);
            sector[within..within + part.len()].copy_from_slice(part);
            (rest, within) = (later, 0);
        }
        if !bytes.is_empty() {
            self.length = self.length.max(offset + bytes.len() as u64);
        }
    }

    fn truncate(&mut self, length: u64) {
        self.length = length;
        self.sectors.split_off(&length.div_ceil(SECTOR_BYTES));
        if let Some(last) = self.sectors.get_mut(&(length / SECTOR_BYTES)) {
            last[(length % SECTOR_BYTES) as usize..].fill(0);
        }
    }

    /// The stretches of bytes that are not zeros, each with its offset, in order.
    pub(crate) fn stretches(&self) -> impl Iterator<Item = (u64, Vec<u8>)> {
        let mut sectors = self.sectors.iter().peekable();
        std::iter::from_fn(move || {
            let (first, bytes) = sectors.next()?;
            let mut bytes = bytes.to_vec();
            let mut next = first + 1;
            while let Some((_, more)) = sectors.next_if(|(number, _)| **number == next) {
                bytes.extend_from_slice(more);
                next += 1;
            }
            let offset = first * SECTOR_BYTES;
            bytes.truncate((self.length - offset) as usize);
            Some((offset, bytes))
        })
    }

    /// Whether a file of these bytes holds the same; `bytes` is all of it.
    pub(crate) fn is(&self, bytes: &[u8]) -> bool {
        if bytes.len() as u64 != self.length {
            return false;
        }
        let mut at = 0;
        for (offset, stretch) in self.stretches() {
            let (offset, end) = (offset as usize, offset as usize + stretch.len());
            if !is_zeros(&bytes[at..offset]) || bytes[offset..end] != stretch {
                return false;
            }
            at = end;
        }
        is_zeros(&bytes[at..])
    }
}

fn is_zeros(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

/// The numbers of the sectors that a write touches.
fn sectors(offset: u64, length: usize) -> std::ops::Range<u64> {
    offset / SECTOR_BYTES..(offset + length as u64).div_ceil(SECTOR_BYTES)
}
