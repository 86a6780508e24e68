//! A machine's journal from a point in time on.
//! What may stand in it is for the tests to say.

use serde_json::Value;

use crate::Machine;

/// A place in the journal of a machine.
#[derive(Debug)]
pub struct Journal<'m> {
    machine: &'m Machine,
    cursor: String,
}

impl<'m> Journal<'m> {
    /// The end of the journal as of now.
    #[track_caller]
    pub fn now(machine: &'m Machine) -> Journal<'m> {
        let last = machine.run(&["journalctl", "-q", "-n", "1", "--show-cursor"]);
        let cursor = last
            .must()
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("-- cursor: "));
        match cursor {
            Some(cursor) => Journal {
                machine,
                cursor: cursor.to_owned(),
            },
            None => panic!("the journal of the machine is empty: {last}"),
        }
    }

    /// Entries since then as journalctl's JSON objects, chosen by journalctl `arguments` (`-p`, `-u`, `FIELD=value`).
    #[track_caller]
    pub fn entries(&self, arguments: &[&str]) -> Vec<Value> {
        // Not --after-cursor: with a filter, journalctl of systemd 252 leaves out the first entry that matches, too.
        let from = format!("--cursor={}", self.cursor);
        let sync = self.machine.run(&["journalctl", "--sync"]);
        sync.must();
        let mut command = vec!["journalctl", "-q", "-o", "json", from.as_str()];
        command.extend(arguments);
        let found = self.machine.run(&command);
        found
            .must()
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|entry: &Value| entry["__CURSOR"] != self.cursor)
            .collect()
    }

    /// The same as lines a person reads.
    #[track_caller]
    pub fn lines(&self, arguments: &[&str]) -> Vec<String> {
        let word = |entry: &Value, field: &str| entry[field].as_str().unwrap_or("?").to_owned();
        self.entries(arguments)
            .iter()
            .map(|entry| {
                format!(
                    "{}: {}",
                    word(entry, "SYSLOG_IDENTIFIER"),
                    word(entry, "MESSAGE")
                )
            })
            .collect()
    }

    /// Panics with the lines unless nothing of priority error or worse was written since then.
    #[track_caller]
    pub fn must_have_no_errors(&self) {
        let errors = self.lines(&["-p", "err"]);
        assert!(
            errors.is_empty(),
            "errors in the journal:\n{}",
            errors.join("\n")
        );
    }
}
