#!/usr/bin/env bash
# Does what README tells a newcomer to do, on two fresh machines: Debian 12 as mmdebstrap makes it ("important" and "standard"), an
# ordinary user who may use sudo, Rust as rustup leaves it. One ends with `make demo`, the other with `make test` too.
#
#   fresh.sh           all of that
#   fresh.sh --quick   both end with `make demo`, and are built without optimisation but for the key derivation
#   fresh.sh --wait FILE  the same beside other work: what is built runs when FILE is there, at the usual priority
#   fresh.sh --systems only makes the systems
#
# As root or with sudo; what is committed counts. The systems are downloaded once and kept in the build folder, all else is made
# anew. The newcomer has of this machine the toolchain, cargo's downloads, and what the network takes: apt's sources, proxies,
# certificates. Each works in tables of mounts and of processes of its own, which the kernel takes away however this ends.

set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(realpath -m "${CARGO_TARGET_DIR:-target}/fresh")
proxies=http_proxy,https_proxy,no_proxy,HTTP_PROXY,HTTPS_PROXY,NO_PROXY
# For cargo, where only that it builds is of interest. Unoptimised, Argon2id would take minutes.
unoptimised='[profile.dev]
debug = false
[profile.release]
lto = false
codegen-units = 16
debug = false
opt-level = 0
[profile.release.package]
argon2.opt-level = 3
blake2.opt-level = 3'

# What README has a newcomer type.
packages='sudo apt-get update && sudo apt-get install -y git make'
clone='git clone URL strongroom && cd strongroom'
built=('make setup' 'make build' 'sudo make install')

main() {
    local line machine variant failed=no tests=('make test')
    machines=()
    for line in "$packages" "$clone" "${built[@]}"; do
        grep -qxF "\$ $line" README.md || fail "README.md does not say: $line"
    done
    [[ $(id -u) -eq 0 ]] || exec sudo --preserve-env scripts/fresh.sh "$@"
    if [[ ${1-} =~ ^--(quick|wait)$ ]]; then
        export FRESH_CARGO=$unoptimised FRESH_GATE=${2-}
        tests=()
    fi
    scripts/setup.sh --fresh
    mkdir -p "$folder"
    for variant in important standard; do
        scripts/system.sh bookworm $variant "$folder/$variant.tar" sudo ca-certificates
    done
    [[ ${1-} != --systems ]] || return 0
    trap 'kill "${machines[@]}" 2>/dev/null || true' EXIT
    start important 'make demo' "${tests[@]}"
    start standard 'make demo'
    for machine in "${machines[@]}"; do
        wait "$machine" || failed=yes
    done
    trap - EXIT
    [[ $failed = no ]] || fail 'a newcomer is stuck, see above'
    rm -rf --one-file-system "$folder"/root-*
    echo 'fresh: a newcomer gets through, twice'
}

# Starts a machine, whose lines bear its name.
start() {
    # It kills all that it started when it is killed.
    (exec unshare --mount --pid --fork --kill-child=KILL scripts/fresh.sh --machine "$@" </dev/null) > >(sed -u "s/^/$1: /") 2>&1 &
    machines+=($!)
}

# In tables of its own.
machine() {
    local root=$folder/root-$1 readme=("$packages" "${clone/URL//srv/strongroom.git}" "${built[@]}")
    rm -rf --one-file-system "$root"
    mkdir -p "$root"
    tar --extract --numeric-owner --file "$folder/$1.tar" --directory "$root"
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    cp "$folder/apt.conf" "$root/etc/apt/apt.conf.d/90proxy"
    git clone --quiet --bare . "$root/srv/strongroom.git"
    make_user "$root"
    if [[ ${FRESH_GATE-} ]]; then
        # A session of its own would have a priority of its own.
        follow "$root" --session-command "${readme[@]}"
        until [[ -e $FRESH_GATE ]]; do sleep 1; done
        renice --priority 0 $$ >/dev/null
        readme=('cd strongroom')
    fi
    # shellcheck disable=SC2016 # the newcomer's shell is to expand it
    follow "$root" --command "${readme[@]}" "${@:2}" \
        'sudo make uninstall && make install PREFIX=$HOME/.local && ~/.local/bin/strongroom --version'
}

# Has the newcomer type lines, until one fails. `how` is the option of su(1) that names a command.
follow() {
    local root=$1 how=$2 line
    printf '%s\n' "${@:3}" | while read -r line; do
        # shellcheck disable=SC2016 # the newcomer's shell is to expand it
        printf 'echo "== %s ($((SECONDS / 60)) min $((SECONDS %% 60)) s)"\n%s || exit\n' "${line//\$/\\\$}" "{ $line; }"
    done >"$root/home/newcomer/readme"
    echo 'echo "== all done ($((SECONDS / 60)) min $((SECONDS % 60)) s)"' >>"$root/home/newcomer/readme"
    chroot "$root" su --login newcomer --whitelist-environment=$proxies "$how" 'bash readme'
}

# An ordinary user who may use sudo, with Rust.
make_user() {
    local root=$1 home=$1/home/newcomer place
    local cargo=${CARGO_HOME:-$HOME/.cargo} rustup=${RUSTUP_HOME:-$HOME/.rustup}
    chroot "$root" useradd --create-home --shell /bin/bash newcomer
    {
        echo 'newcomer ALL=(ALL) NOPASSWD: ALL'
        echo "Defaults env_keep += \"${proxies//,/ }\""
    } >"$root/etc/sudoers.d/newcomer"
    mkdir -p "$home/.cargo/bin" "$home/.cargo/registry" "$home/.rustup"
    echo "${FRESH_CARGO-}" >"$home/.cargo/config.toml"
    # shellcheck disable=SC2016 # the newcomer's shell is to expand it
    echo 'PATH=$HOME/.cargo/bin:$PATH' >>"$home/.profile"
    for place in cache index; do
        [[ ! -d $cargo/registry/$place ]] || cp -r "$cargo/registry/$place" "$home/.cargo/registry/"
    done
    chroot "$root" chown -R newcomer: /home/newcomer /srv/strongroom.git
    mount --bind "$cargo/bin" "$home/.cargo/bin"
    mount -o remount,bind,ro "$home/.cargo/bin"
    mount --bind "$rustup" "$home/.rustup"
    mount -o remount,bind,ro "$home/.rustup"
}

fail() {
    echo "fresh: $1" >&2
    exit 1
}

case ${1-} in
'' | --quick | --wait | --systems) main "$@" ;;
--machine) machine "${@:2}" ;;
*) fail "unknown argument: $1" ;;
esac
