"""Creates a store path from a Python wheel: its files in site-packages, and its commands.

The derivation sets `wheel`, the file; `imports`, the store paths of the wheels that it needs; `interpreter`;
`sitePackages`, the directory below a store path; `glibc`, for compiled modules.
"""

import configparser
import os
import subprocess
import sys
import zipfile

OUT = os.environ["out"]
IMPORTS = os.environ["imports"].split()
SITE = os.path.join(OUT, os.environ["sitePackages"])
LIBRARIES = os.path.join(os.environ["glibc"], "lib")

COMMAND = """\
#!{interpreter}
import re
import site
import sys
for directory in {sites!r}:
    site.addsitedir(directory)
from {module} import {attribute}
sys.argv[0] = re.sub(r"\\.pyw$", "", sys.argv[0])
sys.exit({call}())
"""


def write_commands(metadata):
    config = configparser.ConfigParser(delimiters="=", interpolation=None)
    config.optionxform = str
    config.read_string(metadata)
    if not config.has_section("console_scripts"):
        return
    os.makedirs(f"{OUT}/bin", exist_ok=True)
    for name, target in config.items("console_scripts"):
        module, call = (part.strip() for part in target.split("[")[0].split(":"))
        with open(f"{OUT}/bin/{name}", "w") as file:
            file.write(COMMAND.format(
                interpreter=os.environ["interpreter"],
                sites=[SITE, *(os.path.join(path, os.environ["sitePackages"]) for path in IMPORTS)],
                module=module, attribute=call.split(".")[0], call=call,
            ))
        os.chmod(f"{OUT}/bin/{name}", 0o755)


def bind(module):
    """Makes a compiled module find the C library, the only library that a wheel may need."""
    needed = subprocess.run(["patchelf", "--print-needed", module], stdout=subprocess.PIPE, check=True, text=True)
    for name in needed.stdout.split():
        if not os.path.exists(f"{LIBRARIES}/{name}"):
            sys.exit(f"{module} needs {name}, which is not in {LIBRARIES}")
    subprocess.run(["patchelf", "--set-rpath", LIBRARIES, module], check=True)


def main():
    with zipfile.ZipFile(os.environ["wheel"]) as archive:
        archive.extractall(SITE)
        for name in sorted(archive.namelist()):
            if name.endswith(".dist-info/entry_points.txt"):
                write_commands(archive.read(name).decode())
            elif name.endswith(".so"):
                bind(os.path.join(SITE, name))
    if IMPORTS:
        os.mkdir(f"{OUT}/nix-support")
        with open(f"{OUT}/nix-support/propagated-build-inputs", "w") as file:
            file.write(" ".join(IMPORTS) + "\n")


main()
