//! What a lookup costs: nanoseconds per call of the module's entry points, beside a bare C module over shared memory.
//! Prints a table; judges nothing. Run as root: `cargo run --release --example lookup_cost -p nss-module`.
//!
//! The C module is the least anybody could do: one hash table with fixed-size records in a mapped file, no locks, no checks, no
//! update while it is read. It stands for the floor.

use std::ffi::{CString, c_char, c_int, c_void};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{env, fs, mem};

use account_table::{AccountSpec, DEFAULT_PATH, GroupOrigin, GroupSpec, Trust, Writer};

const FLOOR: &str = r#"
#include <fcntl.h>
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
struct entry { char name[40]; uint32_t uid, gid; char gecos[64], home[64], shell[32]; };
struct table { uint64_t mask; uint32_t by_name[]; };
static struct table *table; static uint32_t *by_uid; static struct entry *entries;
static uint64_t mix(uint64_t v) { v *= 0x9e3779b97f4a7c15u; return v ^ v >> 32; }
static int load(void) {
    if (table) return 1;
    int fd = open("/run/teleport-userdb/floor", O_RDONLY | O_CLOEXEC); struct stat st;
    if (fd < 0 || fstat(fd, &st)) return 0;
    struct table *t = mmap(0, st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    by_uid = t->by_name + t->mask + 1; entries = (struct entry *)(by_uid + t->mask + 1); table = t;
    return 1;
}
static enum nss_status give(struct entry *e, struct passwd *pw, char *b, size_t n, int *err) {
    size_t a = strlen(e->name) + 1, g = strlen(e->gecos) + 1, h = strlen(e->home) + 1, s = strlen(e->shell) + 1;
    if (a + g + h + s + 2 > n) { *err = ERANGE; return NSS_STATUS_TRYAGAIN; }
    pw->pw_name = memcpy(b, e->name, a); b += a; pw->pw_passwd = memcpy(b, "*", 2); b += 2;
    pw->pw_gecos = memcpy(b, e->gecos, g); b += g; pw->pw_dir = memcpy(b, e->home, h); b += h;
    pw->pw_shell = memcpy(b, e->shell, s); pw->pw_uid = e->uid; pw->pw_gid = e->gid;
    return NSS_STATUS_SUCCESS;
}
enum nss_status _nss_floor_getpwnam_r(const char *name, struct passwd *pw, char *b, size_t n, int *err) {
    if (!load()) return NSS_STATUS_NOTFOUND;
    uint64_t h = 14695981039346656037u;
    for (const char *c = name; *c; c++) h = (h ^ (unsigned char)*c) * 1099511628211u;
    for (h = mix(h);; h++) {
        uint32_t i = table->by_name[h & table->mask];
        if (!i) return NSS_STATUS_NOTFOUND;
        if (!strcmp(entries[i - 1].name, name)) return give(&entries[i - 1], pw, b, n, err);
    }
}
enum nss_status _nss_floor_getpwuid_r(uid_t uid, struct passwd *pw, char *b, size_t n, int *err) {
    if (!load()) return NSS_STATUS_NOTFOUND;
    for (uint64_t h = mix(uid);; h++) {
        uint32_t i = by_uid[h & table->mask];
        if (!i) return NSS_STATUS_NOTFOUND;
        if (entries[i - 1].uid == uid) return give(&entries[i - 1], pw, b, n, err);
    }
}
"#;

type ByName =
    unsafe extern "C" fn(*const c_char, *mut libc::passwd, *mut c_char, usize, *mut c_int) -> c_int;
type ById = unsafe extern "C" fn(u32, *mut libc::passwd, *mut c_char, usize, *mut c_int) -> c_int;
type GroupByName =
    unsafe extern "C" fn(*const c_char, *mut libc::group, *mut c_char, usize, *mut c_int) -> c_int;
type GroupById =
    unsafe extern "C" fn(u32, *mut libc::group, *mut c_char, usize, *mut c_int) -> c_int;

fn main() {
    const INSIDE: &str = "LOOKUP_COST_INSIDE";
    let executable = env::current_exe().expect("this program");
    match env::args().nth(1).filter(|_| env::var_os(INSIDE).is_some()) {
        Some(users) => inside(users.parse().expect("a number of users"), &executable),
        None => {
            println!(
                "{:>8} {:28} {:>10} {:>10} {:>8}",
                "users", "call", "teleport", "bare C", "ratio"
            );
            for users in ["30", "1000", "100000"] {
                let status = Command::new("unshare")
                    .args(["--mount", "--propagation", "private", "--"])
                    .arg(&executable)
                    .arg(users)
                    .env(INSIDE, "1")
                    .status();
                assert!(
                    status.expect("unshare (util-linux)").success(),
                    "run this as root"
                );
            }
        }
    }
}

fn inside(users: u32, executable: &Path) {
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"])
        .status();
    assert!(mounted.expect("mount").success());
    fs::create_dir("/run/teleport-userdb").expect("the table's folder");
    let target = executable
        .ancestors()
        .nth(3)
        .expect("target/PROFILE/examples/PROGRAM");
    let module = build_module(target);
    let floor = build_floor();
    publish(users);

    let names: Vec<CString> = (0..users)
        .map(|n| CString::new(login(n)).expect("a name"))
        .collect();
    let order: Vec<u32> = (0..4096u32)
        .map(|n| n.wrapping_mul(2_654_435_761) % users)
        .collect();
    let absent: Vec<CString> = (0..4096)
        .map(|n| CString::new(format!("absent{n}")).expect("a name"))
        .collect();

    let by_name = |file: &Path, symbol: &str| {
        // SAFETY: the symbol is an entry point of this signature.
        unsafe { mem::transmute::<*mut c_void, ByName>(load(file, symbol)) }
    };
    let by_id = |file: &Path, symbol: &str| {
        // SAFETY: as above.
        unsafe { mem::transmute::<*mut c_void, ById>(load(file, symbol)) }
    };
    let (ours, theirs) = (
        by_name(&module, "_nss_teleport_getpwnam_r"),
        by_name(&floor, "_nss_floor_getpwnam_r"),
    );
    let hit = |f: ByName| time(|i| user(f, &names[order[i] as usize], 1));
    let miss = |f: ByName| time(|i| user(f, &absent[i], 0));
    report(users, "getpwnam hit", || hit(ours), Some(&|| hit(theirs)));
    report(
        users,
        "getpwnam miss",
        || miss(ours),
        Some(&|| miss(theirs)),
    );
    let (ours, theirs) = (
        by_id(&module, "_nss_teleport_getpwuid_r"),
        by_id(&floor, "_nss_floor_getpwuid_r"),
    );
    let hit = |f: ById| time(|i| user_by_id(f, 100_000 + order[i], 1));
    let miss = |f: ById| time(|i| user_by_id(f, 50_000 + i as u32, 0));
    report(users, "getpwuid hit", || hit(ours), Some(&|| hit(theirs)));
    report(
        users,
        "getpwuid miss",
        || miss(ours),
        Some(&|| miss(theirs)),
    );

    // SAFETY: the symbols are entry points of these signatures.
    let (group, group_by_id) = unsafe {
        (
            mem::transmute::<*mut c_void, GroupByName>(load(&module, "_nss_teleport_getgrnam_r")),
            mem::transmute::<*mut c_void, GroupById>(load(&module, "_nss_teleport_getgrgid_r")),
        )
    };
    let call = |f: &dyn Fn(*mut libc::group, *mut c_char, usize, *mut c_int) -> c_int| {
        let (mut result, mut buffer, mut errno) = (mem::MaybeUninit::uninit(), [0; 1024], 0);
        black_box(f(
            result.as_mut_ptr(),
            buffer.as_mut_ptr(),
            buffer.len(),
            &mut errno,
        ))
    };
    // SAFETY: all pointers are valid, here and in the next three.
    let grnam = |name: &CString| call(&|r, b, n, e| unsafe { group(name.as_ptr(), r, b, n, e) });
    // SAFETY: as above.
    let grgid = |gid: u32| call(&|r, b, n, e| unsafe { group_by_id(gid, r, b, n, e) });
    report(
        users,
        "getgrnam hit (private)",
        || time(|i| assert_eq!(grnam(&names[order[i] as usize]), 1)),
        None,
    );
    report(
        users,
        "getgrnam miss",
        || time(|i| assert_eq!(grnam(&absent[i]), 0)),
        None,
    );
    report(
        users,
        "getgrgid hit (private)",
        || time(|i| assert_eq!(grgid(100_000 + order[i]), 1)),
        None,
    );
    report(
        users,
        "getgrgid miss",
        || time(|i| assert_eq!(grgid(50_000 + i as u32), 0)),
        None,
    );
    let small = CString::new("team0").expect("a name");
    report(
        users,
        "getgrnam, 10 members",
        || time(|_| assert_eq!(grnam(&small), 1)),
        None,
    );
}

fn login(number: u32) -> String {
    format!("teleport-user-{number}")
}

fn user(f: ByName, name: &CString, expected: c_int) {
    let (mut result, mut buffer, mut errno) = (mem::MaybeUninit::uninit(), [0; 1024], 0);
    // SAFETY: all pointers are valid.
    let status = unsafe {
        f(
            name.as_ptr(),
            result.as_mut_ptr(),
            buffer.as_mut_ptr(),
            buffer.len(),
            &mut errno,
        )
    };
    assert_eq!(black_box(status), expected);
}

fn user_by_id(f: ById, uid: u32, expected: c_int) {
    let (mut result, mut buffer, mut errno) = (mem::MaybeUninit::uninit(), [0; 1024], 0);
    // SAFETY: all pointers are valid.
    let status = unsafe {
        f(
            uid,
            result.as_mut_ptr(),
            buffer.as_mut_ptr(),
            buffer.len(),
            &mut errno,
        )
    };
    assert_eq!(black_box(status), expected);
}

/// Nanoseconds per call over 16 times 4096 of them.
fn time(call: impl Fn(usize)) -> f64 {
    let started = Instant::now();
    for _ in 0..16 {
        (0..4096).for_each(&call);
    }
    started.elapsed().as_nanos() as f64 / (16.0 * 4096.0)
}

/// The best of interleaved rounds: what else runs on the machine only ever adds.
fn report(users: u32, call: &str, ours: impl Fn() -> f64, floor: Option<&dyn Fn() -> f64>) {
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..25 {
        mine.push(ours());
        theirs.extend(floor.map(|floor| floor()));
    }
    mine.sort_by(f64::total_cmp);
    theirs.sort_by(f64::total_cmp);
    let ours = mine[0];
    match theirs.first() {
        Some(floor) => println!(
            "{users:>8} {call:28} {ours:>10.1} {floor:>10.1} {:>8.2}",
            ours / floor
        ),
        None => println!("{users:>8} {call:28} {ours:>10.1} {:>10} {:>8}", "-", "-"),
    }
}

fn load(file: &Path, symbol: &str) -> *mut c_void {
    let file = CString::new(file.as_os_str().as_encoded_bytes()).expect("a path");
    let symbol = CString::new(symbol).expect("a name");
    // SAFETY: both names are NUL-terminated; the modules' constructors are harmless.
    let address =
        unsafe { libc::dlsym(libc::dlopen(file.as_ptr(), libc::RTLD_NOW), symbol.as_ptr()) };
    assert!(!address.is_null(), "{symbol:?} in {file:?}");
    address
}

fn build_module(target: &Path) -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--profile",
            "module",
            "--package",
            "nss-module",
            "--target-dir",
        ])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(status.expect("cargo").success());
    target.join("module/libnss_teleport.so")
}

fn build_floor() -> PathBuf {
    let (source, module) = (
        PathBuf::from("/run/floor.c"),
        PathBuf::from("/run/libnss_floor.so.2"),
    );
    fs::write(&source, FLOOR).expect("the C module");
    let compiler = Command::new("cc")
        .args(["-O2", "-shared", "-fPIC", "-o"])
        .arg(&module)
        .arg(&source)
        .status();
    assert!(compiler.expect("cc").success());
    module
}

fn publish(users: u32) {
    let mut writer = Writer::open(
        Path::new(DEFAULT_PATH.to_str().expect("ASCII")),
        Trust::Root,
    )
    .expect("a writer");
    let mask = (4 * users).next_power_of_two() - 1;
    let (mut by_name, mut by_uid) = (vec![0u32; mask as usize + 1], vec![0u32; mask as usize + 1]);
    let mut entries = Vec::new();
    let mix = |value: u64| {
        let value = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        value ^ value >> 32
    };
    let put = |index: &mut Vec<u32>, mut hash: u64, number: u32| {
        while index[hash as usize & mask as usize] != 0 {
            hash += 1;
        }
        index[hash as usize & mask as usize] = number + 1;
    };
    let started = Instant::now();
    for number in 0..users {
        let team = number / 10;
        let account = AccountSpec {
            login: login(number),
            uid: 100_000 + number,
            gid: 100_000 + number,
            gecos: "User somebody with roles dev created by Teleport.".into(),
            home: format!("/run/teleport-userdb/home/{}", login(number)),
            shell: "/bin/bash".into(),
            groups: vec![GroupSpec {
                name: format!("team{team}"),
                gid: 1000 + team,
                origin: GroupOrigin::Synthesized,
            }],
            ..AccountSpec::default()
        };
        writer.publish(&account).expect("room");
        let hash = account
            .login
            .bytes()
            .fold(14_695_981_039_346_656_037, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211)
            });
        put(&mut by_name, mix(hash), number);
        put(&mut by_uid, mix(account.uid.into()), number);
        let mut entry = [0u8; 208];
        entry[..account.login.len()].copy_from_slice(account.login.as_bytes());
        entry[40..44].copy_from_slice(&account.uid.to_ne_bytes());
        entry[44..48].copy_from_slice(&account.gid.to_ne_bytes());
        entry[48..48 + account.gecos.len()].copy_from_slice(account.gecos.as_bytes());
        entry[112..112 + account.home.len()].copy_from_slice(account.home.as_bytes());
        entry[176..176 + account.shell.len()].copy_from_slice(account.shell.as_bytes());
        entries.extend_from_slice(&entry);
    }
    let each = started.elapsed().as_nanos() as f64 / f64::from(users) / 1000.0;
    println!("{users:>8} {:28} {each:>9.2}u", "publish (with growth)");
    let mut file = u64::from(mask).to_ne_bytes().to_vec();
    file.extend(
        by_name
            .iter()
            .chain(&by_uid)
            .flat_map(|slot| slot.to_ne_bytes()),
    );
    file.extend(entries);
    fs::write("/run/teleport-userdb/floor", file).expect("the floor's table");
}
