//! A power cut with sessions open: after the boot nothing is granted and nobody is known, also where our daemons are disabled.

use rig::{Result, Suite, boot_node};

use crate::{admin, is_known, sudoers};

#[test]
fn after_a_power_cut_no_grant_is_left_also_with_both_daemons_disabled() -> Result<()> {
    let mut node = boot_node(Suite::chosen()?)?;
    node.write(
        "/etc/teleport-userdb/config.d/10-survive.toml",
        "[[role]]\nmatch = \"admin\"\ncreate-user = true\nsudo = true\n",
    );
    node.run(&["systemctl", "restart", "teleport-sessiond"])
        .must();
    for (disabled, login) in [(false, "bruno"), (true, "berta")] {
        if disabled {
            let units = [
                "teleport-sessiond.service",
                "teleport-sessiond.socket",
                "teleport-userdbd.service",
                "teleport-userdbd.socket",
            ];
            node.run(&[&["systemctl", "disable"], &units[..]].concat())
                .must();
        }
        let session = admin(&node, login);
        assert_eq!(sudoers(&node).len(), 1);
        node.power_cycle()?;
        drop(session);
        assert!(
            sudoers(&node).is_empty(),
            "disabled: {disabled}: {:?}",
            sudoers(&node)
        );
        assert!(!is_known(&node, login), "disabled: {disabled}");
        let active = node.run(&["systemctl", "is-active", "teleport-sessiond.service"]);
        assert_eq!(active.succeeded(), !disabled, "{active}");
    }
    Ok(())
}
