//! Whether a line of nsswitch.conf lists a service. Pure: the text comes from outside.

/// Whether the line of `database` lists `service`, in the sense glibc reads the file in: `#` starts a comment, `[...]` is an action,
/// and of several lines of one database the last counts. `None`: there is no such line.
pub(crate) fn lists(text: &[u8], database: &[u8], service: &[u8]) -> Option<bool> {
    let services = text.rsplit(|&byte| byte == b'\n').find_map(|line| {
        let line = line.split(|&byte| byte == b'#').next()?;
        let mut halves = line.splitn(2, |&byte| byte == b':');
        let name = halves.next()?;
        halves.next().filter(|_| name.trim_ascii() == database)
    });
    let mut rest = services?;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Some(false);
        }
        let in_action = rest.first() == Some(&b'[');
        let end = rest.iter().position(|&byte| {
            if in_action {
                byte == b']'
            } else {
                byte.is_ascii_whitespace() || byte == b'['
            }
        });
        let word = end.and_then(|end| rest.get(..end)).unwrap_or(rest);
        if !in_action && word == service {
            return Some(true);
        }
        let next = end.map_or(rest.len(), |end| end + usize::from(in_action));
        rest = rest.get(next..).unwrap_or_default();
    }
}
