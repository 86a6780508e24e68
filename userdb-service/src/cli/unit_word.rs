//! A path as one word of a setting in a unit file, such as `ReadWritePaths=`, where blanks divide words, quotes hold them together and a
//! percent sign stands for something else. A backslash is nothing special there.

/// `text` as such a word.
pub(super) fn unit_word(text: &str) -> String {
    let text = text.replace('%', "%%");
    let is_plain = |c: char| !c.is_whitespace() && c != '"' && c != '\'';
    match text.chars().all(is_plain) {
        true => text,
        // A quote stands between those of the other kind.
        false => format!("\"{}\"", text.replace('"', "\"'\"'\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_whatever_is_in_it() {
        for (path, word) in [
            ("-/srv/homes", "-/srv/homes"),
            ("-/srv/a b", "\"-/srv/a b\""),
            ("-/srv/100%", "-/srv/100%%"),
            ("-/srv/%h b", "\"-/srv/%%h b\""),
            ("-/srv/it's", "\"-/srv/it's\""),
            (r#"-/srv/a"b"#, r#""-/srv/a"'"'"b""#),
            (r"-/srv/a\b", r"-/srv/a\b"),
        ] {
            assert_eq!(unit_word(path), word);
        }
    }
}
