# Removes duplicates from a list of derivations and keeps the first of each.
derivations:
map (entry: entry.value) (
  builtins.genericClosure {
    startSet = map (value: {
      key = builtins.unsafeDiscardStringContext value.outPath;
      inherit value;
    }) derivations;
    operator = _: [ ];
  }
)
