#!/usr/bin/env bash
# Runs the tests, and says at the end which failed: of 40 000 lines the last are read.
set -uo pipefail
mkdir -p build
"$@" 2>&1 | tee build/test.log
status=${PIPESTATUS[0]}
if [ "$status" != 0 ]; then
    echo
    echo "Failed (build/test.log has all of it):"
    # What failed, and the first lines of why, but for the closing line, which comes last.
    grep -A 12 -E '^✘ (Test|Suite) .*(recorded an issue|Caught error)' build/test.log |
        grep -vE '^[◇✔]' | cut -c 1-600 | tail -n 200
    grep -E '^✘ Test run with' build/test.log
fi
exit "$status"
