# Makes the README's table of bench.json, which has one row a line.
function field(name, text) {
    if (!match($0, "\"" name "\": (\"[^\"]*\"|[^,}]*)")) return ""
    text = substr($0, RSTART + length(name) + 4, RLENGTH - length(name) - 4)
    gsub(/"/, "", text)
    return text
}

function short(x) {
    if (x == "null") return "–"
    x += 0
    if (x >= 1e6) return sprintf("%.1f M", x / 1e6)
    if (x >= 1e5) return sprintf("%.0f k", x / 1e3)
    return sprintf(x >= 100 ? "%.0f" : "%.3g", x)
}

function as_ratio(x) {
    if (x == "null") return "–"
    x += 0
    return x > 0 && x < 0.5 ? sprintf("1/%.1f", 1 / x) : sprintf("%.2f", x)
}

BEGIN { print "| name | unit | dnstap.h | peer | ratio | goal |\n|---|---|---:|---:|---:|---:|" }
/"name"/ {
    mark = field("ok") == "false" ? " (missed)" : ""
    printf "| `%s` | %s | %s | %s | %s | %s%s |\n", field("name"), field("unit"),
        short(field("ours")), short(field("peer")), as_ratio(field("ratio")), field("goal"), mark
}
