//! What travels between the daemon and a lookup worker: one JSON object per line, over a unix stream.
//! Shapes and framing only. One request is under way per worker at a time, so nothing carries an id.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde_derive::{Deserialize, Serialize};

use crate::policy::decide::{Answer, HostFacts, HostFailure, Question};

/// Longest line in either direction: a worker runs other people's code, so its word is bounded.
pub(super) const LONGEST_LINE: usize = 16 << 20;

/// A batch of questions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) questions: Vec<Question>,
    /// `home.base` where homes are persistent: who owns what in there?
    pub(super) home_base: Option<String>,
    /// The version of what sudoers names that the asker holds.
    pub(super) sudoers_seen: Option<u64>,
}

/// A line from the worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// From now on this service is being asked: it is to blame if nothing more comes.
    Asking(String),
    /// All answers, in the order of the questions. What the host says follows.
    Answers(Vec<Answer>),
    /// What the host says; the worker is free again.
    Done(Box<Results>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Results {
    pub(super) host: HostReport,
    /// Version of what sudoers names; it is in `host` if the asker's version is another one.
    pub(super) sudoers_version: u64,
    /// Services in nsswitch.conf whose library is not installed.
    pub(super) not_installed: BTreeSet<String>,
    /// Who is being asked from the beginning of the next request on, until [`Reply::Asking`] names somebody else.
    #[serde(default)]
    pub(super) first: Option<String>,
}

/// [`HostFacts`] in transit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HostReport {
    pub(super) subids: Vec<RangeInclusive<u32>>,
    pub(super) sudoers_names: BTreeSet<String>,
    pub(super) sudoers_ids: BTreeSet<u32>,
    pub(super) in_netgroups: BTreeSet<String>,
    pub(super) case_twins: BTreeMap<String, String>,
    pub(super) homes: BTreeMap<String, u32>,
    pub(super) busy_ids: BTreeSet<u32>,
    pub(super) primary_gids: BTreeSet<u32>,
    pub(super) failure: Option<HostFailure>,
}

impl From<HostReport> for HostFacts {
    fn from(report: HostReport) -> HostFacts {
        HostFacts {
            subids: report.subids,
            sudoers_names: report.sudoers_names,
            sudoers_ids: report.sudoers_ids,
            in_netgroups: report.in_netgroups,
            case_twins: report.case_twins,
            homes: report.homes,
            busy_ids: report.busy_ids,
            primary_gids: report.primary_gids,
            failure: report.failure,
        }
    }
}
