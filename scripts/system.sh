#!/usr/bin/env bash
# Makes the system of a fresh Debian, packed, where it is not there yet (root).
#
#   system.sh SUITE VARIANT TAR PACKAGE...
#
# SUITE is bookworm, trixie and so on, VARIANT one of mmdebstrap's. Packages come from where this machine takes its own from.

set -euo pipefail

suite=$1 variant=$2 tar=$3 folder=$(dirname "$3")
[[ ! -e $tar ]] || exit 0
mkdir -p "$folder"
apt-config dump | grep -i '^Acquire::.*proxy' >"$folder/apt.conf" || true
# Debian's own sources as this machine has them; where it has none of that suite, mmdebstrap knows some.
apt-get indextargets --format "\$(ORIGIN) deb \$(REPO_URI) \$(RELEASE) \$(COMPONENT)" 'Created-By: Packages' |
    sed -n "s/^Debian \(deb .* $suite[^ ]* .*\)/\1/p" | sort -u >"$folder/sources-$suite"
sources=()
[[ ! -s $folder/sources-$suite ]] || sources=("$folder/sources-$suite")
rm -f "$tar.partial"
mmdebstrap --quiet --variant="$variant" --include="$(IFS=,; echo "${*:4}")" --aptopt="$folder/apt.conf" --format=tar \
    "$suite" "$tar.partial" "${sources[@]}"
mv "$tar.partial" "$tar"
