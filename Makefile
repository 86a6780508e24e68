# teleport-userdb: build, package, try, test. `make help` lists the targets; CARGO_TARGET_DIR is honoured.

CARGO   ?= cargo
TARGET  := $(or $(CARGO_TARGET_DIR),target)
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
ARCH    := $(shell dpkg --print-architecture 2>/dev/null)
DEB     := dist/teleport-userdb_$(VERSION)_$(ARCH).deb

# Where `make install` puts things; below /usr throughout, so that a merged /usr makes no difference.
DESTDIR  ?=
PREFIX   := /usr
MULTIARCH = $(shell gcc -print-multiarch 2>/dev/null)
LIBDIR   ?= $(PREFIX)/lib/$(MULTIARCH)
UNITDIR  ?= $(PREFIX)/lib/systemd/system
DATADIR  := $(PREFIX)/lib/teleport-userdb
INSTALL  := install -D -m 0644
PROGRAM  := install -D -m 0755

# Benchmarks: each is a folder of tests/bench, a program bench-NAME and a section of docs/benchmarks.md.
BENCHES  := lookups userdb sessions
# Measured is what is shipped: settings of the environment that make quicker builds do not count.
MEASURED := env -u CARGO_PROFILE_RELEASE_LTO -u CARGO_PROFILE_RELEASE_OPT_LEVEL -u CARGO_PROFILE_RELEASE_CODEGEN_UNITS \
            -u CARGO_PROFILE_RELEASE_INCREMENTAL -u CARGO_PROFILE_RELEASE_DEBUG

.PHONY: help setup build install deb check check-units check-policy check-machines check-suites check-end check-all faults soak demo fmt lint lint-arm64 ci clean \
        bench bench-build bench-userdb-short $(addprefix bench-,$(BENCHES))

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## installs by apt what building and testing need, if it is missing
	@packaging/setup

build: setup ## release build of daemons and modules
	$(CARGO) build --locked --release -p userdb-service -p pam-module
# The module that every process loads has a profile of its own: see Cargo.toml.
	$(CARGO) build --locked --profile module -p nss-module

install: ## places what was built below DESTDIR (on a Debian system prefer `make deb`)
	$(PROGRAM) -t $(DESTDIR)$(PREFIX)/libexec $(TARGET)/release/teleport-sessiond $(TARGET)/release/teleport-userdbd
	$(PROGRAM) -t $(DESTDIR)$(PREFIX)/bin $(TARGET)/release/teleport-userdbctl
	$(INSTALL) $(TARGET)/module/libnss_teleport.so $(DESTDIR)$(LIBDIR)/libnss_teleport.so.2
	$(INSTALL) $(TARGET)/release/libpam_teleport.so $(DESTDIR)$(LIBDIR)/security/pam_teleport.so
	$(INSTALL) -t $(DESTDIR)$(UNITDIR) units/*.service units/*.socket units/*.mount
	$(INSTALL) -t $(DESTDIR)$(PREFIX)/lib/sysusers.d units/sysusers.d/*.conf
	$(INSTALL) -t $(DESTDIR)$(PREFIX)/lib/tmpfiles.d units/tmpfiles.d/*.conf
	$(INSTALL) -t $(DESTDIR)$(PREFIX)/lib/systemd/system-preset units/system-preset/*.preset
	$(INSTALL) -t $(DESTDIR)$(PREFIX)/lib/systemd/catalog units/catalog/*.catalog
	$(INSTALL) -t $(DESTDIR)$(DATADIR) units/config.toml
	$(INSTALL) -t $(DESTDIR)$(DATADIR)/pam.d units/pam.d/teleport
	$(PROGRAM) -t $(DESTDIR)$(DATADIR) packaging/host-config
# Where mount(8) looks for its helpers, by way of /sbin.
	$(PROGRAM) -t $(DESTDIR)$(PREFIX)/sbin packaging/mount.teleport-homes
# The administrator's own settings; empty, dpkg takes them away again.
	install -d $(DESTDIR)/etc/teleport-userdb/config.d
	for page in $(wildcard docs/man/*.[158]); do \
	    $(INSTALL) -t $(DESTDIR)$(PREFIX)/share/man/man$${page##*.} $$page || exit 1; done

deb: no-old-deb build ## dist/teleport-userdb_VERSION_ARCH.deb
	packaging/build-deb "$(VERSION)" "$(ARCH)"

# Or the tests would take it for what could not be built.
.PHONY: no-old-deb
no-old-deb:
	rm -f dist/teleport-userdb_*.deb

# The tests of the crates mostly wait, the package mostly compiles.
check: setup ## every test on Debian trixie, logins on bookworm and sid, too
	+status=0; $(SIDE_BY_SIDE) e2e-built deb || status=1; \
	$(MAKE) --no-print-directory booted BESIDE="login-on-bookworm login-on-sid" && exit $$status

check-units: setup ## tests of the crates (as root: many need a mount namespace of their own)
	$(CARGO) test --locked --workspace --exclude teleport-userdb-tests --no-fail-fast

check-policy: setup ## a million generated nodes with three logins each through the policy, ten thousand plans through sudo's own parser
	PROPTEST_CASES=1000000 CARGO_PROFILE_RELEASE_LTO=off $(CARGO) test --locked --release -p userdb-service --test policy_properties

.PHONY: check-model check-stress fuzz
fuzz: setup ## a hundred million damaged variants of the table under its readers (FUZZ_VARIANTS=N for another number)
	FUZZ_VARIANTS=$(or $(FUZZ_VARIANTS),100000000) CARGO_PROFILE_RELEASE_LTO=off \
	    $(CARGO) test --locked --release -p account-table --lib no_variant_of_a_good_file -- --nocapture

.PHONY: bench-hostile
bench-hostile: setup ## how long a lookup takes of things in the table's place and of the worst tables there can be
	CARGO_PROFILE_RELEASE_LTO=off $(CARGO) test --locked --release -p account-table --lib worst -- --nocapture
	$(CARGO) test --locked -p nss-module --test module hostile -- --nocapture

check-stress: setup ## a minute of lookups by eight threads while the table's writer is killed every second
	STRESS_SECONDS=60 $(CARGO) test --locked -p nss-module --test module killed -- --nocapture

check-model: setup ## writer and readers of the table in every order the memory model allows, by loom (a minute)
	RUSTFLAGS="--cfg loom" $(CARGO) test --release --manifest-path account-table/model-check/Cargo.toml --target-dir $(TARGET)/loom model_check -- --nocapture

# Some at a time, what each has to say in one piece. Cargo counts its own jobs: it must not look for make's. Trap: a recipe with
# this begins with a +, or make does not see that it calls make.
SIDE_BY_SIDE = $(MAKE) --no-print-directory --keep-going --jobs=$(AT_ONCE) --output-sync=target CARGO="env -u MAKEFLAGS -u MFLAGS $(CARGO)"
AT_ONCE      = 2

# The programs of tests/Cargo.toml with tests of booted containers. Each has half a processor's work for one of its own; those with
# crowds and services that are stopped have limits of time in them, and get the machine for themselves.
E2E := $(shell awk '/^\[/ { if (one) print name; one = $$0 == "[[test]]" } $$1 == "name" { name = $$3 } $$0 == "test = false" { one = 0 } \
         END { if (one) print name }' tests/Cargo.toml | tr -d '"')
E2E_ALONE := login survive
# The longest begin, or one of them would be what all else has long been over for.
E2E_LONG  := rights sandbox reload

# While the package still compiles.
.PHONY: e2e-built
e2e-built: check-units
	$(CARGO) test --locked -p teleport-userdb-tests --no-run

check-machines: deb ## the package in booted containers (TELEPORT_USERDB_SUITE= picks the Debian release, default trixie)
	$(CARGO) test --locked -p teleport-userdb-tests --no-run
	+$(MAKE) --no-print-directory booted

# What has been built, in containers; BESIDE: targets that take their turn among them.
.PHONY: booted
booted: AT_ONCE = 3
booted:
	+status=0; $(SIDE_BY_SIDE) $(addprefix e2e-,$(E2E_LONG) rest $(filter-out $(E2E_LONG) $(E2E_ALONE),$(E2E))) $(BESIDE) || status=1; \
	$(MAKE) --no-print-directory --keep-going $(addprefix e2e-,$(E2E_ALONE)) && exit $$status

.PHONY: $(addprefix e2e-,$(E2E)) e2e-rest
$(addprefix e2e-,$(E2E)): e2e-%:
	$(CARGO) test --locked -p teleport-userdb-tests --no-fail-fast --test $*

# One file each, or a folder.
REST := $(patsubst tests/tests/%,--test %,$(patsubst %/main.rs,%,$(patsubst %.rs,%,$(wildcard tests/tests/*.rs)) $(wildcard tests/tests/*/main.rs)))
e2e-rest: # what boots nothing
	$(CARGO) test --locked -p teleport-userdb-tests --no-fail-fast --lib $(REST)

check-suites: deb ## what a login is, on the Debian releases that check-machines does not boot: bookworm and sid
	$(CARGO) test --locked -p teleport-userdb-tests --no-run
	+$(SIDE_BY_SIDE) login-on-bookworm login-on-sid

.PHONY: login-on-bookworm login-on-sid
login-on-bookworm login-on-sid: login-on-%:
	TELEPORT_USERDB_SUITE=$* $(CARGO) test --locked -p teleport-userdb-tests --test login -- lookups lifetime logind

check-end: deb ## ends of users that take minutes or the whole machine (TELEPORT_USERDB_SUITE= picks the Debian release)
	$(CARGO) test --locked -p teleport-userdb-tests --test end --test end-long --no-fail-fast

check-all: check-units deb ## every test on each of Debian bookworm, trixie and sid (systemd 252, 257 and the newest)
	status=0; for suite in bookworm trixie sid; do \
	    echo "--- Debian $$suite"; \
	    TELEPORT_USERDB_SUITE=$$suite $(CARGO) test --locked -p teleport-userdb-tests --no-fail-fast || status=1; \
	done; exit $$status

faults: deb ## a fault at each system call of the daemons and of who logs in (an hour and a half); results in docs/faults.md
	TELEPORT_USERDB_FAULTS=all $(CARGO) test --locked -p teleport-userdb-tests --test faults -- --nocapture --test-threads=1

.PHONY: check-storm
check-storm: deb ## ten thousand logins, 64 at a time, each looked up as soon as it is open and as soon as it is closed
	TELEPORT_USERDB_STORM=160 $(CARGO) test --locked -p teleport-userdb-tests --test login storm -- --nocapture

soak: deb ## a thousand restarts of each daemon under load, 10000 sessions, services stopped for minutes: tests/e2e/survive at length
	TELEPORT_USERDB_SOAK=1000 $(CARGO) test --locked -p teleport-userdb-tests --test survive -- --nocapture

demo: deb ## a login from beginning to end, in a container, to read along
	@$(CARGO) build --locked --quiet -p teleport-userdb-tests --bins
	@$(CARGO) run --locked --quiet -p teleport-userdb-tests --bin demo

bench: $(addprefix bench-,$(BENCHES)) ## every benchmark, one after the other: rewrites docs/benchmarks.md (bench-NAME: one)

$(addprefix bench-,$(BENCHES)): bench-build
	$(TARGET)/release/$@

bench-userdb-short: bench-build ## one round of bench-userdb, shown and not published: half a minute once it is built
	$(TARGET)/release/bench-userdb short

bench-build: # the package, the programs that measure it, and the client that goes into each booted machine
	$(MEASURED) $(MAKE) --no-print-directory deb
	$(MEASURED) $(CARGO) build --locked --release -p teleport-userdb-bench --bins
	$(MEASURED) $(CARGO) build --locked --release -p teleport-userdb-tests --bin teleport-child

fmt: ## formats the source
	$(CARGO) fmt --all

lint: ## formatting and clippy, warnings are errors
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

# Numbers of the C library have other widths there: what compiles on x86-64 need not.
ARM64 := aarch64-unknown-linux-gnu
lint-arm64: ## clippy for arm64, of which many nodes are; fetches Rust's library for it
	rustup target add $(ARM64)
	$(CARGO) clippy --locked --workspace --all-targets --target $(ARM64) -- -D warnings

ci: ## what continuous integration runs
	.ci/run

clean: ## removes what was built
	$(CARGO) clean
	rm -rf dist
