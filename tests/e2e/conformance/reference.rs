//! systemd's own providers, asked the same questions before ours is: PID 1's io.systemd.DynamicUser and the drop-ins
//! of userdbd. A question says what they answer and what we do; where that differs, it says why.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rig::Machine;
use serde_json::{Value, json};

use crate::wire::{Wire, userdb};
use crate::{OURS, session, systemd, uid};

/// A provider and a record it has, user and group alike.
struct Provider {
    service: &'static str,
    name: &'static str,
    id: u32,
}

/// What a provider does with a question, in words: `record NAME`, `NAME in GROUP`, the last part of an error with
/// what it names, `nothing`, or `closed`. As an expectation, alternatives are parted by ` or `.
type Outcome = String;

/// Whom a question is compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum With {
    /// Both of systemd's providers.
    Both,
    /// The drop-ins: PID 1 knows no filters and no memberships.
    DropIn,
    /// None does it yet.
    Nobody,
}

/// One question, in the terms of whoever is asked: `$name`, `$id`, `$above`, `$below` in strings stand for its record,
/// `$service` for itself.
pub(crate) struct Question {
    pub(crate) method: &'static str,
    pub(crate) parameters: Value,
    /// Of the message, beside method and parameters.
    pub(crate) flags: Value,
    pub(crate) with: With,
    /// The first version whose providers answer so; earlier ones are not asked.
    pub(crate) since: u32,
    pub(crate) theirs: Outcome,
    pub(crate) ours: Outcome,
}

/// A question that all answer alike.
pub(crate) fn alike(
    method: &'static str,
    parameters: Value,
    outcome: impl Into<Outcome>,
) -> Question {
    let outcome = outcome.into();
    Question {
        method,
        parameters,
        flags: json!({}),
        with: With::Both,
        since: 255,
        theirs: outcome.clone(),
        ours: outcome,
    }
}

/// A question that we answer otherwise, for a reason.
pub(crate) fn differs(
    method: &'static str,
    parameters: Value,
    theirs: impl Into<Outcome>,
    ours: impl Into<Outcome>,
    why: &str,
) -> Question {
    let theirs = theirs.into();
    let question = Question {
        theirs,
        ..alike(method, parameters, ours)
    };
    assert!(question.theirs != question.ours && !why.is_empty());
    question
}

impl Question {
    /// Asked of the drop-ins alone.
    pub(crate) fn of_drop_ins(mut self) -> Question {
        self.with = With::DropIn;
        self
    }

    /// Asked of us alone.
    pub(crate) fn of_us(mut self) -> Question {
        self.with = With::Nobody;
        self
    }

    /// Answered so by systemd's providers from this version on.
    pub(crate) fn since(mut self, version: u32) -> Question {
        self.since = version;
        self
    }

    /// With these keys in the message beside method and parameters.
    pub(crate) fn flags(mut self, flags: Value) -> Question {
        self.flags = flags;
        self
    }

    pub(crate) fn more(self) -> Question {
        self.flags(json!({"more": true}))
    }
}

/// Asks each question of systemd's providers first, then of ours, and insists on both answers.
#[track_caller]
pub(crate) fn compare(machine: &Machine, questions: Vec<Question>) {
    // userdbd starts with three workers, each of which serves one connection at a time.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let version = systemd(machine);
    let references = references(machine);
    let _session = session(machine, "lisbeth");
    let ours = Provider {
        service: OURS,
        name: "lisbeth",
        id: uid(machine, "lisbeth"),
    };
    let mut wrong = Vec::new();
    for question in &questions {
        let theirs = references
            .iter()
            .filter(|it| match question.with {
                With::Both => true,
                With::DropIn => it.service == "io.systemd.DropIn",
                With::Nobody => false,
            })
            .filter(|_| version >= question.since)
            .map(|provider| (provider, &question.theirs));
        for (provider, expected) in theirs.chain([(&ours, &question.ours)]) {
            let outcome = outcome(machine, provider, question);
            let expected = fill(expected, provider);
            if !expected.split(" or ").any(|one| one == outcome) {
                wrong.push(format!(
                    "{} {} {}: {} was asked and gave {outcome:?}, not {expected:?}",
                    question.method, question.parameters, question.flags, provider.service
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "systemd {version}:\n{}", wrong.join("\n"));
}

/// Records of systemd's providers, made once on the machine.
fn references(machine: &Machine) -> &'static [Provider] {
    static MADE: OnceLock<Vec<Provider>> = OnceLock::new();
    MADE.get_or_init(|| {
        let user = json!({"userName": "dora", "uid": 1_950_000_001, "gid": 1_950_000_001, "realName": "Dora",
            "homeDirectory": "/", "shell": "/bin/sh", "disposition": "dynamic"});
        let group = json!({"groupName": "dora", "gid": 1_950_000_001, "disposition": "dynamic"});
        machine.sh("mkdir -p /run/userdb").must();
        machine.write("/run/userdb/dora.user", &user.to_string());
        machine.write("/run/userdb/dora.group", &group.to_string());
        machine
            .sh("cd /run/userdb && ln -s dora.user 1950000001.user && ln -s dora.group 1950000001.group && \
                 touch dora:teleport-tmp.membership")
            .must();
        let unit = ["systemd-run", "--quiet", "-p", "DynamicUser=yes", "--unit=dynamo", "sleep", "infinity"];
        machine.run(&unit).must();
        machine.within(Duration::from_secs(30), "dynamo is a user", |machine| {
            machine.run(&["id", "dynamo"]).succeeded()
        });
        vec![
            Provider { service: "io.systemd.DynamicUser", name: "dynamo", id: uid(machine, "dynamo") },
            Provider { service: "io.systemd.DropIn", name: "dora", id: 1_950_000_001 },
        ]
    })
}

fn fill(text: &str, provider: &Provider) -> String {
    text.replace("$name", provider.name)
        .replace("$service", provider.service)
}

/// The parameters as they are sent to a provider.
fn parameters_for(provider: &Provider, parameters: &Value) -> Value {
    match parameters {
        Value::String(text) => match text.as_str() {
            "$id" => json!(provider.id),
            "$above" => json!(provider.id + 1),
            "$below" => json!(provider.id - 1),
            text => json!(fill(text, provider)),
        },
        Value::Array(all) => all
            .iter()
            .map(|one| parameters_for(provider, one))
            .collect(),
        Value::Object(all) => {
            let filled = all
                .iter()
                .map(|(key, one)| (key.clone(), parameters_for(provider, one)));
            Value::Object(filled.collect())
        }
        other => other.clone(),
    }
}

#[track_caller]
fn outcome(machine: &Machine, provider: &Provider, question: &Question) -> Outcome {
    let method = match question.method {
        method if method.contains('.') => method.to_owned(),
        method => userdb(method),
    };
    let mut message =
        json!({"method": method, "parameters": parameters_for(provider, &question.parameters)});
    if let (Some(message), Some(flags)) = (message.as_object_mut(), question.flags.as_object()) {
        message.extend(flags.clone());
    }
    let mut wire = Wire::to(machine, provider.service);
    wire.send(&message);
    if question.flags["oneway"] == true && wire.is_silent_for(Duration::from_millis(300)) {
        return "nothing".into();
    }
    let replies: Vec<Outcome> = wire
        .replies()
        .iter()
        .map(|reply| word_for(reply.as_ref()))
        .collect();
    // Others of the machine may be in the list; there it counts whether the provider's own record is, once.
    let own = format!("record {}", provider.name);
    match replies.iter().filter(|reply| **reply == own).count() {
        1 if replies.len() > 1 => own,
        _ => replies.join(", "),
    }
}

fn word_for(reply: Option<&Value>) -> Outcome {
    let Some(reply) = reply else {
        return "closed".into();
    };
    let parameters = &reply["parameters"];
    let text = |key: &str| parameters[key].as_str().unwrap_or_default().to_owned();
    if let Some(error) = reply["error"].as_str() {
        let last = error.rsplit('.').next().unwrap_or_default();
        let named = ["parameter", "method", "interface"].map(text).concat();
        return format!("{last} {named}").trim_end().to_owned();
    }
    let record = &parameters["record"];
    for key in ["userName", "groupName"] {
        if let Some(name) = record[key].as_str() {
            return format!("record {name}");
        }
    }
    if parameters.get("groupName").is_some() {
        return format!("{} in {}", text("userName"), text("groupName"));
    }
    "answer".into()
}
