#!/usr/bin/env python3
"""Explicit-state model of day files (rfcs/0003-day-files.md, protocol 2.3 to 2.5). Standard library only.

    python3 rfcs/models/day_files.py         the rules as written, then each rule taken out: every one of those must be found
    python3 rfcs/models/day_files.py NAME    one of them, with its shortest story

One shard's day with two windows. Every put is put-if-absent, every step below may be the last of its control (crash), and between any two of
them all others may go. Two controls plan, make, publish or cancel, each on what it read when it began; builds, late seals, feed repair and the end
of the grace happen whenever they can. GC is a process of its own that may stop between its list, its look and its deletes. A long reader puts a pin.
A reader within the grace is not a process: whatever a generation not yet past its grace names has to be there.
An older encoder is a control that cancels the open plans it finds before it plans any: who has that encoder may go on making their file all the while.
Not modelled: several files of a day, several shards, overlays, inherited generations, which encoder a file is of, damage other than by a lost file.
"""
import sys
import time
from collections import deque, namedtuple

WINDOWS = 2
# seals: k of each window. gens: per window its generations. files: what the store holds. controls, gc, reader: where each process stands.
# left: late seals, tombstones, attempts at a day file, pins that may still come.
State = namedtuple("State", "seals gens files controls gc reader left")
# kind B(uild) or D(ay); k; inputs of a day plan, g per window; outcome: None, "T"ombstone or a file; feed, gone: 0 or 1.
# `gone` is put in the same step in which the grace ends: nothing else looks at the grace, and later deletes only make less go wrong.
Gen = namedtuple("Gen", "kind k inputs outcome feed gone")
# A file is ("w", window, g, points) or ("d", attempt, points); points: per window the seal whose points it holds. Equal points, equal bytes.
IDLE = ("idle",)


class Broken(Exception):
    """An invariant does not hold."""


def points_of(file):
    return file[-1]


def published(gen):
    return gen.outcome is not None and gen.outcome != "T"


def base(gens):
    """g of the newest published generation."""
    return max(g for g, gen in enumerate(gens, 1) if published(gen))


def put(items, at, value):
    return items[:at] + (value,) + items[at + 1:]


def with_gen(state, window, g, gen):
    """Puts or changes generation g; g+1 is planned only once g is decided."""
    gens = state.gens[window]
    if g == len(gens) + 1:
        if gens and gens[-1].outcome is None:
            raise Broken(f"window {window}: g{g} planned before g{g - 1} is decided")
        gens += (gen,)
    else:
        gens = put(gens, g - 1, gen)
    return state._replace(gens=put(state.gens, window, gens))


def open_day(gens):
    return gens[-1].outcome is None and gens[-1].kind == "D"


def publish(state, window, g, file):
    gen = state.gens[window][g - 1]
    earlier = [other.k for other in state.gens[window][:g - 1] if published(other)]
    if points_of(file)[window] != gen.k:
        raise Broken(f"window {window} g{g}: its file holds the points of seal {points_of(file)[window]}, it says {gen.k}")
    if earlier and gen.k < max(earlier):
        raise Broken(f"window {window} g{g}: seal {gen.k} hides the newer points of {max(earlier)}")
    if file not in state.files:
        raise Broken(f"window {window} g{g} is published and names {file}, which was deleted")
    return with_gen(state, window, g, gen._replace(outcome=file))


def begin(state, bad):
    """What a control reads and wants: the inputs of an open day plan, or those of a day that is quiet and worth it."""
    opened = [gens[-1] for gens in state.gens if open_day(gens)]
    if opened:
        inputs = opened[0].inputs
    else:
        bases = [gens[base(gens) - 1] for gens in state.gens]
        quiet = all(gens[-1].outcome is not None for gens in state.gens) and all(gen.feed for gen in bases)
        sealed = all(gen.k == k for gen, k in zip(bases, state.seals)) or bad == "late points hidden"
        if not quiet or not sealed or all(gen.outcome[0] == "d" for gen in bases):
            return None
        inputs = tuple(base(gens) for gens in state.gens)
    # Everything it knows from here on: the row of generations of each window as it was.
    return ("plan", inputs, state.gens, 0, ())


def planned(state, job, bad):
    """One window of a job's plans: (state, whether it is a target)."""
    _, inputs, seen, window, targets = job
    known = seen[window]
    if base(known) != inputs[window]:
        return state, targets
    g = len(known) if known[-1].outcome is None else len(known) + 1
    if g == len(state.gens[window]) + 1:
        k = state.seals[window] if bad == "late points hidden" else known[base(known) - 1].k
        state = with_gen(state, window, g, Gen("D", k, inputs, None, 0, 0))
    plan = state.gens[window][g - 1]
    return state, targets + ((window, g),) if plan.kind == "D" and plan.inputs == inputs else targets


def lender(state, job, bad):
    """A day file of the same inputs that a generation names as this control read it; looked at for `gone` after the plans stand."""
    _, inputs, seen, _, _ = job
    for window, known in enumerate(seen):
        g = base(known)
        gen = known[g - 1]
        if gen.kind == "D" and gen.inputs == inputs and (bad == "lent unchecked" or not state.gens[window][g - 1].gone):
            return gen.outcome
    return None


def control_steps(state, number, bad):
    job = state.controls[number]
    seals_left, stones_left, attempts_left, pins_left = state.left

    def then(state, job):
        # The two controls are alike: which is which makes no other state.
        jobs = put(state.controls, number, job)
        return state._replace(controls=tuple(sorted(jobs, key=lambda job: () if job == IDLE else (repr(job),))))

    if job == IDLE:
        begun = begin(state, bad)
        if begun and attempts_left:
            if bad == "plans after the file":
                _, inputs, seen, _, _ = begun
                begun = ("make", inputs, (), None, begun)
            yield "reads", then(state, begun)
        return
    yield "dies", then(state, IDLE)
    if job[0] == "plan":
        older = tuple((window, len(known)) for window, known in enumerate(job[2]) if open_day(known))
        if older and job[3] == 0 and stones_left:
            left = (seals_left, stones_left - 1, attempts_left, pins_left)
            yield "finds plans of an older encoder", then(state._replace(left=left), ("cancel", older))
        if job[3] == WINDOWS:
            targets, made = job[4], lender(state, job, bad)
            yield "looks for a made file", then(state, ("make", job[1], targets, made, None) if targets else IDLE)
        else:
            after, targets = planned(state, job, bad)
            yield f"plans w{job[3]}", then(after, ("plan", job[1], job[2], job[3] + 1, targets))
    elif job[0] == "make":
        _, inputs, targets, made, begun = job
        wanted = [state.gens[window][g - 1] for window, g in enumerate(inputs)]
        if any(gen.outcome not in state.files for gen in wanted):
            yield "misses an input", then(state, ("cancel", targets) if targets else IDLE)
            return
        if stones_left and targets:
            left = (seals_left, stones_left - 1, attempts_left, pins_left)
            yield "can't read an input", then(state._replace(left=left), ("cancel", targets))
        if made in state.files:
            yield "takes the made file", then(state, ("publish", targets, made))
        elif attempts_left:
            file = ("d", attempts_left, tuple(gen.k for gen in wanted))
            after = state._replace(files=state.files | {file}, left=(seals_left, stones_left, attempts_left - 1, pins_left))
            if begun:
                yield "makes the file", then(after, ("late plan", begun, file))
            else:
                yield "makes the file", then(after, ("publish", targets, file))
    elif job[0] == "late plan":
        _, plan, file = job
        for _ in range(WINDOWS):
            state, targets = planned(state, plan, bad)
            plan = plan[:3] + (plan[3] + 1, targets)
        yield "plans all", then(state, ("publish", plan[4], file) if plan[4] else IDLE)
    elif job[0] == "publish":
        _, ((window, g), *rest), file = job
        gen = state.gens[window][g - 1]
        after = state
        if gen.outcome is None:
            after = publish(state, window, g, file)
        elif gen.outcome != "T" and (bad == "lent unchecked" or not gen.gone):
            file = gen.outcome if points_of(gen.outcome) == points_of(file) else file
        yield f"publishes w{window} g{g}", then(after, ("publish", tuple(rest), file) if rest else IDLE)
    elif job[0] == "cancel":
        _, ((window, g), *rest) = job
        gen = state.gens[window][g - 1]
        after = state if gen.outcome else with_gen(state, window, g, gen._replace(outcome="T"))
        yield f"cancels w{window} g{g}", then(after, ("cancel", tuple(rest)) if rest else IDLE)


def window_steps(state, bad):
    """Late seals, builds, feed entries and the ends of graces; whoever does them."""
    seals_left, stones_left, attempts_left, pins_left = state.left
    for window, gens in enumerate(state.gens):
        last, g = gens[-1], len(gens)
        if seals_left:
            left = (seals_left - 1, stones_left, attempts_left, pins_left)
            yield f"late seal of w{window}", state._replace(seals=put(state.seals, window, state.seals[window] + 1), left=left)
        if last.outcome is not None and gens[base(gens) - 1].k < state.seals[window]:
            yield f"build of w{window} planned", with_gen(state, window, g + 1, Gen("B", state.seals[window], None, None, 0, 0))
        if last.outcome is None and last.kind == "B":
            file = ("w", window, g, tuple(last.k if other == window else 0 for other in range(WINDOWS)))
            yield f"w{window} g{g} built", publish(state._replace(files=state.files | {file}), window, g, file)
            if stones_left:
                left = (seals_left, stones_left - 1, attempts_left, pins_left)
                yield f"w{window} g{g} cancelled", with_gen(state._replace(left=left), window, g, last._replace(outcome="T"))
        for g, gen in enumerate(gens, 1):
            if published(gen) and not gen.feed:
                yield f"feed w{window} g{g}", with_gen(state, window, g, gen._replace(feed=1))
            if published(gen) and not gen.gone and any(other.feed for other in gens[g:]):
                yield f"grace of w{window} g{g} over, gone", with_gen(state, window, g, gen._replace(gone=1))


def gc_steps(state, bad):
    gc, pinned = state.gc, (state.reader or IDLE)[0] in ("pinned", "reads") and bad != "pins not looked at"
    all_gens = [gen for gens in state.gens for gen in gens if published(gen)]
    if gc[0] == "delete":
        yield "GC deletes", state._replace(files=state.files - gc[1], gc=IDLE)
        return
    if gc == IDLE:
        for gen in all_gens:
            if gen.gone and gen.outcome[0] == "w" and gen.outcome in state.files and not pinned:
                yield f"GC finds {gen.outcome[:3]} superseded", state._replace(gc=("delete", frozenset([gen.outcome])))
        listed = frozenset(file for file in state.files if file[0] == "d")
        # Where the list comes last, it is taken at the look's end: a look first, the list in the next step.
        if listed or bad == "list after the look":
            yield "GC lists", state._replace(gc=look(state, bad) if bad == "list after the look" else ("listed", listed))
    elif gc[0] == "listed":
        after = look(state, bad)
        dead = gc[1] - after[1] if after != IDLE else frozenset()
        yield "GC looks", state._replace(gc=("delete", dead) if dead and not pinned else IDLE)
    elif gc[0] == "live":
        dead = frozenset(file for file in state.files if file[0] == "d") - gc[1]
        yield "GC lists late", state._replace(gc=("delete", dead) if dead and not pinned else IDLE)


def look(state, bad):
    """Day files that live manifests name; nothing while a day plan is open."""
    if bad != "open plans not looked at" and any(open_day(gens) for gens in state.gens):
        return IDLE
    day_gens = [gen for gens in state.gens for gen in gens if published(gen) and gen.outcome[0] == "d"]
    live = {gen.outcome for gen in day_gens if not gen.gone}
    # Files that nobody names are orphans in any case.
    if bad == "first user decides":
        live -= {gen.outcome for gen in day_gens if gen.gone}
    return ("live", frozenset(live))


def reader_steps(state, bad):
    seals_left, stones_left, attempts_left, pins_left = state.left
    if state.reader is None:
        if pins_left:
            current = tuple(max(g for g, gen in enumerate(gens, 1) if gen.feed) for gens in state.gens)
            yield "reader takes a number", state._replace(reader=("chose", current), left=(seals_left, stones_left, attempts_left, pins_left - 1))
        return
    if state.reader[0] == "chose":
        yield "pin", state._replace(reader=("pinned", state.reader[1]))
        return
    yield "pin goes", state._replace(reader=None)
    if state.reader[0] == "pinned":
        lost = bad != "gone not looked at" and any(state.gens[window][g - 1].gone for window, g in enumerate(state.reader[1]))
        yield "reader looks for gone", state._replace(reader=None if lost else ("reads", state.reader[1]))


def answer(state, current, bad):
    """Points per window of a query over the day: neighbours that name one key are read once, with their joined range."""
    ranges = []
    for window, g in enumerate(current):
        file = state.gens[window][g - 1].outcome
        if ranges and ranges[-1][0] == file and ranges[-1][2] == window:
            ranges[-1][2] = window + 1
        else:
            ranges.append([file, window, window + 1])
    found = [[] for _ in range(WINDOWS)]
    for file, first, end in ranges:
        if bad == "ranges ignored":
            first, end = 0, WINDOWS
        for window in range(first, end):
            if points_of(file)[window]:
                found[window].append(points_of(file)[window])
    return found


def check(state, bad):
    for window, gens in enumerate(state.gens):
        for g, gen in enumerate(gens, 1):
            if published(gen) and not gen.gone and gen.outcome not in state.files:
                raise Broken(f"window {window} g{g} is within its grace and names {gen.outcome}, which is not there")
    if state.reader and state.reader[0] == "reads":
        for window, g in enumerate(state.reader[1]):
            if state.gens[window][g - 1].outcome not in state.files:
                raise Broken(f"the pinned reader needs window {window} g{g}, whose file is not there")
    current = tuple(max(g for g, gen in enumerate(gens, 1) if gen.feed) for gens in state.gens)
    wanted = [[state.gens[window][g - 1].k] for window, g in enumerate(current)]
    found = answer(state, current, bad)
    if found != wanted:
        raise Broken(f"a query finds the points of seals {found}, not {wanted}")


def steps(state, bad):
    for number in range(len(state.controls)):
        if number == 0 or state.controls[number] != state.controls[number - 1]:
            for name, after in control_steps(state, number, bad):
                yield f"control {number} {name}", after
    for of in (window_steps, gc_steps, reader_steps):
        yield from of(state, bad)


def follow(state, story):
    """The state after a story; what comes is the only step of that name, or the first."""
    for name in story:
        found = [after for known, after in steps(state, None) if known.removeprefix("control 0 ").removeprefix("control 1 ") == name]
        if not found:
            raise SystemExit(f"{name!r} can't come there: {[known for known, _ in steps(state, None)]}")
        state = found[0]
    return state


def search(left, bad, controls, after):
    """Breadth first to the end: (states, None, []) if all holds, or (states, why, the shortest story)."""
    files = tuple(("w", window, 1, tuple(1 if other == window else 0 for other in range(WINDOWS))) for window in range(WINDOWS))
    start = State((1,) * WINDOWS, tuple((Gen("B", 1, None, file, 1, 0),) for file in files), frozenset(files), (IDLE,) * controls, IDLE, None, left)
    start = follow(start, after)
    seen, todo = {start: None}, deque([start])
    while todo:
        state = todo.popleft()
        name = "?"
        try:
            check(state, bad)
            for name, after in steps(state, bad):
                if after not in seen:
                    seen[after] = (name, state)
                    todo.append(after)
        except Broken as why:
            story = []
            while seen[state] is not None:
                name, state = seen[state]
                story.append(name)
            return len(seen), str(why), story[::-1]
    return len(seen), None, []


# A day was made for window 0 alone, since the next generation of window 1 was taken and then cancelled; another control read that before window 0
# got late points and the file's only user ended. GC has looked: it is about to delete the file.
STALE = """reads; late seal of w1; build of w1 planned; plans w0; plans w1; w1 g2 cancelled; reads; looks for a made file; makes the file; publishes w0 g2;
feed w0 g2; late seal of w0; build of w0 planned; w0 g3 built; feed w0 g3; plans w0; grace of w0 g2 over, gone; grace of w0 g1 over, gone;
GC lists; GC looks""".replace("\n", " ").split("; ")
# (late seals, tombstones, attempts at a day file, pins), controls, the story before; each is searched to its end.
AS_WRITTEN = [
    ((0, 0, 1, 1), 2, ()),
    ((0, 1, 2, 0), 2, ()),
    ((1, 0, 1, 0), 2, ()),
    ((1, 0, 2, 0), 1, ()),
    ((1, 1, 1, 0), 1, ()),
    ((1, 0, 1, 1), 1, ()),
    ((2, 1, 2, 0), 2, STALE),
]
TAKEN_OUT = {
    "open plans not looked at": ((0, 0, 1, 0), 2, ()),
    "list after the look": ((0, 0, 1, 0), 2, ()),
    "plans after the file": ((0, 0, 1, 0), 2, ()),
    "first user decides": ((1, 0, 1, 0), 1, ()),
    "late points hidden": ((1, 0, 1, 0), 1, ()),
    "pins not looked at": ((0, 0, 1, 1), 1, ()),
    "gone not looked at": ((0, 0, 1, 1), 1, ()),
    "ranges ignored": ((1, 0, 1, 0), 1, ()),
    "lent unchecked": ((2, 1, 2, 0), 2, STALE),
}


def main():
    """Says what was searched; fails when a rule as written breaks or one taken out is not found."""
    wrong, since, all_states = False, time.time(), 0
    for left, controls, story in AS_WRITTEN if len(sys.argv) < 2 else ():
        states, why, found = search(left, None, controls, story)
        all_states += states
        print(f"as written, {left}, {controls} control(s){', stale' if story else ''}: {states} states, {why or 'all holds'}", *found, sep="\n    ")
        wrong |= why is not None
    for name, (left, controls, story) in TAKEN_OUT.items():
        if len(sys.argv) < 2 or sys.argv[1] == name:
            states, why, found = search(left, name, controls, story)
            print(f"{name}: {'found' if found else 'NOT FOUND'} at depth {len(story) + len(found)}, {states} states: {why}")
            if len(sys.argv) > 1:
                print(*found, sep="\n")
            wrong |= not found
    print(f"{all_states} states as written, {time.time() - since:.0f} s")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
