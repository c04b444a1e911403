#!/usr/bin/env python3
"""What a change of one package is expected to move, by layer strategy, on closures made of Debian's packages.

    apt-get update && benches/scripts/expected-bytes.py target/release/nixply

Closures: the packages of apt's index (`apt-cache dumpavail`) that some roots depend on, first alternatives, nothing recommended,
with the edges left out that close a cycle. Every binary package is a store path of its Installed-Size, whose hash depends on its
version and its dependencies, as in Nix; binary packages of one source have its name and are its outputs.

Expected bytes: one binary package changes, and with it all its dependents; every layer with any of these moves as a whole,
uncompressed. The package is drawn by 1 / (1 + its dependents) ("structural"), evenly ("even"), or from those with at most one
dependent ("leaf"). The floor is a layer for every path.
"""

import hashlib
import json
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
STRATEGIES = ["single", "popularity", "auto-layer", "size", "nixply"]
WEIGHTS = {
    "structural": lambda touched: 1 / touched,
    "even": lambda touched: 1,
    "leaf": lambda touched: touched <= 2,
}


def index():
    """Packages by name, and which package provides a virtual one."""
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
    """What `nix path-info --json` would give, and the image's root."""
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
    return sorted(infos, key=lambda info: info["path"]), top


class Changes:
    """Which changes touch a path, as the bits of a number."""

    def __init__(self, infos):
        self.sizes = {info["path"]: info["narSize"] for info in infos}
        references = {info["path"]: info["references"] for info in infos}
        bit = {path: 1 << at for at, path in enumerate(references)}
        self.touching = {}

        def touching(path):
            if path not in self.touching:
                bits = bit[path]
                for below in references[path]:
                    bits |= touching(below)
                self.touching[path] = bits
            return self.touching[path]

        self.touched = [0] * len(infos)
        for path in references:
            for at in ones(touching(path)):
                self.touched[at] += 1

    def expected(self, layers, weigh):
        """Megabytes that a change moves."""
        weights = [weigh(touched) for touched in self.touched]
        moved = 0
        for layer in layers:
            bits = 0
            for path in layer:
                bits |= self.touching[path]
            moved += sum(self.sizes[path] for path in layer) * sum(weights[at] for at in ones(bits))
        return moved / sum(weights) / 1e6


def ones(bits):
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def planned(nixply, infos, top, strategy, layers):
    request = {"layers": [{"deps": [top], "maxLayers": layers, "strategy": strategy}]}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as graph:
        json.dump(infos, graph)
        graph.flush()
        command = [nixply, "plan", "-", "--closure", graph.name, "--json"]
        answer = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True)
    if answer.returncode:
        sys.exit(answer.stderr)
    return [layer["paths"] for layer in json.loads(answer.stdout)]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.setrecursionlimit(100_000)
    packages, providers = index()
    for name, roots in CLOSURES.items():
        infos, top = closure(roots, packages, providers)
        changes = Changes(infos)
        print(f"{name}: {len(infos)} paths, {sum(changes.sizes.values()) / 1e6:.0f} MB")
        print(f"{'':6} {'':12}" + "".join(f"{weight:>12}" for weight in WEIGHTS))

        def row(limit, label, layers):
            numbers = "".join(f"{changes.expected(layers, weigh):12.1f}" for weigh in WEIGHTS.values())
            print(f"{limit:6} {label:12}{numbers}", flush=True)

        for limit in (40, 100, 127):
            for strategy in STRATEGIES:
                row(limit, strategy, planned(sys.argv[1], infos, top, strategy, limit))
        row("", "floor", [[info["path"]] for info in infos])


if __name__ == "__main__":
    main()
