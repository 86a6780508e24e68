//! Buffers of every length through the real calls of glibc, watched by valgrind: nothing is read or written outside of them.
//! What is checked of the answers is in `buffers.c`.

use std::path::Path;
use std::process::Command;

use account_table::{AccountSpec, GroupOrigin};

use crate::rig::{alone, group, spec, writer};

#[test]
fn valgrind_sees_no_byte_outside_buffers_of_any_length() {
    alone(
        "passwd: files teleport\ngroup: files teleport\n",
        &[],
        || {
            let mut writer = writer();
            let everyone = group("everyone", 3000, GroupOrigin::Synthesized);
            for number in 0..5000 {
                let mut groups = vec![everyone.clone()];
                if number == 7 {
                    groups.push(group("dev", 3001, GroupOrigin::Synthesized));
                }
                let user = AccountSpec {
                    groups,
                    ..spec(&format!("user{number}"), 10_000 + number)
                };
                writer.publish(&user).unwrap();
            }
            for length in 1..=255 {
                let user = AccountSpec {
                    home: "/".into(),
                    ..spec(&"n".repeat(length as usize), 20_000 + length)
                };
                writer.publish(&user).unwrap();
            }
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/module/buffers.c");
            let program = "/run/buffers";
            let built = Command::new("gcc")
                .args(["-O1", "-g", "-Wall", "-Werror", "-o", program])
                .arg(source)
                .status();
            assert!(built.expect("gcc").success());
            assert!(Command::new(program).status().unwrap().success());
            let watched = Command::new("valgrind")
                .args(["--quiet", "--error-exitcode=9", "--leak-check=no", program])
                .output()
                .expect("valgrind (apt-get install valgrind)");
            let said = String::from_utf8_lossy(&watched.stderr);
            assert!(watched.status.success(), "{}\n{said}", watched.status);
            assert!(said.is_empty(), "{said}");
        },
    );
}
