#!/usr/bin/env bash
# A vault from beginning to end: made, mounted, filled with real files, unmounted, mounted again, compared.
#
#   demo.sh [FOLDER]   FOLDER holds the program (default: the release build)
#
# Works in a temporary folder of its own, as root or as an ordinary user, and leaves nothing behind.

set -euo pipefail
cd "$(dirname "$0")/.."

PATH=$(realpath "${1:-${CARGO_TARGET_DIR:-target}/release}"):$PATH

work=$(mktemp -d "${TMPDIR:-/tmp}/strongroom-demo.XXXXXX")
trap clean_up EXIT
trap 'exit 130' INT TERM

clean_up() {
    local status=$?
    strongroom unmount "$work/photos.vault" --force >/dev/null 2>&1 || true
    rm -rf --one-file-system "$work"
    exit "$status"
}

say() {
    printf '\n# %s\n' "$*"
}

run() {
    printf '$ %s\n' "$*"
    "$@"
}

give_up() {
    echo "demo: $1" >&2
    exit 1
}

# Files that everybody has: our own sources.
files=$PWD/src

main() {
    local marker status
    command -v strongroom >/dev/null || give_up 'build it first: make build'
    cd "$work"
    mkdir photos
    (umask 077 && echo 'a demonstration, not a password' >password && echo 'a wrong one' >wrong)

    say 'Make a vault of 256 MiB with a file system inside.'
    run strongroom create photos.vault --size 256M --label Demo --password-file password

    say 'What everybody can see of it, without the password:'
    run strongroom info photos.vault

    say 'Mount it, and put files in.'
    run strongroom mount photos.vault photos --password-file password
    run strongroom list
    run cp -r "$files" photos/
    run df -h photos

    say 'Unmount it. Nothing is left but the container, and nothing of the files can be read in it.'
    run strongroom unmount photos
    [[ -z $(ls -A photos) ]] || give_up 'something is left in photos'
    marker=$(head -n 1 "$files/lib.rs")
    ! grep -qaF -- "$marker" photos.vault || give_up 'plaintext in the container'

    say 'A wrong password does not open it:'
    status=0
    run strongroom mount photos.vault photos --password-file wrong || status=$?
    [[ $status -eq 2 ]] || give_up "a wrong password gave status $status"

    say 'Mount it again, read-only, and compare every file.'
    run strongroom mount photos.vault photos --read-only --password-file password
    run diff -r "$files" photos/src
    run strongroom unmount photos
    say 'Every file came back as it was.'
}

main
