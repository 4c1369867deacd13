//! Columns that line up, for people.

use std::fmt;

use super::{failure::Failure, output};

pub(crate) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(head: [&str; N]) -> Self {
        Self {
            rows: vec![head.map(str::to_owned)],
        }
    }

    pub(crate) fn row(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    pub(crate) fn print(&self) -> Result<(), Failure> {
        output::line(self)
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |cell: &str| {
            if cell.is_empty() {
                "-".to_owned()
            } else {
                cell.to_owned()
            }
        };
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| shown(&row[column]).chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: [usize; N] = std::array::from_fn(width);
        let lines = self.rows.iter().map(|row| {
            let cells: Vec<_> = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{:width$}", shown(cell)))
                .collect();
            cells.join("  ").trim_end().to_owned()
        });
        f.write_str(&lines.collect::<Vec<_>>().join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_line_up_and_what_is_missing_shows_as_a_dash() {
        let mut table = Table::new(["NAME", "ZONE", "STATE"]);
        table.row(["n1".into(), String::new(), "alive".into()]);
        table.row(["ü-node".into(), "b".into(), "down".into()]);
        assert_eq!(
            table.to_string(),
            "NAME    ZONE  STATE\nn1      -     alive\nü-node  b     down"
        );
    }
}
