#!/usr/bin/env bash
# at-once.sh FIRST SECOND: runs two commands at the same time. What the first says is told when both have ended. Fails if
# one of them does.
set -uo pipefail
said=$(mktemp)
bash -c "$1" >"$said" 2>&1 &
first=$!
trap 'kill "$first" 2>/dev/null; rm -f "$said"' EXIT
bash -c "$2"
second_failed=$?
wait "$first"
first_failed=$?
echo "--- $1"
cat "$said"
[ "$first_failed" = 0 ] && [ "$second_failed" = 0 ]
