#!/usr/bin/env bash
# Runs all tests, also those after one that failed, and says at the end how many passed and what was skipped, and why.
#
#   test.sh [ARGUMENT...]   the arguments are for `cargo test`
#
# A test that cannot do a part of its work prints "skipped: REASON" and passes. Cargo shows that only where it is asked for the
# output of tests that passed; most of which nobody wants to see, so only these lines are picked out of it.

set -euo pipefail
cd "$(dirname "$0")/.."
# An ordinary user of Debian does not have there what makes and checks file systems.
PATH=$PATH:/usr/sbin:/sbin

main() {
    local folder status=0
    folder=${CARGO_TARGET_DIR:-target}
    mkdir -p "$folder"
    # Many tests wait: for a mount, for a clock, for another process.
    export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) + 1))}
    case "$*" in
    '' | --no-default-features) all "$folder" "$@" || status=$? ;;
    *) cargo_test "$@" 2>&1 | tee "$folder/test.log" | show || status=$? ;;
    esac
    summarise <"$folder/test.log" | tee "$folder/test-summary"
    return "$status"
}

# All tests, in two lines at a time: `vault` waits most of its time, and is as long as all others together.
all() {
    local folder=$1 file status=0 others=(--lib --bins)
    for file in tests/*.rs tests/*/main.rs; do
        file=${file#tests/}
        file=${file%%[/.]*}
        [[ $file = vault ]] || others+=(--test "$file")
    done
    shift
    # What does not compile is to be found in the log too.
    ${CARGO:-cargo} test --locked --no-run "$@" 2>&1 | tee "$folder/test.log" || return
    (cargo_test "$@" --test vault 2>&1 | tee "$folder/vault.log" | show) &
    {
        # Tests of `vault` make tables of mounts, with a copy of every mount there is: what others unmount would stay in use.
        [[ $(id -u) -ne 0 ]] || apart=(unshare --mount --propagation private)
        cargo_test "$@" "${others[@]}" || failed=yes
        apart=()
        cargo_test "$@" --doc && [[ ! ${failed-} ]]
    } 2>&1 | tee "$folder/test.log" | show || status=$?
    wait $! || status=$?
    cat "$folder/vault.log" >>"$folder/test.log"
    return "$status"
}

cargo_test() {
    ${apart[@]+"${apart[@]}"} ${CARGO:-cargo} test --locked --no-fail-fast "$@" -- --show-output
}

# The log without what tests that passed have printed. (libtest: "successes:", each test's output under a line of its name, once
# more "successes:" with the names, then "failures:" or the result.)
show() {
    sed -u '/^successes:$/,/^\(failures:$\|test result: \)/{/^\(failures:$\|test result: \)/!d}'
}

summarise() {
    awk '
        / Running .*\(.*\)$/ || /^ *Doc-tests / { begun++; program = $0 }
        /^---- .* stdout ----$/ { test = program " " $2 }
        /^skipped: / && inside && !((test, $0) in seen) {
            seen[test, $0]
            count[substr($0, 10)]++
            if (!(test in skipping)) { skipping[test]; skipped++ }
        }
        # Why a test failed, in a few lines, as the log is long.
        /^---- .* stdout ----$/ && !inside { failed_test = $2; told = 0 }
        failed_test && (/panicked at/ || told) && told < 8 {
            if (/^stack backtrace:$/ || /^note: run with/) failed_test = ""
            else { told++; why[failed_test] = why[failed_test] "\n        " substr($0, 1, 400) }
        }
        /^successes:$/ { inside = 1 }
        /^failures:$/ { inside = 0 }
        /^test .* \.\.\. FAILED$/ { failures[++failed_ones] = $2 }
        /^test result: / { inside = 0; ended++; passed += $4; failed += $6 }
        END {
            passed -= skipped
            print ""
            if (failed_ones) print "failed:"
            for (at = 1; at <= failed_ones; at++) print "    " failures[at] why[failures[at]]
            if (skipped) {
                print "skipped, in whole or in part:"
                sorted = "sort"
                for (reason in count)
                    printf "    %s (%d %s)\n", reason, count[reason], count[reason] == 1 ? "test" : "tests" | sorted
                close(sorted)
                printf "%d of %d tests ran in whole\n", passed + failed, passed + failed + skipped
            }
            if (ended < begun) printf "%d of %d test programs ended without a result\n", begun - ended, begun
            printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
        }
    '
}

main "$@"
