#!/usr/bin/python3
"""Makes histories of package closures from Debian: the packages that each release changes, with sizes and references.

    apt-get update && apt-get install python3-debian python3-apt zstd
    benches/scripts/debian-history.py                   # all histories, into benches/histories
    benches/scripts/debian-history.py debian-rolling    # one of them
    benches/scripts/debian-history.py --check           # only checks them (needs only zstd)

The data comes from the archive that apt uses (a Debian machine, amd64, with bookworm among its sources): from its package
indexes, and from the changelogs in its packages, which list all versions of the source with dates and suites
(debian_suite.py). benches/histories/README.md describes the format and the assumptions.
"""

import argparse
import bisect
import datetime
import hashlib
import json
import pathlib
import re
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
BASE = "bash coreutils ca-certificates "
FLEET = {
    "web": "python3-django gunicorn python3-psycopg2 python3-redis python3-boto3 python3-pil celery",
    "data-science": "python3-pandas python3-scipy python3-sklearn python3-matplotlib",
    "node": "nodejs npm",
    "java": "default-jre-headless jetty9",
    "java-build": "default-jdk-headless maven ant git",
    "php": "apache2 libapache2-mod-php php-mysql php-xml php-curl php-gd php-mbstring",
    "nginx": "nginx certbot python3-certbot-nginx",
    "postgresql": "postgresql pgbackrest",
    "rails": "rails puma redis-server",
    "go-build": "golang git make",
    "build": "gcc g++ cmake clang ninja-build pkg-config gdb python3",
    "ci": "git openssh-client skopeo buildah curl jq rsync",
    "media": "ffmpeg imagemagick",
    "browser": "chromium chromium-driver fonts-liberation",
}
MEDIUM = "python3-pandas python3-scipy python3-matplotlib gcc cmake git nginx postgresql default-jdk-headless php-cli"
LARGE = """python3-pandas python3-scipy python3-matplotlib python3-sklearn gcc cmake clang llvm ffmpeg nginx postgresql
    npm php-cli ruby libreoffice chromium texlive-latex-extra blender golang"""
CONTENTS = {"": FLEET, "-medium": {"medium": MEDIUM}, "-large": {"everything": LARGE}}
SUITES = {"stable": ["bookworm"], "rolling": ["sid", "trixie", "bookworm"], "jumps": ["bookworm", "trixie", "sid"]}
HISTORIES = [f"debian-{kind}{size}" for kind in SUITES for size in CONTENTS]
WEEKLY = ("{} Packages, sizes and references are today's in all releases; a version other than today's changes the "
          "size by less than 1 %, by a hash. References that close a cycle are left out.")
ABOUT = {
    "stable": WEEKLY.format("Debian bookworm since 12.0: a release is a week with an upload to it, by the changelogs."),
    "rolling": WEEKLY.format("Debian sid, two years: a release is a week of uploads to unstable, by the changelogs."),
    "jumps": "Debian bookworm, trixie and sid as their indexes are: real packages, versions, sizes and references. "
             "References that close a cycle are left out.",
}
BOOKWORM = datetime.date(2023, 6, 10)  # 12.0
ROLLING = datetime.timedelta(weeks=104)
HEADER = """\
| History | Images | Packages | Bytes | Releases | From, to | Changed, mean / median | With dependents | File |
| --- | --: | --: | --: | --: | --- | --: | --: | --: |"""


def acyclic(graph, roots):
    """Removes the edges that close a cycle, found by a depth-first walk from the sorted roots. The result is sorted."""
    kept, state = {name: [] for name in graph}, {}
    for root in sorted(roots):
        stack = [] if root in state else [(root, iter(sorted(graph[root])))]
        state.setdefault(root, "open")
        while stack:
            name, edges = stack[-1]
            target = next(edges, None)
            if target is None:
                state[name] = "done"
                stack.pop()
            elif state.get(target) != "open":
                kept[name].append(target)
                if target not in state:
                    state[target] = "open"
                    stack.append((target, iter(sorted(graph[target]))))
    return kept


def for_stable(suite):
    return suite.startswith(("bookworm", "stable", "oldstable", "proposed-updates")) and "backports" not in suite


def for_unstable(suite):
    return suite in ("unstable", "sid")


def uploads(entries, current, start, meant):
    """Returns dates and versions of one source in order: the version at `start`, then the later uploads to the suite."""
    first, later, last = entries[-1][0], [], datetime.date.min
    for version, suites, date in reversed(entries):
        last = max(last, datetime.date.fromisoformat(date))  # Some entries are older than the one before.
        if last > start and (version == current or any(map(meant, suites.split()))):
            later.append((last, version))
        elif last <= start and suites not in ("experimental", "UNRELEASED"):
            first = version
    return [(datetime.date.min, first), *later]


def timeline(suites, source, start, meant, log):
    """Returns the uploads of a source in the first suite. If its changelog begins later than `start`, the uploads before that
    are those of its predecessor, such as an older major version, in any suite."""
    name, version = source
    line = uploads(log, version, start, meant)
    if log[-1][2] <= start.isoformat() or len(line) == 1:
        return line
    former = suites[-1].older(name, line[1][1])
    if former:  # Changelogs in packages begin at the release of oldstable, which is bookworm today.
        return [(datetime.date.min, former), *line[1:]]
    prefix, number = re.fullmatch(r"(.*?)([\d.]*)", name).groups()
    lower = [(key, suite, other) for suite in suites for other in suite.newest if other.startswith(prefix)
             if (key := numbers(other.removeprefix(prefix))) and key < numbers(number)]
    if not lower:
        print(f"{suites[0].name}: {name} is new, and has its first version from the start", file=sys.stderr)
        return line
    _, suite, other = max(lower, key=lambda found: found[0])
    print(f"{suites[0].name}: before {line[1][0]} {name} is {other}, of {suite.name}", file=sys.stderr)
    source = other, suite.newest[other]
    before = timeline(suites, source, start, meant, suite.changelogs([source])[source])
    return [upload for upload in before if upload[0] < line[1][0]] + line[1:]


def numbers(text):
    return [int(word) for word in text.split(".")] if re.fullmatch(r"\d+(\.\d+)*", text) else []


def record(package, version, graph):
    """Returns a package's entry in a history. The index has the size of one version only; the size of another version is
    derived from it by a hash and differs by less than 0.5 %."""
    size = package.size
    if version not in (package.version, package.source_version):
        digest = hashlib.sha256(f"{package.name} {version}".encode()).digest()
        size += round(size * (int.from_bytes(digest[:4], "big") / 2**31 - 1) * 0.0049)
    return {"version": version, "source": package.source, "size": size, "references": graph[package.name]}


def weekly(suites, roots, start, meant):
    """Yields the releases of the first suite: the state at the start, then one release for each week with an upload."""
    suite = suites[0]
    graph = acyclic(suite.closure(roots), roots)
    packages = [suite.packages[name] for name in sorted(graph)]
    logs = suite.changelogs(sorted({(package.source, package.source_version) for package in packages}))
    newest = max(entries[0][2] for entries in logs.values())
    start = week_end(start or datetime.date.fromisoformat(newest) - ROLLING)
    lines = {source: timeline(suites, source, start, meant, log) for source, log in logs.items()}
    for (source, version), line in lines.items():
        if line[-1][1] != version:
            raise RuntimeError(f"{suite.name} has {source} {version}, but its changelog ends with {line[-1][1]}")
    for end in sorted({start} | {week_end(date) for line in lines.values() for date, _ in line[1:]}):
        state = {}
        for package in packages:
            line = lines[package.source, package.source_version]
            version = line[bisect.bisect_right(line, end, key=lambda upload: upload[0]) - 1][1]
            state[package.name] = record(package, version, graph)
        yield (end - datetime.timedelta(days=6)).isoformat(), state


def week_end(date):
    return date + datetime.timedelta(days=6 - date.weekday())


def snapshot(suite, roots):
    """Returns the current state of a suite as a release."""
    graph = acyclic(suite.closure(roots), roots)
    return suite.name, {name: record(suite.packages[name], suite.packages[name].version, graph) for name in graph}


def write(path, about, images, releases):
    """Writes a history: one line for each release, with the packages that it adds, changes or removes."""
    lines, former = [], {}
    for name, state in releases:
        changed = {key: entry for key, entry in state.items() if former.get(key) != entry}
        if changed or former.keys() != state.keys():
            lines.append(dump({"name": name, "set": changed, "removed": sorted(former.keys() - state.keys())}))
        former = state
    head = {"format": "nixply-history", "version": 1, "about": about, "images": images}
    text = dump(head)[:-1] + ',"releases":[\n' + ",\n".join(lines) + "\n]}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = subprocess.run(["zstd", "-19", "-qc"], input=text.encode(), stdout=subprocess.PIPE, check=True)
    path.write_bytes(packed.stdout)


def dump(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def check(path):
    """Checks a history against its format, and returns its row of the table."""
    history = json.loads(subprocess.run(["zstd", "-dqc", path], stdout=subprocess.PIPE, check=True).stdout)
    if (history["format"], history["version"]) != ("nixply-history", 1):
        raise RuntimeError(f"{path.name} is not a nixply-history of version 1")
    state, changes, moved = {}, [], []
    for release in history["releases"]:
        where = f"{path.name}, {release['name']}"
        changed = set(release["set"])
        state = {name: record for name, record in state.items() if name not in release["removed"]} | release["set"]
        users = {name: [] for name in state}
        for name, record in state.items():
            for target in record["references"]:
                if target not in state:
                    raise RuntimeError(f"{where}: {name} refers to {target}, which the release lacks")
                users[target].append(name)
        if acyclic({name: record["references"] for name, record in state.items()}, state) != {
                name: sorted(record["references"]) for name, record in state.items()}:
            raise RuntimeError(f"{where}: references have a cycle, or are not sorted")
        absent = [root for roots in history["images"].values() for root in roots if root not in state]
        if absent:
            raise RuntimeError(f"{where}: the release lacks roots of images: {', '.join(absent)}")
        changes.append(len(changed))
        todo, reached = list(changed), set(changed)
        while todo:
            new = set(users[todo.pop()]) - reached
            reached |= new
            todo.extend(new)
        moved.append(len(reached))
    size = sum(record["size"] for record in state.values())
    names = history["releases"][0]["name"], history["releases"][-1]["name"]
    numbers = "{:.0f} / {:.0f} | {:.0f} / {:.0f}".format(*(
        of(counts[1:]) for counts in (changes, moved) for of in (statistics.mean, statistics.median)))
    return (f"| {path.name.removesuffix('.json.zst')} | {len(history['images'])} | {len(state):,} | "
            f"{size / 1e9:.2f} GB | {len(changes)} | {names[0]} to {names[1]} | {numbers} "
            f"| {path.stat().st_size / 1e3:.0f} kB |")


def make(name, suite, into):
    [_, kind, *rest] = name.split("-")
    suites = [suite(each) for each in SUITES[kind]]
    images = {}
    for image, roots in CONTENTS["-".join(["", *rest])].items():
        roots = sorted(set((BASE + roots).split()))
        images[image] = [root for root in roots if all(root in each.packages for each in suites)]
        if images[image] != roots:
            absent = ", ".join(set(roots) - set(images[image]))
            print(f"{name}: {image} omits roots that a suite lacks: {absent}", file=sys.stderr)
    roots = {root for roots in images.values() for root in roots}
    if kind == "jumps":
        releases = [snapshot(each, roots) for each in suites]
    elif kind == "stable":
        releases = weekly(suites, roots, BOOKWORM, for_stable)
    else:
        releases = weekly(suites, roots, None, for_unstable)
    write(into / f"{name}.json.zst", ABOUT[kind], images, releases)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("histories", nargs="*", metavar="HISTORY", help=f"all by default: {', '.join(HISTORIES)}")
    parser.add_argument("--check", action="store_true", help="only check the histories")
    parser.add_argument("--into", type=pathlib.Path, default=HERE.parent / "histories")
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path("/var/cache/nixply/debian"))
    options = parser.parse_args()
    names, suites = options.histories or HISTORIES, {}
    if unknown := set(names) - set(HISTORIES):
        parser.error(f"no such history: {', '.join(unknown)}; there are {', '.join(HISTORIES)}")

    def suite(name):
        from debian_suite import Suite  # Imported only here, because --check needs no Python package.

        return suites.get(name) or suites.setdefault(name, Suite(name, options.cache.resolve()))

    if not options.check:
        for name in names:
            make(name, suite, options.into)
    print(HEADER)
    for name in names:
        print(check(options.into / f"{name}.json.zst"), flush=True)


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"debian-history: {error}")
