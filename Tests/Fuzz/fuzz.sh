#!/bin/bash
# Runs libFuzzer over each check for some seconds, from the saved corpus, and saves what it found new.
# A crash ends it with an error and leaves the input in build/fuzz/.
set -euo pipefail
program=$1 seconds=$2
here=$(cd "$(dirname "$0")" && pwd)
work=$(cd "$here/../.." && pwd)/build/fuzz

mkdir -p "$work"
for check in request response chunks relay; do
	found=$work/$check
	kept=$work/$check-kept
	rm -rf "$found" "$kept"
	mkdir -p "$found" "$kept"
	python3 "$here/corpus.py" expand "$here/Corpus/$check.hex" "$found"
	# A whole exchange is two messages and what is between them.
	longest=700
	[ "$check" = relay ] && longest=8192
	echo "== $check"
	# libFuzzer's own trap handler saves the input; Swift's would not.
	SWIFT_BACKTRACE=enable=no MALLA_FUZZ_CHECK=$check "$program" "$found" \
		-max_total_time="$seconds" -max_len="$longest" -print_final_stats=1 \
		-artifact_prefix="$work/$check-crash-" 2>&1 | grep -E '^(stat::number_of|Done|==|SUMMARY)|ERROR' || true
	if compgen -G "$work/$check-crash-*" >/dev/null; then
		echo "$check: a crash; the input is in $work" >&2
		exit 1
	fi
	SWIFT_BACKTRACE=enable=no MALLA_FUZZ_CHECK=$check "$program" -merge=1 -max_len="$longest" "$kept" "$found" \
		>/dev/null 2>&1
	python3 "$here/corpus.py" collect "$here/Corpus/$check.hex" "$kept"
done
