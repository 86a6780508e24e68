//! Other spellings of a name: sudo compares users regardless of case, and gives the one what is meant for
//! the other. A service that has no list of its users for us is asked for these two; nobody is asked here.

/// The other spellings of `name` that are worth asking for.
pub(super) fn spellings(name: &str) -> Vec<String> {
    let upper = name.to_ascii_uppercase();
    let mut capital = name.to_ascii_lowercase();
    if let Some(first) = capital.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let mut spellings = vec![capital, upper];
    spellings.dedup();
    spellings.retain(|spelling| spelling != name);
    spellings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_asked_for_in_its_usual_other_spellings() {
        assert_eq!(spellings("alice"), ["Alice", "ALICE"]);
        assert_eq!(spellings("Alice"), ["ALICE"]);
        assert_eq!(spellings("a"), ["A"]);
        assert!(
            spellings("_1").is_empty() && spellings("é").is_empty() && spellings("").is_empty()
        );
    }
}
