//! The measured modes, for people, for documents and for programs.

use std::fmt::Write as _;

use serde_json::json;

use super::loss::FAULTS;
use super::{Measured, NODES, VALUE_BYTES};
use crate::arguments::{Form, Modes};

/// See the module.
pub(crate) struct Table {
    seconds: u32,
    rounds: u32,
    connections: usize,
    rows: Vec<Measured>,
}

impl Table {
    pub(super) fn new(arguments: &Modes, rows: Vec<Measured>) -> Table {
        Table {
            seconds: arguments.seconds,
            rounds: arguments.rounds,
            connections: arguments.connections,
            rows,
        }
    }

    /// Whether a write that was acknowledged on disk is gone: no crash of processes takes it.
    pub(crate) fn breaks_a_promise(&self) -> bool {
        let on_disk = |row: &&Measured| row.mode.durability == annulus_client::Durability::Disk;
        let losses = self.rows.iter().filter(on_disk).flat_map(|row| &row.losses);
        losses.map(|loss| loss.lost).sum::<usize>() > 0
    }

    /// As it was asked for.
    pub(crate) fn show(&self, form: Form) -> String {
        match form {
            Form::People => self.people(),
            Form::Markdown => self.markdown(),
            Form::Json => self.json(),
        }
    }

    fn titles() -> Vec<String> {
        let mut titles: Vec<String> = ["mode", "request", "p50 ms", "p99 ms", "PUT/s"]
            .map(str::to_owned)
            .to_vec();
        titles.extend(FAULTS.map(|fault| format!("lost: {}", fault.text())));
        titles
    }

    fn cells(row: &Measured) -> Vec<String> {
        let milliseconds = |us: u64| format!("{:.2}", us as f64 / 1e3);
        let mut cells = vec![
            row.mode.name.to_owned(),
            row.mode.parameters(),
            milliseconds(row.load.p50_us),
            milliseconds(row.load.p99_us),
            format!("{:.0}", row.load.per_second),
        ];
        let losses = row.losses.iter();
        cells.extend(losses.map(|loss| format!("{} of {}", loss.lost, loss.acknowledged)));
        cells
    }

    fn setting(&self) -> String {
        format!(
            "{NODES} nodes, values of {VALUE_BYTES} bytes, {} connections, {} s; lost: acknowledged writes that no owner has after \
             the fault, of those acknowledged, in {} rounds",
            self.connections, self.seconds, self.rounds
        )
    }

    fn people(&self) -> String {
        let lines: Vec<Vec<String>> = std::iter::once(Table::titles())
            .chain(self.rows.iter().map(Table::cells))
            .collect();
        let width = |column: usize| lines.iter().map(|cells| cells[column].len()).max().unwrap_or(0);
        let mut text = String::new();
        for cells in &lines {
            for (column, cell) in cells.iter().enumerate() {
                let width = width(column);
                let _ = match column {
                    0 | 1 => write!(text, "{cell:<width$}  "),
                    _ => write!(text, "{cell:>width$}  "),
                };
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text + &self.setting()
    }

    fn markdown(&self) -> String {
        let titles = Table::titles();
        let mut text = format!("| {} |\n|{}\n", titles.join(" | "), "---|".repeat(titles.len()));
        for row in &self.rows {
            let mut cells = Table::cells(row);
            cells[1] = format!("`{}`", cells[1]);
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        format!("{text}\n{}.", self.setting())
    }

    fn json(&self) -> String {
        let modes = self.rows.iter().map(|row| {
            let losses = FAULTS.iter().zip(&row.losses);
            let losses = losses.map(
                |(fault, loss)| json!({"fault": fault.text(), "acknowledged": loss.acknowledged, "lost": loss.lost}),
            );
            json!({
                "mode": row.mode.name,
                "request": row.mode.parameters(),
                "p50_us": row.load.p50_us,
                "p99_us": row.load.p99_us,
                "puts_per_second": row.load.per_second,
                "losses": losses.collect::<Vec<_>>(),
            })
        });
        json!({
            "nodes": NODES,
            "value_bytes": VALUE_BYTES,
            "connections": self.connections,
            "seconds": self.seconds,
            "rounds": self.rounds,
            "modes": modes.collect::<Vec<_>>(),
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::Load;
    use super::super::loss::Loss;
    use super::super::{MODES, Mode};
    use super::*;

    fn row(mode: &'static Mode, lost: usize) -> Measured {
        let load = Load {
            p50_us: 400,
            p99_us: 2_500,
            per_second: 12_345.6,
        };
        let loss = Loss {
            acknowledged: 300,
            lost,
        };
        Measured {
            mode,
            load,
            losses: vec![loss; FAULTS.len()],
        }
    }

    fn table(rows: Vec<Measured>) -> Table {
        Table {
            seconds: 5,
            rounds: 3,
            connections: 8,
            rows,
        }
    }

    #[test]
    fn only_what_was_acknowledged_on_disk_is_promised() {
        let of = |durability| {
            MODES
                .iter()
                .find(move |mode| mode.durability == durability)
                .expect("there is one")
        };
        let (memory, disk) = (
            of(annulus_client::Durability::Memory),
            of(annulus_client::Durability::Disk),
        );
        assert!(!table(vec![row(memory, 7), row(disk, 0)]).breaks_a_promise());
        assert!(table(vec![row(memory, 0), row(disk, 1)]).breaks_a_promise());
    }

    #[test]
    fn every_form_tells_every_mode_and_its_losses() {
        let table = table(MODES.iter().map(|mode| row(mode, 2)).collect());
        for form in [Form::People, Form::Markdown, Form::Json] {
            let text = table.show(form);
            assert!(MODES.iter().all(|mode| text.contains(mode.name)), "{text}");
            assert!(text.contains("2 of 300") || text.contains(r#""lost":2"#), "{text}");
        }
        let markdown = table.show(Form::Markdown);
        let columns = |line: &str| line.matches('|').count();
        let lines: Vec<&str> = markdown.lines().take(MODES.len() + 2).collect();
        assert!(
            lines.iter().all(|line| columns(line) == columns(lines[0])),
            "{markdown}"
        );
    }
}
