#!/usr/bin/env python3
"""Compares layer strategies by the bytes that a change of one package moves on average, on closures of Debian packages.

    apt-get update && benches/scripts/expected-bytes.py target/release/nixply

A closure consists of some packages of apt's index (`apt-cache dumpavail`) and their dependencies: the first alternative of each,
without recommended packages, and without edges that close a cycle. Each binary package is a store path as large as its
Installed-Size. As in Nix, its hash depends on its version and its dependencies, and the binary packages of one source are its
outputs.

`nixply strategies` prints the table. It assumes that one binary package changes, and all its dependents with it. Each layer that
contains a changed package moves completely, uncompressed.
"""

import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile

LARGE = """python3-pandas python3-scipy python3-matplotlib python3-sklearn gcc cmake clang ffmpeg nginx postgresql
openjdk-17-jdk php-cli ruby libreoffice chromium texlive-latex-extra blender golang rustc cargo nodejs gimp inkscape
qt6-base-dev octave r-base-core llvm ghc mariadb-server podman docker.io kicad maxima""".split()
CLOSURES = {
    "small": ["git", "curl", "jq"],
    "medium": """python3-pandas python3-scipy python3-matplotlib gcc cmake ffmpeg nginx postgresql openjdk-17-jre-headless
        php-cli ruby""".split(),
    "large": LARGE,
}
LIMITS = "40,100,127"


def index():
    """Returns the packages by name, and a provider of each virtual package."""
    packages, providers = {}, {}
    text = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True).stdout
    for paragraph in text.split("\n\n"):
        fields = dict(match.groups() for match in re.finditer(r"^([A-Za-z-]+): (.*)$", paragraph, re.M))
        if "Package" in fields and packages.setdefault(fields["Package"], fields) is fields:
            for virtual in filter(None, re.split(r",\s*", fields.get("Provides", ""))):
                providers.setdefault(virtual.split()[0], fields["Package"])
    return packages, providers


def dependencies(name, packages, providers):
    fields = packages[name]
    text = ", ".join(filter(None, (fields.get("Depends"), fields.get("Pre-Depends"))))
    found = set()
    for alternatives in filter(None, re.split(r",\s*", text)):
        names = [word.split()[0].split(":")[0] for word in alternatives.split("|") if word.strip()]
        known = (one if one in packages else providers.get(one) for one in names)
        found.add(next(filter(None, known), name))
    return sorted(found - {name})


def store_name(text):
    alphabet = "0123456789abcdfghijklmnpqrsvwxyz"
    return "".join(alphabet[byte & 31] for byte in hashlib.sha256(text.encode()).digest())


def closure(roots, packages, providers):
    """Returns the closure of an image in the format of `nix path-info --json`."""
    edges, open_names, order = {}, set(), []

    def visit(name):
        open_names.add(name)
        edges[name] = []
        for below in dependencies(name, packages, providers):
            if below not in edges:
                visit(below)
            if below not in open_names:
                edges[name].append(below)
        open_names.remove(name)
        order.append(name)

    for root in sorted(roots):
        if root not in packages:
            sys.exit(f"error: apt's index has no package {root}: run apt-get update")
        if root not in edges:
            visit(root)
    paths = {}
    for name in order:
        source = packages[name].get("Source", name).split()[0]
        version = re.sub("[:~-]", ".", packages[name]["Version"])
        output = "" if source == name else "-" + name.replace("-", "_")
        key = store_name(json.dumps([name, version, [paths[below] for below in edges[name]]]))
        paths[name] = f"/nix/store/{key}-{source}-{version}{output}"
    top = f"/nix/store/{store_name(' '.join(sorted(paths.values())))}-image-root"
    infos = [
        {
            "path": paths[name],
            "narSize": int(packages[name].get("Installed-Size", "1")) * 1024,
            "references": sorted(paths[below] for below in edges[name]),
        }
        for name in order
    ]
    infos.append({"path": top, "narSize": 4096, "references": sorted(paths[root] for root in roots)})
    return sorted(infos, key=lambda info: info["path"])


def strategies():
    """Returns the names of all strategies but `explicit`, which needs groups, and `per-path`, which needs a layer for each path."""
    schema = json.loads(subprocess.run([sys.argv[1], "schema"], stdout=subprocess.PIPE, check=True).stdout)
    names = [strategy["const"] for strategy in schema["properties"]["strategy"]["oneOf"]]
    return [name for name in names if name not in ("per-path", "explicit")]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.setrecursionlimit(100_000)
    packages, providers = index()
    with tempfile.TemporaryDirectory() as directory:
        files = []
        for name, roots in CLOSURES.items():
            files.append(pathlib.Path(directory, f"{name}.json"))
            files[-1].write_text(json.dumps(closure(roots, packages, providers)))
        command = [sys.argv[1], "strategies", *files, "--max-layers", LIMITS, "--quiet"]
        sys.exit(subprocess.run(command + [f"--strategy={name}" for name in strategies()]).returncode)


if __name__ == "__main__":
    main()
