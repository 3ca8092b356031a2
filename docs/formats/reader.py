#!/usr/bin/env python3
"""Independent reader of chunk files: written from chunk.md alone, shares no code with the writer.

  pip install numpy pcodec zstandard
  reader.py FILE [SHARD]     SHARD: mod-0064-0017 or org-0000000042; without it nothing but checksums of the trailer is checked

Prints a line per series entry, sorted: org, metric, tags, metadata, summary, points; tab-separated. A point is `ms:value`, milliseconds from the
file's start and the double's 64 bits in hex, or a sketch or histogram as `Sketch` and `Histogram` below show it; a summary is `count nans min max sum first last`, the doubles as bits, or `-` if the file holds none.
Any damage ends in a non-zero exit.
"""
import struct
import sys

import numpy as np
import pcodec.wrapped
import zstandard

U64 = (1 << 64) - 1
PCO_HEADER = pcodec.wrapped.FileCompressor().write_header()
CRC_TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    CRC_TABLE.append(byte)


class Damage(Exception):
    pass


def check(condition, why):
    if not condition:
        raise Damage(why)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def unzigzag(value):
    return value >> 1 ^ -(value & 1)


def signed(value):
    value &= U64
    return value - (1 << 64) if value >> 63 else value


def bits(value):
    return f"{struct.unpack('<Q', struct.pack('<d', value))[0]:016x}"


def from_bits(value):
    return struct.unpack("<d", struct.pack("<Q", value & U64))[0]


def from_ordered(integer):
    """The double whose bits are the integer; of a negative one all bits but the sign are flipped."""
    return from_bits(integer if integer >= 0 else (integer & U64) ^ (1 << 63) - 1)


def ordered(double):
    """Inverse of from_ordered."""
    pattern = struct.unpack("<q", struct.pack("<d", double))[0]
    return pattern if pattern >= 0 else pattern ^ (1 << 63) - 1


def unzstd(data, most):
    return zstandard.ZstdDecompressor().decompress(data, max_output_size=max(most, 1))


class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        check(self.at + n <= len(self.data), "cut short")
        self.at += n
        return self.data[self.at - n:self.at]

    def rest(self):
        return self.take(len(self.data) - self.at)

    def u8(self):
        return self.take(1)[0]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 127) << shift
            check(value <= U64, "varint too long")
            if byte < 128:
                return value
            shift += 7

    def done(self):
        check(self.at == len(self.data), "bytes left over")

    def column(self, n):
        values = []
        while len(values) < n:
            count = min(n - len(values), 65_536)
            encoding = self.u8()
            values += block(encoding, self.take(self.varint()), count)
        return values

    def blob(self, length):
        out = b""
        while len(out) < length:
            piece = min(length - len(out), 65_536)
            packed = self.u8()
            check(packed < 2, "unknown blob encoding")
            data = unzstd(self.take(self.varint()), piece) if packed else self.take(piece)
            check(len(data) == piece, "blob piece of another length")
            out += data
        return out

    def strings(self, n):
        shared, lengths = self.column(n), self.column(n)
        data, out, before, at = self.blob(sum(lengths)), [], b"", 0
        for prefix, length in zip(shared, lengths):
            before = before[:prefix] + data[at:at + length]
            at += length
            out.append(before)
        return out

    def metadata(self, n):
        return list(zip(self.column(n), self.column(n), self.strings(n), self.strings(n)))

    def summaries(self, points, edges):
        forms = self.column(len(points))
        whole = [self.column(forms.count(0)) for _ in range(5 if edges else 3)]
        floats = [self.column(forms.count(1)) for _ in range(6 if edges else 4)]
        check(all(form < 3 for form in forms), "unknown form of a summary")
        rows = iter(list(zip(*whole))), iter(list(zip(*floats))), iter([()] * forms.count(2))
        return [(form, next(rows[form])) for form in forms]


def block(encoding, data, n):
    cursor = Cursor(data)
    if encoding == 0:
        value = cursor.varint()
        cursor.done()
        return [value] * n
    if encoding == 7:
        first, step = cursor.varint(), unzigzag(cursor.varint())
        cursor.done()
        return [first + i * step & U64 for i in range(n)]
    if encoding == 4:
        width = cursor.u8()
        plain = unzstd(cursor.rest(), n * width)
        check(len(plain) == n * width, "column of another length")
        return [int.from_bytes(plain[i:i + width], "little") for i in range(0, len(plain), width)]
    if encoding in (5, 6):
        values = [int(value) for value in pco(data, "u64", n)]
    else:
        check(encoding in (1, 2, 3), f"unknown column encoding {encoding}")
        cursor = cursor if encoding == 1 else Cursor(unzstd(data, n * 10))
        values = [cursor.varint() for _ in range(n)]
        cursor.done()
    if encoding in (3, 6):
        total, out = 0, []
        for value in values:
            total = total + unzigzag(value) & U64
            out.append(total)
        return out
    return values


def pco_chunk(meta, dtype):
    file, _ = pcodec.wrapped.FileDecompressor.new(PCO_HEADER)
    return file.chunk_decompressor(meta, dtype)


def pco_page(chunk, page, dtype, n):
    out = np.zeros(n, dtype)
    progress, used = chunk.read_page_into(page, n, out)
    check(progress.finished and progress.n_processed == n and used == len(page), "pco page of another length")
    return out


def pco(data, dtype, n):
    chunk, used = pco_chunk(data, dtype)
    return pco_page(chunk, data[used:], {"u64": np.uint64}[dtype], n)


class File:
    def __init__(self, data, shard):
        self.data, self.seed = data, None
        check(len(data) >= 96 and data[-8:] == b"TLRCHEND", "no chunk file")
        trailer = len(data) - 64
        *at, self.start_ms, self.span_ms, _, major, minor, crc = struct.unpack("<4QqIIHHI", data[trailer:-8])
        check(crc == crc32c(b"TLRCHEND\x07" + struct.pack("<Q", trailer) + data[trailer:-12]), "trailer checksum")
        check(major == 1, f"version {major}.{minor}")
        edges = [32, *at, trailer]
        check(edges == sorted(edges), "sections out of order")
        if shard:
            kind, *numbers = shard.split("-")
            place = (1, 0, int(numbers[0]), int(numbers[1])) if kind == "mod" else (2, 0, 0, int(numbers[0]))
            self.seed = b"TLRCHUNK" + struct.pack("<BBHIq", *place, self.start_ms)
        self.checked(1, 0, data[:32])
        check(data[:10] == b"TLRCHUNK" + struct.pack("<H", 1), "header")
        check(data[12:28] == struct.pack("<IqI", 0, self.start_ms, self.span_ms), "header")
        sections = [self.section(region, *edges[i + 1:i + 3]) for i, region in enumerate((3, 4, 5, 6))]
        self.read_times(Cursor(sections[0]))
        self.read_series(Cursor(sections[1]))
        self.read_labels(Cursor(sections[2]))
        self.read_directory(Cursor(sections[3]), at[0])

    def checked(self, region, position, data):
        body, crc = data[:-4], struct.unpack("<I", data[-4:])[0]
        if self.seed:
            check(crc == crc32c(self.seed + struct.pack("<BQ", region, position) + body), f"checksum of region {region} at {position}")
        return body

    def section(self, region, start, end):
        out = b""
        while True:
            piece = min(end - start, (1 << 20) + 4)
            check(piece >= 4, "section cut short")
            out += self.checked(region, start, self.data[start:start + piece])
            start += piece
            if start == end:
                return out

    def read_times(self, cursor):
        counts = cursor.column(cursor.varint())
        runs = list(zip(*(cursor.column(sum(counts)) for _ in range(3))))
        irregular = list(zip(*(cursor.column(counts.count(0)) for _ in range(3))))
        deltas = cursor.column(sum(points - 1 for points, _, _ in irregular))
        cursor.done()
        runs, irregular, deltas, self.times = iter(runs), iter(irregular), iter(deltas), []
        for count in counts:
            times, end = [], 0
            for _ in range(count):
                gap, step, more = next(runs)
                times += [end + gap + step * i for i in range(more + 1)]
                end = times[-1]
            if count == 0:
                points, first, divisor = next(irregular)
                times = [first]
                for _ in range(points - 1):
                    times.append(times[-1] + next(deltas) * divisor)
            check(all(a < b for a, b in zip(times, times[1:])) and times[-1] < self.span_ms, "timestamps out of order")
            self.times.append(times)

    def read_series(self, cursor):
        n = cursor.varint()
        self.sets, times = cursor.column(n), cursor.column(n)
        flags = [i % 2 for i, run in enumerate(cursor.column(cursor.varint())) for _ in range(run)]
        check(len(flags) == n, "runs of constants do not add up")
        self.series_times = [self.times[number] for number in times]
        exponents = cursor.column(sum(flags))
        constants = iter([from_bits(number) if exponent == 15 else unzigzag(number) / 10.0**exponent
                          for exponent, number in zip(exponents, cursor.column(sum(flags)))])
        self.constants = [next(constants) if flag else None for flag in flags]
        long = [i for i in range(n) if not flags[i] and len(self.series_times[i]) >= 256]
        found = cursor.summaries([len(self.series_times[i]) for i in long], True)
        self.summaries = dict(zip(long, found))
        own = cursor.varint()
        at, self.own_meta, gaps = -1, {}, cursor.column(own)
        for gap, meta in zip(gaps, cursor.metadata(own)):
            at += gap + 1
            self.own_meta[at] = meta
        cursor.done()

    def read_labels(self, cursor):
        keys = cursor.strings(cursor.varint())
        n = cursor.varint()
        of_key, kinds, values = cursor.column(n), cursor.column(n), cursor.strings(n)
        tags = [keys[key] + (b":" + value if kind else b"") for key, kind, value in zip(of_key, kinds, values)]
        lengths = cursor.column(cursor.varint())
        self.tag_sets = [[] for _ in lengths]
        for place in range(max(lengths, default=0)):
            long = [i for i, length in enumerate(lengths) if length > place]
            for i, tag in zip(long, cursor.column(len(long))):
                self.tag_sets[i].append(tags[tag])
        cursor.done()

    def read_directory(self, cursor, pages_end):
        n = cursor.varint()
        orgs, names, metas, counts = cursor.column(n), cursor.strings(n), cursor.metadata(n), cursor.column(n)
        self.metrics = [(org, name, meta) for org, name, meta, count in zip(orgs, names, metas, counts) for _ in range(count)]
        check(len(self.metrics) == len(self.constants), "series of the metrics do not add up")
        n = cursor.varint()
        same, transforms, parameters, divisors = (cursor.column(n) for _ in range(4))
        own = same.count(0)
        page_counts, coders, flags, meta_lengths = (cursor.column(own) for _ in range(4))
        blob = cursor.blob(sum(meta_lengths))
        page_points, page_bytes = cursor.column(sum(page_counts)), cursor.column(sum(page_counts))
        chunks, place, page, meta, at = [], 0, 0, 0, 32
        for i in range(n):
            if same[i]:
                chunks.append(chunks[i - same[i]][:4] + (transforms[i], parameters[i], divisors[i]))
                continue
            pages = []
            for points, size in zip(page_points[page:page + page_counts[place]], page_bytes[page:page + page_counts[place]]):
                pages.append((at, points, size))
                at += size + 4
            chunk_meta = blob[meta:meta + meta_lengths[place]]
            chunks.append((pages, coders[place], flags[place], chunk_meta, transforms[i], parameters[i], divisors[i]))
            page, meta, place = page + page_counts[place], meta + meta_lengths[place], place + 1
        check(at == pages_end, "pages do not add up to the file")
        self.read_values(chunks)
        cursor.summaries(self.summarized_pages, False)
        cursor.done()

    def read_values(self, chunks):
        varying = [i for i, constant in enumerate(self.constants) if constant is None]
        self.values = {i: [] for i in varying}
        self.chunk_of, self.summarized_pages, number = {}, [], 0
        for pages, coder, flags, meta, transform, parameter, divisor in chunks:
            dictionary, base, patterns, distribution = [], None, [], None
            if flags & 1:
                cursor = Cursor(meta)
                base = unzigzag(cursor.varint())
                patterns = [struct.unpack("<Q", cursor.take(8))[0] for _ in range(cursor.varint())]
                meta = cursor.rest()
            check((coder == 5) == (transform in (5, 6)), "a coder of another kind of values")
            if transform in (5, 6):
                check((flags, parameter, divisor) == (0, 0, 1), "flags, mapping or divisor of columns")
                distribution = (Sketches if transform == 5 else Histograms)(Cursor(meta))
            if transform == 4:
                cursor = Cursor(meta)
                dictionary = [from_ordered(signed(entry)) for entry in cursor.column(cursor.varint())]
                meta = cursor.rest()
            opened = pco_chunk(meta, {1: "i32", 2: "i64"}[coder])[0] if coder in (1, 2) else None
            for at, points, size in pages:
                parts, left = [], points
                while left:
                    series = varying[number]
                    take = min(left, len(self.series_times[series]) - len(self.values[series]) - sum(n for s, n in parts if s == series))
                    parts.append((series, take))
                    self.chunk_of.setdefault(series, (transform, parameter, divisor))
                    left -= take
                    if len(self.values[series]) + sum(n for s, n in parts if s == series) == len(self.series_times[series]):
                        number += 1
                if any(len(self.series_times[series]) < 256 for series, _ in parts):
                    self.summarized_pages.append(points)
                body = self.checked(2, at, self.data[at:at + size + 4])
                lengths = [n for _, n in parts]
                page = Cursor(body)
                if distribution:
                    values = distribution.read(page, lengths)
                else:
                    values = doubles_of(page, lengths, (coder, flags, opened), (base, patterns), (transform, parameter, divisor), dictionary)
                for series, n in parts:
                    self.values[series] += values[:n]
                    values = values[n:]
        check(number == len(varying), "pages do not hold all series")

    def summary(self, series):
        n, constant = len(self.series_times[series]), self.constants[series]
        if constant is not None:
            is_nan = constant != constant
            fields = [0, n if is_nan else 0, constant, constant, 0.0 if is_nan else constant * n, constant, constant]
        elif series not in self.summaries or self.summaries[series][0] == 2:
            return "-"
        elif self.summaries[series][0]:
            nans, *doubles = self.summaries[series][1]
            fields = [0, nans] + [from_bits(double) for double in doubles]
        else:
            low, extent, total, first, last = self.summaries[series][1]
            low = unzigzag(low)
            high = signed(low + extent)
            total = signed(unzigzag(total) + signed(low + extent // 2) * n)
            transform, parameter, divisor = self.chunk_of[series]
            scale = 10.0**parameter if transform == 1 else 2.0**parameter
            whole = [low, high, total, signed(low + first), signed(high - last)]
            fields = [0, 0] + [float(integer * divisor) / scale for integer in whole]
        return " ".join([str(n), str(fields[1])] + [bits(double) for double in fields[2:]])

    def lines(self):
        for series, (org, name, meta) in enumerate(self.metrics):
            tags = b",".join(self.tag_sets[self.sets[series]])
            kind, interval, unit, text = self.own_meta.get(series, meta)
            constant, times = self.constants[series], self.series_times[series]
            values = self.values[series] if constant is None else [constant] * len(times)
            check(len(values) == len(times), "values and timestamps differ")
            shown = (bits(value) if isinstance(value, float) else value.show() for value in values)
            points = " ".join(f"{time}:{value}" for time, value in zip(times, shown))
            yield "\t".join([str(org), name.decode(), tags.decode(), f"{kind} {interval} {unit.decode()} {text.decode()}", self.summary(series), points])


def take_firsts(page, parts, flags):
    """(position, integer) of the first value of each part of a page of differences, and which of them are exceptions."""
    firsts, exceptions, first, place = [], [], 0, 0
    for points in parts if flags & 2 else []:
        number = page.varint()
        if flags & 1:
            if number & 1:
                exceptions.append((place, page.varint()))
            number >>= 1
        first = signed(first + unzigzag(number))
        firsts.append((place, first))
        place += points
    return firsts, exceptions


class Column:
    """A column of sketches or histograms; `meta` as the chunk's metadata holds it."""

    def __init__(self, meta, doubles=False, differences=True):
        self.transform = None
        if doubles:
            self.transform, self.parameter, self.divisor, self.exceptions = meta.u8(), meta.u8(), meta.varint(), meta.u8()
            check(self.transform in (1, 2, 3) and self.exceptions < 2, "transform of a column")
        form, self.coder = meta.u8(), meta.u8()
        check(form < 2 and self.coder < 5, "unknown form or coder of a column")
        check(differences or not form, "differences in a column that has none")
        self.differences = form == 1
        if self.coder == 0:
            self.constant = unzigzag(meta.varint())
            return
        own = meta.take(meta.varint())
        self.opened = pco_chunk(own, {1: "i32", 2: "i64"}[self.coder])[0] if self.coder < 3 else None

    def integers(self, page, n, undo=None):
        if self.coder == 0:
            out = [self.constant] * n
        elif n == 0:
            out = []
        else:
            out = coded_integers(Cursor(page.take(page.varint())), n, self.coder, self.opened)
        return undo(out) if self.differences else out

    def doubles(self, page, n, undo):
        odd = exceptions_of(page) if self.exceptions else []
        out = self.integers(page, n, undo)
        if self.transform == 3:
            out = [from_ordered(integer) for integer in out]
        else:
            scale = 10.0**self.parameter if self.transform == 1 else 2.0**self.parameter
            out = [fraction(integer * self.divisor) / scale for integer in out]
        for place, pattern in odd:
            out[place] = from_bits(pattern)
        return out


def from_value_before(parts):
    def undo(integers):
        out, rest, first = [], iter(integers), 0
        for length in parts:
            before = first
            for at in range(length):
                before = signed(before + next(rest))
                first = before if at == 0 else first
                out.append(before)
        return out
    return undo


def from_bin_before(groups):
    """`groups`: per part, per value, what its keys mean (bins of other meanings are not compared) and the key of each bin."""
    def undo(integers):
        out, rest = [], iter(integers)
        for part in groups:
            before, scale = {}, None
            for own_scale, keys in part:
                own = {}
                for key in keys:
                    own[key] = signed(next(rest) + (before.get(key, 0) if scale == own_scale else 0))
                    out.append(own[key])
                before, scale = own, own_scale
        return out
    return undo


def cut(rest, lengths):
    rest = iter(rest)
    return [[next(rest) for _ in range(length)] for length in lengths]


def expected(double):
    return 0.0 if double != double else double


class Sketch:
    def __init__(self, *fields):
        self.fields = fields

    def show(self):
        keys, counts, count, *doubles = self.fields
        bins = ",".join(f"{key}={count}" for key, count in zip(keys, counts))
        return "/".join(["sketch", str(count), *map(bits, doubles), bins])


class Sketches:
    def __init__(self, meta):
        self.bins, self.first = Column(meta), Column(meta)
        self.gaps, self.counts, self.more = Column(meta, differences=False), Column(meta), Column(meta, differences=False)
        self.doubles = [Column(meta, True) for _ in range(3)]
        self.averages = Column(meta, differences=False)
        meta.done()

    def read(self, page, parts):
        n, undo = sum(parts), from_value_before(parts)
        bins = self.bins.integers(page, n, undo)
        check(min(bins) >= 0 and sum(bins) <= 131_072, "too many bins")
        firsts = self.first.integers(page, n, undo)
        gaps, keys = iter(self.gaps.integers(page, sum(bins) - sum(own > 0 for own in bins))), []
        for own, first in zip(bins, firsts):
            keys.append([first][:own])
            for _ in range(own - 1):
                keys[-1].append(keys[-1][-1] + next(gaps) + 1)
            check(all(a < b for a, b in zip(keys[-1], keys[-1][1:])) and all(abs(2 * key + 1) < 1 << 32 for key in keys[-1]), "keys")
        counts = self.counts.integers(page, sum(bins), from_bin_before(cut(((0, own) for own in keys), parts)))
        counts = cut([(count & U64) + 1 for count in counts], bins)
        check(all(count <= U64 for own in counts for count in own), "count of a bin")
        more = self.more.integers(page, n)
        doubles = [column.doubles(page, n, undo) for column in self.doubles]
        averages = self.averages.integers(page, n)
        page.done()
        out = []
        for own, of_bins, extra, total, low, high, off in zip(keys, counts, more, *doubles, averages):
            count = sum(of_bins) + extra & U64
            average = expected(total / float(count)) if count else 0.0
            out.append(Sketch(own, of_bins, count, total, low, high, from_ordered(signed(ordered(average) + off))))
        return out


class Layout:
    def __init__(self, schema, flavour, threshold, positive, negative, bounds):
        self.schema, self.flavour, self.threshold, self.sides, self.bounds = schema, flavour, threshold, (positive, negative), bounds
        check(schema == -53 or -4 <= schema <= 8 and not bounds, "schema")
        self.keys = [("zero",)]
        for side, spans in enumerate(self.sides):
            at = 0
            for place, (offset, length) in enumerate(spans):
                check(place == 0 or offset >= 0, "spans overlap")
                check(length <= 131_072, "too many buckets")
                self.keys += [(side, at + offset + i) for i in range(length)]
                at += offset + length
        self.buckets = [sum(length for _, length in spans) for spans in self.sides]
        self.items = sum(self.buckets) + len(positive) + len(negative) + len(bounds)


class Histogram:
    def __init__(self, *fields):
        self.fields = fields

    def show(self):
        layout, hint, count, counts, total = self.fields
        one, flavour = (bits, "doubles") if layout.flavour else (str, "integers")
        spans = [",".join(f"{offset}+{length}" for offset, length in side) for side in layout.sides]
        bounds = ",".join(f"{bound:016x}" for bound in layout.bounds)
        zero, sides = counts[0], cut(counts[1:], layout.buckets)
        counts = [",".join(map(one, side)) for side in sides]
        head = ["histogram", str(layout.schema), f"{layout.threshold:016x}", str(hint), bits(total)]
        return "/".join([*head, *spans, bounds, flavour, one(count), one(zero), *counts])


class Histograms:
    def __init__(self, meta):
        self.numbers, self.hints = Column(meta), Column(meta, differences=False)
        self.counts = Column(meta), Column(meta, True)
        self.more, self.sums = Column(meta, differences=False), Column(meta, True)
        meta.done()

    def layouts(self, page, n):
        count = page.varint()
        check(count <= n, "more layouts than histograms")
        schemas, flavours, thresholds, *lengths = (page.column(count) for _ in range(6))
        positive, negative, bounds = lengths
        check(max(sum(positive), sum(negative), sum(bounds)) <= 131_072, "too many spans or bounds")
        offsets, spans = page.column(sum(positive) + sum(negative)), page.column(sum(positive) + sum(negative))
        spans = iter([(unzigzag(offset), length) for offset, length in zip(offsets, spans)])
        patterns = iter(page.column(sum(bounds)))
        out = []
        for i in range(count):
            own = [[next(spans) for _ in range(lengths[i])] for lengths in (positive, negative)]
            out.append(Layout(unzigzag(schemas[i]), flavours[i], thresholds[i], *own, [next(patterns) for _ in range(bounds[i])]))
        return out

    def read(self, page, parts):
        n, undo = sum(parts), from_value_before(parts)
        layouts = self.layouts(page, n)
        numbers = self.numbers.integers(page, n, undo)
        check(all(0 <= number < len(layouts) for number in numbers), "a histogram of no layout")
        of_value = [layouts[number] for number in numbers]
        check(sum(layout.items for layout in of_value) <= 131_072, "too many buckets")
        hints = self.hints.integers(page, n)
        check(all(0 <= hint < 4 for hint in hints), "unknown reset hint")
        groups, sizes = [], []
        for flavour in (0, 1):
            own = [[layout for layout in part if layout.flavour == flavour] for part in cut(of_value, parts)]
            groups.append(from_bin_before([[((layout.schema, layout.bounds), layout.keys) for layout in part] for part in own]))
            sizes.append(sum(len(layout.keys) for part in own for layout in part))
        counts = (iter([count & U64 for count in self.counts[0].integers(page, sizes[0], groups[0])]),
                  iter(self.counts[1].doubles(page, sizes[1], groups[1])))
        more = self.more.integers(page, n)
        sums = self.sums.doubles(page, n, undo)
        page.done()
        out = []
        for layout, hint, extra, total in zip(of_value, hints, more, sums):
            own = [next(counts[layout.flavour]) for _ in layout.keys]
            if layout.flavour:
                count = 0.0
                for one in own:  # not sum(): newer Pythons compensate
                    count += one
                count = from_ordered(signed(ordered(expected(count)) + extra))
            else:
                count = sum(own) + extra & U64
            out.append(Histogram(layout, hint, count, own, total))
        return out


def exceptions_of(cursor):
    at, out = -1, []
    for _ in range(cursor.varint()):
        at += cursor.varint() + 1
        out.append((at, struct.unpack("<Q", cursor.take(8))[0]))
    return out


def coded_integers(cursor, count, coder, opened):
    if coder in (1, 2):
        return [int(value) for value in pco_page(opened, cursor.rest(), {1: np.int32, 2: np.int64}[coder], count)]
    if coder == 3:
        varints = Cursor(unzstd(cursor.rest(), count * 10))
        coded = [unzigzag(varints.varint()) for _ in range(count)]
        varints.done()
        return coded
    check(coder == 4, f"unknown coder {coder}")
    return list(struct.unpack(f"<{count}q", cursor.rest()))


def doubles_of(page, parts, how, codes, fraction, dictionary):
    (coder, flags, opened), (base, patterns), points = how, codes, sum(parts)
    odds = [struct.unpack("<Q", page.take(8))[0] for _ in range(page.varint())] if flags & 1 else []
    firsts, exceptions = take_firsts(page, parts, flags)
    coded = coded_integers(page, points - len(firsts), coder, opened)
    if flags & 1:
        starts = {start for start, _ in firsts}
        places = [place for place in range(points) if place not in starts]
        exceptions += [(place, integer - base) for place, integer in zip(places, coded) if integer >= base]
        coded = [0 if integer >= base else integer for integer in coded]
    values = page_values(parts, coded, firsts, flags, *fraction, dictionary)
    for place, code in sorted(exceptions):
        check(code <= len(patterns), "exception that stands for no value")
        values[place] = from_bits(patterns[code] if code < len(patterns) else odds.pop(0))
    check(not odds, "odd doubles that no integer stands for")
    return values


def fraction(integer):
    check(-(1 << 51) <= integer < 1 << 51, "integer outside what its transform takes")
    return float(integer)


def page_values(parts, coded, firsts, flags, transform, parameter, divisor, dictionary):
    integers = coded
    if flags & 2:
        integers, coded = [], iter(coded)
        for length, (_, first) in zip(parts, firsts):
            integers.append(first)
            for _ in range(length - 1):
                integers.append(signed(integers[-1] + next(coded)))
    if transform == 1:
        values = [fraction(integer * divisor) / 10.0**parameter for integer in integers]
    elif transform == 2:
        values = [fraction(integer * divisor) / 2.0**parameter for integer in integers]
    elif transform == 3:
        values = [from_ordered(integer) for integer in integers]
    else:
        check(transform == 4, f"unknown transform {transform}")
        values = [dictionary[integer] for integer in integers]
    return values


def main():
    with open(sys.argv[1], "rb") as file:
        opened = File(file.read(), sys.argv[2] if len(sys.argv) > 2 else None)
    print("\n".join(sorted(opened.lines())))


if __name__ == "__main__":
    try:
        main()
    except (Damage, RuntimeError, ValueError, IndexError, KeyError, struct.error, zstandard.ZstdError) as error:
        sys.exit(f"damaged: {type(error).__name__} {error}")
