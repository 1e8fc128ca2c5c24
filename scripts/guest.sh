#!/usr/bin/env bash
# Builds the guest of the tests: a small Debian under user-mode-linux, whose dm-crypt opens what strongroom makes.
# Done once, in about two minutes, as root or with sudo. It stays in the build folder, and starting it needs no root.
#
# The builder is not in the repository; STRONGROOM_LAB says where it is (default ../shared/lab).

set -euo pipefail
cd "$(dirname "$0")/.."

main() {
    local guest builder=${STRONGROOM_LAB:-../shared/lab}/build-guest.sh root=()
    guest=$(realpath -m "${CARGO_TARGET_DIR:-target}/lab")
    # The kernel names its folder: one that was moved does not start.
    if [[ -e $guest/built ]] && "$guest/linux.uml" --version >/dev/null 2>&1; then
        echo "guest: it is in $guest"
        return
    fi
    [[ -e $builder ]] || fail "no builder: $builder"
    scripts/setup.sh --guest
    [[ $(id -u) -eq 0 ]] || root=(sudo)
    echo "guest: building it in $guest"
    "${root[@]}" rm -rf "$guest"
    mkdir -p "$guest"
    "${root[@]}" env PATH="$PATH:/usr/sbin:/sbin" nice bash "$builder" "$guest"
    # Other kernels, and a disk for them: what runs is linux.uml, on the folder root.
    "${root[@]}" rm -rf "$guest"/{kdeb,apt-*,root.ext4,vmlinuz-*,initrd-*}
    "${root[@]}" touch "$guest/built"
}

fail() {
    echo "guest: $1" >&2
    exit 1
}

main
