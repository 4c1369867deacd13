//! The index holds the keys with live versions in key order, so that a page of a listing costs as much as the page.
//!
//! Key of the record: `bucket ‖ 0 ‖ key`. Value: when its last version expires. It is written only when a key appears, vanishes, or
//! that instant changes.

use std::ops::ControlFlow;

use annulus_causality::{Object, Reader, put_varint};
use annulus_ring::{Bucket, Key};
use bytes::Bytes;

use crate::engine::{Engine, EngineError, Space};
use crate::hints::Hints;
use crate::record;
use crate::staged::Staged;

/// So many keys beyond the page are looked at before a listing that finds only expired ones returns what it has.
const EXAMINED_BEYOND_PAGE: usize = 1024;

/// Until when a key is to be listed. The order is that of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Liveness {
    /// It has no version.
    Absent,
    /// Its last version expires at this time, in milliseconds since the Unix epoch.
    Until(u64),
    /// A version of it never expires.
    ForEver,
}

impl Liveness {
    pub(crate) fn of(object: &Object) -> Liveness {
        let versions = object.versions().iter();
        let longest = versions.map(|(_, version)| version.expires.map_or(Liveness::ForEver, Liveness::Until));
        longest.max().unwrap_or(Liveness::Absent)
    }

    fn is_live(self, wall_ms: u64) -> bool {
        match self {
            Liveness::Absent => false,
            Liveness::Until(expires) => wall_ms < expires,
            Liveness::ForEver => true,
        }
    }

    /// The record that says so; none for an absent key. 0 stands for ever, any other number for the millisecond before it.
    fn seal(self, scope: &[u8]) -> Option<Bytes> {
        let expires = match self {
            Liveness::Absent => return None,
            Liveness::Until(expires) => expires.saturating_add(1),
            Liveness::ForEver => 0,
        };
        Some(record::seal(Space::Index, scope, |out| put_varint(out, expires)))
    }

    fn open(scope: &[u8], frame: &[u8]) -> Result<Liveness, EngineError> {
        let payload = record::open_slice(Space::Index, scope, frame)?;
        let read = |reader: &mut Reader| reader.varint("expiry");
        match record::decode(Space::Index, scope, Bytes::copy_from_slice(payload), read)? {
            0 => Ok(Liveness::ForEver),
            after => Ok(Liveness::Until(after - 1)),
        }
    }
}

/// Stages what changes for a key whose liveness changes.
pub(crate) fn stage(staged: &mut Staged, scope: Bytes, before: Liveness, after: Liveness) {
    if before == after {
        return;
    }
    match after.seal(&scope) {
        Some(frame) => staged.put(Space::Index, scope, frame),
        None => staged.delete(Space::Index, scope),
    }
}

/// A part of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys in order.
    pub keys: Vec<Key>,
    /// Where to go on, as the next page's `start`; none where everything was looked at. A page may have fewer keys than asked for, or
    /// none, and yet this.
    pub resume: Option<Key>,
}

impl Page {
    /// Whether there may be more keys behind these.
    pub fn more(&self) -> bool {
        self.resume.is_some()
    }
}

/// What a listing asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a> {
    pub(crate) bucket: &'a Bucket,
    pub(crate) prefix: &'a [u8],
    pub(crate) start: &'a [u8],
    pub(crate) limit: usize,
    pub(crate) wall_ms: u64,
}

/// One page over the index, what is staged above it, and the keys of value hints.
pub(crate) fn list(
    engine: &impl Engine,
    staged: &Staged,
    hints: &Hints,
    query: Query<'_>,
) -> Result<Page, EngineError> {
    let scope_of = |key: &[u8]| [query.bucket.as_str().as_bytes(), b"\0", key].concat();
    let from = scope_of(query.start.max(query.prefix));
    // The bucket's zero byte is below 0xff, so there always is a successor.
    let until = successor(scope_of(query.prefix)).expect("a scope holds a byte below 0xff");
    if from >= until {
        return Ok(Page::default());
    }
    let mut side = Side {
        staged: staged.range(Space::Index, &from, &until).peekable(),
        hinted: hints.scopes(&from, &until).peekable(),
    };
    let mut walk = Walk {
        query,
        scope_prefix: query.bucket.as_str().len() + 1,
        examined: 0,
        page: Page::default(),
    };
    let mut result = Ok(());
    engine.scan(Space::Index, &from, Some(&until), &mut |scope, frame| {
        let flow = walk.offer_stored(&mut side, scope, frame);
        flow.unwrap_or_else(|error| {
            result = Err(error);
            ControlFlow::Break(())
        })
    })?;
    result?;
    while walk.page.resume.is_none()
        && let Some((scope, liveness)) = side.next_before(None)?
    {
        let _ = walk.offer(&scope, liveness);
    }
    Ok(walk.page)
}

/// What lies over the engine's records: staged changes and the keys of hints, both in order.
struct Side<S: Iterator, H: Iterator> {
    staged: std::iter::Peekable<S>,
    hinted: std::iter::Peekable<H>,
}

impl<'a, S, H> Side<S, H>
where
    S: Iterator<Item = (&'a Bytes, &'a Option<Bytes>)>,
    H: Iterator<Item = (&'a Bytes, Liveness)>,
{
    /// The next key that is not in the engine's way: below `bound`.
    fn next_before(&mut self, bound: Option<&[u8]>) -> Result<Option<(Bytes, Liveness)>, EngineError> {
        let staged = self.staged.peek().map(|(scope, _)| *scope);
        let hinted = self.hinted.peek().map(|(scope, _)| *scope);
        let next = match (staged, hinted) {
            (Some(staged), Some(hinted)) => staged.min(hinted),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return Ok(None),
        };
        if bound.is_some_and(|bound| &next[..] >= bound) {
            return Ok(None);
        }
        let liveness = self.over(next, Liveness::Absent)?;
        Ok(Some((next.clone(), liveness)))
    }

    /// The liveness of a key that the engine says is `stored`.
    fn over(&mut self, scope: &[u8], stored: Liveness) -> Result<Liveness, EngineError> {
        let staged = match self.staged.next_if(|(staged, _)| &staged[..] == scope) {
            None => stored,
            Some((_, None)) => Liveness::Absent,
            Some((_, Some(frame))) => Liveness::open(scope, frame)?,
        };
        let hinted = self.hinted.next_if(|(hinted, _)| &hinted[..] == scope);
        Ok(hinted.map_or(staged, |(_, liveness)| staged.max(liveness)))
    }
}

struct Walk<'a> {
    query: Query<'a>,
    scope_prefix: usize,
    examined: usize,
    page: Page,
}

impl Walk<'_> {
    /// Offers a record of the engine, after all that lies before it.
    fn offer_stored<'a, S, H>(
        &mut self,
        side: &mut Side<S, H>,
        scope: &[u8],
        frame: &[u8],
    ) -> Result<ControlFlow<()>, EngineError>
    where
        S: Iterator<Item = (&'a Bytes, &'a Option<Bytes>)>,
        H: Iterator<Item = (&'a Bytes, Liveness)>,
    {
        while let Some((before, liveness)) = side.next_before(Some(scope))? {
            if self.offer(&before, liveness).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        let liveness = side.over(scope, Liveness::open(scope, frame)?)?;
        Ok(self.offer(scope, liveness))
    }

    fn offer(&mut self, scope: &[u8], liveness: Liveness) -> ControlFlow<()> {
        let Ok(key) = Key::parse(Bytes::copy_from_slice(&scope[self.scope_prefix..])) else {
            return ControlFlow::Continue(());
        };
        let full = self.page.keys.len() >= self.query.limit;
        if full || self.examined >= self.query.limit.saturating_add(EXAMINED_BEYOND_PAGE) {
            self.page.resume = Some(key);
            return ControlFlow::Break(());
        }
        self.examined += 1;
        if liveness.is_live(self.query.wall_ms) {
            self.page.keys.push(key);
        }
        ControlFlow::Continue(())
    }
}

/// The first byte string after all those that begin with `prefix`.
fn successor(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if last < 0xff {
            prefix.push(last + 1);
            return Some(prefix);
        }
    }
    None
}
