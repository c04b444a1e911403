# Names of the layer strategies, in the order of packer/src/plan/mod.rs. `explicit` is missing: it needs groups.
[
  "popularity"
  "single"
  "per-path"
  "size"
  "auto-layer"
  "nixply"
]
