//! From samples to the page: prepares what is measured, lets the conductor run, judges the goals, draws the picture.
//! Runs on the host; nothing is measured here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bench::Bound::{self, AtLeast, AtMost};
use bench::{Goal, Rounds, artefact, compile, goals_table, machine_line, workspace, write_section};
use rig::{Suite, image_with};

use crate::Result;
use crate::calls::Call;
use crate::chart;
use crate::subject::Kind;
use crate::tables::{by_call, by_size, fresh, publishing, threads, title};

/// Whom we are compared with, beside what is in every image.
const PACKAGES: [&str; 3] = ["nscd", "sssd-common", "sssd-proxy"];

/// `make bench-lookups`.
pub(crate) fn run() -> Result {
    if !nix::unistd::geteuid().is_root() {
        return Err("this mounts and starts name services: run it as root".into());
    }
    let scratch = artefact("release")?.with_file_name("bench");
    fs::create_dir_all(&scratch)?;
    let module = modules(&scratch)?;
    let image = image_with(Suite::Trixie, &PACKAGES).map_err(|trouble| trouble.to_string())?;
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--ipc", "--fork", "--kill-child", "--"])
        .arg(std::env::current_exe()?)
        .arg("conduct")
        .args([&image, &scratch])
        .stderr(std::process::Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("the conductor ended with {}", output.status).into());
    }
    let measured = Measured::parse(&String::from_utf8(output.stdout)?)?;
    fs::write(
        workspace().join("docs/benchmarks-lookups.svg"),
        chart::draw(&measured.curves()),
    )?;
    let text = page(&measured, &module)?;
    write_section("lookups", &text)?;
    print!("{text}");
    Ok(())
}

/// Everything that is loaded: the module as the package has it, the floors. The path of ours.
fn modules(scratch: &Path) -> Result<PathBuf> {
    // As the package does it.
    let ours = scratch.join("libnss_teleport.so.2");
    let status = Command::new("strip")
        .args(["--strip-unneeded", "-o"])
        .args([&ours, &artefact("module/libnss_teleport.so")?])
        .status()?;
    if !status.success() {
        return Err(format!("strip: {status}").into());
    }
    for name in ["shm", "null"] {
        let library = format!("libnss_{name}.so.2");
        compile(
            &format!("libnss_{name}.c"),
            &["-shared", "-fPIC", "-s"],
            scratch,
            &library,
        )?;
    }
    compile("first.c", &[], scratch, "first")?;
    Ok(ours)
}

/// What the conductor printed, by what was measured.
pub(crate) struct Measured(BTreeMap<String, Rounds>);

impl Measured {
    fn parse(text: &str) -> Result<Measured> {
        let mut all: BTreeMap<String, Rounds> = BTreeMap::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, subject, value] = words[..] else {
                return Err(format!("the conductor said {line:?}").into());
            };
            all.entry(what.to_owned())
                .or_default()
                .add(subject, value.parse()?);
        }
        Ok(Measured(all))
    }

    pub(crate) fn median(&self, what: &str, kind: Kind, users: u32) -> f64 {
        self.0.get(what).map_or(f64::NAN, |rounds| {
            rounds.median(&format!("{}@{users}", kind.name()))
        })
    }

    pub(crate) fn ratio(
        &self,
        what: &str,
        (kind, users): (Kind, u32),
        (other, others): (Kind, u32),
        frame: Option<Kind>,
    ) -> f64 {
        let name = |kind: Kind, users: u32| format!("{}@{users}", kind.name());
        let frame = frame.map(|frame| name(frame, users));
        self.0.get(what).map_or(f64::NAN, |rounds| {
            rounds.ratio_less(&name(kind, users), &name(other, others), frame.as_deref())
        })
    }

    /// Ours to another, at the same number of users.
    pub(crate) fn beside(&self, what: &str, other: Kind, users: u32) -> f64 {
        self.ratio(what, (Kind::Teleport, users), (other, users), None)
    }

    /// The ratios of the five calls.
    fn five(&self, hit: &str, kind: Kind, other: Kind, users: u32) -> [f64; 5] {
        Call::FIVE.map(|call| {
            let what = format!("{}-{hit}", call.name());
            self.ratio(&what, (kind, users), (other, users), None)
        })
    }

    fn worst(&self, hit: &str, kind: Kind, other: Kind, users: u32) -> f64 {
        let ratios = self.five(hit, kind, other, users);
        ratios.into_iter().fold(f64::MIN, f64::max)
    }

    fn geometric_mean(&self, hit: &str, kind: Kind, other: Kind, users: u32) -> f64 {
        let ratios = self.five(hit, kind, other, users);
        (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp()
    }

    /// Nanoseconds over users, for the picture.
    fn curves(&self) -> Vec<chart::Curve> {
        let services = [
            Kind::Systemd,
            Kind::Files,
            Kind::Sss,
            Kind::Nscd,
            Kind::Shm,
            Kind::Teleport,
        ];
        let mut curves = Vec::new();
        for kind in services {
            for hit in ["hit", "miss"] {
                let points = kind.sizes().iter().map(|&users| {
                    (
                        f64::from(users),
                        self.median(&format!("getpwnam-{hit}"), kind, users),
                    )
                });
                curves.push(chart::Curve {
                    name: title(kind).to_owned(),
                    dashed: hit == "miss",
                    points: points.collect(),
                });
            }
        }
        curves
    }
}

fn page(measured: &Measured, module: &Path) -> Result<String> {
    let file = Module::read(module)?;
    let sections = [
        machine_line(),
        "One process for each subject, in a root of its own over Debian trixie; calls through glibc, each with the one service alone \
         (nscd: before all services). Users are asked for in a scattered order, at most 4,096 of them; 256 absent names and IDs. \
         Private groups list nobody; a user is in one team of ten."
            .to_owned(),
        "![Cost of getpwnam over the number of users](benchmarks-lookups.svg)".to_owned(),
        "### Goals".to_owned(),
        goals_table(&goals(measured, &file)),
        "The floor is the bare C module, which looks into shared memory and copies what it finds, unchecked. “Constant” below looks \
         nowhere and copies nothing: what it takes is glibc's own part of every call, and what it does not reach, no module can."
            .to_owned(),
        "### 30 users, one call".to_owned(),
        by_call(measured, 30),
        "### 1,000 users, one call".to_owned(),
        by_call(measured, 1_000),
        "### 100,000 users, one call".to_owned(),
        by_call(measured, 100_000),
        "### getpwnam over the number of users".to_owned(),
        by_size(measured),
        "### First lookup of a fresh process, 1,000 users, `files X`".to_owned(),
        fresh(measured),
        "“login” is getpwnam, getgrouplist and getgrgid. Starting the process is not in it, loading the module is.".to_owned(),
        "### Threads, publishing, memory".to_owned(),
        threads(measured),
        publishing(measured),
        format!(
            "`libnss_teleport.so.2`: {} bytes, {} relocations, needs {}. Private memory of a process after its first lookups \
             (module and table): {:.0} KiB; the bare C module: {:.0} KiB.",
            file.size,
            file.relocations,
            file.needed.join(", "),
            measured.median("memory", Kind::Teleport, 1_000),
            measured.median("memory", Kind::Shm, 1_000),
        ),
    ];
    Ok(sections.join("\n\n"))
}

fn goals(measured: &Measured, file: &Module) -> Vec<Goal> {
    let mut goals = steady(measured);
    goals.extend(at_scale(measured));
    goals.extend(first_lookups(measured));
    goals.extend([
        Goal::new(
            "M2 size of the module, bytes",
            AtMost(100_000.0),
            file.size as f64,
        ),
        Goal::new(
            "M2 libraries it needs (libc)",
            AtMost(1.0),
            file.needed.len() as f64,
        ),
    ]);
    let private = |kind| measured.median("memory", kind, 1_000);
    goals.push(beside_the_floor(
        "private memory of a process, KiB".into(),
        AtMost(64.0),
        &private,
    ));
    let published = |users| measured.median("publish", Kind::Publisher, users);
    goals.push(Goal::new(
        "publishing at 100,000 users / at 10",
        AtMost(2.0),
        published(100_000) / published(10),
    ));
    goals
}

/// A goal with what the bare C module reaches of it.
fn beside_the_floor(what: String, bound: Bound, figure: &dyn Fn(Kind) -> f64) -> Goal {
    Goal::new(what, bound, figure(Kind::Teleport)).with_floor(figure(Kind::Shm))
}

/// Lookups in a process that has made some before.
fn steady(measured: &Measured) -> Vec<Goal> {
    let mut goals = Vec::new();
    for (number, hit, sizes) in [
        ("N1 hits", "hit", [30, 1_000]),
        ("N3 misses", "miss", [30, 1_000]),
    ] {
        for users in sizes {
            goals.push(Goal::new(
                format!("{number} / bare C, worst call, {users} users"),
                AtMost(1.5),
                measured.worst(hit, Kind::Teleport, Kind::Shm, users),
            ));
        }
    }
    for (what, hit, name, other, users, bound) in [
        ("N1 hits", "hit", "nscd", Kind::Nscd, 1_000, 0.6),
        ("N1 hits", "hit", "SSSD", Kind::Sss, 1_000, 0.33),
        ("N2 hits", "hit", "nscd", Kind::Nscd, 30, 1.0),
        ("N2 hits", "hit", "SSSD", Kind::Sss, 30, 0.3),
        ("N3 misses", "miss", "nscd", Kind::Nscd, 1_000, 1.1),
        ("N3 misses", "miss", "SSSD", Kind::Sss, 1_000, 1.0 / 300.0),
        (
            "N3 misses",
            "miss",
            "nss_systemd",
            Kind::Systemd,
            1_000,
            0.001,
        ),
        ("N3 misses", "miss", "nss_files", Kind::Files, 1_000, 0.02),
    ] {
        goals.push(beside_the_floor(
            format!("{what} / {name}, worst call, {users} users"),
            AtMost(bound),
            &|kind| measured.worst(hit, kind, other, users),
        ));
    }
    goals.push(beside_the_floor(
        "N2 hits / nscd, geometric mean, 30 users".into(),
        AtMost(0.75),
        &|kind| measured.geometric_mean("hit", kind, Kind::Nscd, 30),
    ));
    goals
}

/// Many users, several threads.
fn at_scale(measured: &Measured) -> Vec<Goal> {
    let own = |kind, users| {
        let of = |kind| measured.median("getpwnam-hot-hit", kind, users);
        of(kind) - of(Kind::Null)
    };
    let mut goals = vec![beside_the_floor(
        "N5 the same ten users among 100,000 / among 10, less glibc".into(),
        AtMost(3.0),
        &|kind| own(kind, 100_000) / own(kind, 10),
    )];
    for call in Call::FIVE.map(Call::name) {
        goals.push(Goal::new(
            format!("N5 {call}, 4,096 users scattered among 100,000 / bare C"),
            AtMost(1.5),
            measured.beside(&format!("{call}-hit"), Kind::Shm, 100_000),
        ));
    }
    let rate = |kind, threads: u32| measured.median(&format!("threads-{threads}"), kind, 1_000);
    goals.push(beside_the_floor(
        "N6 two threads / one".into(),
        AtLeast(1.1),
        &|kind| rate(kind, 2) / rate(kind, 1),
    ));
    goals.push(beside_the_floor(
        "N6 two threads / nscd's".into(),
        AtLeast(2.5),
        &|kind| rate(kind, 2) / rate(Kind::Nscd, 2),
    ));
    goals
}

/// The first lookup of a process, which loads the module.
fn first_lookups(measured: &Measured) -> Vec<Goal> {
    let mut goals: Vec<Goal> = ["hit", "miss", "login"]
        .map(|kind| {
            let first = measured.beside(&format!("first-{kind}"), Kind::Shm, 1_000);
            Goal::new(format!("N7 first {kind} / bare C"), AtMost(1.15), first)
        })
        .into();
    for (what, name, other, bound) in [
        ("hit", "SSSD", Kind::Sss, 1.0),
        ("miss", "SSSD", Kind::Sss, 0.6),
        ("login", "SSSD", Kind::Sss, 1.0),
        ("hit", "nss_systemd, systemd-userdbd", Kind::Userdbd, 0.25),
    ] {
        goals.push(beside_the_floor(
            format!("N7 first {what} / {name}"),
            AtMost(bound),
            &|kind| {
                measured.ratio(
                    &format!("first-{what}"),
                    (kind, 1_000),
                    (other, 1_000),
                    None,
                )
            },
        ));
    }
    goals
}

/// What every process loads.
struct Module {
    size: u64,
    relocations: usize,
    needed: Vec<String>,
}

impl Module {
    fn read(path: &Path) -> Result<Module> {
        let readelf = |argument: &str| -> Result<String> {
            let output = Command::new("readelf")
                .args(["--wide", argument])
                .arg(path)
                .output()?;
            Ok(String::from_utf8(output.stdout)?)
        };
        let dynamic = readelf("--dynamic")?;
        let needed = dynamic
            .lines()
            .filter(|line| line.contains("(NEEDED)"))
            .filter_map(|line| line.split_once('[')?.1.split_once(']'))
            .map(|(name, _)| name.to_owned());
        Ok(Module {
            size: fs::metadata(path)?.len(),
            relocations: readelf("--relocs")?.matches(" R_").count(),
            needed: needed.collect(),
        })
    }
}
