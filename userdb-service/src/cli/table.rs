//! Tables as loginctl prints them: header, aligned columns, a footer with the count.
//! Cells are anybody's text and come out as one line each.

use super::output::in_line;

/// A table: columns that are `true` are aligned to the right.
#[derive(Clone, Debug)]
pub struct Table {
    header: Vec<(&'static str, bool)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Without rows yet.
    pub fn new(header: &[(&'static str, bool)]) -> Table {
        Table {
            header: header.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row with a cell for each column. An empty one shows as `-`.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cell = |text: String| match text.is_empty() {
            true => "-".to_owned(),
            false => in_line(&text),
        };
        self.rows.push(cells.into_iter().map(cell).collect());
    }

    /// As text; `what` are the things counted, as in "3 users listed." or "No users."
    pub fn render(&self, legend: bool, what: &str) -> String {
        let header: Vec<String> = self
            .header
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        let shown = legend && !self.rows.is_empty();
        let lines: Vec<&Vec<String>> = shown
            .then_some(&header)
            .into_iter()
            .chain(&self.rows)
            .collect();
        let mut widths = vec![0; self.header.len()];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(*line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for line in lines {
            let mut out = String::new();
            for ((cell, width), (_, right)) in line.iter().zip(&widths).zip(&self.header) {
                if !out.is_empty() {
                    out.push(' ');
                }
                out.push_str(&match right {
                    true => format!("{cell:>width$}"),
                    false => format!("{cell:<width$}"),
                });
            }
            text.push_str(out.trim_end());
            text.push('\n');
        }
        if legend {
            match self.rows.len() {
                0 => text.push_str(&format!("No {what}.\n")),
                1 => text.push_str(&format!("\n1 {} listed.\n", what.trim_end_matches('s'))),
                n => text.push_str(&format!("\n{n} {what} listed.\n")),
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[[&str; 3]]) -> Table {
        let mut table = Table::new(&[("LOGIN", false), ("UID", true), ("HOME", false)]);
        for row in rows {
            table.row(row.map(str::to_owned));
        }
        table
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        assert_eq!(
            table(&[["maria", "7", "/home/maria"], ["x", "1234", ""]]).render(true, "users"),
            "LOGIN  UID HOME\nmaria    7 /home/maria\nx     1234 -\n\n2 users listed.\n"
        );
    }

    #[test]
    fn without_a_legend_only_the_rows_are_left() {
        let one = table(&[["maria", "7", "/"]]);
        assert_eq!(one.render(false, "users"), "maria 7 /\n");
        assert!(one.render(true, "users").ends_with("\n\n1 user listed.\n"));
        assert_eq!(table(&[]).render(true, "users"), "No users.\n");
        assert_eq!(table(&[]).render(false, "users"), "");
    }

    #[test]
    fn a_cell_cannot_break_its_line_or_move_the_cursor() {
        let text = table(&[["a\n\u{1b}[1Ab", "7", "/"]]).render(false, "users");
        assert_eq!(text, "a\\n\\u{1b}[1Ab 7 /\n");
    }
}
