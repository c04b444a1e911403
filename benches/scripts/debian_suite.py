"""Reads a Debian suite: its packages, their dependencies, and the versions in their changelogs.

apt-get downloads everything from the addresses that the machine's apt uses for bookworm, into its own directories. The cache
keeps only the versions in the changelog of each .deb.
"""

import email.utils
import gzip
import json
import pathlib
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timezone

try:
    from debian.changelog import Changelog
    from debian.deb822 import Packages, PkgRelation
    from debian.debfile import DebFile
    from debian.debian_support import Version
except ImportError as error:
    sys.exit(f"{error}: apt-get install python3-debian python3-apt, and run this with /usr/bin/python3")

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PARTS = {  # the sources of each suite's packages; the newest version of a package counts
    "bookworm": ["bookworm", "bookworm-updates", "bookworm-security"],
    "trixie": ["trixie", "trixie-updates", "trixie-security"],
    "sid": ["sid"],
}


def run(command, **options):
    done = subprocess.run(command, capture_output=True, **options)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ... {command[-1]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def targets(apt, form):
    """Returns a line for each package index of apt, in the format `form`."""
    return run([*apt, "indextargets", "--format", form, "Created-By: Packages"]).decode().splitlines()


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
    """The index of a suite, read by an apt with its own configuration. The machine's configuration stays unchanged."""

    def __init__(self, name, cache):
        self.name, self.dir, self.logs = name, cache / name, cache / "changelogs"
        for directory in [self.dir / "lists/partial", self.dir / "cache/archives/partial", self.logs]:
            directory.mkdir(parents=True, exist_ok=True)
        (self.dir / "status").write_text("")
        (self.dir / "sources.list").write_text("".join(self.source_lines()))
        options = {
            "Dir::Etc::sourcelist": self.dir / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null", "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State::status": self.dir / "status", "Dir::State::lists": self.dir / "lists",
            "Dir::Cache": self.dir / "cache", "APT::Sandbox::User": "", "Acquire::Languages": "none",
        }
        self.apt = ["apt-get", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
        run([*self.apt, "update", "-q"])
        self.read_index()

    def source_lines(self):
        """Returns lines for sources.list, with the addresses from which this machine gets bookworm."""
        lines = targets(["apt-get"], "$(RELEASE) $(REPO_URI)")
        addresses = dict(line.split(" ", 1) for line in lines)
        for part in PARTS[self.name]:
            like = "bookworm-security" if part.endswith("-security") else "bookworm"
            if like not in addresses:
                raise RuntimeError(f"apt has no index of {like}: add it to apt's sources and run apt-get update")
            yield f"deb [signed-by={KEYRING}] {addresses[like]} {part} main\n"

    def read_index(self):
        self.packages, self.providers, self.binaries = {}, {}, {}
        for file in targets(self.apt, "$(FILENAME)"):
            text = run(["/usr/lib/apt/apt-helper", "cat-file", file]).decode()
            for fields in Packages.iter_paragraphs(text.splitlines(keepends=True), use_apt_pkg=False):
                self.add(fields)
        for package in self.packages.values():
            self.binaries.setdefault((package.source, package.source_version), []).append(package)
        self.newest = dict(sorted(self.binaries, key=lambda source: Version(source[1])))  # version by source
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
        """Returns the first alternative that the suite has, preferably in an acceptable version."""
        for heed_versions in [True, False]:
            for wanted in alternatives:
                itself = self.packages.get(wanted["name"])
                have = [(itself.name, itself.version)] if itself else []
                for name, version in have + self.providers.get(wanted["name"], []):
                    if not heed_versions or satisfies(version, wanted["version"]):
                        return name
        return None

    def older(self, source, version):
        """Returns the suite's version of a source if it is older than `version`."""
        own = self.newest.get(source)
        return own if own and Version(own) < Version(version) else None

    def closure(self, roots):
        """Returns the dependencies of the roots, direct and indirect: for each package, the packages that it depends on."""
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
            print(f"{self.name}: omitting dependencies that no package provides: {', '.join(sorted(missing))}", file=sys.stderr)
        return graph

    def changelogs(self, sources):
        """Returns the changelog of each (source, version): versions, suites and dates, the newest first."""
        todo, turn = [source for source in sources if not self.log(source).exists()], 0
        while todo:  # A package's documentation may be a link to another package's, so this may try several packages.
            asked = [(source, self.likely(source)[turn]) for source in todo
                     if turn < min(8, len(self.binaries[source]))]
            if len(asked) < len(todo):
                lacking = sorted({name for name, _ in todo} - {name for (name, _), _ in asked})
                raise RuntimeError(f"{self.name}: no changelog in the packages of {', '.join(lacking)}")
            print(f"{self.name}: fetching packages for {len(asked)} changelogs, turn {turn + 1}", file=sys.stderr)
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(self.fetch, (asked[start:start + 16] for start in range(0, len(asked), 16))))
            todo, turn = [source for source in todo if not self.log(source).exists()], turn + 1
        return {source: json.loads(self.log(source).read_text()) for source in sources}

    def likely(self, source):
        """Returns the binary packages of a source, the most likely to contain the changelog first. The documentation of a package
        that depends on another package of the source may be a link to it, so packages without such a dependency come first,
        the smallest before the others."""
        siblings = {package.name for package in self.binaries[source]}

        def rank(package):
            words = set(package.depends.replace(",", " ").split())
            return bool(words & siblings - {package.name}), package.download, package.name

        return sorted(self.binaries[source], key=rank)

    def log(self, source):
        return self.logs / "{}_{}.json".format(*source)

    def fetch(self, asked):
        with tempfile.TemporaryDirectory(dir=self.dir) as directory:
            names = [f"{package.name}={package.version}" for _, package in asked]
            run([*self.apt, "download", "-q", *names], cwd=directory)
            for source, package in asked:
                [file] = pathlib.Path(directory).glob(f"{package.name}_*.deb")
                entries = read_changelog(file, source[0])
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


def read_changelog(deb, source):
    """Returns the entries of the source's changelog in a .deb, or None if it has none."""
    data, package = DebFile(str(deb)).data, deb.name.split("_")[0]
    for name in ["changelog.Debian.gz", "changelog.gz"]:
        path = f"usr/share/doc/{package}/{name}"
        if data.has_file(path) and data.tgz().getmember(f"./{path}").isfile():
            text = gzip.decompress(data.get_content(path)).decode(errors="replace")
            entries = []
            for block in Changelog(text, strict=False, allow_empty_author=True):
                date = email.utils.parsedate_to_datetime(block.date) if block.date else None
                if block.package == source and date:
                    utc = date.astimezone(timezone.utc) if date.tzinfo else date
                    entries.append([str(block.version), block.distributions, utc.date().isoformat()])
            if entries:
                return entries
    return None
