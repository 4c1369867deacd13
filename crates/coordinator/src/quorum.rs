//! A quorum is counted over the distinct owners of one epoch, for reads and for writes alike; one node never counts twice.

use annulus_mutants::{Mutant, planted};
use annulus_ring::NodeId;

/// Whether the answers suffice; three-valued, so that "not any more" is said at once and not at the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Neither yet.
    Pending,
    /// Enough have answered.
    Met,
    /// Too few are left that could.
    Unreachable,
}

/// How far one owner's answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not asked yet; it could be.
    Idle,
    /// Asked.
    Waiting,
    /// Counted.
    Answered,
    /// It cannot answer, and nobody stands in for it.
    Failed,
}

/// One owner's place in the quorum, and who answers for it: the owner itself, or its stand-in.
#[derive(Clone, Copy, Debug)]
struct Seat {
    owner: NodeId,
    holder: NodeId,
    state: State,
}

/// The owners of a key, and who of them has answered.
#[derive(Clone, Debug)]
pub struct Quorum {
    seats: Vec<Seat>,
    required: u8,
}

impl Quorum {
    /// Nobody has been asked. `required` is at least 1 and at most the number of owners the request was checked against.
    pub fn new(owners: &[NodeId], required: u8) -> Quorum {
        let seats = owners
            .iter()
            .map(|&owner| Seat {
                owner,
                holder: owner,
                state: State::Idle,
            })
            .collect();
        Quorum { seats, required }
    }

    /// The verdict now.
    pub fn verdict(&self) -> Verdict {
        let answered = self.count(State::Answered) + u8::from(planted(Mutant::QuorumOffByOne));
        let open = self.count(State::Idle) + self.count(State::Waiting);
        if answered >= self.required {
            Verdict::Met
        } else if answered + open < self.required {
            Verdict::Unreachable
        } else {
            Verdict::Pending
        }
    }

    /// How many answers are required.
    pub fn required(&self) -> u8 {
        self.required
    }

    /// How many have answered, stand-ins among them.
    pub fn answered(&self) -> u8 {
        self.count(State::Answered)
    }

    /// How many of those that answered stand in for an owner.
    pub fn stand_ins(&self) -> u8 {
        count(
            self.seats
                .iter()
                .filter(|seat| seat.state == State::Answered && seat.holder != seat.owner),
        )
    }

    /// Whether an answer is awaited.
    pub fn is_waiting(&self) -> bool {
        self.seats.iter().any(|seat| seat.state == State::Waiting)
    }

    /// Asks `holder` on behalf of `owner`, which has not answered.
    pub fn ask(&mut self, owner: NodeId, holder: NodeId) {
        assert!(!self.holds(holder), "one node never counts twice in a quorum");
        if let Some(seat) = self.seats.iter_mut().find(|seat| seat.owner == owner) {
            seat.holder = holder;
            seat.state = State::Waiting;
        }
    }

    /// Whether `node` is asked or has answered.
    pub fn holds(&self, node: NodeId) -> bool {
        self.seats
            .iter()
            .any(|seat| seat.holder == node && matches!(seat.state, State::Waiting | State::Answered))
    }

    /// Whether `holder` is asked on behalf of `owner`, another node, and has not answered.
    pub fn stands_in(&self, holder: NodeId, owner: NodeId) -> bool {
        self.seats
            .iter()
            .any(|seat| (seat.holder, seat.owner, seat.state) == (holder, owner, State::Waiting) && holder != owner)
    }

    /// What `owner` answered was not enough: it is asked once more, and counts only when it has answered again.
    pub fn reopen(&mut self, owner: NodeId) {
        let answered = |seat: &&mut Seat| seat.owner == owner && seat.holder == owner && seat.state == State::Answered;
        if let Some(seat) = self.seats.iter_mut().find(answered) {
            seat.state = State::Waiting;
        }
    }

    /// `holder` has answered. Says for which owner, where its answer was awaited.
    pub fn answer(&mut self, holder: NodeId) -> Option<NodeId> {
        self.settle(holder, State::Answered)
    }

    /// `holder` will not answer. Says which owner has nobody now, where its answer was awaited.
    pub fn fail(&mut self, holder: NodeId) -> Option<NodeId> {
        self.settle(holder, State::Failed)
    }

    /// `owner` cannot be asked at all.
    pub fn exclude(&mut self, owner: NodeId) {
        if let Some(seat) = self
            .seats
            .iter_mut()
            .find(|seat| seat.owner == owner && seat.state == State::Idle)
        {
            seat.state = State::Failed;
        }
    }

    /// Owners that were not asked yet, in the order of the list.
    pub fn idle(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.in_state(State::Idle)
    }

    /// Owners whose answer, or whose stand-in's, is still awaited.
    pub fn waiting(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.in_state(State::Waiting)
    }

    fn in_state(&self, state: State) -> impl Iterator<Item = NodeId> + '_ {
        self.seats
            .iter()
            .filter(move |seat| seat.state == state)
            .map(|seat| seat.owner)
    }

    fn settle(&mut self, holder: NodeId, to: State) -> Option<NodeId> {
        let seat = self
            .seats
            .iter_mut()
            .find(|seat| (seat.holder == holder || planted(Mutant::SameNodeTwice)) && seat.state == State::Waiting)?;
        seat.state = to;
        Some(seat.owner)
    }

    fn count(&self, state: State) -> u8 {
        count(self.seats.iter().filter(|seat| seat.state == state))
    }
}

/// A ring has at most 16 owners a partition.
fn count<'a>(seats: impl Iterator<Item = &'a Seat>) -> u8 {
    u8::try_from(seats.count()).expect("a preference list has at most 16 owners")
}
