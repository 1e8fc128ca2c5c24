#!/usr/bin/env bash
# Makes the handbook, docs/, as web pages. What mdBook warns of is an error; tests/book.rs looks for dead links and runs the commands.
#
# mdBook is on no Debian 12, so that this version is built once, for this project alone and without what a web server needs.

set -euo pipefail
cd "$(dirname "$0")/.."

version=0.5.4
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}")/book-tools

main() {
    local said
    if [[ $("$folder/bin/mdbook" --version 2>/dev/null) != "mdbook v$version" ]]; then
        # Unoptimised: it is built more often than it has much to do.
        CARGO_TARGET_DIR=$folder/build "${CARGO:-cargo}" install mdbook --version "$version" --locked --debug --quiet \
            --no-default-features --root "$folder"
        rm -rf "$folder/build"
    fi
    said=$("$folder/bin/mdbook" build docs --dest-dir "$folder/../book" 2>&1) || fail "$said"
    ! grep -E '^ *(WARN|ERROR)|\[(WARN|ERROR)\]' <<<"$said" || fail 'mdBook warns, see above'
    echo "book: $(realpath --relative-to=. "$folder/../book")/index.html"
}

fail() {
    echo "book: $1" >&2
    exit 1
}

main
