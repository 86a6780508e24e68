//! Errors of config.toml name the rule that was broken, where several hold for one key.

use userdb_service::policy::config::Config;

/// What is said of the value: the error behind its place and its key.
#[track_caller]
fn told(text: &str) -> String {
    let error = Config::parse(&[("config.toml", text)]).expect_err(text);
    error.message
}

#[track_caller]
fn told_of_a_role(line: &str) -> String {
    told(&format!("[[role]]\nmatch = \"x\"\n{line}"))
}

#[test]
fn a_time_that_is_too_long_is_told_the_longest_and_another_one_its_form() {
    for time in ["367d", "8785h", "400d", "99999999999999999d"] {
        assert_eq!(
            told(&format!("retire-delay = \"{time}\"")),
            format!("\"{time}\" is not right here: a time is at most a year, \"366d\"")
        );
    }
    let unit = told("retire-delay = \"3\"");
    assert!(unit.contains("with its unit"), "{unit}");
    for longest in ["366d", "8784h"] {
        let text = format!("retire-delay = \"{longest}\"");
        assert!(Config::parse(&[("config.toml", text)]).is_ok(), "{longest}");
    }
}

#[test]
fn a_mask_is_told_the_largest() {
    assert_eq!(
        told_of_a_role("umask = \"1777\""),
        "\"1777\" is not right here: write octal digits in quotation marks, such as \"0027\", at most \"0777\""
    );
}

#[test]
fn a_path_is_told_which_part_of_it_is_wrong() {
    for (path, right) in [
        ("/home/", "write the path without a slash at its end"),
        (
            "/home//x",
            "write the path with a single slash between two names",
        ),
        (
            "/home/../x",
            "write the path without \".\" and \"..\" in it",
        ),
        ("/home/.", "write the path without \".\" and \"..\" in it"),
        (
            "/a:b",
            "write a path without \":\" and without invisible characters",
        ),
        (
            "home",
            "write the absolute path of a folder for homes, such as \"/home\", none of the system's own",
        ),
        (
            "/",
            "write the absolute path of a folder for homes, such as \"/home\", none of the system's own",
        ),
        (
            "/etc",
            "write the absolute path of a folder for homes, such as \"/home\", none of the system's own",
        ),
    ] {
        assert_eq!(
            told(&format!("home.base = \"{path}\"")),
            format!("\"{path}\" is not right here: {right}")
        );
    }
    let long = told(&format!("home.base = \"/{}\"", "x".repeat(200)));
    assert!(
        long.ends_with("a path here has at most 200 bytes"),
        "{long}"
    );
    let shell = told_of_a_role("shell = \"/bin/bash/\"");
    assert!(shell.ends_with("without a slash at its end"), "{shell}");
}

#[test]
fn a_name_in_capitals_is_told_how_it_is_written() {
    for (line, lower) in [
        ("names.protected = [\"A\"]", "a"),
        ("templated-groups = [\"Team-*\"]", "team-*"),
        ("names.allow = [\"Git\"]", "git"),
    ] {
        let told = told(line);
        assert!(
            told.ends_with(&format!("names are in lower case, write \"{lower}\"")),
            "{told}"
        );
    }
    for (line, lower) in [
        ("deny-groups = [\"A\"]", "a"),
        ("groups = [\"Docker\"]", "docker"),
    ] {
        let told = told_of_a_role(line);
        assert!(
            told.ends_with(&format!("names are in lower case, write \"{lower}\"")),
            "{told}"
        );
    }
    // Something else is wrong with these, too.
    for line in [
        "names.protected = [\"A b\"]",
        "names.allow = [\"A b\"]",
        "names.allow = [\"A*\"]",
    ] {
        let told = told(line);
        assert!(!told.contains("lower case"), "{told}");
    }
    let characters = told("names.protected = [\"a b\"]");
    assert!(
        characters.ends_with("a name holds a-z, 0-9, '_', '-' and '.' only"),
        "{characters}"
    );
    let wild = told("names.allow = [\"a*\"]");
    assert!(wild.ends_with("such as [\"git\"]"), "{wild}");
}

#[test]
fn a_name_that_is_too_long_is_told_how_long_one_may_be() {
    let long = "a".repeat(32);
    assert_eq!(
        told_of_a_role(&format!("groups = [\"{long}\"]")),
        format!(
            "\"{long}\" is not right here: a group cannot be called that: it has more than 31 bytes"
        )
    );
    let allowed = told(&format!("names.allow = [\"{long}\"]"));
    assert!(allowed.ends_with("it has more than 31 bytes"), "{allowed}");
}

#[test]
fn a_role_without_a_match_is_told_that_it_is_missing() {
    assert_eq!(
        told("[[role]]\nsudo = true"),
        "match is missing: a role names the Teleport roles it is for, such as match = \"dev-*\""
    );
}

#[test]
fn an_environment_is_told_of_both_forms_and_of_the_name_that_is_wrong() {
    let not_a_name = |name: &str| {
        format!(
            "\"{name}\" cannot be the name of a variable: one consists of letters, digits and \"_\", and does not begin with a digit"
        )
    };
    assert_eq!(
        told_of_a_role("environment = { A = 1 }"),
        "1 is not right here: write a string in quotation marks"
    );
    assert_eq!(
        told_of_a_role("environment = { \"A B\" = \"x\" }"),
        not_a_name("A B")
    );
    assert_eq!(
        told_of_a_role("environment = [\"1A=x\"]"),
        format!("\"1A=x\" is not right here: {}", not_a_name("1A"))
    );
    for (line, found) in [
        ("environment = \"A=b\"", "\"A=b\""),
        ("environment = [\"A\"]", "\"A\""),
        ("environment = [1]", "1"),
    ] {
        assert_eq!(
            told_of_a_role(line),
            format!(
                "{found} is not right here: write an array such as [\"LANG=C.UTF-8\"] or a table such as {{ LANG = \"C.UTF-8\" }}, strings of one line each"
            )
        );
    }
    for line in [
        format!("environment = [\"A={}\"]", "v".repeat(511)),
        format!("environment = {{ A = \"{}\" }}", "v".repeat(511)),
    ] {
        let told = told_of_a_role(&line);
        assert!(told.contains("at most 512 bytes"), "{told}");
    }
    let lines = told_of_a_role("environment = [\"A=\\n\"]");
    assert!(lines.contains("one line"), "{lines}");
}
