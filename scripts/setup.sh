#!/usr/bin/env bash
# Installs what strongroom is built, run and tested with (Debian and its kin). Nothing is done where nothing is missing.
#
#   setup.sh           installs, or says what is missing and fails
#   setup.sh --quiet   the same, but goes on without what it may not or cannot install
#   setup.sh --bench   also what the benchmarks compare with
#   setup.sh --guest   also what scripts/guest.sh builds the guest with
#   setup.sh --boot    also what scripts/boot.sh boots a machine with
#   setup.sh --fresh   also what scripts/fresh.sh makes fresh machines with

set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

# command or file : Debian package : what for
tools='
cc              gcc         building
/usr/include/stdio.h libc6-dev building
pkg-config      pkg-config  building
/usr/include/libudev.h libudev-dev building with FIDO2
/usr/include/openssl/evp.h libssl-dev tests
fusermount3     fuse3       mounting
fuse2fs         fuse2fs     tests
e2fsck          e2fsprogs   repairing ext, and tests
losetup         mount       mounting as root
fio             fio         tests
mkfs.xfs        xfsprogs    tests
mkfs.btrfs      btrfs-progs tests
bindfs          bindfs      tests
mkfs.vfat       dosfstools  tests
mkfs.exfat      exfatprogs  tests
mkfs.ntfs       ntfs-3g     tests
cryptsetup      cryptsetup-bin tests
qemu-img        qemu-utils  tests
dbus-daemon     dbus        tests
/usr/lib/polkit-1/polkitd polkitd tests
udevadm         udev        tests
udisksctl       udisks2     tests
genisoimage     genisoimage tests
xorriso         xorriso     tests
mkudffs         udftools    tests
xz              xz-utils    tests
python3         python3     tests
'

# What strongroom is measured beside.
bench_tools='
gocryptfs       gocryptfs   benchmarks
qemu-storage-daemon qemu-utils benchmarks
argon2          argon2      benchmarks
'

# What a guest is built with, which most people never do.
guest_tools='
mmdebstrap      mmdebstrap  guest
busybox         busybox-static guest
patchelf        patchelf    guest
cpio            cpio        guest
modprobe        kmod        guest
/usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring guest
'

# What makes fresh machines.
fresh_tools='
mmdebstrap      mmdebstrap  fresh machines
/usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring fresh machines
'

# What boots one.
boot_tools="$fresh_tools"'
systemd-nspawn  systemd-container a booted machine
'

# Openers of LUKS that are only on PyPI. They stay in the build folder.
python_packages='dissect.fve==4.6 argon2-cffi==25.1.0'

main() {
    local quiet=no packages
    [[ ${1-} != --quiet ]] || quiet=yes
    [[ ${1-} != --bench ]] || tools+=$bench_tools
    [[ ${1-} != --guest ]] || tools+=$guest_tools
    [[ ${1-} != --fresh ]] || tools+=$fresh_tools
    [[ ${1-} != --boot ]] || tools+=$boot_tools
    packages=$(missing_packages)
    if [[ -n $packages ]]; then
        # shellcheck disable=SC2086 # a list of words
        install $quiet $packages
    fi
    install_python_packages $quiet
    need_cargo
    [[ $quiet = yes ]] || echo 'setup: everything is there'
}

missing_packages() {
    local command package
    while read -r command package _; do
        [[ -z $command || -e $command ]] || command -v "$command" >/dev/null || echo "$package"
    done <<<"$tools" | sort -u | tr '\n' ' '
    # Debian packs parts of Python's own library separately, also from a Python that is about to be installed.
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

install() {
    local quiet=$1 root
    shift
    if ! command -v apt-get >/dev/null; then
        give_up "$quiet" "this is not a Debian system; install what these packages hold: $*"
        return
    fi
    root=()
    if [[ $(id -u) -ne 0 ]]; then
        root=(sudo)
        # Nobody expects a password prompt from `make test`.
        [[ $quiet = no ]] || root+=(--non-interactive)
    fi
    if ! "${root[@]}" true 2>/dev/null; then
        give_up "$quiet" "cannot become root; run as root: apt-get update && apt-get install $*"
        return
    fi
    echo 'setup: apt-get update'
    "${root[@]}" apt-get update -qq
    echo "setup: apt-get install $*"
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# A Python of the tests' own, with what Debian does not have.
install_python_packages() {
    local quiet=$1 folder=${CARGO_TARGET_DIR:-target}/peers/python
    [[ $(cat "$folder/installed" 2>/dev/null) != "$python_packages" ]] || return 0
    echo "setup: installing $python_packages into $folder"
    # shellcheck disable=SC2086 # a list of words
    if ! python3 -m venv --clear "$folder" >/dev/null 2>&1; then
        give_up "$quiet" "cannot make a Python environment in $folder; python3 -m venv says why"
    elif "$folder/bin/pip" install --quiet --disable-pip-version-check --retries 1 --timeout 15 --only-binary :all: $python_packages; then
        echo "$python_packages" >"$folder/installed"
    else
        give_up "$quiet" "cannot install $python_packages from PyPI"
    fi
}

need_cargo() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    if ! command -v cargo >/dev/null; then
        fail "no cargo; install Rust $wanted or newer: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
    fi
    found=$(cargo --version | cut -d' ' -f2)
    if [[ $(printf '%s\n' "$wanted" "$found" | sort -V | head -n1) != "$wanted" ]]; then
        fail "cargo $found is older than $wanted; run: rustup update stable"
    fi
}

# Without these some tests have nothing to work with: they say so themselves.
give_up() {
    [[ $1 = yes ]] || fail "$2"
    echo "setup: $2" >&2
}

fail() {
    echo "setup: $1" >&2
    exit 1
}

main "$@"
