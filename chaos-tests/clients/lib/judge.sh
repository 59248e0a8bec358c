# What a client's files say, sourced by run.sh.

# More reading again than this says that commits do not work: member 2 starts again after half of the load.
duplicates_max_percent=40

# judge NAME: sets acked, consumed, duplicates, gap, slowest and verdict; `verdict` is ok or what is wrong.
judge() {
  local dir=$work/$1 read_count missing twice changed
  touch "$dir/producer/acked" "$dir/member-1/read" "$dir/member-2/read"
  acked=$(numbers_acked | wc -l)
  read_count=$(numbers_read | wc -l)
  consumed=$(numbers_read | uniq | wc -l)
  duplicates=$((read_count - consumed))
  gap=$(longest_gap)
  slowest=$(slowest_ack)

  missing=$(comm -23 <(numbers_acked) <(numbers_read | uniq) | wc -l)
  ((missing == 0)) || echo "$missing acknowledged numbers were not read" >> "$dir/problems"
  ((acked == rate * duration_s)) || echo "$((rate * duration_s - acked)) numbers were not acknowledged" >> "$dir/problems"
  local role
  for role in member-1 member-2; do
    [ -s "$dir/$role/read" ] || echo "$role read nothing" >> "$dir/problems"
  done
  ((100 * duplicates <= duplicates_max_percent * consumed)) || echo "too much is read again: commits?" >> "$dir/problems"
  twice=$(stored_twice | wc -l)
  [ $stores_once = no ] || ((twice == 0)) || echo "$twice numbers of an idempotent producer are stored twice" >> "$dir/problems"
  changed=$(changed_reads | wc -l)
  ((changed == 0)) || echo "$changed offsets gave different numbers" >> "$dir/problems"

  verdict=ok
  [ -s "$dir/problems" ] && verdict="FAILED: $(paste -sd ';' "$dir/problems" | sed 's/;/; /g')"
}

# Numbers at more than one place of the log.
stored_twice() { cat "$dir"/member-?/read | sort -u | cut -d ' ' -f 1 | sort | uniq -d; }

# Places of the log at which more than one number was read.
changed_reads() { cat "$dir"/member-?/read | sort -u | cut -d ' ' -f 2,3 | sort | uniq -d; }

# Both in seconds, "-" when the client does not say when it was acknowledged.
#
# The longest time between two acknowledgements.
longest_gap() {
  cut -s -d ' ' -f 2 "$dir/producer/acked" | sort -n |
    awk 'NR > 1 && $1 - last > gap { gap = $1 - last } { last = $1 } END { if (NR) printf "%.1f s", gap / 1000; else print "-" }'
}

# The longest time from when a number was due until its acknowledgement, beyond the shortest such time.
slowest_ack() {
  grep ' ' "$dir/producer/acked" | awk -v rate=$rate '
    { late = $2 - 1000 * $1 / rate }
    NR == 1 || late < least { least = late }
    NR == 1 || late > most { most = late }
    END { if (NR) printf "%.1f s", (most - least) / 1000; else print "-" }'
}
