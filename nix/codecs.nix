# The codecs of layers; packer/src/compress.rs has the same list.
{
  # The highest level of each codec; the lowest is 1.
  levels = {
    gzip = 12;
    zstd = 19;
  };
  # A regular expression that matches every codec.
  pattern = "none|gzip(:0*([1-9]|1[0-2]))?|zstd(:0*([1-9]|1[0-9]))?";
  description = "one of none, gzip, gzip:1 to gzip:12, zstd, zstd:1 to zstd:19";
}
