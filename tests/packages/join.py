"""Joins store paths into one tree of symbolic links, like nixpkgs' buildEnv and symlinkJoin.

The derivation sets `joinPath`, a JSON file:
  paths        [{path, priority}]; of two files with the same name, the one with the lower number wins
  pathsToLink  the parts of the trees to include, as absolute paths
  prefix       the directory of the output in which to create them
  directories  "whole": a directory that only one path has becomes a link to it; "files": only files become links
  collisions   "fail": two files with the same name and priority are an error; "first": the first wins
"""

import json
import os
import sys

OUT = os.environ["out"]
with open(os.environ["joinPath"]) as file:
    JOIN = json.load(file)

# Files that a joined tree omits, because they have a meaning only in the path of one package.
SKIPPED = {"/nix-support", "/propagated-build-inputs", "/share/info/dir", "/log"}


def parents(path):
    """Returns the path and its parents: "", /a and /a/b for /a/b."""
    parts = path.strip("/").split("/") if path.strip("/") else []
    return ["", *("/" + "/".join(parts[:i + 1]) for i in range(len(parts)))]


# Values: None for a directory; target and priority for a link.
tree = {parent: None for path in JOIN["pathsToLink"] for parent in parents(path)}
wanted = {path.rstrip("/") for path in JOIN["pathsToLink"]}


def is_wanted(name):
    return any(name == path or name.startswith(f"{path}/") for path in wanted)


def add(target, name, priority):
    """Adds `target`, a file or directory of one of the paths, to the output as `name`."""
    is_directory = os.path.isdir(target)
    if name in SKIPPED or not (is_wanted(name) or (is_directory and name in tree)):
        return
    if name not in tree:
        if is_directory and (JOIN["directories"] == "files" and not os.path.islink(target)):
            tree[name] = None
        else:
            tree[name] = (target, priority)
            return
    if tree[name] is not None:
        other, others_priority = tree[name]
        if not (is_directory and os.path.isdir(other)):
            settle(target, other, name, priority, others_priority)
            return
        tree[name] = None
        add_all(other, name, others_priority)
    if is_directory:
        add_all(target, name, priority)
    elif JOIN["collisions"] == "fail":
        sys.exit(f"{target} is a file where other paths have a directory")


def add_all(directory, name, priority):
    for entry in sorted(os.listdir(directory)):
        add(f"{directory}/{entry}", f"{name}/{entry}", priority)


def settle(target, other, name, priority, others_priority):
    """Decides which of two files with the same name is in the output."""
    if os.path.realpath(target) == os.path.realpath(other) or JOIN["collisions"] == "first":
        return
    if priority == others_priority:
        sys.exit(f"two paths have {name} with the same priority:\n  {other}\n  {target}")
    if priority < others_priority:
        tree[name] = (target, priority)


def main():
    for entry in JOIN["paths"]:
        add(entry["path"], "", entry["priority"])
    top = OUT + JOIN["prefix"]
    os.makedirs(top, exist_ok=True)
    for name, link in sorted(tree.items()):
        if link is None:
            os.makedirs(top + name, exist_ok=True)
        else:
            os.symlink(link[0], top + name)


main()
