//! A script is text with commands and, below each block of them, what they showed: it is read and written back byte for byte.

use std::fmt;

/// Between commands and what they showed.
const SEPARATOR: &str = "---";

/// A whole file.
pub(crate) struct Script {
    pub(crate) blocks: Vec<Block>,
    /// Comments after the last block.
    rest: Vec<String>,
}

/// Comments, commands, and what these showed.
pub(crate) struct Block {
    /// Everything before the separator, as it is written, each line with its number.
    told: Vec<(usize, String)>,
    pub(crate) output: Vec<String>,
}

impl Block {
    /// The commands with the numbers of their lines.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.told.iter().map(|(number, line)| (*number, line.as_str()));
        lines.filter(|(_, line)| is_command(line))
    }
}

fn is_command(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with('#')
}

impl Script {
    /// A block ends with its output, or, where nobody has run it yet, with an empty line.
    pub(crate) fn parse(text: &str) -> Script {
        let mut blocks = Vec::new();
        let mut told: Vec<(usize, String)> = Vec::new();
        let mut lines = text.lines().enumerate().peekable();
        while let Some((index, line)) = lines.next() {
            let begun = told.iter().any(|(_, line)| is_command(line));
            if begun && (line == SEPARATOR || line.trim().is_empty()) {
                let mut output = Vec::new();
                if line == SEPARATOR {
                    output.extend(
                        lines
                            .by_ref()
                            .map(|(_, line)| line.to_owned())
                            .take_while(|line| !line.is_empty()),
                    );
                }
                blocks.push(Block {
                    told: std::mem::take(&mut told),
                    output,
                });
                continue;
            }
            told.push((index + 1, line.to_owned()));
        }
        if told.iter().any(|(_, line)| is_command(line)) {
            blocks.push(Block {
                told: std::mem::take(&mut told),
                output: Vec::new(),
            });
        }
        Script {
            blocks,
            rest: told.into_iter().map(|(_, line)| line).collect(),
        }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, block) in self.blocks.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            for (_, line) in &block.told {
                writeln!(f, "{line}")?;
            }
            writeln!(f, "{SEPARATOR}")?;
            if block.output.is_empty() {
                writeln!(f, "nothing")?;
            }
            for line in &block.output {
                writeln!(f, "{line}")?;
            }
        }
        if !self.rest.is_empty() {
            writeln!(f)?;
        }
        self.rest.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
