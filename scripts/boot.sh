#!/usr/bin/env bash
# Boots a Debian 12 with vaults in its fstab and a systemd of its own, in a container (systemd-nspawn), and looks at what is mounted.
#
#   boot.sh PROGRAM   with the strongroom at PROGRAM, as `make install` installs it (root)
#
# Tried are: a keyfile, a password that an agent is asked for and gives wrong once, a vault that is mounted when somebody looks at it
# (x-systemd.automount), one that an ordinary user mounts (noauto,user), one that strongroom@.service opens with a credential, and
# whether each has what was written when the machine is switched off. Not tried: loop devices, which such a container has not, so all of
# them are mounted by the builtin driver; a real console, where systemd itself asks; and credentials of a mount's own unit, which
# systemd 252 does not hand out.
#
# It works in tables of mounts and of processes of its own, which the kernel takes away however this ends.

set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tar=$target/fresh/boot.tar
words='correct horse battery staple'
vaults=(key asked automount own unit)

main() {
    [[ -x ${1-} ]] || fail 'name the program'
    [[ $(id -u) -eq 0 ]] || exec sudo --preserve-env=CARGO_TARGET_DIR scripts/boot.sh "$@"
    scripts/setup.sh --boot
    scripts/system.sh bookworm minbase "$tar" systemd,systemd-sysv,dbus,udev,fuse3,e2fsprogs,login,passwd
    work=$(mktemp -d)
    export work
    # It kills all that it started when it ends.
    local status=0
    unshare --mount --propagation private --pid --fork --mount-proc --kill-child=KILL scripts/boot.sh --inside "$(realpath "$1")" || status=$?
    rm -rf --one-file-system "$work"
    [[ $status -eq 0 ]] || fail 'it does not work, see above'
}

# In tables of its own.
inside() {
    mount -t tmpfs -o mode=755 none "$work"
    # What systemd-nspawn leaves of itself.
    mount -t tmpfs -o mode=755 none /run
    root=$work/root
    mkdir "$root"
    tar --extract --numeric-owner --file "$tar" --directory "$root"
    make --silent --old-file="$1" install BINARY="$1" DESTDIR="$root" PREFIX=/usr
    rm -f "$root/etc/resolv.conf"
    chroot "$root" useradd --create-home anna
    make_vaults
    make_units
    say 'booting'
    local devices=(--bind=/dev/fuse)
    # Where this machine has control groups of the first version, too, the container gets those of the second.
    [[ ! -e /dev/autofs ]] || devices+=(--bind=/dev/autofs)
    SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 timeout --kill-after=5 180 systemd-nspawn --quiet --register=no --keep-unit --boot \
        --directory="$root" --machine=strongroom "${devices[@]}" --console=pipe </dev/null >"$work/console" 2>&1 || true
    cat "$root/told"
    grep -qx 'all of it' "$root/told" || fail "it stopped there; the console said: $(tail -n 20 "$work/console")"
    after_the_end
    echo 'boot: keyfiles, agents, automounts, users and units work at boot'
}

make_vaults() {
    local vault
    echo "$words" >"$root/etc/password"
    head -c 64 /dev/urandom >"$root/etc/key"
    chmod 600 "$root"/etc/{password,key}
    for vault in "${vaults[@]}"; do
        local secret=(--password-file "$root/etc/password")
        [[ $vault != key ]] || secret=(--keyfile "$root/etc/key" --no-password)
        "$root/usr/bin/strongroom" create "$root/srv/$vault.vault" --quiet --size 16M --provision quick "${secret[@]}" \
            --kdf-memory 64M --kdf-passes 3 --kdf-lanes 1
        mkdir "$root/srv/$vault"
    done
    # That of the ordinary user is theirs.
    mv "$root"/srv/own* "$root/home/anna/"
    cp "$root/etc/password" "$root/home/anna/password"
    chroot "$root" chown -R anna: /home/anna
    cat >"$root/etc/fstab" <<'END'
/srv/key.vault /srv/key strongroom nofail,keyfile=/etc/key 0 0
/srv/asked.vault /srv/asked strongroom nofail 0 0
/srv/automount.vault /srv/automount strongroom noauto,nofail,x-systemd.automount,password-file=/etc/password 0 0
/home/anna/own.vault /home/anna/own strongroom noauto,user,owner=me,password-file=/home/anna/password 0 0
END
    mkdir -p "$root/etc/strongroom"
    printf '[vault."/srv/unit.vault"]\nat = "/srv/unit"\n' >"$root/etc/strongroom/config.toml"
}

make_units() {
    local units=$root/etc/systemd/system
    mkdir -p "$units"/{strongroom@srv-unit.vault.service.d,multi-user.target.wants,sysinit.target.wants}
    printf '[Service]\nLoadCredential=strongroom.password:/etc/password\n' \
        >"$units/strongroom@srv-unit.vault.service.d/key.conf"
    ln -s /usr/lib/systemd/system/strongroom@.service "$units/multi-user.target.wants/strongroom@srv-unit.vault.service"

    # An agent, as the splash screen of a desktop has one: wrong at first.
    cat >"$units/agent.service" <<'END'
[Unit]
DefaultDependencies=no
Before=shutdown.target
Conflicts=shutdown.target
[Service]
ExecStart=/bin/bash /agent.sh
END
    ln -s ../agent.service "$units/sysinit.target.wants/agent.service"
    cat >"$root/agent.sh" <<'END'
answers=('a wrong guess' "$(cat /etc/password)")
while sleep 0.2; do
    for question in /run/systemd/ask-password/ask.*; do
        [[ -e $question && ${#answers[@]} -gt 0 ]] || continue
        sed -n 's/^Message=/was asked: /p' "$question" >>/asked
        socket=$(sed -n 's/^Socket=//p' "$question")
        printf '%s' "${answers[0]}" | /lib/systemd/systemd-reply-password 1 "$socket"
        answers=("${answers[@]:1}")
        while [[ -e $question ]]; do sleep 0.1; done
    done
done
END
    cat >"$units/look.service" <<'END'
[Unit]
After=multi-user.target strongroom@srv-unit.vault.service srv-asked.mount srv-key.mount
[Service]
Type=oneshot
Environment=LC_ALL=C.UTF-8
ExecStart=/bin/bash /look.sh
StandardOutput=append:/told
StandardError=append:/told
ExecStopPost=-/bin/systemctl --no-block poweroff
END
    ln -s ../look.service "$units/multi-user.target.wants/look.service"
    cat >"$root/look.sh" <<'END'
set -euo pipefail
is_mounted() {
    # The trigger of an automount is no vault yet.
    findmnt --noheadings --types fuse.ext4 "$1" >/dev/null
}
told() {
    printf '   %s\n' "$1"
}
for vault in key asked unit; do
    is_mounted "/srv/$vault" || { systemctl --no-pager status "srv-$vault.mount" "strongroom@srv-$vault.vault" || true; exit 1; }
    told "$vault is mounted at boot"
done
grep -q 'was asked: wrong password. Password for /srv/asked.vault' /asked
told "the agent $(tail -n 1 /asked)"
is_mounted /srv/automount && exit 1
ls /srv/automount >/dev/null
is_mounted /srv/automount
told 'automount is mounted by a look at it'
su anna -c 'mount /home/anna/own && echo kept > /home/anna/own/file && umount /home/anna/own && mount /home/anna/own && cat /home/anna/own/file' | grep -qx kept
told 'own is mounted by an ordinary user'
systemctl stop srv-key.mount
is_mounted /srv/key && exit 1
systemctl start srv-key.mount
told 'key is stopped and started as a unit'
for place in /srv/{key,asked,automount,unit} /home/anna/own; do
    echo "at the end" >"$place/last"
done
systemctl is-failed --quiet srv-asked.mount && exit 1
echo 'all of it'
END
}

# Nobody synced before the machine was switched off.
after_the_end() {
    local vault path place=$work/place
    mkdir "$place"
    for vault in "${vaults[@]}"; do
        local secret=(--password-file "$root/etc/password")
        [[ $vault != key ]] || secret=(--keyfile "$root/etc/key" --no-password)
        path=$root/srv/$vault.vault
        [[ $vault != own ]] || path=$root/home/anna/own.vault
        "$root/usr/bin/strongroom" check "$path" "${secret[@]}" >"$work/check" 2>&1 || fail "$vault: $(cat "$work/check")"
        grep -q 'not unmounted cleanly' "$work/check" && fail "$vault was not closed when the machine was switched off"
        "$root/usr/bin/strongroom" mount "$path" "$place" --quiet --read-only --driver builtin "${secret[@]}"
        grep -qx 'at the end' "$place/last" || fail "$vault lost what was written last"
        "$root/usr/bin/strongroom" unmount "$place" --quiet
    done
    say 'switched off: each vault was closed, and has what was written last'
}

say() {
    printf '== %s\n' "$1"
}

fail() {
    echo "boot: $1" >&2
    exit 1
}

if [[ ${1-} = --inside ]]; then inside "$2"; else main "$@"; fi
