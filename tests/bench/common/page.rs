//! Where results go: docs/benchmarks.md, a marked section for each benchmark, and how tables look there.
//! Each benchmark rewrites its own section and leaves the others alone.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// The top folder of the repository.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap_or(Path::new("."))
        .to_owned()
}

/// Puts `text` between `<!-- name -->` and `<!-- /name -->` of docs/benchmarks.md.
pub fn write_section(name: &str, text: &str) -> io::Result<()> {
    let path = workspace().join("docs/benchmarks.md");
    let page = fs::read_to_string(&path)?;
    let page = with_section(&page, name, text).ok_or_else(|| {
        io::Error::other(format!(
            "{} has no lines `<!-- {name} -->` and `<!-- /{name} -->`",
            path.display()
        ))
    })?;
    fs::write(&path, page)
}

fn with_section(page: &str, name: &str, text: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{}\n\n{end}{after}", text.trim()))
}

/// A Markdown table.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!(
        "| {} |\n|{}\n",
        head.join(" | "),
        " --- |".repeat(head.len())
    );
    for row in rows {
        text.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_nothing_else() {
        let page = "# B\n<!-- a -->\nold\n<!-- /a -->\nmiddle\n<!-- b -->\nkept\n<!-- /b -->\n";
        let once = with_section(page, "a", "new\n").unwrap();
        assert_eq!(
            once,
            "# B\n<!-- a -->\n\nnew\n\n<!-- /a -->\nmiddle\n<!-- b -->\nkept\n<!-- /b -->\n"
        );
        assert_eq!(with_section(&once, "a", "new").unwrap(), once);
        assert!(with_section(page, "c", "x").is_none());
    }
}
