#!/usr/bin/env bash
# Runs a command with what processor time nobody else wants: within its session, and, where the kernel weighs sessions against each
# other, as a session. Start it with setsid, or the whole session gives way.
#
#   setsid beside.sh COMMAND [ARGUMENT...]

set -euo pipefail

renice --priority 19 $$ >/dev/null
echo 19 2>/dev/null >"/proc/$$/autogroup" || true
exec "$@"
