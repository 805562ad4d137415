# Reads rows "name TAB unit TAB ours|peer|skip TAB value" and prints, for each of the goals below,
# medians with spread and their ratio; with json=FILE it writes them there too, a row a line. Other
# rows are printed behind them.
BEGIN {
    FS = "\t"
    goal("log", "ratio", "<=", "1/6")
    goal("log_full", "ratio", "<=", "1/6")
    goal("log_memcpy", "ratio", "<=", "6")
    goal("log_instructions", "ratio", "<=", "1/7")
    goal("unix_cpu", "ratio", "<=", "1/7")
    goal("unix_rate", "ratio", ">=", "7")
    goal("tcp_cpu", "ratio", "<=", "1/4")
    goal("tcp_rate", "ratio", ">=", "4")
    goal("capture_rate", "ratio", ">=", "2")
    goal("drop_delivered", "ratio", ">=", "4")
    goal("paced_cpu_20k", "ratio", "<=", "1/3")
    goal("paced_cpu_500k", "ratio", "<=", "1/3")
    goal("paced_p99_500k", "ratio", "<=", "1/3")
    goal("first_after_idle", "ratio", "<=", "1/100")
    goal("idle_wakeups", "ours", "<=", "12")
    goal("threads_2", "ratio", "<=", "1.2")
    goal("extra", "ours", "<=", "100")
    goal("disabled", "ours", "<=", "2")
    goal("filtered", "ours", "<=", "5")
    goal("decode", "ratio", "<=", "1.15")
    goal("decode_bundle", "ratio", "<=", "0.4")
    goal("memory", "ours", "<=", "4096")
    goal("tls_cpu", "ratio", "<=", "1.1")
    goal("loop_poll", "ratio", "<=", "1/4", 250)
    goal("loop_epoll", "ratio", "<=", "1/4", 250)
    goal("loop_threads", "ours", "<=", "150")
    goal("loop_syscalls", "ours", "<=", "0.005")
    goal("loop_syscalls_epoll", "ours", "<=", "0.005")
    goal("loop_syscalls_idle", "ours", "<=", "0.005")
    goal("loop_clocks", "ours", "<=", "1")
    goal("listen_1", "ours", "<=", "60")
    goal("listen_4", "ours", "<=", "60")
    goal("listen_16", "ours", "<=", "60")
    goal("listen_log", "ratio", "<=", "1.1")
    goal("read_quiet", "ratio", "<=", "1/3")
    goal("read_exact", "ratio", "<=", "1/5")
}

# The goal of the ratio, or of ours; and the most that ours may be besides.
function goal(name, of, op, text, most) {
    names[++goals] = name
    goal_of[name] = of
    goal_op[name] = op
    goal_text[name] = text
    if (most) goal_most[name] = most
}

function goal_words(name) {
    return goal_op[name] " " goal_text[name] (name in goal_most ? ", ours <= " goal_most[name] : "")
}

function number(text, part) { return split(text, part, "/") == 2 ? part[1] / part[2] : text + 0 }

# Sorts the values of name and side; the median.
function sort_values(key, i, j, t) {
    for (i = 2; i <= count[key]; i++)
        for (j = i; j > 1 && value[key, j - 1] + 0 > value[key, j] + 0; j--) {
            t = value[key, j]
            value[key, j] = value[key, j - 1]
            value[key, j - 1] = t
        }
}

function median(key, n) {
    n = count[key]
    if (!n) return ""
    return n % 2 ? value[key, (n + 1) / 2] + 0 : (value[key, n / 2] + value[key, n / 2 + 1]) / 2
}

function short(x) {
    if (x == "") return "-"
    if (x >= 1e5) return sprintf("%.2f M", x / 1e6)
    return sprintf(x >= 100 ? "%.0f" : "%.3g", x)
}

function with_spread(key) {
    if (!count[key]) return "-"
    if (count[key] == 1) return short(median(key))
    return short(median(key)) " [" short(value[key, 1]) ".." short(value[key, count[key]]) "]"
}

function as_ratio(x) {
    if (x == "") return "-"
    return x > 0 && x < 0.5 ? sprintf("1/%.1f", 1 / x) : sprintf("%.2f", x)
}

# "true", "false", or "null" where nothing was measured.
function verdict(name, x, limit) {
    x = goal_of[name] == "ratio" ? ratio : median(name " ours")
    limit = number(goal_text[name])
    if (x == "") return "null"
    if (name in goal_most && median(name " ours") > goal_most[name]) return "false"
    return (goal_op[name] == "<=" ? x <= limit : x >= limit) ? "true" : "false"
}

function or_null(x, form) { return x == "" ? "null" : sprintf(form, x) }

function json_row(name, ok, text) {
    text = sprintf("{\"name\": \"%s\", \"unit\": \"%s\", ", name, unit[name])
    text = text sprintf("\"ours\": %s, ", or_null(median(name " ours"), "%.6g"))
    text = text sprintf("\"peer\": %s, ", or_null(median(name " peer"), "%.6g"))
    text = text sprintf("\"ratio\": %s, ", or_null(ratio, "%.4g"))
    text = text sprintf("\"goal\": \"%s\", \"ok\": %s}", goal_words(name), ok)
    json_text = json_text (json_text ? ",\n" : "") text
}

function print_row(name, ok, mark) {
    sort_values(name " ours")
    sort_values(name " peer")
    ratio = ""
    if (count[name " ours"] && median(name " peer"))
        ratio = median(name " ours") / median(name " peer")
    if (name in goal_of) {
        ok = verdict(name)
        mark = goal_words(name) (ok == "false" ? "  missed" : "")
        json_row(name, ok)
    }
    printf "%-19s %-12s %-28s %-28s %-7s %s\n", name, unit[name], with_spread(name " ours"),
        with_spread(name " peer"), as_ratio(ratio), mark
    if (name in skipped) printf "%-19s not measured: %s\n", "", skipped[name]
}

$3 == "skip" { skipped[$1] = $4; unit[$1] = $2; next }
NF == 4 {
    if (!($1 in unit)) order[++rows] = $1
    unit[$1] = $2
    value[$1 " " $3, ++count[$1 " " $3]] = $4
}

END {
    printf "%-19s %-12s %-28s %-28s %-7s %s\n", "name", "unit", "ours: median [min..max]",
        "peer: median [min..max]", "ratio", "goal"
    for (i = 1; i <= goals; i++) if (names[i] in unit) print_row(names[i])
    print ""
    for (i = 1; i <= rows; i++) if (!(order[i] in goal_of)) print_row(order[i])
    if (json) printf "[\n%s\n]\n", json_text >json
}
