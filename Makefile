# Everything that is done with strongroom's sources; `make` alone lists it.

SHELL := /bin/bash
.DEFAULT_GOAL := help

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 60
KILL_ROUNDS ?= 200
CRASH_SEEDS ?= 40

TARGET := $(or $(CARGO_TARGET_DIR),target)
# `dev` is what the tests are built with: no time is spent on speed.
PROFILE ?= release
BINARY := $(TARGET)/$(PROFILE:dev=debug)/strongroom
SOURCES := Cargo.toml Cargo.lock $(shell find src -name '*.rs')
# FIDO2 needs the headers of libudev; where they cannot be installed, all else is built without it. Looked up late: `tools` may bring them.
FEATURES = $(shell pkg-config --exists libudev 2>/dev/null || echo --no-default-features)
SHARE := $(DESTDIR)$(PREFIX)/share
# mount(8) looks for its helpers in /sbin alone, and systemd reads its units in lib where PREFIX is the system's.
IS_SYSTEM := $(filter /usr /usr/local,$(PREFIX))
HELPER := $(if $(IS_SYSTEM),/usr/sbin,$(PREFIX)/sbin)/mount.strongroom
UNITS := $(PREFIX)/$(if $(IS_SYSTEM),lib,share)/systemd
# What a desktop calls the program by; src/cli/application.rs answers to the same.
NAMES := org.strongroom.Strongroom org.strongroom.Strongroom.VeraCrypt
DATA := $(NAMES:%=applications/%.desktop) $(NAMES:%=dbus-1/services/%.service) mime/packages/strongroom.xml icons/hicolor/scalable/apps/strongroom.svg

.PHONY: help setup tools build demo test book guest boot fresh static deb reproduced packages torture losses files check bench install uninstall fuzz fuzz-targets clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup: ## install what building, mounting and testing need (Debian)
	scripts/setup.sh

# What the other targets need, installed where that can be done without asking.
tools:
	@scripts/setup.sh --quiet

build: tools $(BINARY) ## build the program

$(BINARY): $(SOURCES)
	$(CARGO) build --profile $(PROFILE) --locked $(FEATURES) --bin strongroom
	@touch $@

demo: build ## make a vault, mount it, write and read real files
	scripts/demo.sh $(dir $(BINARY))

test: tools ## run all tests; say at the end how many passed, and what was skipped
	CARGO=$(CARGO) scripts/test.sh $(FEATURES)

book: ## make the handbook of docs/ in the build folder
	scripts/book.sh

guest: ## build the guest whose dm-crypt opens what the tests make (root, once)
	scripts/guest.sh

boot: build ## boot a Debian 12 with vaults in its fstab in a container, and look at them (root or sudo)
	scripts/boot.sh $(BINARY)

fresh: ## do on two fresh Debian 12 what README says, up to make demo and make test (root or sudo)
	scripts/fresh.sh $(HOW)

static: tools ## build a program that takes no libraries of the machine: target/dist/strongroom-static
	CARGO=$(CARGO) scripts/package.sh static

deb: tools ## build a package for Debian, in target/dist
	CARGO=$(CARGO) scripts/package.sh deb

reproduced: tools ## build static and deb twice in two folders: the bytes must be the same (half an hour)
	CARGO=$(CARGO) scripts/package.sh reproduced

packages: static deb ## try both where nothing else of strongroom is: a bare root, fresh Debian 12 and 13 (root or sudo)
	scripts/setup.sh --fresh
	scripts/try.sh static
	scripts/try.sh deb bookworm
	scripts/try.sh deb trixie

torture: tools ## kill the server under load, and while its volume grows, KILL_ROUNDS times (200) with each driver; cut the power at each write, CRASH_SEEDS ways (40)
	STRONGROOM_KILL_ROUNDS=$(KILL_ROUNDS) $(CARGO) test --locked --test vault killed -- --nocapture
	STRONGROOM_CRASH_SEEDS=$(CRASH_SEEDS) $(CARGO) test --locked --test crash

losses: tools ## every driver, file system, way to end and holder: what was written must be whole (root)
	STRONGROOM_LOSSES=all $(CARGO) test --locked $(FEATURES) --test vault losses -- --nocapture

files: tools ## each file system of our own at random, SEEDS (500) times OPS (2000), and cuts; the kernel and fsck judge (root)
	SEEDS=$${SEEDS:-500} OPS=$${OPS:-2000} STRONGROOM_REQUIRE=1 $(CARGO) test --locked --test filesystem

check: tools ## formatting, lints, documentation, dependencies
	$(CARGO) fmt --check
	$(CARGO) clippy --locked $(FEATURES) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked $(FEATURES) --no-deps
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --locked check bans licenses sources; else echo 'check: no cargo-deny, dependencies not checked'; fi
	@if ! command -v cargo-deny >/dev/null; then :; elif timeout 60 $(CARGO) deny --locked fetch db 2>/dev/null; then $(CARGO) deny --locked check advisories; else echo 'check: the advisory database cannot be reached, advisories not checked'; fi
	@if command -v shellcheck >/dev/null; then shellcheck scripts/*.sh src/cli/stick/*.sh .ci/run; else for script in .ci/run scripts/*.sh src/cli/stick/*.sh; do bash -n "$$script" || exit 1; done; fi

# The peers of the data path are installed; mounting them takes root.
bench: export RUSTFLAGS += --cfg peers
bench: ## compare ciphers, PBKDF2, data path, re-encryption with others (root); write benches/RESULTS.md
	@scripts/setup.sh --bench
	@mkdir -p $(TARGET)/bench
	set -o pipefail; $(CARGO) bench --locked $(FEATURES) --bench xts --bench ciphers --bench kdf | tee $(TARGET)/bench/ciphers.txt
	$(CARGO) bench --locked $(FEATURES) --bench reencrypt
	STRONGROOM_BENCH_CIPHERS=$(abspath $(TARGET))/bench/ciphers.txt $(CARGO) bench --locked $(FEATURES) --bench path

# What is installed has no debugging information; the one in the build folder keeps it.
install: $(BINARY) ## install program, manual, completions, units and what desktops know it by under PREFIX (/usr/local)
	install -D -s -m 0755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/strongroom
	install -d $(SHARE)/man/man1 $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d
	$(BINARY) man > $(SHARE)/man/man1/strongroom.1
	$(BINARY) completions bash > $(SHARE)/bash-completion/completions/strongroom
	$(BINARY) completions zsh > $(SHARE)/zsh/site-functions/_strongroom
	$(BINARY) completions fish > $(SHARE)/fish/vendor_completions.d/strongroom.fish
	install -d $(dir $(DESTDIR)$(HELPER))
	ln -sf $(PREFIX)/bin/strongroom $(DESTDIR)$(HELPER)
	install -d $(DESTDIR)$(UNITS)/system $(DESTDIR)$(UNITS)/user
	sed 's|@HELPER@|$(HELPER)|; s|@PROGRAM@|$(PREFIX)/bin/strongroom|' share/systemd/strongroom@.service > $(DESTDIR)$(UNITS)/system/strongroom@.service
	sed 's|@HELPER@|$(HELPER)|; s|@PROGRAM@|$(PREFIX)/bin/strongroom|' share/systemd/user/strongroom@.service > $(DESTDIR)$(UNITS)/user/strongroom@.service
	install -D -m 0644 -t $(SHARE)/applications $(NAMES:%=share/applications/%.desktop)
	install -d $(SHARE)/dbus-1/services
	@for name in $(NAMES); do sed 's|@PROGRAM@|$(PREFIX)/bin/strongroom|' share/dbus-1/services/$$name.service > $(SHARE)/dbus-1/services/$$name.service || exit 1; done
	install -D -m 0644 -t $(SHARE)/mime/packages share/mime/strongroom.xml
	install -D -m 0644 -t $(SHARE)/icons/hicolor/scalable/apps share/icons/strongroom.svg
	@if [ -z "$(DESTDIR)" ] && command -v update-mime-database >/dev/null; then update-mime-database $(SHARE)/mime; fi
	@if [ -z "$(DESTDIR)" ] && command -v update-desktop-database >/dev/null; then update-desktop-database -q $(SHARE)/applications; fi

uninstall: ## remove what install put under PREFIX
	rm -f $(DESTDIR)$(PREFIX)/bin/strongroom $(SHARE)/man/man1/strongroom.1 $(SHARE)/bash-completion/completions/strongroom
	rm -f $(SHARE)/zsh/site-functions/_strongroom $(SHARE)/fish/vendor_completions.d/strongroom.fish
	rm -f $(DESTDIR)$(HELPER) $(DESTDIR)$(UNITS)/system/strongroom@.service $(DESTDIR)$(UNITS)/user/strongroom@.service $(addprefix $(SHARE)/,$(DATA))
	@if [ -z "$(DESTDIR)" ] && command -v update-mime-database >/dev/null && [ -d $(SHARE)/mime ]; then update-mime-database $(SHARE)/mime; fi

fuzz-targets:
	$(CARGO) +nightly fuzz build

# What it finds goes to fuzz/target/corpus, not among the seeds that the repository holds.
fuzz: fuzz-targets ## run each fuzz target for FUZZ_SECONDS (60); needs a nightly toolchain and cargo-fuzz
	$(CARGO) +nightly fuzz list | xargs -P $$(nproc) -I {} scripts/fuzz.sh {} $(FUZZ_SECONDS)

clean: ## remove what was built
	$(CARGO) clean
	rm -rf fuzz/target fuzz/artifacts fuzz/coverage
