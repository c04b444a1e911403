# How layers can be compressed: packer/src/compress.rs has the same list.
{
  # The highest level of each codec; the lowest is 1.
  levels = {
    gzip = 12;
    zstd = 19;
  };
  # A regular expression for all of them.
  pattern = "none|gzip(:0*([1-9]|1[0-2]))?|zstd(:0*([1-9]|1[0-9]))?";
  description = "one of none, gzip, gzip:1 to gzip:12, zstd, zstd:1 to zstd:19";
}
