# The cases of nix2container's own tests (its tests/default.nix and examples/), one image for each.
{ pkgs, nix2container }:

let
  inherit (nix2container) buildImage buildLayer;
  hello = [ "${pkgs.hello}/bin/hello" ];

  # Two files in /tmp.
  twoFiles = pkgs.runCommand "two-files" { } ''
    mkdir -p $out/tmp
    touch $out/tmp/test1.txt $out/tmp/test2.txt
  '';
  listTmp = [ "${pkgs.coreutils}/bin/ls" "-l" "/tmp/" ];

  tools = pkgs.buildEnv {
    name = "root";
    paths = [ pkgs.bashInteractive pkgs.coreutils ];
    pathsToLink = [ "/bin" ];
  };
  ncurses = buildLayer { deps = [ pkgs.ncurses ]; };
in
{
  # A separate layer below the script.
  hello = buildImage {
    name = "hello";
    config.entrypoint = [
      "${pkgs.bash}/bin/bash"
      (pkgs.writeScript "conversation" ''
        ${pkgs.hello}/bin/hello
        echo "I'm dying"
      '')
    ];
    layers = [ (buildLayer { deps = [ pkgs.bash pkgs.hello ]; }) ];
  };

  basic = buildImage { name = "basic"; config.entrypoint = hello; };

  layered = buildImage { name = "layered"; config.entrypoint = hello; maxLayers = 3; };

  # Layers below layers. The two lowest are the same layer.
  nested = buildImage {
    name = "nested";
    config.entrypoint = [ "/bin/bash" "-c" "${pkgs.hello}/bin/hello" ];
    layers = [
      (buildLayer {
        deps = [ pkgs.bashInteractive ];
        copyToRoot = tools;
        layers = [ ncurses ncurses ];
      })
    ];
  };

  # nix2container#186: a layer whose store paths are all in the layer below it.
  duplicated = buildImage {
    name = "duplicated";
    config.entrypoint = hello;
    layers = [ (buildLayer { layers = [ ncurses (buildLayer { deps = [ pkgs.ncurses ]; }) ]; }) ];
  };

  copyToRoot = buildImage {
    name = "copy-to-root";
    copyToRoot = [ pkgs.hello pkgs.bash ];
    config.entrypoint = [ "/bin/bash" "-c" "/bin/hello" ];
  };

  bash = buildImage { name = "bash"; copyToRoot = [ tools ]; config.Cmd = [ "/bin/bash" ]; };

  openbar = buildImage rec {
    name = "openbar";
    copyToRoot = [ (pkgs.runCommand "tmp" { } "mkdir -p $out/tmp") ];
    perms = [ { path = builtins.head copyToRoot; regex = ".*"; mode = "0777"; } ];
    config.entrypoint = [ "${pkgs.coreutils}/bin/ls" "-l" "/" ];
  };

  ownership = buildImage {
    name = "ownership";
    config.entrypoint = listTmp;
    copyToRoot = [ twoFiles ];
    perms = [ { path = twoFiles; regex = "/tmp/test1.txt"; uid = 1001; gid = 1001; } ];
  };

  # nix2container#45: a rule for one file must not change the mode of the other.
  issue45 = buildImage {
    name = "perms";
    config.entrypoint = listTmp;
    copyToRoot = [ twoFiles ];
    perms = [ { path = twoFiles; regex = "test1.txt"; mode = "0777"; } ];
  };

  created = buildImage { name = "created"; config.entrypoint = hello; created = "2024-05-13T09:31:10Z"; };

  metadata = buildImage {
    name = "metadata";
    config.entrypoint = hello;
    layers = [
      (buildLayer {
        deps = [ pkgs.hello ];
        metadata = { created_by = "test created_by"; author = "test author"; comment = "test comment"; };
      })
    ];
  };

  nonReproducible =
    let
      now = pkgs.runCommand "non-reproducible" { } ''
        echo "A non reproducible image built the $(date)" > $out
      '';
    in
    buildImage {
      name = "non-reproducible";
      config.entrypoint = [ "${pkgs.coreutils}/bin/cat" now ];
      layers = [ (buildLayer { deps = [ now ]; reproducible = false; }) ];
    };

  # Arguments that nix2container lacks.
  more = buildImage {
    name = "registry.example/team/More";
    tag = "v1.0";
    config = { Cmd = [ "/bin/hello" ]; env = [ "A=<&> ' \" \${x} `y`" ]; };
    copyToRoot = pkgs.hello;
    layers = [ (buildLayer { deps = [ pkgs.coreutils ]; maxLayers = 4; strategy = "size"; }) ];
    compression = "zstd:3";
    strategy = "per-path";
    maxLayers = 100;
    annotations."org.opencontainers.image.source" = "it's here";
    healthcheck = { test = [ "${pkgs.bash}/bin/bash" "-c" "true" ]; interval = "10s"; };
  };

  # Groups of the image and of a layer.
  grouped = buildImage {
    name = "grouped";
    copyToRoot = pkgs.hello;
    layers = [
      (buildLayer {
        deps = [ pkgs.coreutils ];
        maxLayers = 3;
        groups = [ { name = "glibc-.*"; } [ pkgs.coreutils { minSize = "1 TB"; } ] ];
      })
    ];
    config.Cmd = [ "${pkgs.bash}/bin/bash" ];
    maxLayers = 4;
    groups = [
      { paths = { depsOf = pkgs.bash; }; strategy = "size"; maxLayers = 2; }
      { all = [ { roots = true; } { not = pkgs.bash; } ]; }
    ];
  };

  # Strings with the context of store paths, null where it is allowed, and a store path as plain text.
  contexts =
    let
      hash = builtins.substring 0 8 (baseNameOf pkgs.hello.outPath);
    in
    buildImage {
      name = "contexts-${hash}";
      tag = "v-${hash}";
      created = "${builtins.substring 0 0 pkgs.hello.outPath}2024-05-13T09:31:10Z";
      config = null;
      perms = [ { path = pkgs.hello; regex = "^${pkgs.hello}/bin"; mode = "00751"; uname = "u${hash}"; } ];
      copyToRoot = builtins.unsafeDiscardStringContext pkgs.hello.outPath;
      layers = [
        (buildLayer { deps = [ pkgs.ncurses ]; metadata.comment = "of ${pkgs.hello}"; perms = null; })
        (buildLayer { deps = [ pkgs.zlib ]; metadata = null; maxLayers = null; })
      ];
      annotations.a = "${pkgs.hello}";
    };

  # On top of another image, whose config it inherits.
  onTop = buildImage {
    name = "on-top";
    fromImage = buildImage { name = "below"; config = { Env = [ "A=1" ]; User = "7"; }; copyToRoot = twoFiles; };
    config = { Cmd = listTmp; Env = [ "B=2" ]; };
    inheritConfig = true;
  };
}
