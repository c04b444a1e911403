"""Makes a Python program's store path of wheels: site-packages with all of them, and the program's own commands.

The derivation gives `wheels`, the files; `program`, whose commands go to bin/; `interpreter`; `sitePackages`.
"""

import configparser
import os
import re
import zipfile

OUT = os.environ["out"]
SITE = os.path.join(OUT, os.environ["sitePackages"])

COMMAND = """\
#!{interpreter}
import re
import site
import sys
site.addsitedir({site!r})
from {module} import {attribute}
sys.argv[0] = re.sub(r"\\.pyw$", "", sys.argv[0])
sys.exit({call}())
"""


def normal(name):
    """A project's name as the packaging rules compare them."""
    return re.sub(r"[-_.]+", "-", name).lower()


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
                interpreter=os.environ["interpreter"], site=SITE,
                module=module, attribute=call.split(".")[0], call=call,
            ))
        os.chmod(f"{OUT}/bin/{name}", 0o755)


def main():
    for wheel in os.environ["wheels"].split():
        # The store's name for the file: 32 characters and a dash, then the wheel's.
        project = os.path.basename(wheel)[33:].split("-")[0]
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(SITE)
            if normal(project) != normal(os.environ["program"]):
                continue
            for name in sorted(archive.namelist()):
                if name.endswith(".dist-info/entry_points.txt"):
                    write_commands(archive.read(name).decode())


main()
