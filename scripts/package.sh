#!/usr/bin/env bash
# Builds what goes to other machines, into the build folder's `dist`.
#
#   package.sh static      strongroom-static: one program that takes no libraries of the machine
#   package.sh deb         a package for Debian and its kin, from what `make install` installs
#   package.sh reproduced  builds what is committed twice, in two folders: both must be the same bytes
#
# The same commit gives the same bytes wherever it is built with the same toolchain: no folder, user or time is in them.
# PROFILE is cargo's. PROGRAM, with deb, is one that is built already.

set -euo pipefail
cd "$(dirname "$0")/.."
umask 022

cargo=${CARGO:-cargo}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/dist
triple=$(rustc -vV | sed -n 's/^host: //p')
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}
export SOURCE_DATE_EPOCH
# So much fits on any stick beside a vault.
most=$((12 << 20))

main() {
    case ${1-} in
    static) make_static ;;
    deb) make_deb ;;
    reproduced) reproduce ;;
    *) fail 'name one of: static, deb, reproduced' ;;
    esac
}

# build FOLDER TRIPLE PROFILE FLAGS CARGO-OPTION...
build() {
    local folder=$target/$1 flags=--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo
    # The folder of the sources last: the build folder and cargo's may lie in it.
    flags+=$'\x1f'--remap-path-prefix=$target=/build$'\x1f'--remap-path-prefix=$PWD=/strongroom
    CARGO_ENCODED_RUSTFLAGS=$flags${4:+$'\x1f'$4} "$cargo" build --profile "$3" --locked --target "$2" \
        --target-dir "$folder" --bin strongroom "${@:5}"
    program=$folder/$2/${3/#dev/debug}/strongroom
}

make_static() {
    local musl=${triple/%-gnu/-musl} out=$target/strongroom-static size flags
    # Linked statically, the crate does not find getrandom(2) by itself, and would read /dev/urandom.
    flags=--cfg$'\x1f''getrandom_backend="linux_getrandom"'
    if [[ -d $(rustc --print target-libdir --target "$musl" 2>/dev/null) ]]; then
        build static "$musl" "${PROFILE:-small}" "$flags" --no-default-features
    else
        build static "$triple" "${PROFILE:-small}" "$flags"$'\x1f'-Ctarget-feature=+crt-static --no-default-features
    fi
    strip --strip-all -o "$out" "$program"
    ! readelf --program-headers --wide "$out" | grep -qw INTERP || fail "$out wants libraries"
    size=$(stat -c %s "$out")
    ((size <= most)) || fail "$out has $size bytes, and may have $most"
    echo "package: $out, $size bytes"
}

make_deb() {
    local tree=$target/tree architecture deb depends
    architecture=$(dpkg --print-architecture)
    deb=$target/strongroom_${version}_$architecture.deb
    program=${PROGRAM-}
    [[ -n $program ]] || build deb "$triple" "${PROFILE:-release}" ''
    rm -rf "$tree" "$target"/strongroom_*.deb
    # What is installed, and where, only the Makefile knows.
    make --no-print-directory --old-file="$program" install BINARY="$program" PREFIX=/usr DESTDIR="$tree" >/dev/null
    # Debian's zsh looks there alone; its own rules want manuals packed and links that lead from where they are.
    mv "$tree/usr/share/zsh/site-functions" "$tree/usr/share/zsh/vendor-completions"
    gzip -9n "$tree/usr/share/man/man1/strongroom.1"
    ln -sfr "$tree/usr/bin/strongroom" "$tree/usr/sbin/mount.strongroom"
    install -d "$tree/usr/share/doc/strongroom" "$tree/DEBIAN"
    gzip -9nc CHANGELOG.md >"$tree/usr/share/doc/strongroom/changelog.gz"
    copyright >"$tree/usr/share/doc/strongroom/copyright"
    depends=$(libraries "$tree/usr/bin/strongroom")
    control "$architecture" "$tree" "$depends" >"$tree/DEBIAN/control"
    (cd "$tree" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    chmod -R u=rwX,go=rX "$tree"
    find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group -Zxz --build "$tree" "$deb" >/dev/null
    rm -rf "$tree"
    echo "package: $deb, $(stat -c %s "$deb") bytes"
}

# control ARCHITECTURE TREE DEPENDS
control() {
    cat <<END
Package: strongroom
Version: $version
Architecture: $1
Maintainer: strongroom <nobody@strongroom.invalid>
Installed-Size: $(find "$2/usr" -type f -printf '%k\n' | awk '{ sum += $1 } END { print sum }')
Depends: $3, fuse3
Recommends: e2fsprogs, pinentry-gnome3 | pinentry-x11
Suggests: btrfs-progs, ntfs-3g, xfsprogs
Section: utils
Priority: optional
Description: encrypted vaults that an ordinary user makes, opens and mounts
 A vault is one file, or a whole USB stick. strongroom creates it, opens it with
 a password, keyfiles or a FIDO2 token, and mounts it without root: what is read
 is decrypted on the fly, and nothing reaches a disk unencrypted. It also opens
 and creates LUKS, VeraCrypt and TrueCrypt containers.
END
}

# The packages with the libraries that a program wants, of Debian 12 and newer.
libraries() {
    local library glibc found=()
    # The C library's files are one package.
    glibc=$(readelf --version-info --wide "$1" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
    while read -r library; do
        case $library in
        libm.so.6 | ld-linux*) ;;
        libc.so.6) found+=("libc6 (>= ${glibc#GLIBC_})") ;;
        libgcc_s.so.1) found+=(libgcc-s1) ;;
        libudev.so.1) found+=(libudev1) ;;
        *) fail "the program wants $library, whose package is not known here" ;;
        esac
    done < <(readelf --dynamic --wide "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p' | LC_ALL=C sort)
    ((${#found[@]} > 0)) || fail 'the program is static; a package takes the one of make build'
    (IFS=,; echo "${found[*]}") | sed 's/,/, /g'
}

copyright() {
    cat <<'END'
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: strongroom

Files: *
Copyright: the authors of strongroom
License: MIT or Apache-2.0

License: Apache-2.0
 On Debian, /usr/share/common-licenses/Apache-2.0 has the text.

License: MIT
END
    sed 's/^$/./; s/^/ /' LICENSE-MIT
}

# Builds in a clone at another place, and in one at a third, with longer names.
reproduce() {
    local work place what first
    work=$(mktemp -d)
    # shellcheck disable=SC2064 # it is known now
    trap "rm -rf '$work'" EXIT
    for place in one a/longer/name/of/two; do
        git clone --quiet . "$work/$place"
        for what in static deb; do
            # Nor may the time of day tell, nor the user's language.
            (cd "$work/$place" && env -u CARGO_TARGET_DIR -u SOURCE_DATE_EPOCH LC_ALL=C TZ="$([[ $place = one ]] && echo UTC || echo Asia/Tokyo)" scripts/package.sh "$what")
        done
        rm -rf "$work/$place/target/dist"/{static,deb}
        (cd "$work/$place/target/dist" && sha256sum ./*) >"$work/sums"
        [[ -z ${first-} || $first = "$(cat "$work/sums")" ]] ||
            fail "two builds differ: $(diff <(echo "$first") "$work/sums" | tr '\n' ' ')"
        first=$(cat "$work/sums")
    done
    echo "$first"
    echo 'package: both builds are the same, byte for byte'
}

fail() {
    echo "package: $1" >&2
    exit 1
}

main "$@"
