#!/usr/bin/env bash
# Runs one fuzz target, which is built already, and shows what it printed if it found something.
#
#   fuzz.sh TARGET SECONDS

set -euo pipefail
cd "$(dirname "$0")/.."

target=$1 seconds=$2
mkdir -p "fuzz/target/corpus/$target" "fuzz/corpus/$target"
log=fuzz/target/$target.log
if ! "${CARGO:-cargo}" +nightly fuzz run "$target" "fuzz/target/corpus/$target" "fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -timeout=20 >"$log" 2>&1; then
    cat "$log"
    echo "fuzz: $target found something, see above" >&2
    exit 1
fi
echo "fuzz: $target, $seconds s: $(grep -o '^Done.*' "$log")"
