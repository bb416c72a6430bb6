# Reads what `go test -bench ^BenchmarkCores -cpu 1,2 -count N` prints and compares one processor with two: see doc.go.
# Each line: the median cost of a step in ns (processor time and waiting for mutexes) on one and on two, and how much
# more two do, by the medians and in the worst and the best pair of rounds.
/^pkg: / { pkg = $2; sub(/^github.com\/sluice-gateway\/sluice\//, "", pkg) }
/^Benchmark/ {
    name = $1; n = 1
    if (match(name, /-[0-9]+$/)) { n = substr(name, RSTART + 1); name = substr(name, 1, RSTART - 1) }
    sub(/^BenchmarkCores\/?/, "", name)
    cost = 0
    for (i = 3; i <= NF; i++) if ($i == "cpu-ns/op" || $i == "wait-ns/op") cost += $(i - 1)
    key = pkg " " name
    if (!(key in seen)) { seen[key] = 1; keys[++many] = key }
    costs[key, n, ++rounds[key, n]] = cost
}
function median(key, n,   r, i, j, v, t) {
    r = rounds[key, n]
    for (i = 1; i <= r; i++) v[i] = costs[key, n, i]
    for (i = 1; i < r; i++) for (j = i + 1; j <= r; j++) if (v[j] < v[i]) { t = v[i]; v[i] = v[j]; v[j] = t }
    return r % 2 ? v[(r + 1) / 2] : (v[r / 2] + v[r / 2 + 1]) / 2
}
END {
    printf "%-74s %9s %9s  %s\n", "", "one", "two", "two do so much more (least to most)"
    for (k = 1; k <= many; k++) {
        key = keys[k]; one = median(key, 1); two = median(key, 2)
        if (!one || !two) continue
        least = 1e9; most = 0
        for (i = 1; i <= rounds[key, 1] && i <= rounds[key, 2]; i++) {
            ratio = 2 * costs[key, 1, i] / costs[key, 2, i]
            if (ratio < least) least = ratio
            if (ratio > most) most = ratio
        }
        printf "%-74s %9.1f %9.1f  %.2f (%.2f to %.2f)\n", key, one, two, 2 * one / two, least, most
    }
}
