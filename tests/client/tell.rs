//! What the client says to who drives it, and where it waits for them.
//! Standard output is the user's terminal and carries nothing of this but what PAM tells the person.

use std::io::Write;

use serde_json::{Value, json};

/// One event: a JSON object on a line of standard error.
pub(crate) fn event(event: &Value) {
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "{event}");
}

/// A message of a PAM module: on the terminal, as Teleport shows it, and as an event.
pub(crate) fn message(style: &str, text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    event(&json!({"event": "message", "style": style, "text": text}));
}

/// Says that `point` is reached, and waits for a line if it is one to stop at.
pub(crate) fn reached(point: &str, handle: usize, holds: &[String]) {
    if holds.iter().any(|hold| hold == point) {
        event(&json!({"event": "reached", "point": point, "handle": handle}));
        let mut line = String::new();
        let _ = std::io::stdin().read_line(&mut line);
    }
}
