#!/bin/sh
# Opens the encrypted vault that lies beside this file. In a terminal:
#
#   sh open.sh         opens it, on the folder Vaults/@NAME@ in your home
#   sh open.sh close   closes it
#
# A double click does the same in a window of its own. What else is given goes to "strongroom open".

set -eu

here=$(cd -- "$(dirname -- "$0")" && pwd)
vault=$here/@VAULT@
folder=
# Whether the vault was made with a PIM, which it takes besides the password.
has_pim=@HAS_PIM@
pim=

fail() {
    printf 'open.sh: %s\n' "$1" >&2
    exit 1
}

# Whoever double-clicks has no terminal, where the password could be asked for.
open_terminal() {
    for terminal in xdg-terminal-exec x-terminal-emulator konsole xfce4-terminal gnome-terminal kgx xterm; do
        command -v "$terminal" >/dev/null 2>&1 || continue
        case $terminal in
        xdg-terminal-exec) exec "$terminal" sh "$here/open.sh" window ;;
        gnome-terminal | kgx) exec "$terminal" -- sh "$here/open.sh" window ;;
        xfce4-terminal) exec "$terminal" -x sh "$here/open.sh" window ;;
        *) exec "$terminal" -e sh "$here/open.sh" window ;;
        esac
    done
    fail "there is no terminal to ask on; open one, and type: sh '$here/open.sh'"
}

# The program runs from a folder of this machine: the stick may forbid programs (noexec), or may be pulled out.
fetch_program() {
    trap 'rm -rf "$folder"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' HUP TERM
    for place in "${XDG_RUNTIME_DIR-}" "${TMPDIR-}" /tmp "${HOME-}/.cache" "${HOME-}"; do
        [ -d "$place" ] && [ -w "$place" ] || continue
        folder=$(mktemp -d "$place/strongroom.XXXXXX") || continue
        program=$folder/strongroom
        if cp "$here/strongroom" "$program" && chmod 700 "$program" && "$program" --version >/dev/null 2>"$folder/said"; then
            return
        fi
        said=$(head -n 1 "$folder/said" 2>/dev/null || true)
        rm -rf "$folder"
        folder=
    done
    fail "the program on the stick does not run here${said:+ ($said)}; install strongroom, and type: strongroom open@OPTIONS@ '$vault'"
}

ask_pim() {
    case "$has_pim $*" in
    "no "* | *--pim*) return ;;
    esac
    printf 'PIM: ' >&2
    read -r pim || true
    case $pim in
    '' | *[!0-9]*) fail "the PIM is a number" ;;
    esac
    pim=--pim=$pim
}

if [ $# -eq 0 ] && [ ! -t 0 ]; then
    open_terminal
fi
[ -e "$vault" ] || fail "there is no vault here: $vault"
fetch_program
case ${1-} in
close)
    shift
    "$program" close "$vault" "$@"
    ;;
window)
    status=0
    ask_pim
    "$program" open --show@OPTIONS@ ${pim:+"$pim"} "$vault" || status=$?
    if [ "$status" -eq 0 ]; then
        printf '\nThe vault is open. Press Enter to close it.\n'
        read -r _ || true
        "$program" close "$vault" || status=$?
    fi
    if [ "$status" -ne 0 ]; then
        printf '\nPress Enter to close this window.\n'
        read -r _ || true
    fi
    exit "$status"
    ;;
*)
    ask_pim "$@"
    "$program" open@OPTIONS@ ${pim:+"$pim"} "$vault" "$@"
    ;;
esac
