# A list of derivations without those that came before: the first of equal ones stays.
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
