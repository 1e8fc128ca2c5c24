#!/usr/bin/env bash
# Installs what strongroom is built, run and tested with (Debian and its kin). Nothing is done where nothing is missing.
#
#   setup.sh           installs, or says what is missing and fails
#   setup.sh --quiet   the same, but goes on without the system's packages where it may not install them

set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

# command or file : Debian package : what for
tools='
cc              gcc         building
pkg-config      pkg-config  building
/usr/include/libudev.h libudev-dev building with FIDO2
/usr/include/openssl/evp.h libssl-dev tests
fusermount3     fuse3       mounting
fuse2fs         fuse2fs     mounting without root
mkfs.ext4       e2fsprogs   making file systems
e2fsck          e2fsprogs   repairing after a crash
losetup         mount       mounting as root
fio             fio         tests
mkfs.xfs        xfsprogs    tests
mkfs.btrfs      btrfs-progs tests
mkfs.vfat       dosfstools  tests
mkfs.exfat      exfatprogs  tests
mkfs.ntfs       ntfs-3g     tests
'

main() {
    local quiet=no packages
    [[ ${1-} != --quiet ]] || quiet=yes
    packages=$(missing_packages)
    if [[ -n $packages ]]; then
        # shellcheck disable=SC2086 # a list of words
        install $quiet $packages
    fi
    need_cargo
    [[ $quiet = yes ]] || echo 'setup: everything is there'
}

missing_packages() {
    local command package
    while read -r command package _; do
        [[ -z $command || -e $command ]] || command -v "$command" >/dev/null || echo "$package"
    done <<<"$tools" | sort -u | tr '\n' ' '
}

install() {
    local quiet=$1 root
    shift
    if ! command -v apt-get >/dev/null; then
        give_up "$quiet" "not a Debian system; install what these packages hold: $*"
        return
    fi
    root=()
    if [[ $(id -u) -ne 0 ]]; then
        root=(sudo)
        # Nobody expects a password prompt from `make test`.
        [[ $quiet = no ]] || root+=(--non-interactive)
    fi
    if ! "${root[@]}" true 2>/dev/null; then
        give_up "$quiet" "cannot become root; run: apt-get install $*"
        return
    fi
    echo "setup: installing $*"
    "${root[@]}" apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
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

# Without the system's packages some tests have nothing to work with: they say so themselves.
give_up() {
    [[ $1 = yes ]] || fail "$2"
    echo "setup: $2" >&2
}

fail() {
    echo "setup: $1" >&2
    exit 1
}

main "$@"
