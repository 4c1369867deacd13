//! A write round asks every owner, and sees to it that each owner that does not answer can get the write: from a fallback's hint, or from
//! the log of an owner that has it.

use annulus_mutants::{Mutant, planted};
use annulus_ring::NodeId;

use crate::{Mode, Quorum, Verdict};

/// Who could take part in a request, as its coordinator sees the cluster now.
#[derive(Clone, Debug)]
pub struct Participants<'a> {
    /// The coordinator.
    pub me: NodeId,
    /// The key's owners, in the order of the preference list.
    pub owners: &'a [NodeId],
    /// Which of `owners` can be reached; the coordinator itself always can.
    pub reachable: &'a [bool],
    /// The fallbacks that can be reached, in the order of the preference list, without the coordinator.
    pub fallbacks: &'a [NodeId],
}

/// What a write round wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteStep {
    /// Send the delta to an owner.
    Send {
        /// The owner.
        to: NodeId,
    },
    /// Send the delta to a fallback, to be kept as a hint.
    SendHint {
        /// The fallback.
        to: NodeId,
        /// The owner that it is for.
        owner: NodeId,
    },
    /// Nobody else keeps it: keep a hint here. An owner is not asked to, as the write is in its log.
    KeepHint {
        /// The owner that it is for.
        owner: NodeId,
    },
}

/// One write on its way to its owners.
#[derive(Clone, Debug)]
pub struct WriteRound {
    quorum: Quorum,
    me: NodeId,
    me_is_owner: bool,
    mode: Mode,
    /// Fallbacks that could still stand in, the next one last.
    spares: Vec<NodeId>,
}

impl WriteRound {
    /// Plans the round. Where its verdict is `Unreachable` at once, nothing need be done at all, and nothing was written.
    pub fn start(who: &Participants<'_>, required: u8, mode: Mode, steps: &mut Vec<WriteStep>) -> WriteRound {
        let mut spares: Vec<NodeId> = who.fallbacks.iter().rev().copied().collect();
        let me_is_owner = who.owners.contains(&who.me);
        if !me_is_owner {
            spares.push(who.me);
        }
        let mut round = WriteRound {
            quorum: Quorum::new(who.owners, required),
            me: who.me,
            me_is_owner,
            mode,
            spares,
        };
        for (&owner, &reachable) in who.owners.iter().zip(who.reachable) {
            if owner == who.me {
                round.quorum.ask(owner, owner);
            } else if reachable {
                round.quorum.ask(owner, owner);
                steps.push(WriteStep::Send { to: owner });
            } else {
                round.quorum.exclude(owner);
                round.replace(owner, steps);
            }
        }
        round
    }

    /// The quorum as it stands.
    pub fn quorum(&self) -> &Quorum {
        &self.quorum
    }

    /// The verdict now.
    pub fn verdict(&self) -> Verdict {
        self.quorum.verdict()
    }

    /// Nobody's answer is awaited any more: the round can be forgotten.
    pub fn is_over(&self) -> bool {
        !self.quorum.is_waiting()
    }

    /// A replica, or the coordinator itself, has done what was asked.
    pub fn on_answer(&mut self, from: NodeId) {
        self.quorum.answer(from);
    }

    /// A replica has refused or went away: a fallback stands in for it, or the coordinator keeps a hint unless it is an owner.
    pub fn on_failure(&mut self, from: NodeId, steps: &mut Vec<WriteStep>) {
        self.spares.retain(|&spare| spare != from);
        if let Some(owner) = self.quorum.fail(from) {
            self.replace(owner, steps);
        }
    }

    /// The time is up: a coordinator that is a fallback keeps hints for the owners that have not answered by now.
    pub fn on_deadline(&mut self, steps: &mut Vec<WriteStep>) {
        if !self.me_is_owner {
            steps.extend(self.quorum.waiting().map(|owner| WriteStep::KeepHint { owner }));
        }
    }

    /// Finds somebody to keep the hint for `owner`. Only a fallback of a sloppy write counts in its place.
    fn replace(&mut self, owner: NodeId, steps: &mut Vec<WriteStep>) {
        let stand_in = match self.mode {
            Mode::Sloppy => self.spares.pop(),
            Mode::Strict if planted(Mutant::StrictCountsFallbacks) => self.spares.pop(),
            Mode::Strict => None,
        };
        match stand_in {
            Some(fallback) => {
                self.quorum.ask(owner, fallback);
                steps.push(if fallback == self.me {
                    WriteStep::KeepHint { owner }
                } else {
                    WriteStep::SendHint { to: fallback, owner }
                });
            }
            None if self.me_is_owner => {}
            None => steps.push(WriteStep::KeepHint { owner }),
        }
    }
}
