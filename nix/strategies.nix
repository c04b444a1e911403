# Names of the strategies, in the order of packer/src/plan/mod.rs; `explicit` is for those who give groups.
[
  "popularity"
  "single"
  "per-path"
  "size"
  "auto-layer"
  "nixply"
]
