#!/usr/bin/python3
"""Histories of package closures, made from Debian: which packages changed in which release, with sizes and references.

    apt-get update && apt-get install python3-debian python3-apt zstd
    benches/scripts/debian-history.py                   # all histories, into benches/histories
    benches/scripts/debian-history.py debian-rolling    # one of them
    benches/scripts/debian-history.py --check           # only checks what is there, and prints the table

Source: the package indexes of the archive that apt is set up with (a Debian machine, amd64, with bookworm among its
sources), and the changelogs in its packages: a .deb has its source's changelog, with all versions, their dates and the
suites they were meant for. All is fetched by apt-get, with folders of its own; of a .deb only the changelog's versions
stay in the cache. Format and assumptions: benches/histories/README.md.
"""

import argparse
import bisect
import datetime
import email.utils
import gzip
import hashlib
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

try:
    from debian.changelog import Changelog
    from debian.deb822 import Packages, PkgRelation
    from debian.debfile import DebFile
    from debian.debian_support import Version
except ImportError as error:
    sys.exit(f"debian-history: {error}; apt-get install python3-debian python3-apt, and run this with /usr/bin/python3")

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
HERE = pathlib.Path(__file__).resolve().parent
PARTS = {  # a suite, and what its packages come from; of each the newest version
    "bookworm": ["bookworm", "bookworm-updates", "bookworm-security"],
    "trixie": ["trixie", "trixie-updates", "trixie-security"],
    "sid": ["sid"],
}
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
BOOKWORM = datetime.date(2023, 6, 10)  # 12.0
ROLLING = datetime.timedelta(weeks=104)


class Failed(Exception):
    """A message for whoever runs this."""


def run(command, cwd=None):
    done = subprocess.run(command, cwd=cwd, capture_output=True)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command[:1] + command[-1:]))}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    source: str
    source_version: str
    size: int  # installed, in bytes
    download: int  # of the .deb, in bytes
    depends: str


class Suite:
    """A suite's index, through an apt that leaves the machine's own configuration alone."""

    def __init__(self, name, cache):
        self.name, self.dir, self.logs = name, cache / name, cache / "changelogs"
        for folder in [self.dir / "lists/partial", self.dir / "cache/archives/partial", self.logs]:
            folder.mkdir(parents=True, exist_ok=True)
        (self.dir / "status").write_text("")
        (self.dir / "sources.list").write_text("".join(self.sources()))
        paths = {"Dir::Etc::sourcelist": self.dir / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
                 "Dir::Etc::preferences": "/dev/null", "Dir::Etc::preferencesparts": "/dev/null",
                 "Dir::State::status": self.dir / "status", "Dir::State::lists": self.dir / "lists",
                 "Dir::Cache": self.dir / "cache", "APT::Sandbox::User": "", "Acquire::Languages": "none"}
        self.apt = ["apt-get", *(word for key, value in paths.items() for word in ("-o", f"{key}={value}"))]
        run([*self.apt, "update", "-q"])
        self.read_index()

    def sources(self):
        """Lines for sources.list: the addresses are those that this machine gets bookworm from."""
        targets = run(["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"]).decode()
        addresses = dict(line.split(" ", 1) for line in targets.splitlines())
        for part in PARTS[self.name]:
            like = "bookworm-security" if part.endswith("-security") else "bookworm"
            if like not in addresses:
                raise Failed(f"apt has no index of {like}: add it to apt's sources and run apt-get update")
            yield f"deb [signed-by={KEYRING}] {addresses[like]} {part} main\n"

    def read_index(self):
        self.packages, self.providers, self.binaries = {}, {}, {}
        for file in run([*self.apt, "indextargets", "--format", "$(FILENAME)", "Created-By: Packages"]).decode().split():
            text = run(["/usr/lib/apt/apt-helper", "cat-file", file]).decode()
            for fields in Packages.iter_paragraphs(text.splitlines(keepends=True), use_apt_pkg=False):
                self.add(fields)
        for package in self.packages.values():
            self.binaries.setdefault((package.source, package.source_version), []).append(package)
        for providers in self.providers.values():
            providers.sort(key=lambda provider: provider[0])

    def add(self, fields):
        name, version = fields["Package"], fields["Version"]
        former = self.packages.get(name)
        if former and Version(former.version) >= Version(version):
            return
        source, _, source_version = fields.get("Source", name).partition(" (")
        depends = ", ".join(filter(None, [fields.get("Pre-Depends"), fields.get("Depends")]))
        self.packages[name] = Package(name, version, source, source_version.rstrip(")") or version,
                                      int(fields.get("Installed-Size", 0)) * 1024, int(fields["Size"]), depends)
        for [virtual, *_] in PkgRelation.parse_relations(fields["Provides"]) if "Provides" in fields else []:
            providers = self.providers.setdefault(virtual["name"], [])
            providers[:] = [provider for provider in providers if provider[0] != name]
            providers.append((name, virtual["version"] and virtual["version"][1]))

    def resolve(self, alternatives):
        """The first alternative that the suite has, in a version that will do, if there is one."""
        for heed_versions in [True, False]:
            for wanted in alternatives:
                have = [(wanted["name"], self.packages[wanted["name"]].version)] if wanted["name"] in self.packages else []
                for name, version in have + self.providers.get(wanted["name"], []):
                    if not heed_versions or satisfies(version, wanted["version"]):
                        return name
        return None

    def closure(self, roots):
        """References by package, without cycles, of all that the roots depend on."""
        graph, todo, missing = {}, list(roots), set()
        while todo:
            name = todo.pop()
            if name in graph:
                continue
            found = set()
            depends = self.packages[name].depends
            for alternatives in PkgRelation.parse_relations(depends) if depends else []:
                chosen = self.resolve(alternatives)
                if chosen is None:
                    missing.add(f"{name} -> {' | '.join(wanted['name'] for wanted in alternatives)}")
                elif chosen != name:
                    found.add(chosen)
            graph[name] = found
            todo.extend(found)
        if missing:
            print(f"{self.name}: left out, as nothing provides them: {', '.join(sorted(missing))}", file=sys.stderr)
        return acyclic(graph, roots)

    def changelogs(self, sources):
        """Versions, suites and dates of each (source, version), the newest first."""
        todo, turn = [source for source in sources if not self.log(source).exists()], 0
        while todo:  # The doc folder of a binary package may be a link to another's, so this can take some turns.
            asked = [(source, self.likely(source)[turn]) for source in todo if turn < min(8, len(self.binaries[source]))]
            if len(asked) < len(todo):
                lacking = sorted({name for name, _ in todo} - {name for (name, _), _ in asked})
                raise Failed(f"{self.name}: no changelog in the packages of {', '.join(lacking)}")
            print(f"{self.name}: fetching packages for {len(asked)} changelogs, turn {turn + 1}", file=sys.stderr)
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(self.fetch, (asked[start:start + 16] for start in range(0, len(asked), 16))))
            todo, turn = [source for source in todo if not self.log(source).exists()], turn + 1
        return {source: json.loads(self.log(source).read_text()) for source in sources}

    def likely(self, source):
        """The binary packages of a source: first small ones, and those whose doc folder can be no link to another's."""
        siblings = {package.name for package in self.binaries[source]}

        def rank(package):
            words = set(package.depends.replace(",", " ").split())
            return bool(words & siblings - {package.name}), package.download, package.name

        return sorted(self.binaries[source], key=rank)

    def log(self, source):
        return self.logs / "{}_{}.json".format(*source)

    def fetch(self, asked):
        with tempfile.TemporaryDirectory(dir=self.dir) as folder:
            run([*self.apt, "download", "-q", *(f"{package.name}={package.version}" for _, package in asked)], folder)
            for source, package in asked:
                [file] = pathlib.Path(folder).glob(f"{package.name}_*.deb")
                entries = read_changelog(file, *source)
                if entries:
                    new = file.with_suffix(".json")
                    new.write_text(json.dumps(entries))
                    new.rename(self.log(source))


def satisfies(version, wanted):
    if wanted is None or version is None:
        return wanted is None
    operator, than = wanted
    a, b = Version(version), Version(than)
    return {"<<": a < b, "<=": a <= b, "=": a == b, ">=": a >= b, ">>": a > b}[operator]


def read_changelog(deb, source, version):
    """The entries of the source's changelog in a .deb, or nothing if it has none."""
    data, package = DebFile(str(deb)).data, deb.name.split("_")[0]
    for name in ["changelog.Debian.gz", "changelog.gz"]:
        path = f"usr/share/doc/{package}/{name}"
        if data.has_file(path) and data.tgz().getmember(f"./{path}").isfile():
            text = gzip.decompress(data.get_content(path)).decode(errors="replace")
            entries = []
            for block in Changelog(text, strict=False, allow_empty_author=True):
                date = email.utils.parsedate_to_datetime(block.date) if block.date else None
                if block.package == source and date:
                    utc = date.astimezone(datetime.timezone.utc) if date.tzinfo else date
                    entries.append([str(block.version), block.distributions, utc.date().isoformat()])
            if entries:
                return entries
    return None


def acyclic(graph, roots):
    """The graph without the edges that close a cycle, in a walk in depth first from the sorted roots, all sorted."""
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


def timeline(entries, current, start, meant):
    """Dates and versions of one source in order: what it had at `start`, and what was uploaded to the suite later."""
    first, later, last = entries[-1][0], [], datetime.date.min
    for version, suites, date in reversed(entries):
        last = max(last, datetime.date.fromisoformat(date))  # Now and then an entry is older than the one before.
        if last > start and (version == current or any(map(meant, suites.split()))):
            later.append((last, version))
        elif last <= start and suites not in ("experimental", "UNRELEASED"):
            first = version
    return [(datetime.date.min, first), *later]


def record(package, version, graph):
    """A package in a history. If the version is not the index's, its size is made up: within 1 % of it, by a hash."""
    size = package.size
    if version not in (package.version, package.source_version):
        digest = hashlib.sha256(f"{package.name} {version}".encode()).digest()
        size += round(size * (int.from_bytes(digest[:4], "big") / 2**31 - 1) * 0.0099)
    return {"version": version, "source": package.source, "size": size, "references": graph[package.name]}


def weekly(suite, roots, start, meant):
    """A release for each week with an upload, and one before for the start."""
    graph = suite.closure(roots)
    packages = [suite.packages[name] for name in sorted(graph)]
    logs = suite.changelogs(sorted({(package.source, package.source_version) for package in packages}))
    newest = max(entries[0][2] for entries in logs.values())
    start = week_end(start or datetime.date.fromisoformat(newest) - ROLLING)
    lines = {source: timeline(entries, source[1], start, meant) for source, entries in logs.items()}
    for (source, version), line in lines.items():
        if line[-1][1] != version:
            raise Failed(f"{suite.name}: the changelog of {source} ends with {line[-1][1]}, but the index has {version}")
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
    """The suite as its index has it."""
    graph = suite.closure(roots)
    return suite.name, {name: record(suite.packages[name], suite.packages[name].version, graph) for name in graph}


def write(path, about, images, releases):
    """One line for each release, of what is new in it or differs from the one before."""
    lines, former = [], {}
    for name, state in releases:
        changed = {key: record for key, record in state.items() if former.get(key) != record}
        if changed or former.keys() != state.keys():
            lines.append(dump({"name": name, "set": changed, "removed": sorted(former.keys() - state.keys())}))
        former = state
    head = {"format": "nixply-history", "version": 1, "about": about, "images": images}
    text = dump(head)[:-1] + ',"releases":[\n' + ",\n".join(lines) + "\n]}\n"
    subprocess.run(["zstd", "-19", "-q", "-f", "-o", path], input=text.encode(), check=True)


def dump(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def check(path):
    """Fails if a history does not hold what its format says; gives its row of the table."""
    history = json.loads(run(["zstd", "-dcq", str(path)]))
    state, changes, moved = {}, [], []
    for release in history["releases"]:
        where = f"{path.name}, {release['name']}"
        changed = set(release["set"])
        state = {name: record for name, record in state.items() if name not in release["removed"]} | release["set"]
        users = {name: [] for name in state}
        for name, record in state.items():
            for target in record["references"]:
                if target not in state:
                    raise Failed(f"{where}: {name} refers to {target}, which is not in it")
                users[target].append(name)
        if acyclic({name: record["references"] for name, record in state.items()}, state) != {
                name: sorted(record["references"]) for name, record in state.items()}:
            raise Failed(f"{where}: references have a cycle, or are not sorted")
        absent = [root for roots in history["images"].values() for root in roots if root not in state]
        if absent:
            raise Failed(f"{where}: images have roots that are not in it: {', '.join(absent)}")
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
    return (f"| {path.name.removesuffix('.json.zst')} | {len(history['images'])} | {len(state):,} | {size / 1e9:.2f} GB "
            f"| {len(changes)} | {names[0]} to {names[1]} | {numbers} | {path.stat().st_size / 1e3:.0f} kB |")


HEADER = """| History | Images | Packages | Bytes | Releases | From, to | Changed a release, mean / median | With dependents | File |
| --- | --: | --: | --: | --: | --- | --: | --: | --: |"""
CONTENTS = {"": FLEET, "-medium": {"medium": MEDIUM}, "-large": {"everything": LARGE}}
HISTORIES = [f"debian-{kind}{size}" for kind in ["stable", "rolling", "jumps"] for size in CONTENTS]
WEEKLY = ("{} Packages, sizes and references are today's in all releases; a version other than today's changes the size "
          "by less than 1 %, by a hash. References that close a cycle are left out.")
ABOUT = {
    "stable": WEEKLY.format("Debian bookworm since 12.0: a release is a week with an upload to it, by the changelogs."),
    "rolling": WEEKLY.format("Debian sid, two years: a release is a week of uploads to unstable, by the changelogs."),
    "jumps": "Debian bookworm, trixie and sid as their indexes are: real packages, versions, sizes and references. "
             "References that close a cycle are left out.",
}


def make(name, suite, into):
    [_, kind, *rest] = name.split("-")
    suites = [suite(each) for each in {"stable": ["bookworm"], "rolling": ["sid"], "jumps": list(PARTS)}[kind]]
    images = {}
    for image, roots in CONTENTS["-".join(["", *rest])].items():
        roots = sorted(set((BASE + roots).split()))
        images[image] = [root for root in roots if all(root in each.packages for each in suites)]
        if images[image] != roots:
            print(f"{name}: {image} is without {', '.join(set(roots) - set(images[image]))}", file=sys.stderr)
    roots = {root for roots in images.values() for root in roots}
    if kind == "jumps":
        releases = [snapshot(each, roots) for each in suites]
    elif kind == "stable":
        releases = weekly(suites[0], roots, BOOKWORM, for_stable)
    else:
        releases = weekly(suites[0], roots, None, for_unstable)
    write(into / f"{name}.json.zst", ABOUT[kind], images, releases)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("histories", nargs="*", metavar="HISTORY", help=f"of {', '.join(HISTORIES)}; all if none is named")
    parser.add_argument("--check", action="store_true", help="make nothing")
    parser.add_argument("--into", type=pathlib.Path, default=HERE.parent / "histories")
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path("/var/cache/nixply/debian"))
    options = parser.parse_args()
    names, suites = options.histories or HISTORIES, {}
    if unknown := set(names) - set(HISTORIES):
        parser.error(f"no such history: {', '.join(unknown)}; there are {', '.join(HISTORIES)}")

    def suite(name):
        if name not in suites:
            suites[name] = Suite(name, options.cache.resolve())
        return suites[name]

    if not options.check:
        for name in names:
            make(name, suite, options.into)
    print(HEADER)
    for name in names:
        print(check(options.into / f"{name}.json.zst"), flush=True)


if __name__ == "__main__":
    try:
        main()
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"debian-history: {error}")
