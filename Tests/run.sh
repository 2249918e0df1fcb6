#!/usr/bin/env bash
# Runs the tests, and says at the end which failed: of 40 000 lines the last are read.
#
# The last line is the count, "N passed, N failed, N skipped", for those who read no more than that.
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
# Lines of a test of many cases, and of the whole run, are no tests.
ended() { grep -E "^[^ ]*$1[^ ]* Test .* $2" build/test.log | grep -cvE '^[^ ]+ Test (run|case) '; }
passed=$(ended ✔ "passed after") failed=$(ended ✘ "failed after") skipped=$(ended ➜ "skipped(:|\.)")
# A run that ended in the middle has failed, even where no test has.
if [ "$status" != 0 ] && [ "$failed" = 0 ]; then failed=1; fi
echo "$passed passed, $failed failed, $skipped skipped"
exit "$status"
