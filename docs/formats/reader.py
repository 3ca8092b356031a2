#!/usr/bin/env python3
"""Independent reader of chunk files: written from chunk.md alone, shares no code with the writer.

  pip install numpy pcodec zstandard
  reader.py FILE [SHARD]     SHARD: mod-0064-0017 or org-0000000042; without it nothing but checksums of the trailer is checked

Prints a line per series entry, sorted: org, metric, tags, metadata, summary, points; tab-separated. A point is `ms:bits`, milliseconds from the
file's start and the value's 64 bits in hex; a summary is `count nans min max sum first last`, the doubles as bits, or `-` if the file holds none.
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
        doubles = sum(forms)
        whole = [self.column(len(points) - doubles) for _ in range(5 if edges else 3)]
        floats = [self.column(doubles) for _ in range(6 if edges else 4)]
        whole, floats = iter(list(zip(*whole))), iter(list(zip(*floats)))
        return [(form, next(floats) if form else next(whole)) for form in forms]


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
        check((major, minor) == (0, 2), f"version {major}.{minor}")
        edges = [32, *at, trailer]
        check(edges == sorted(edges), "sections out of order")
        if shard:
            kind, *numbers = shard.split("-")
            place = (1, 0, int(numbers[0]), int(numbers[1])) if kind == "mod" else (2, 0, 0, int(numbers[0]))
            self.seed = b"TLRCHUNK" + struct.pack("<BBHIq", *place, self.start_ms)
        self.checked(1, 0, data[:32])
        check(data[:28] == b"TLRCHUNK" + struct.pack("<HHIqI", 0, 2, 0, self.start_ms, self.span_ms), "header")
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
            dictionary, base, patterns = [], None, []
            if flags & 1:
                cursor = Cursor(meta)
                base = unzigzag(cursor.varint())
                patterns = [struct.unpack("<Q", cursor.take(8))[0] for _ in range(cursor.varint())]
                meta = cursor.rest()
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
                page = Cursor(body)
                odds = [struct.unpack("<Q", page.take(8))[0] for _ in range(page.varint())] if flags & 1 else []
                firsts, exceptions = take_firsts(page, parts, flags, len(patterns))
                coded = coded_integers(page, points - len(firsts), coder, opened)
                if flags & 1:
                    starts = [start for start, _ in firsts]
                    places = [place for place in range(points) if place not in starts] if flags & 2 else range(points)
                    exceptions += [(place, integer - base) for place, integer in zip(places, coded) if integer >= base]
                    coded = [0 if integer >= base else integer for integer in coded]
                values = page_values(parts, coded, firsts, flags, transform, parameter, divisor, dictionary)
                for place, code in sorted(exceptions):
                    check(code <= len(patterns), "exception that stands for no value")
                    values[place] = from_bits(patterns[code] if code < len(patterns) else odds.pop(0))
                check(not odds, "odd doubles that no integer stands for")
                for series, n in parts:
                    self.values[series] += values[:n]
                    values = values[n:]
        check(number == len(varying), "pages do not hold all series")

    def summary(self, series):
        n, constant = len(self.series_times[series]), self.constants[series]
        if constant is not None:
            is_nan = constant != constant
            fields = [0, n if is_nan else 0, constant, constant, 0.0 if is_nan else constant * n, constant, constant]
        elif series not in self.summaries:
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
            points = " ".join(f"{time}:{bits(value)}" for time, value in zip(times, values))
            yield "\t".join([str(org), name.decode(), tags.decode(), f"{kind} {interval} {unit.decode()} {text.decode()}", self.summary(series), points])


def take_firsts(page, parts, flags, patterns):
    """(position, integer) of the first value of each part of a page of differences, and which of them are exceptions."""
    firsts, exceptions, first, place = [], [], 0, 0
    for _, points in parts if flags & 2 else []:
        number = page.varint()
        if flags & 1:
            if number & 1:
                exceptions.append((place, page.varint()))
            number >>= 1
        first = signed(first + unzigzag(number))
        firsts.append((place, first))
        place += points
    return firsts, exceptions


def coded_integers(page, count, coder, opened):
    if coder in (1, 2):
        return [int(value) for value in pco_page(opened, page.rest(), {1: np.int32, 2: np.int64}[coder], count)]
    if coder == 3:
        varints = Cursor(unzstd(page.rest(), count * 10))
        coded = [unzigzag(varints.varint()) for _ in range(count)]
        varints.done()
        return coded
    check(coder == 4, f"unknown coder {coder}")
    return list(struct.unpack(f"<{count}q", page.rest()))


def page_values(parts, coded, firsts, flags, transform, parameter, divisor, dictionary):
    integers = coded
    if flags & 2:
        integers, coded = [], iter(coded)
        for (_, length), (_, first) in zip(parts, firsts):
            integers.append(first)
            for _ in range(length - 1):
                integers.append(signed(integers[-1] + next(coded)))
    if transform == 1:
        values = [float(integer * divisor) / 10.0**parameter for integer in integers]
    elif transform == 2:
        values = [float(integer * divisor) / 2.0**parameter for integer in integers]
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
