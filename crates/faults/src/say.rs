//! What is told goes to the standard output, and whoever has closed that does not want to hear more.

use std::fmt::Display;
use std::io::{self, Write};

/// Tells a line.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}
