//! The conductor: enters the root over the image, starts a worker for each subject, and lets them take turns.
//! Prints samples as lines `what subject value`; thinks nothing of them.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use bench::Rounds;
use nix::mount::{MsFlags, mount};

use crate::Result;
use crate::calls::Call;
use crate::subject::{Kind, Subject};

const ROUNDS: usize = 15;
/// Fewer of all, to see where one stands before a whole run: BENCH_ROUNDS=3. Its page is not one to keep.
const ROUNDS_VARIABLE: &str = "BENCH_ROUNDS";
/// Slow ones take turns less often.
const FEW_ROUNDS: usize = 7;

/// `bench-lookups conduct ROOT MODULES`, in mount and PID namespaces of its own.
pub(crate) fn run(root: &Path, modules: &Path) -> Result {
    enter(root, modules)?;
    let mut workers = Vec::new();
    for kind in Kind::ALL {
        for &users in kind.sizes() {
            eprintln!("preparing {}", Subject { kind, users });
            workers.push(Worker::start(Subject { kind, users })?);
        }
    }
    let all = |wanted: &dyn Fn(Subject) -> bool| -> Vec<Subject> {
        let subjects = workers.iter().map(|worker| worker.subject);
        subjects.filter(|&subject| wanted(subject)).collect()
    };
    let services = all(&|subject| subject.kind != Kind::Publisher);
    let publishers = all(&|subject| subject.kind == Kind::Publisher);
    let at_1000 = all(&|subject| subject.kind != Kind::Publisher && subject.users == 1_000);
    for call in Call::ALL {
        for hit in ["hit", "miss"] {
            if hit == "hit" || Call::FIVE.contains(&call) {
                turns(
                    &mut workers,
                    &services,
                    ROUNDS,
                    &format!("{} {hit}", call.name()),
                )?;
            }
        }
    }
    for threads in ["1", "2", "4"] {
        turns(
            &mut workers,
            &at_1000,
            FEW_ROUNDS,
            &format!("threads {threads}"),
        )?;
    }
    for kind in ["hit", "miss", "login"] {
        turns(&mut workers, &at_1000, ROUNDS, &format!("first {kind}"))?;
    }
    let sharers: Vec<Subject> = services
        .iter()
        .copied()
        .filter(|subject| matches!(subject.kind, Kind::Teleport | Kind::Shm))
        .collect();
    turns(&mut workers, &sharers, 3, "memory")?;
    turns(&mut workers, &publishers, ROUNDS, "publish")
}

/// Mounts and enters a root over the image at `root`, in which the modules and programs of `modules` are.
fn enter(root: &Path, modules: &Path) -> Result {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    let scratch = modules.join("root");
    fs::create_dir_all(&scratch)?;
    mount(
        Some("tmpfs"),
        &scratch,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=0700"),
    )?;
    for folder in ["upper", "work", "root"] {
        fs::create_dir(scratch.join(folder))?;
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        root.display(),
        scratch.join("upper").display(),
        scratch.join("work").display()
    );
    let top = scratch.join("root");
    mount(
        Some("overlay"),
        &top,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )?;
    // As on any machine that has been booted: systemd-userdbd answers nothing without.
    fs::write(
        top.join("etc/machine-id"),
        "6c6f6f6b757073206f6620626f6f7465\n",
    )?;
    fs::copy(modules.join("first"), top.join("run-first"))?;
    fs::copy("/proc/self/exe", top.join("bench-lookups"))?;
    let library = fs::read_dir(top.join("usr/lib"))?
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().ends_with("-linux-gnu"))
        .ok_or("the image has no multiarch library folder")?;
    for module in ["teleport", "shm", "null"] {
        let name = format!("libnss_{module}.so.2");
        fs::copy(modules.join(&name), library.path().join(&name))?;
    }
    for (kind, path) in [("proc", "proc"), ("tmpfs", "tmp")] {
        mount(
            Some(kind),
            &top.join(path),
            Some(kind),
            MsFlags::empty(),
            None::<&str>,
        )?;
    }
    mount(
        Some("/dev"),
        &top.join("dev"),
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )?;
    std::env::set_current_dir(&top)?;
    nix::unistd::chroot(".")?;
    Ok(())
}

fn turns(workers: &mut [Worker], subjects: &[Subject], rounds: usize, what: &str) -> Result {
    eprintln!("measuring {what}");
    let rounds = match std::env::var(ROUNDS_VARIABLE) {
        Ok(most) => rounds.min(most.parse()?),
        Err(_) => rounds,
    };
    let mut trouble = None;
    let names: Vec<String> = subjects.iter().map(Subject::to_string).collect();
    let taken = Rounds::interleave(rounds, &names, |name| {
        let worker = workers
            .iter_mut()
            .find(|worker| worker.subject.to_string() == *name);
        let measured = worker
            .ok_or_else(|| "no such worker".into())
            .and_then(|worker| worker.measure(what));
        measured.unwrap_or_else(|error| {
            trouble.get_or_insert(error);
            f64::NAN
        })
    });
    if let Some(error) = trouble {
        return Err(error);
    }
    for name in &names {
        for sample in taken.samples(name) {
            println!("{} {name} {sample}", what.replace(' ', "-"));
        }
    }
    Ok(())
}

struct Worker {
    subject: Subject,
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    fn start(subject: Subject) -> Result<Worker> {
        let mut child = Command::new("/bench-lookups")
            .args(["worker", subject.kind.name(), &subject.users.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().ok_or("no way to the worker")?;
        let answers = BufReader::new(child.stdout.take().ok_or("no way from the worker")?);
        let mut worker = Worker {
            subject,
            child,
            orders,
            answers,
        };
        match worker.answer()?.as_str() {
            "ready" => Ok(worker),
            other => Err(format!("{subject} said {other:?}").into()),
        }
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.is_empty() {
            return Err(format!("{} ended: {}", self.subject, self.child.wait()?).into());
        }
        Ok(line.trim().to_owned())
    }

    fn measure(&mut self, what: &str) -> Result<f64> {
        writeln!(self.orders, "{what}")?;
        Ok(self.answer()?.parse()?)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The end of the conductor's PID namespace would end it too; this way the error of one is not that of all.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
