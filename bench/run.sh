#!/usr/bin/env bash
# run.sh: runs the benchmarks that `make bench` has built, one after the other, prints a table and leaves
# bench/out/results.tsv. QUICK=1: fewer rounds, under a minute. BENCHES="wire call": only these. Run from the
# top of the repository.
set -u
: "${BUILD:=build}" "${BENCHES:=build wire call streams standby outages features index cache ledger report quality}"
export QUICK="${QUICK:-}" CC="${CC:-gcc}"
out=bench/out failed=0
mkdir -p "$out"
printf 'metric\tvalue\tunit\tbar\thow measured\n' >"$out/new.tsv"
for name in $BENCHES; do
    echo "bench: $name" >&2
    "$BUILD/bench/$name" >>"$out/new.tsv" || { echo "bench: $name failed" >&2; failed=1; }
done
mv "$out/new.tsv" "$out/results.tsv"
awk -F '\t' '
    { if (NR == 1) { verdict = "" } else if ($4 == "") { verdict = "" }
      else { bar = substr($4, 3) + 0 # "<= 1.3"
             good = substr($4, 1, 1) == "<" ? $2 + 0 <= bar : $2 + 0 >= bar
             verdict = good ? "good" : "MISSED"; missed += !good; bars++ }
      printf "%-76s %9s %-7s %-10s %s\n", $1, $2, $3, $4, verdict }
    END { printf "%d of %d bars met; how each was measured: bench/out/results.tsv\n", bars - missed, bars }
' "$out/results.tsv"
exit $failed
