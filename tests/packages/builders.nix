# nixpkgs' trivial builders and a small stdenv, with nixpkgs' names and arguments. Comments at the builders list the differences.
{ system, pkgs }:

let
  inherit (pkgs) bash coreutils;

  # Packages on the PATH of every build.
  initialPath = [
    coreutils
    pkgs.findutils
    pkgs.diffutils
    pkgs.gnused
    pkgs.gnugrep
    pkgs.gawk
    pkgs.gnutar
    pkgs.gzip
    pkgs.bzip2
    pkgs.xz
    bash
  ];

  # A derivation that run.sh builds, from the arguments of mkDerivation.
  build =
    args:
    let
      name = storeName (args.name or "${args.pname}-${args.version}");
      drv = derivation (
        {
          inherit system initialPath;
          nativeBuildInputs = [ ];
          buildInputs = [ ];
          builder = "${bash}/bin/bash";
          args = [ ./run.sh ];
          stdenv = "";
        }
        // builtins.removeAttrs args [ "meta" "passthru" ]
        // { inherit name; }
      );
      passed = builtins.intersectAttrs { pname = null; version = null; } args;
    in
    drv // passed // { meta = args.meta or { }; passthru = args.passthru or { }; } // (args.passthru or { });

  # As in nixpkgs, a dash replaces characters that a store path cannot contain.
  storeName =
    name:
    let
      kept = builtins.filter builtins.isString (builtins.split "[^[:alnum:]+._?=-]+" name);
      undotted = builtins.head (builtins.match "\\.*(.*)" (builtins.concatStringsSep "-" kept));
    in
    if undotted == "" then "unknown" else builtins.unsafeDiscardStringContext undotted;

  runCommandWith =
    local: name: env: buildCommand:
    build (
      {
        inherit name buildCommand;
      }
      # Structured attributes are always in a file.
      // (if env.__structuredAttrs or false then { } else { passAsFile = [ "buildCommand" ] ++ env.passAsFile or [ ]; })
      // local
      // builtins.removeAttrs env [ "passAsFile" ]
    );
  local = { preferLocalBuild = true; allowSubstitutes = false; };

  shell = "${bash}/bin/bash";
  quote = text: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] "${text}"}'";
  binPath = paths: builtins.concatStringsSep ":" (map (path: "${path}/bin") paths);
  lines = builtins.concatStringsSep "\n";

  # Removes a builder's own arguments. The others are attributes of its derivation.
  others = known: args: builtins.removeAttrs args (builtins.attrNames known);

  self = {
    runCommand = runCommandWith { };
    runCommandLocal = runCommandWith local;
    runtimeShell = shell;

    writeTextFile =
      {
        name,
        text,
        executable ? false,
        # The file's path in the output; the output itself is the file by default.
        destination ? "",
        checkPhase ? "",
        meta ? { },
        passthru ? { },
        derivationArgs ? { },
        ...
      }:
      runCommandWith local name
        (
          {
            inherit text executable destination checkPhase passthru;
            passAsFile = [ "text" ];
            # These packages are enough, so that writing a text does not build the whole stdenv.
            initialPath = [ coreutils ];
            meta =
              (if executable && destination != "" then { mainProgram = baseNameOf destination; } else { }) // meta;
          }
          // derivationArgs
        )
        ''
          target=$out$destination
          mkdir -p "$(dirname "$target")"
          mv "$textPath" "$target"
          if [ -n "$executable" ]; then chmod +x "$target"; fi
          eval "$checkPhase"
        '';

    writeText = name: text: self.writeTextFile { inherit name text; };
    writeTextDir =
      path: text:
      self.writeTextFile { inherit text; name = baseNameOf path; destination = "/${path}"; };
    writeScript = name: text: self.writeTextFile { inherit name text; executable = true; };
    writeScriptBin =
      name: text:
      self.writeTextFile { inherit name text; executable = true; destination = "/bin/${name}"; };
    writeShellScript = name: text: writeShell { inherit name text; };
    writeShellScriptBin = name: text: writeShell { inherit name text; destination = "/bin/${name}"; };

    # The set has no shellcheck: bash checks the syntax.
    writeShellApplication =
      {
        name,
        text,
        runtimeInputs ? [ ],
        runtimeEnv ? { },
        bashOptions ? [ "errexit" "nounset" "pipefail" ],
        inheritPath ? true,
        checkPhase ? null,
        meta ? { },
        passthru ? { },
        derivationArgs ? { },
        excludeShellChecks ? [ ],
        extraShellCheckFlags ? [ ],
      }:
      writeShell (
        {
          inherit name meta passthru derivationArgs;
          destination = "/bin/${name}";
          text = lines (
            map (option: "set -o ${option}") bashOptions
            ++ builtins.attrValues (
              builtins.mapAttrs (key: value: "export ${key}=${quote (toString value)}") (
                if runtimeEnv == null then { } else runtimeEnv
              )
            )
            ++ (
              if runtimeInputs == [ ] && inheritPath then
                [ ]
              else
                [ ''export PATH="${binPath runtimeInputs}${if inheritPath then ":$PATH" else ""}"'' ]
            )
            ++ [ "" text ]
          );
        }
        // (if checkPhase == null then { } else { inherit checkPhase; })
      );

    buildEnv =
      args@{
        name,
        paths,
        pathsToLink ? [ "/" ],
        extraPrefix ? "",
        ignoreCollisions ? false,
        extraOutputsToInstall ? [ ],
        postBuild ? "",
        ...
      }:
      join
        {
          inherit pathsToLink;
          paths = builtins.concatMap (
            path: [ path ] ++ builtins.concatMap (o: if path ? ${o} then [ path.${o} ] else [ ]) extraOutputsToInstall
          ) paths;
          prefix = extraPrefix;
          directories = "whole";
          collisions = if ignoreCollisions then "first" else "fail";
        }
        name
        postBuild
        (others (builtins.functionArgs self.buildEnv) args);

    symlinkJoin =
      args@{ name, paths, postBuild ? "", ... }:
      join
        {
          inherit paths;
          pathsToLink = [ "/" ];
          prefix = "";
          directories = "files";
          collisions = "first";
        }
        name
        postBuild
        (others (builtins.functionArgs self.symlinkJoin) args);

    linkFarm =
      name: entries:
      let
        list =
          if builtins.isAttrs entries then
            builtins.attrValues (builtins.mapAttrs (name: path: { inherit name path; }) entries)
          else
            entries;
        link = entry: ''
          mkdir -p "$(dirname ${quote entry.name})"
          ln -s ${quote entry.path} ${quote entry.name}
        '';
      in
      runCommandWith local name { initialPath = [ coreutils ]; } ''
        mkdir -p $out
        cd $out
        ${lines (map link list)}
      '';

    linkFarmFromDrvs = name: drvs: self.linkFarm name (map (drv: { inherit (drv) name; path = drv; }) drvs);

    inherit stdenv;
    stdenvNoCC = stdenv;
  };

  writeShell =
    args:
    self.writeTextFile (
      {
        executable = true;
        checkPhase = ''${shell} -n "$target"'';
      }
      // args
      // { text = "#!${shell}\n${args.text}\n"; }
    );

  join =
    what: name: postBuild: env:
    runCommandWith local name
      (
        {
          inherit postBuild;
          passAsFile = [ "join" ];
          join = builtins.toJSON (
            what
            // {
              paths = map (path: { path = "${path}"; priority = path.meta.priority or 5; }) (
                builtins.filter (path: path != null) what.paths
              );
            }
          );
        }
        // env
      )
      ''
        /usr/bin/python3 -ISB ${./join.py}
        eval "$postBuild"
      '';

  stdenv = {
    inherit shell system initialPath;
    isLinux = true;
    isDarwin = false;
    hostPlatform = { inherit system; inherit (stdenv) isLinux isDarwin; };

    # Has no compiler, and no default phases except unpacking.
    mkDerivation =
      given:
      let
        args = if builtins.isFunction given then given (args // { finalPackage = drv; }) else given;
        drv =
          if args ? buildCommand then
            runCommandWith { } (args.name or "${args.pname}-${args.version}") (others { buildCommand = null; } args)
              args.buildCommand
          else if args ? installPhase then
            build args
          else
            throw "tests/packages: this stdenv.mkDerivation needs an installPhase or a buildCommand";
      in
      drv;
  };
in
self
