"""Points and questions of prom-diff: all that PromQL can do with floats, as instant and as range queries, and the HTTP API around it.

Points lie on both sides of a window's edge (T0), at even and odd times, with gaps, stale markers, resets, NaN, infinities, -0.0.
"""
import random

T0 = 1795219200  # 2026-11-21T00:00:00Z, the edge of two windows
HALF = 1200


def points():
    """[{labels, points: [[ms, text]]}], the text a number or `stale`."""
    rng = random.Random(3)
    grid = [(T0 + s) * 1000 for s in range(-HALF, HALF + 1, 30)]
    out = []

    def add(name, labels, rows):
        out.append({"labels": {"__name__": name, **labels}, "points": [[at, text] for at, text in rows]})

    def number(value):
        return repr(value) if value != int(value) or abs(value) > 1e15 else str(int(value))

    for job in ("api", "web"):
        for instance in ("0", "1"):
            for code in ("200", "500"):
                value, rows = 0, []
                for at in grid:
                    value = rng.randrange(9) if rng.random() < 0.02 else value + rng.randrange(0, 50)
                    rows.append((at, str(value)))
                add("req_total", {"job": job, "instance": instance, "code": code}, rows)
    for i, host in enumerate("abcde"):
        value, rows = 20.0, []
        for at in grid:
            value = round(value + rng.uniform(-1, 1), 2)
            gone = (host == "c" and at > (T0 + 300) * 1000) or (host == "d" and at < (T0 - 200) * 1000) or \
                   (host == "e" and (T0 - 500) * 1000 < at < (T0 + 100) * 1000)
            if not gone:
                rows.append((at, number(value)))
        if host == "c":
            rows.append(((T0 + 330) * 1000, "stale"))
        add("temp", {"host": host, "dc": "xy"[i % 2], "rack": str(i // 2)}, rows)
    odd = {
        "nan": lambda i: "NaN" if i % 3 else str(i), "inf": lambda i: ("1", "+Inf", "-Inf")[i % 3], "neg": lambda i: str(-i),
        "zero": lambda i: ("0", "-0.0")[i % 2], "big": lambda i: ("1e308", "1.7e308", "-1e308")[i % 3], "tiny": lambda i: ("5e-324", "1e-310")[i % 2],
        "const": lambda i: "0.1", "stale": lambda i: "stale" if i % 4 == 3 else str(i * 0.5),
    }
    for kind, value in odd.items():
        add("odd", {"kind": kind}, [(at, value(i)) for i, at in enumerate(grid)])
    for job in ("api", "web"):
        counts = [0, 0, 0, 0]
        rows = [[] for _ in counts]
        for at in grid:
            more = sorted(rng.randrange(0, 20) for _ in counts)
            for i, m in enumerate(more):
                counts[i] += m
                rows[i].append((at, str(counts[i])))
        for le, r in zip(("0.1", "0.5", "2.5", "+Inf"), rows):
            add("lat_bucket", {"job": job, "le": le}, r)
        add("lat_count", {"job": job}, rows[3])
        add("lat_sum", {"job": job}, [(at, number(round(int(text) * 0.37, 2))) for at, text in rows[3]])
    few = grid[::8]
    for le, value in (("1", "10"), ("2", "7"), ("3", "7.000000000000001"), ("+Inf", "12")):
        add("falling_bucket", {"le": le}, [(at, value) for at in few])
    for le, value in (("1", "10"), ("2", "17")):
        add("endless_bucket", {"le": le}, [(at, value) for at in few])
    for le, value in (("-1", "2"), ("0", "4"), ("1e0", "9"), ("1", "1"), ("nonsense", "3"), ("Inf", "14")):
        add("mixed_bucket", {"le": le}, [(at, value) for at in few])
    add("mixed_bucket", {}, [(at, "5") for at in few])
    for job, version in (("api", "1.2"), ("web", "1.10"), ("db", "2.0"), ("db", "2.1")):
        add("build_info", {"job": job, "version": version}, [(at, "1") for at in few])
    for job in ("api", "web"):
        for instance in ("0", "1", "2"):
            add("up", {"job": job, "instance": instance}, [(at, str(int(rng.random() < 0.8))) for at in grid])
        add("limit", {"job": job, "group": job + "-group"}, [(at, str(500 + 100 * i)) for i, at in enumerate(few)])
    for n in range(6):
        add("ints", {"n": str(n), "odd": str(n % 2)}, [(at, str((n * 7 + i) % 4)) for i, at in enumerate(grid)])
    for n in ("1", "2"):
        at, rows = (T0 - HALF) * 1000, []
        while at < (T0 + HALF) * 1000:
            rows.append((at, repr(rng.gauss(0, 1))))
            at += rng.randrange(1000, 60000)
        add("jitter", {"n": n}, rows)
    add("lonely_total", {}, [((T0 + 7) * 1000, "5")])
    add("pair_total", {}, [((T0 - 11) * 1000, "5"), ((T0 + 13) * 1000, "8")])
    add("disk.used", {"kube.ns": "a", "plain": "1"}, [(at, str(i)) for i, at in enumerate(few)])
    add("disk.used", {"kube.ns": "b", "plain": "2"}, [(at, str(2 * i)) for i, at in enumerate(few)])
    # Prometheus keeps new series in order of creation and breaks ties by it: let that be the order of labels, as in its blocks and here.
    return sorted(out, key=lambda one: sorted(one["labels"].items()))


SELECTORS = """
req_total | req_total{job="api"} | req_total{job!="api",code="500"} | req_total{job=~"a.*"} | req_total{job!~"a.*|x"} | req_total{job=~"ap"}
{__name__="temp"} | {__name__=~"te.*"} | {__name__=~"up|limit",job="web"} | {__name__!~"r.*|o.*|l.*|t.*|f.*|m.*|e.*",job=~".+"} | {job="db"} | {le="1"}
temp{host=""} | temp{nothere=""} | temp{nothere!=""} | temp{nothere=~".*"} | temp{nothere=~".+"} | temp{host=~"a|b",dc="x"} | temp{host=~"(?i)A"} | nothing
temp{host="a" or host="b"} | {"disk.used"} | {"disk.used","kube.ns"="a"} | {"disk.used","kube.ns"=~"b|c"} | odd | jitter | lonely_total | pair_total
temp offset 1m | temp offset -1m | temp offset 7m30s | temp @ 1795219000 | temp @ 1795219123.456 | temp @ start() | temp @ end() | temp @ end() offset 2m
temp offset 2m @ 1795219300 | req_total @ 1795219200 offset -30s | odd offset 10s | odd{kind="stale"} offset 5s | -temp | +temp | -(-temp) | (temp)
temp[2m] | req_total{job="api"}[90s] offset 30s | odd[1m] | jitter[45s] @ 1795219500 | temp[3m:1m] | temp[3m:] | rate(req_total[1m])[2m:30s] | temp[5m:45s] offset 20s
1 | 1.5e3 | 0x1F | 1e-9 | NaN | Inf | -Inf | "text" | 'single' | `raw\\n` | "esc\\t\\u00e9" | 1h | 5m30s | 1_000 | 010 | 1_0.5 | 1__0 | temp{host=~"1_0"} | sum(temp) / 1_0 # 1_0 | -1^2 | 2^3^2 | 7%3 | -7%3 | 1/0 | 0/0 | 1 > bool 2
"""

OVER_TIME = ("avg_over_time min_over_time max_over_time sum_over_time count_over_time last_over_time first_over_time present_over_time stddev_over_time "
             "stdvar_over_time absent_over_time changes resets deriv delta idelta rate irate increase").split()
RANGES = ["temp[5m]", "odd[3m]", "jitter[2m]", "req_total[1m30s]", "req_total{code=\"200\"}[4m] offset 1m", "temp[8m:30s]", "pair_total[2m]",
          "(temp - 20)[2m:20s]", "odd[1m] @ 1795219200"]
MAPS = ("abs ceil floor exp ln log2 log10 sqrt sgn sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh rad deg round "
        "minute hour day_of_month day_of_week day_of_year days_in_month month year timestamp sort sort_desc absent scalar "
        "histogram_count histogram_sum histogram_avg histogram_stddev histogram_stdvar").split()
AGGREGATIONS = "sum avg min max count group stddev stdvar".split()
EXACT = "abs ceil floor exp sqrt sgn deg rad round timestamp".split()  # what all libraries compute alike
GROUPINGS = ["", " by (job)", " by (job, code)", " without (instance)", " by ()", " by (nothere)", " without ()", " by (__name__)", " without (job, nothere)"]

MORE = """
quantile(0.9, req_total) | quantile by (job) (0.5, req_total) | quantile(-1, req_total) | quantile(1.1, req_total) | quantile(NaN, req_total) | quantile(0.3, odd)
topk(3, req_total) | topk by (job) (1, req_total) | bottomk(2, temp) | bottomk without (rack) (1, temp) | topk(0, temp) | topk(-1, temp) | topk(100, temp) | topk(2, odd) | bottomk(2, odd)
topk(3, ints) | bottomk(4, ints) | topk by (odd) (2, ints) | topk(NaN, temp) | topk(1e20, temp) | topk(scalar(limit{job="api"}) - 500, temp) | topk(2.9, temp)
count_values("v", ints) | count_values by (odd) ("v", ints) | count_values without (n) ("n", ints) | count_values("v", odd) | count_values("bad-name", ints) | count_values("job", up)
count_values("", ints) | limitk(2, temp) | limit_ratio(0.5, temp) | sum(req_total) by (job) | sum by (job,) (req_total) | avg(odd{kind=~"big|inf"}) | sum(odd{kind="tiny"}) | avg(odd)
stddev(odd{kind!~"nan|inf|big"}) | min(odd{kind=~"nan|neg"}) | max(odd{kind=~"nan"}) | group(nothing) | count(nothing) | sum(nothing) or vector(0) | avg(avg_over_time(jitter[5m]))
quantile_over_time(0.5, temp[5m]) | quantile_over_time(0.95, odd[5m]) | quantile_over_time(2, temp[5m]) | quantile_over_time(-0.1, temp[5m]) | quantile_over_time(NaN, temp[2m])
quantile_over_time(scalar(ints{n="1"}) / 4, temp[5m]) | predict_linear(temp[5m], 3600) | predict_linear(odd[5m], 60) | predict_linear(req_total[5m] offset 2m, -60) | predict_linear(temp[5m] @ 1795219200, 10)
deriv(pair_total[2m]) | deriv(odd{kind="const"}[2m]) | deriv(odd{kind="inf"}[2m]) | changes(odd{kind="nan"}[5m]) | resets(odd{kind="neg"}[5m]) | resets(ints[5m]) | rate(lonely_total[5m])
rate(req_total[30s]) | rate(req_total[31s]) | rate(req_total[29s]) | rate(req_total[1s]) | increase(pair_total[5m]) | delta(odd{kind="neg"}[5m]) | irate(odd[2m]) | rate({__name__=~"req_total|up"}[2m])
sum by (job) (rate(req_total[2m])) | sum(rate(req_total{code="500"}[2m])) / sum(rate(req_total[2m])) | sum without (code) (increase(req_total[5m])) | max_over_time(rate(req_total[1m])[5m:1m])
rate(sum(req_total)[5m:30s]) | min_over_time(temp[5m:77s]) | avg_over_time(temp[10m:1m] @ 1795219200) | max_over_time((time() - 1795219000)[5m:30s] offset 33s) | sum_over_time(vector(1)[5m:1m])
count_over_time((temp > 20)[5m:30s]) | last_over_time(temp[1h:1m]) | absent_over_time(nothing[5m]) | absent_over_time(nothing{a="b",c=~"d"}[5m]) | absent_over_time(temp{host="d"}[1m]) | absent_over_time(rate(nothing[5m])[5m:])
absent(nothing) | absent(nothing{a="b"}) | absent(nothing{a="b",a="c"}) | absent(nothing{a=~"b",c="d",e!="f"}) | absent(temp{host="d"}) | absent(sum(nothing{a="b"})) | absent({a="b"}) | absent(temp > 1000)
scalar(temp) | scalar(temp{host="a"}) | scalar(nothing) | vector(1) | vector(scalar(temp{host="a"})) | vector(time()) | time() | time() - 1795219200 | pi() | pi() * 2 | scalar(vector(NaN))
clamp(temp, 19, 21) | clamp(temp, 21, 19) | clamp_min(temp, 20) | clamp_max(temp, 20) | clamp(odd, -1, 1) | clamp(temp, NaN, 3) | clamp_min(temp, NaN) | clamp_max(odd, -Inf) | clamp(temp, 0, scalar(ints{n="0"}))
round(temp, 0.5) | round(temp, 0.1) | round(temp, -3) | round(odd) | round(odd, 0) | round(temp, scalar(ints{n="1"})) | round(-2.5 * up) | minute() | hour() | day_of_week() | day_of_year() | days_in_month() | month() | year() | minute(vector(1795219261))
hour(odd) | year(odd) | day_of_month(odd{kind="big"}) | days_in_month(vector(1709200000)) | day_of_week(vector(-1)) | year(vector(-62135596801)) | timestamp(temp offset 1m) | timestamp(temp @ 1795219000) | timestamp(sum(temp)) | timestamp(vector(3)) | timestamp(timestamp(temp))
label_replace(temp, "new", "$1-x", "host", "(.)") | label_replace(temp, "new", "$name", "host", "(?P<name>.)") | label_replace(temp, "host", "", "host", "a") | label_replace(temp, "host", "z", "host", "q") | label_replace(temp, "new", "$2", "host", "(.)")
label_replace(temp, "dc", "same", "dc", ".*") | label_replace(temp, "rack", "", "host", "(.*)") | label_replace(sum(temp), "a", "b", "", "") | label_replace(temp, "", "b", "host", ".*") | label_replace(temp, "new", "x", "host", "(") | label_replace(temp, "__name__", "other", "host", "a")
label_replace(temp, "new", "${1}y$$", "host", "(.)") | label_replace(temp, "kube.ns", "$1", "host", "(.*)") | label_replace(temp, "all", "one", "nothere", "") | label_replace(vector(1), "a", "b", "", "")
label_join(temp, "new", "-", "host", "dc") | label_join(temp, "new", "", "host", "nothere") | label_join(temp, "host", "-") | label_join(temp, "", "-", "host") | label_join(temp, "new", "-", "nothere", "nothere2") | label_join(temp, "__name__", "-", "host")
histogram_quantile(0.5, lat_bucket) | histogram_quantile(0.9, rate(lat_bucket[2m])) | histogram_quantile(0.99, sum by (le) (rate(lat_bucket[5m]))) | histogram_quantile(0, lat_bucket) | histogram_quantile(1, lat_bucket) | histogram_quantile(-1, lat_bucket) | histogram_quantile(2, lat_bucket) | histogram_quantile(NaN, lat_bucket)
histogram_quantile(0.5, falling_bucket) | histogram_quantile(0.9, falling_bucket) | histogram_quantile(0.5, endless_bucket) | histogram_quantile(0.2, mixed_bucket) | histogram_quantile(0.5, temp) | histogram_quantile(0.7, lat_bucket{le!="0.5"}) | histogram_quantile(scalar(ints{n="1"})/3, lat_bucket)
histogram_quantile(0.5, {__name__=~"lat_bucket|falling_bucket"}) | histogram_fraction(0, 0.5, lat_bucket) | histogram_fraction(0.1, 2.5, rate(lat_bucket[2m])) | histogram_fraction(-Inf, +Inf, lat_bucket) | histogram_fraction(1, 0, lat_bucket) | histogram_fraction(0.2, 0.3, lat_bucket) | histogram_fraction(NaN, 1, lat_bucket)
histogram_fraction(0, 1, endless_bucket) | histogram_fraction(-2, 0.5, mixed_bucket) | histogram_fraction(0, 9, falling_bucket) | sum by (le) (lat_bucket) | lat_sum / lat_count | rate(lat_sum[5m]) / rate(lat_count[5m]) | histogram_quantile(0.5, temp{host="a"} + 1)
sort(temp) | sort_desc(temp) | sort(odd) | sort_desc(odd) | sort(sum by (job) (req_total)) | sort_desc(topk(3, temp)) | sort(-temp) | sort_by_label(temp, "host")
temp + 1 | 1 - temp | temp * temp | temp / 0 | temp % 3 | temp ^ 2 | temp atan2 3 | odd + odd | odd * 0 | odd / odd | odd % 2 | odd ^ 0.5 | temp > 20 | 20 < temp | temp >= bool 20 | temp == 20 | temp != bool temp | odd == odd | odd != bool odd | odd < bool 1
temp + on(host) temp | temp - ignoring(rack) temp | req_total / on(job) group_left(group) limit | req_total / on(job) group_left limit | limit * on(job) group_right req_total | limit * on(job) group_right(group) req_total | req_total * on(job) limit | limit * on(job) req_total
req_total * on(job) group_left(version) build_info | req_total * on(job) group_left(version) build_info{job!="db"} | up * on(job) group_left(version) build_info | build_info * on(job) group_right up | build_info == on(job) build_info | temp + ignoring(host, rack) group_left sum by (dc) (temp)
req_total - on(job, instance, code) req_total | req_total + on() vector(1) | req_total + on(job) group_left() limit | sum by (job) (req_total) > on(job) limit | req_total > on(job) group_left limit | req_total >= bool on(job) group_left limit | limit < on(job) group_right req_total | temp and temp{dc="x"}
temp unless temp{dc="x"} | temp or req_total | temp and on(dc) temp{host="a"} | temp unless on(dc) temp{host="a"} | temp or on(dc) temp{host="a"} | temp or on() vector(1) | vector(1) or temp | temp and vector(1) | temp and on() vector(1) | temp unless on() nothing | up == 0 or up == 1 | temp and ignoring(host, rack) temp{host="a"}
(temp > 20) + (temp < 25) | sum(temp) + sum(odd{kind="neg"}) | temp > bool 20 and temp | (temp + temp) / 2 == temp | up == 1 and on(job, instance) req_total > 100 | {__name__=~"lat_sum|lat_count"} / 2 | abs({__name__=~"lat_sum|lat_count"}) | -{__name__=~"lat_sum|lat_count"} | {__name__=~"lat_sum|lat_count"} > 5
sum({__name__=~"lat_.*"}) by (__name__) | rate({__name__=~"lat_sum|lat_count"}[2m]) | last_over_time({__name__=~"lat_sum|lat_count"}[2m]) | count({__name__=~".+"}) | count by (__name__) ({__name__=~".+"}) | topk(1, {__name__=~"lat_.*"}) | temp + up | temp * on(host) group_left nothing
"disk.used" | {"disk.used"} * 2 | sum by ("kube.ns") ({"disk.used"}) | sum without ("kube.ns") ({"disk.used"}) | {"disk.used"} + on("kube.ns") {"disk.used"} | label_replace({"disk.used"}, "x", "$1", "kube.ns", "(.)") | rate({"disk.used"}[10m])
double_exponential_smoothing(temp[5m], 0.5, 0.5) | mad_over_time(temp[5m]) | ts_of_min_over_time(temp[5m]) | ts_of_max_over_time(temp[5m]) | ts_of_last_over_time(temp[5m]) | ts_of_first_over_time(temp[5m]) | min_of(1, 2) | max_of(1, 2) | step() | range() | start() | end()
info(up) | histogram_quantiles(lat_bucket, "q", 0.5) | start_timestamp(temp) | sort_by_label_desc(temp, "host") | holt_winters(temp[5m], 0.5, 0.5) | unheard_of(temp) | sum( | temp{ | temp{host} | temp{host=a} | temp[5m | temp[] | temp[0s] | temp offset | 5m5 | temp @ | rate(temp) | sum(temp[5m]) | abs(1) | abs() | abs(temp, temp)
rate(temp[5m]) + temp[5m] | 1 + "a" | "a" + 1 | temp and 1 | 1 or 1 | temp == bool | 1 == 1 | 1 == bool 1 | temp{__name__="x"} | {} | {a=~".*"} | {a=""} | {__name__=""} | temp{host=~"["} | topk(temp, temp) | topk("a", temp) | quantile(temp) | count_values(1, temp) | sum by (temp | sum(temp) by (a) without (b) | label_replace(temp, "a")
temp[5m:1m:1m] | temp[5m][5m] | sum(temp)[5m] | temp @ foo | temp @ temp | temp offset 1m offset 2m | sum(temp) offset 5m | vector(temp) | scalar(1) | time(1) | round(temp, temp) | clamp(temp) | temp + on(a) group_left(a) temp | temp and on(a) group_left temp | 1 + on(a) 1 | temp + ignoring(a) 1 | temp > on() bool 1
rate(temp[5m] offset 1m) | avg_over_time(temp[5m] offset -1m) | sum_over_time(odd{kind="big"}[5m]) | avg_over_time(odd{kind="big"}[5m]) | stddev_over_time(odd{kind="big"}[5m]) | sum_over_time(odd{kind="inf"}[1m]) | avg_over_time(odd{kind="const"}[10m]) | min_over_time(odd{kind="nan"}[5m]) | avg_over_time({__name__=~"temp|jitter"}[5m])
""" + r"""
temp[5m+1m] | rate(req_total[2*1m]) | temp offset (1m+30s) | temp offset 1m+30s | count_over_time(temp[step()*2]) | temp[2%9s] | temp[+2m] | temp[-2m] | temp[300] | temp[3m:1m+30s] | temp[(5m)]
temp offset +1m | temp offset -(1m) | count_over_time(temp[1h/20]) | temp[max_of(1m,2m)] | temp offset 60 | temp[1.5m] | temp[6^3] | temp offset step() | count_over_time(temp[range()]) | temp offset -step()*2 | temp offset (-2 ^ 2 * 10) | temp[1m/0] | temp[5m-5m]
temp offset (1m - 60s) | temp offset 0s | temp offset -0 | temp offset 0 * 2 | count_over_time(temp[(min_of(range(), 1h) + 3 * 7s):STEP() + 11s] offset (2*(7 % 4))) | temp[0s+1m] | temp[5m+] | temp offset ( | temp offset -min_of(step(), 90s)^0 | temp[1m+foo] | sum_over_time(temp[24s+((1.5*2m)+2m)]) | temp{host="a"} # comment | temp{host=~`a\.?|b`} | label_replace(temp, "x", "$1\"", "host", `([\w"])`) | `\d"\\"` | count_values(`a`, ints) | rate( # no counter\n  temp [5m] ) | quantile by (job) (1.5, rate(up[2m])) | sum(rate({__name__=~"up|temp|ints"}[2m])) by (rate) / QUANTILE without (job) (  -0.5, increase((up)[2m:])) | temp{'host'='a'} | temp{host="\x61"} | temp{host=`a`} | {"temp", host="a"} | {"temp"} | temp{"host"="a"} | sum by ("job") (req_total) | temp{host=~"a|b",} | 1 +
temp{host=~"^a$"} | temp{host=~"a$|b"} | temp{host=~""} | temp{host!~""} | temp{host=~".*"} | temp{host!~".*"} | temp{host!=""} | req_total{job="api" , instance='1'} | rate(req_total[1m]) > 0.5 | ((temp)) | sum((temp)) | temp[1m1s] | temp[1d] | count_over_time(temp[1w]) | count_over_time(temp[100ms])
"""


def expressions():
    for block in (SELECTORS, MORE):
        for line in block.split("\n"):
            for text in line.split(" | "):
                if text.strip():
                    yield text.strip()
    for i, function in enumerate(OVER_TIME):
        for j, range_ in enumerate(RANGES):
            if (i + j) % 2 or j < 2:
                yield f"{function}({range_})"
    for i, function in enumerate(MAPS):
        # Logarithms of denormals: Go's assembly on amd64 is off.
        odd = 'odd{kind!="tiny"}' if function in ("ln", "log10") else "odd"
        yield f"{function}({('temp', odd, 'jitter')[i % 3]})"
        yield f"{function}({odd})"
    for i, aggregation in enumerate(AGGREGATIONS):
        for j, grouping in enumerate(GROUPINGS):
            if (i + j) % 2 == 0:
                yield f"{aggregation}{grouping} ({('req_total', 'temp', 'odd', 'ints')[(i + j) // 2 % 4]})"


class Expressions:
    """Random ones of a small grammar; most of them make sense."""

    def __init__(self, rng):
        self.rng = rng

    def vector(self, depth):
        r = self.rng
        if depth == 0 or r.random() < 0.2:
            text = r.choice(["temp", "req_total", "up", "ints", "odd", "jitter", "limit", 'req_total{code="200"}', 'temp{dc="x"}', "lat_sum", "lat_count"])
            return text + r.choice(["", "", "", " offset 1m", " @ 1795219100", " offset -45s"])
        deeper = depth - 1
        return r.choice([
            lambda: f"{r.choice(OVER_TIME[:10] + OVER_TIME[11:])}({self.range(deeper)})",
            lambda: f"{r.choice(AGGREGATIONS)}{r.choice(['', ' by (job)', ' by (host, dc)', ' without (instance)', ' by (job, instance)'])} ({self.vector(deeper)})",
            lambda: f"{r.choice(EXACT)}({self.vector(deeper)})",
            lambda: f"({self.vector(deeper)} {r.choice('+ - * / % ^'.split())} {self.scalar()})",
            lambda: f"({self.scalar()} {r.choice('+ - * /'.split())} {self.vector(deeper)})",
            lambda: f"({self.vector(deeper)} {r.choice(['>', '<', '>=', '<=', '!=', '==', '> bool', '<= bool'])} {self.scalar()})",
            lambda: f"({self.vector(deeper)} {r.choice('+ - * / and or unless'.split())} {r.choice(['', 'on(job) ', 'ignoring(code) ', 'on() '])}{self.vector(deeper)})",
            # Not of computed series: their ties fall in the order of a hash map.
            lambda: f"{r.choice(['topk', 'bottomk'])}({r.randrange(1, 4)}, {self.vector(0)})",
            lambda: f"quantile({r.choice([0.1, 0.5, 0.99])}, {self.vector(deeper)})",
            lambda: f"clamp({self.vector(deeper)}, {r.randrange(-5, 5)}, {r.randrange(5, 500)})",
            lambda: f'label_replace({self.vector(deeper)}, "job", "$1", "instance", "(.*)")',
        ])()

    def range(self, depth):
        r = self.rng
        if depth == 0 or r.random() < 0.7:
            return r.choice(["temp", "req_total", "odd", "jitter", "up"]) + f"[{r.choice(['1m', '95s', '5m', '10m'])}]" + r.choice(["", "", " offset 2m", " @ 1795219300"])
        return f"({self.vector(depth)})[{r.choice(['2m', '5m'])}:{r.choice(['30s', '1m', '47s', ''])}]" + r.choice(["", " offset 1m"])

    def scalar(self):
        r = self.rng
        return r.choice([str(r.randrange(-3, 30)), "0.5", "scalar(limit{job=\"api\"})", "time() / 1e9", "1e3"])


INSTANTS = [T0 + 600, T0 + 123.456, T0 - HALF + 70, T0, T0 + HALF + 290, T0 + HALF + 300, T0 + 0.001]
SPANS = [(T0 - 600, T0 + 600, "150"), (T0 - 300.5, T0 + 300, "75.25"), (T0 - 45, T0 + 45, "15s"), (T0 + HALF - 60, T0 + HALF + 360, "1m")]


def questions(seed, random_expressions):
    """[{path, params, method?, ordered?}]."""
    rng = random.Random(seed)
    texts = list(dict.fromkeys(expressions()))
    maker = Expressions(rng)
    texts += [maker.vector(3) for _ in range(random_expressions)]
    out = []
    for i, text in enumerate(texts):
        at = INSTANTS[0 if i % 3 == 0 else i // 3 % len(INSTANTS)]
        start, end, step = SPANS[i % len(SPANS)]
        # Ranks have an order in instant queries; across groups it is that of a hash map.
        ordered = text.startswith(("sort", "topk(", "bottomk(")) or "[" in text and text.endswith("]")
        out.append({"path": "/api/v1/query", "params": [["query", text], ["time", repr(at)]], "ordered": ordered})
        out.append({"path": "/api/v1/query_range", "ordered": True,
                    "params": [["query", text], ["start", repr(start)], ["end", repr(end)], ["step", step]]})
    return out + list(api())


def api():
    query, spans, series, labels, values = "/api/v1/query", "/api/v1/query_range", "/api/v1/series", "/api/v1/labels", "/api/v1/label/{}/values"

    def ask(path, *params, method="GET", ordered=False):
        return {"path": path, "params": [list(p) for p in params], "method": method, "ordered": ordered}

    q, whole = ("query", "temp"), (("start", str(T0 - HALF)), ("end", str(T0 + HALF)))
    span = (("start", str(T0)), ("end", str(T0 + 60)))
    for time in ("2026-11-21T00:05:00Z", "2026-11-21T01:05:00.5+01:00", "1795219500.25", "1.7952195e9", "nonsense", "2026-11-21", "-5", "1795219500.0004", "1795219499.9996"):
        yield ask(query, q, ("time", time))
        yield ask(spans, q, ("start", time), ("end", "1795219800"), ("step", "60"))
    for step in ("15", "15s", "0.5", "1m30s", "1.5s", "0", "-1", "abc", "1y", "", "1h", "1e1", "60ms", "0s"):
        yield ask(spans, q, *span, ("step", step))
    yield ask(spans, q, ("start", str(T0)), ("end", str(T0 - 1)), ("step", "1"))
    yield ask(spans, q, ("start", str(T0)), ("step", "1"))
    yield ask(spans, q, ("end", str(T0)), ("step", "1"))
    yield ask(spans, q, *span)
    yield ask(spans, ("query", "vector(1)"), ("start", "0"), ("end", "11000"), ("step", "1"), ("limit", "0"))
    yield ask(spans, ("query", "vector(1)"), ("start", "0"), ("end", "11001"), ("step", "1"))
    yield ask(spans, ("query", "temp[5m]"), *span, ("step", "15"))
    yield ask(spans, ("query", '"text"'), *span, ("step", "15"))
    yield ask(query)
    yield ask(query, ("query", ""))
    for more in (("limit", "2"), ("limit", "0"), ("limit", "-1"), ("limit", "x"), ("timeout", "10s"), ("timeout", "abc"), ("timeout", "5"), ("lookback_delta", "15s"), ("lookback_delta", "1h"), ("lookback_delta", "x")):
        yield ask(query, ("query", "sort(temp)"), ("time", str(T0 + 20)), more, ordered=True)
        yield ask(spans, q, *span, ("step", "17"), more)
    yield ask(query, q, ("time", str(T0)), method="POST")
    yield ask(spans, q, *span, ("step", "30"), method="POST")
    yield ask(query, q, method="PUT")
    yield ask("/api/v1/rules", method="POST")
    yield ask("/api/v1/alerts")
    yield ask("/api/v1/rules")
    for text in ("temp", "sum(rate(req_total[5m])) by (job)", "a+b*c", "sum(", ""):
        yield ask("/api/v1/format_query", ("query", text))
    yield ask(labels)
    yield ask(labels, *whole)
    yield ask(labels, ("match[]", "temp"))
    yield ask(labels, ("match[]", "temp"), ("match[]", "up"), method="POST")
    yield ask(labels, ("match[]", "nothing"))
    yield ask(labels, ("match[]", "{}"))
    yield ask(labels, ("match[]", "temp["))
    yield ask(labels, ("match[]", "rate(temp[5m])"))
    yield ask(labels, ("limit", "3"))
    yield ask(labels, ("limit", "-1"))
    yield ask(labels, ("start", "x"))
    yield ask(labels, ("start", "1000000000"), ("end", "1000000600"))
    for name in ("job", "__name__", "host", "nothere", "le", "U__kube_2e_ns", "kube.ns", "version"):
        yield ask(values.format(name))
        yield ask(values.format(name), ("match[]", '{job="api"}'))
    yield ask(values.format("job"), ("match[]", "up"), ("match[]", "limit"), *whole)
    yield ask(values.format("job"), ("match[]", '{job=~".*"}'))
    yield ask(values.format("job"), method="POST")
    yield ask(series)
    yield ask(series, ("match[]", "temp"))
    yield ask(series, ("match[]", "temp"), *whole, method="POST")
    yield ask(series, ("match[]", "temp"), ("match[]", '{host="a"}'), ("match[]", "up"))
    yield ask(series, ("match[]", "nothing"))
    yield ask(series, ("match[]", "{}"))
    yield ask(series, ("match[]", '{"disk.used"}'))
    yield ask(series, ("match[]", '{__name__=~"lat_.*"}'))
    yield ask(series, ("match[]", "temp"), ("start", "1000000000"), ("end", "1000000600"))
    yield ask(series, ("match[]", "temp"), ("start", str(T0 + 9)), ("end", str(T0 + 1)))
    yield ask("/api/v1/metadata")
    yield ask("/api/v1/metadata", ("metric", "temp"))
    yield ask("/api/v1/nothing")
