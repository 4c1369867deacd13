//! What members say to each other about finished incarnations.

use super::value::{wire_enum, wire_struct};
use crate::closing::{ClosingStep, PartitionDots};

wire_struct!(PartitionDots { partition, hash });

wire_enum!(ClosingStep {
    0 => Freeze,
    1 => Free,
    2 => Count { epoch },
    3 => Counted { dots, more },
    4 => Close { partitions },
});
