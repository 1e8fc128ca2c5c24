#!/usr/bin/env bash
# Tries what scripts/package.sh made, where nothing else of strongroom is (root).
#
#   try.sh static       the static program, as an ordinary user of a root with only /proc, /dev/fuse, /dev/null and fusermount3
#   try.sh deb SUITE    the package on a fresh Debian (bookworm, trixie): installed, used, upgraded, purged
#
# Each works in tables of mounts and of processes of its own, which the kernel takes away however this ends.

set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
user=1000
words='correct horse battery staple'
cheap='--kdf-memory 64M --kdf-passes 3 --kdf-lanes 1'

main() {
    [[ $(id -u) -eq 0 ]] || exec sudo --preserve-env=CARGO_TARGET_DIR scripts/try.sh "$@"
    case ${1-} in
    static | deb)
        work=$(mktemp -d)
        export work
        # It kills all that it started when it ends.
        local status=0
        unshare --mount --pid --fork --kill-child=KILL scripts/try.sh "--$1" "${@:2}" || status=$?
        rm -rf --one-file-system "$work"
        [[ $status -eq 0 ]] || fail "$1 does not work, see above"
        ;;
    --static) try_static ;;
    --deb) try_deb "${2:-bookworm}" ;;
    *) fail 'name one of: static, deb' ;;
    esac
}

# A root of mounts, in which nothing is yet.
begin() {
    mount -t tmpfs -o mode=755 none "$work"
    root=$work/root
    mkdir "$root"
}

try_static() {
    local device library program=$target/dist/strongroom-static
    [[ -x $program ]] || fail "$program is missing; make static builds it"
    begin
    mkdir -p "$root"/{dev,proc,etc,tmp,usr/bin,home/anna/m}
    mount -t proc proc "$root/proc"
    for device in fuse null; do
        touch "$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    chmod 666 "$root/dev/fuse"
    chmod 1777 "$root/tmp"
    # fusermount3 reads both.
    ln -s ../proc/self/mounts "$root/etc/mtab"
    echo "anna:x:$user:$user::/home/anna:/bin/sh" >"$root/etc/passwd"
    install -m 4755 "$(command -v fusermount3)" "$root/usr/bin/fusermount3"
    for library in $(ldd /usr/bin/fusermount3 | grep -o '/[^ ]*'); do
        install -D "$library" "$root$library"
    done
    install -m 755 "$program" "$root/usr/bin/strongroom"
    echo "$words" >"$root/home/anna/password"
    chown -R $user:$user "$root/home/anna"

    for format in native veracrypt; do
        # VeraCrypt's headers have costs of their own.
        [[ $format = native ]] || cheap=
        say "the static program, $format"
        # shellcheck disable=SC2086 # a list of words
        anna create /home/anna/v --size 16M --filesystem exfat --format $format --password-file /home/anna/password $cheap
        anna mount /home/anna/v /home/anna/m --format $format --password-file /home/anna/password
        # Only they can look into their mount; there is no program in that root that could.
        outside cp scripts/try.sh "$root/home/anna/m/copy"
        anna list
        anna unmount /home/anna/m
        anna check /home/anna/v --format $format --password-file /home/anna/password
        anna mount /home/anna/v /home/anna/m --format $format --password-file /home/anna/password --read-only
        outside cmp scripts/try.sh "$root/home/anna/m/copy"
        anna unmount /home/anna/m
        rm "$root/home/anna/v"
    done
    say 'ext4 takes no package'
    anna create /home/anna/v --size 16M --password-file /home/anna/password $cheap
    anna mount /home/anna/v /home/anna/m --password-file /home/anna/password
    outside cp scripts/try.sh "$root/home/anna/m/copy"
    anna unmount /home/anna/m
    say 'xfs takes one, which is named'
    status=0
    said=$(anna create /home/anna/x --size 400M --filesystem xfs --password-file /home/anna/password 2>&1) || status=$?
    [[ $status -eq 7 && $said = *xfsprogs* ]] || fail "xfs without its tools: status $status: $said"
    echo 'try: the static program works on a bare root'
}

# The program in the root, as its user.
anna() {
    chroot --userspec=$user:$user "$root" /usr/bin/strongroom "$@"
}

# A program of this machine, as that user.
outside() {
    setpriv --reuid $user --regid $user --clear-groups "$@"
}

try_deb() {
    local suite=$1 tar=$target/fresh/$1-apt.tar debs
    debs=("$target"/dist/strongroom_*.deb)
    [[ -e ${debs[0]} && ${#debs[@]} -eq 1 ]] || fail "there must be one package in $target/dist; make deb builds it"
    command -v mmdebstrap >/dev/null || fail 'mmdebstrap is missing; scripts/setup.sh --fresh installs it'
    scripts/system.sh "$suite" apt "$tar" ca-certificates
    begin
    tar --extract --numeric-owner --file "$tar" --directory "$root"
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    chmod 666 /dev/fuse
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    cp "$target/fresh/apt.conf" "$root/etc/apt/apt.conf.d/90proxy"
    cp "${debs[0]}" "$root/tmp/strongroom.deb"
    newer "${debs[0]}" "$root/tmp/newer.deb"
    # As a system has that was started once.
    [[ -e $root/etc/mtab ]] || ln -s ../proc/self/mounts "$root/etc/mtab"

    say "installed on $suite"
    inside apt-get update -qq
    inside env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y passwd man-db /tmp/strongroom.deb >/dev/null
    inside useradd --create-home anna
    use one
    # A mount outlives the upgrade: its server is a program that has no name any more.
    person "strongroom mount one.vault m --password-file password && echo kept > m/file"
    say 'upgraded'
    inside env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y /tmp/newer.deb >/dev/null
    inside dpkg-query --show --showformat '${Version}\n' strongroom | grep -qx '.*+upgraded' || fail 'it was not upgraded'
    person 'grep -qx kept m/file && strongroom unmount m'
    use two
    say 'purged'
    inside apt-get purge -qq -y strongroom >/dev/null
    inside dpkg-query --listfiles strongroom 2>/dev/null && fail 'dpkg still knows it'
    left=$(find "$root/etc" "$root/usr" -iname '*strongroom*')
    [[ -z $left ]] || fail "left behind: $left"
    echo "try: the package works on $suite"
}

# What an ordinary user does, with a vault of this name.
use() {
    inside man --where strongroom >/dev/null || fail 'there is no manual'
    [[ -x $root/usr/sbin/mount.strongroom && -e $root/usr/lib/systemd/system/strongroom@.service ]] || fail 'helper or unit is missing'
    person "strongroom --version && echo '$words' > password && mkdir -p m
        for kind in ext4 exfat; do
            rm -f $1.vault && strongroom create $1.vault --size 16M --filesystem \$kind --password-file password $cheap
            strongroom mount $1.vault m --password-file password
            echo hello > m/file; strongroom unmount m
            strongroom mount $1.vault m --password-file password; grep -qx hello m/file; strongroom unmount m
            strongroom check $1.vault --password-file password
        done"
}

# A program of the system in the root.
inside() {
    chroot "$root" env PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"
}

# A line of an ordinary user's shell there.
person() {
    inside su --login anna --shell /bin/sh --command "set -e; $1"
}

# newer DEB NEW: the same under a higher version.
newer() {
    dpkg-deb --raw-extract "$1" "$work/newer"
    sed -i 's/^Version: .*/&+upgraded/' "$work/newer/DEBIAN/control"
    dpkg-deb --root-owner-group -Zgzip -z1 --build "$work/newer" "$2" >/dev/null
    rm -rf "$work/newer"
}

say() {
    printf '== %s\n' "$1"
}

fail() {
    echo "try: $1" >&2
    exit 1
}

main "$@"
