#!/usr/bin/env bash
# Runs the tests in two halves side by side, each one test after another, and says at the end which
# failed: of 40 000 lines the last are read. Most tests wait for something most of the time.
#
# The last line is the count, "N passed, N failed, N skipped", for those who read no more than that.
#
# usage: run.sh PROGRAM [ARGUMENT...]    the tests' program, as `swift build --build-tests` makes it
set -uo pipefail
mkdir -p build
# What the first half takes is what the second leaves out: no test is in neither.
half='^(NodeTests\.[A-O]|L7EngineTests\.|NodeAgentTests\.)'
program=("$@" --testing-library swift-testing --no-parallel)
(
    "${program[@]}" --skip "$half" 2>&1 | tee build/test-2.log
    exit "${PIPESTATUS[0]}"
) &
second=$!
"${program[@]}" --filter "$half" 2>&1 | tee build/test-1.log
statuses=("${PIPESTATUS[0]}")
wait "$second"
statuses+=("$?")
# swift test writes in colours where it takes its output for a terminal's.
cat build/test-1.log build/test-2.log | sed 's/\x1b\[[0-9;]*m//g' > build/test.log
status=0
for each in "${statuses[@]}"; do if [ "$each" != 0 ]; then status=$each; fi; done
echo
if [ "$status" != 0 ]; then
    echo "Failed (build/test.log has all of it):"
    # What failed, and the first lines of why, but for the closing lines, which come last.
    grep -A 12 -E '^✘ (Test|Suite) .*(recorded an issue|Caught error)' build/test.log |
        grep -vE '^[◇✔]' | cut -c 1-600 | tail -n 200
fi
grep -E '^[✔✘] Test run with' build/test.log
# Lines of a test of many cases, and of the whole run, are no tests.
ended() { grep -E "^[^ ]*$1[^ ]* Test .* $2" build/test.log | grep -cvE '^[^ ]+ Test (run|case) '; }
passed=$(ended ✔ "passed after") failed=$(ended ✘ "failed after") skipped=$(ended ➜ "skipped(:|\.)")
# A half that ended in the middle has failed, even where no test has.
if [ "$status" != 0 ] && [ "$failed" = 0 ]; then failed=1; fi
echo "$passed passed, $failed failed, $skipped skipped"
exit "$status"
