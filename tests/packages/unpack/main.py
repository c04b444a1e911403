"""Builds one store path from Debian packages: nixpkgs' layout, and programs that refer to store paths.

The derivation sets `spec`, a JSON object:
  debs          the .deb files
  deps          store paths with libraries, programs and files that the packages may need
  loader        the store path with the dynamic loader, or null if this one has it
  interpreters  store paths with the interpreters of scripts
  only          the programs of bin/ to keep; empty keeps everything
  links         symbolic links to create: {path: target}
  moves         absolute paths, or their beginnings, to replace in programs: {path: path}; `@out@` is this store path
  shellIn       files, as shell patterns, in which the store's shell replaces '/bin/sh'
"""

import glob
import io
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
import tarfile

sys.path.insert(0, os.path.dirname(__file__))
from elf import Elf  # noqa: E402  (isolated mode omits the script's own directory from the path)

OUT = os.environ["out"]
SPEC = json.loads(os.environ["spec"])

# Files to omit, to keep image tests small: manuals and translations, headers and static libraries, parts of Debian's or
# systemd's own machinery. Of share/, only files that programs read at run time stay.
SHARE = {"ca-certificates", "nginx", "tabset", "terminfo", "zoneinfo"}
LEFT_OUT = re.compile(
    r"(var|include|games|src|local)(/|$)"
    r"|etc/(apt|bash\.bashrc|cron\.[a-z]+|default|init\.d|ld\.so\.conf(\.d)?|logrotate\.d|profile\.d|skel|ufw"
    r"|update-motd\.d|X11)(/|$)"
    r"|lib/(awk|binfmt\.d|debug|gawk|init|mime|modprobe\.d|sysctl\.d|systemd|sysusers\.d|tmpfiles\.d|udev|valgrind)(/|$)"
    r"|lib/[^/]*\.a$"
    r"|bin/(clear_console|ldconfig|py3clean|py3compile|py3versions|update-ca-certificates)$"
)


def place(path):
    """Returns the output's path for a path of a Debian package, or None if the output omits it."""
    path = re.sub(r"^usr/", "", posixpath.normpath(path.lstrip("/")))
    path = re.sub(r"^sbin/", "bin/", path)
    path = re.sub(r"^lib64/", "lib/", path)
    path = re.sub(r"^lib/[a-z0-9_]+-linux-gnu/", "lib/", path)
    share = re.match(r"share/([^/]+)", path)
    if LEFT_OUT.match(path) or (share and share[1] not in SHARE):
        return None
    return path


def inside(path):
    return os.path.join(OUT, path)


def unpack(deb, links):
    """Writes a package's files. Adds its links to `links` for later, because their targets may be in other packages."""
    tar = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for member in archive:
            path = place(member.name)
            if path is None or member.isdir():
                continue
            if member.issym() or member.islnk():
                target = member.linkname
                if member.issym() and not target.startswith("/"):
                    target = posixpath.join(posixpath.dirname(member.name), target)
                target = place(target)
                if target is not None and target != path:
                    links[path] = target
            elif member.isfile():
                os.makedirs(os.path.dirname(inside(path)), exist_ok=True)
                with open(inside(path), "wb") as file:
                    shutil.copyfileobj(archive.extractfile(member), file)
                # The set-uid bit is dropped, because the store cannot have it.
                os.chmod(inside(path), 0o755 if member.mode & 0o100 else 0o644)


def link(path, target):
    os.makedirs(os.path.dirname(inside(path)), exist_ok=True)
    if not os.path.lexists(inside(path)):
        os.symlink(target, inside(path))


def make_links(links):
    """Creates Debian's links: relative links inside the output, and absolute links to other store paths. Omits
    dangling links. Links to links take several rounds."""
    while links:
        settled = {}
        for path, target in sorted(links.items()):
            if os.path.exists(inside(target)):
                settled[path] = posixpath.relpath(target, posixpath.dirname(path))
            elif target not in links:
                found = [dep for dep in SPEC["deps"] if os.path.exists(os.path.join(dep, target))]
                settled[path] = os.path.join(found[0], target) if found else None
        if not settled:
            return
        for path, target in settled.items():
            del links[path]
            if target is not None:
                link(path, target)


def keep_only(programs):
    """Deletes everything except some programs in bin/."""
    for entry in os.listdir(OUT):
        if entry != "bin":
            shutil.rmtree(inside(entry))
    for entry in os.listdir(inside("bin")):
        if entry not in programs:
            os.remove(inside(f"bin/{entry}"))


def regular_files():
    for directory, directories, names in os.walk(OUT):
        directories.sort()
        for path in (os.path.join(directory, name) for name in sorted(names)):
            if not os.path.islink(path):
                yield path


def shared_objects(root):
    """Returns the directory of each shared object below a store path. lib/ itself takes precedence."""
    found = {}
    for top in ("lib", "libexec"):
        for directory, directories, names in os.walk(os.path.join(root, top)):
            # Modules of gconv, Python and PAM are loaded by path; no program links to them.
            directories[:] = sorted(set(directories) - {"gconv", "lib-dynload", "security"})
            for name in names:
                if ".so" in name:
                    found.setdefault(name, directory)
    return found


def move_paths():
    """Makes programs find their own files: sudo its plugins, PAM its modules, the C library its locales. `moves` may
    only have paths that programs use as a whole, because some programs also contain the length of a path."""
    given = sorted(SPEC["moves"].items(), key=lambda move: len(move[0]), reverse=True)
    moves = {old: new.replace("@out@", OUT) for old, new in given}
    seen = set()

    def move(path):
        for old, new in moves.items():
            if path == old or path.startswith(f"{old}/"):
                seen.add(old)
                return new + path[len(old):]
        return path

    def moved(text):
        """Replaces a path, or the paths in a list with colons."""
        new = ":".join(map(move, text.decode("latin-1").split(":"))).encode("latin-1")
        return new if new != text else None

    for path in regular_files() if moves else []:
        elf = Elf.read(path)
        if elf is not None and elf.move_strings(moved):
            with open(path, "wb") as file:
                file.write(elf.data)
    for path in sorted(set(moves) - seen):
        print(f"warning: no program contains {path}, so {moves[path]} does not replace it anywhere")


def settle_libc():
    """Completes the C library: restricts the loader to the store, and creates the indexes of character sets and
    locales, which Debian creates elsewhere or later."""
    name, = (name for name in os.listdir(inside("lib")) if is_loader(name))
    path = inside(f"lib/{name}")
    with open(path, "rb") as file:
        loader = file.read()
    # After the directories in a program, the loader tries Debian's. It must not find missing libraries there, or the program
    # would only run on a Debian machine. The lengths of the directories' names must stay.
    listed = re.compile(rb"\0(?:/usr)?/lib/(?:[a-z0-9_]+-linux-gnu/)?(?=\0)")
    with open(path, "wb") as file:
        file.write(listed.sub(lambda match: match[0].replace(b"/lib/", b"/---/"), loader))

    def run(program, *arguments):
        subprocess.run([path, "--library-path", inside("lib"), inside(f"bin/{program}"), *arguments], check=True)

    run("iconvconfig", "--nostdlib", "-o", inside("lib/gconv/gconv-modules.cache"), inside("lib/gconv"))
    os.makedirs("usr/lib/locale")
    locales = sorted(os.listdir(inside("lib/locale")))
    run("localedef", "--prefix", os.getcwd(), "--add-to-archive", *(inside(f"lib/locale/{name}") for name in locales))
    shutil.rmtree(inside("lib/locale"))
    shutil.copy("usr/lib/locale/locale-archive", inside("lib/locale-archive"))


def is_loader(name):
    return re.match(r"ld-linux.*\.so\.\d+$", name)


def bind_programs():
    """Sets the store's loader in every ELF file, and the directories of exactly the libraries that it needs."""
    loader_root = SPEC["loader"] or OUT
    is_libc = SPEC["loader"] is None
    loaders = [name for name in os.listdir(f"{loader_root}/lib") if is_loader(name)]
    loader = f"{loader_root}/lib/{loaders[0]}"
    places = [shared_objects(root) for root in [OUT, loader_root, *SPEC["deps"]]]

    batches = {}
    for path in regular_files():
        elf = Elf.read(path)
        if elf is None or not elf.needed:
            continue
        # The loader and the C library find each other, and patchelf could break them. The character set modules are loaded into
        # processes that have all their libraries.
        if is_libc and not (elf.has_interpreter and path.startswith(f"{OUT}/bin/")):
            continue
        directories = []
        for name in elf.needed:
            directory = next((found[name] for found in places if name in found), None)
            if directory is None:
                sys.exit(f"{path} needs {name}, which no dependency has: {' '.join(SPEC['deps'])}")
            if directory not in directories:
                directories.append(directory)
        batches.setdefault((elf.has_interpreter, ":".join(directories)), []).append(path)
    for (has_interpreter, rpath), paths in sorted(batches.items()):
        interpreter = ["--set-interpreter", loader] if has_interpreter else []
        subprocess.run(["patchelf", *interpreter, "--set-rpath", rpath, *paths], check=True)


def interpreter(name):
    """Returns the store's path for a script's interpreter, or None."""
    roots = [OUT, *SPEC["deps"], *SPEC["interpreters"]]
    return next((f"{root}/bin/{name}" for root in roots if os.path.exists(f"{root}/bin/{name}")), None)


def bind_scripts():
    """Changes `#!` lines to the store's interpreters. Deletes programs in bin/ whose interpreter is not available;
    other files keep their line."""
    for path in regular_files():
        if not os.access(path, os.X_OK):
            continue
        with open(path, "rb") as file:
            match = re.match(rb"#! *(?:/usr)?/bin/(?:env +)?([^ /\n]+)(.*\n)", file.readline(256), re.S)
            rest = file.read() if match else b""
        if not match:
            continue
        program = interpreter(match[1].decode())
        if program:
            with open(path, "wb") as file:
                file.write(b"#!" + os.fsencode(program) + match[2] + rest)
        elif path.startswith(f"{OUT}/bin/"):
            os.remove(path)
    for path in sorted(path for pattern in SPEC["shellIn"] for path in glob.glob(inside(pattern))):
        with open(path) as file:
            text = file.read()
        with open(path, "w") as file:
            file.write(text.replace("'/bin/sh'", f"'{interpreter('sh')}'"))


def main():
    links = {}
    os.makedirs(OUT)
    for deb in SPEC["debs"]:
        unpack(deb, links)
    make_links(links)
    if SPEC["only"]:
        keep_only(SPEC["only"])
    for path, target in sorted(SPEC["links"].items()):
        link(path, target)
    move_paths()
    if SPEC["loader"] is None:
        settle_libc()
    bind_programs()
    bind_scripts()


main()
