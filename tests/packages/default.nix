# The package set of the tests and examples: Debian packages as store paths, under nixpkgs' attribute names, so that examples
# work with this set and with nixpkgs. See README.md.
{
  # The contents of the lock file that `cargo xtask setup packages` writes, which lists the set's files.
  #   import ./tests/packages { lock = builtins.fromJSON (builtins.readFile lock.json); }
  lock,
  # The platform, which must be that of the lock file.
  system ? lock.system,
  # The set's `lib`: the stand-in, or nixpkgs' own.
  lib ? import ./lib.nix,
}:

assert system == lock.system
  || throw "tests/packages: the lock file is for ${lock.system}, not for ${system}";

let
  inherit (import ./lib.nix) makeOverridable;

  # The store path of a file. Its derivation cannot download it: set-up downloads and checks the file, and adds it to the store
  # with `nix-store --add-fixed`, which results in the same path.
  source =
    { name, sha256, ... }:
    derivation {
      inherit name system;
      outputHashMode = "flat";
      outputHashAlgo = "sha256";
      outputHash = sha256;
      builder = "/bin/sh";
      args = [ "-c" "echo '${name} is not in this store: run cargo xtask setup packages' >&2; exit 1" ];
      preferLocalBuild = true;
    };

  files = builtins.concatMap (unit: unit.files) lock.packages ++ map (wheel: wheel.file) lock.wheels;

  debian = import ./debian.nix {
    inherit lock source system;
    arguments = {
      bash.links."bin/sh" = "bash";
      busybox-static.pname = "busybox";
      coreutils.moves."/usr/libexec/coreutils" = "@out@/libexec/coreutils";
      findutils.mainProgram = "find";
      gawk.links."bin/awk" = "gawk";
      gettext-base.pname = "gettext";
      glibc.moves = {
        # Programs must not use the machine's list of libraries.
        "/etc/ld.so.cache" = "@out@/etc/ld.so.cache";
        "/usr/lib/locale/locale-archive" = "@out@/lib/locale-archive";
        "/usr/lib/${debianTriple}/gconv/gconv-modules.cache" = "@out@/lib/gconv/gconv-modules.cache";
      };
      gnu-which = { pname = "which"; links."bin/which" = "which.gnu"; };
      grep = { pname = "gnugrep"; mainProgram = "grep"; };
      linux-pam.moves = {
        "/lib/${debianTriple}/security" = "@out@/lib/security";
        "/sbin/unix_chkpwd" = "@out@/bin/unix_chkpwd";
      };
      ncurses = { mainProgram = "tput"; moves."/lib/terminfo" = "@out@/lib/terminfo"; };
      netbase.pname = "iana-etc";
      nginx = {
        links.conf = "etc/nginx";
        # nixpkgs' nginx has its temporary directories here. The names are cut off, because the program also contains the lengths
        # of the paths.
        moves = {
          "/var/lib/nginx/body" = "/var/cache/nginx/bo";
          "/var/lib/nginx/fastcgi" = "/var/cache/nginx/fastc";
          "/var/lib/nginx/proxy" = "/var/cache/nginx/pro";
          "/var/lib/nginx/scgi" = "/var/cache/nginx/sc";
          "/var/lib/nginx/uwsgi" = "/var/cache/nginx/uws";
        };
      };
      nix-bin = { pname = "nix"; moves = { "/usr/bin" = "@out@/bin"; "/usr/libexec" = "@out@/libexec"; }; };
      # openssl uses the machine's certificates and keys, as in nixpkgs, and otherwise its own files.
      openssl.moves = {
        "/usr/lib/ssl" = "@out@/etc/ssl";
        "/usr/lib/ssl/cert.pem" = "/etc/ssl/certs/ca-certificates.crt";
        "/usr/lib/ssl/certs" = "/etc/ssl/certs";
        "/usr/lib/ssl/private" = "/etc/ssl/private";
        "/usr/lib/${debianTriple}/engines-3" = "@out@/lib/engines-3";
        "/usr/lib/${debianTriple}/ossl-modules" = "@out@/lib/ossl-modules";
      };
      passwd.pname = "shadow";
      procps.mainProgram = "ps";
      python3 = {
        links."bin/python" = "python3";
        # Programs that embed Python look for the standard library in /usr. /usr/bin may be in a shell's PATH and stays.
        moves = { "/usr" = "@out@"; "/usr/bin" = "/usr/bin"; };
        # As in nixpkgs: Python starts shells, and many images have no /bin/sh.
        shellIn = [ "lib/python*/subprocess.py" ];
      };
      sed = { pname = "gnused"; mainProgram = "sed"; };
      sqlite3 = { pname = "sqlite"; mainProgram = "sqlite3"; };
      sudo.moves."/usr/libexec/sudo" = "@out@/libexec/sudo";
      tar = { pname = "gnutar"; mainProgram = "tar"; };
      xz-utils.pname = "xz";
      zlib1g.pname = "zlib";
    };
  };

  # Nix's name of the processor, and Debian's directory below lib/ for the platform.
  processor = builtins.head (builtins.match "([^-]+)-.*" system);
  debianTriple = "${processor}-linux-gnu";

  python3 = debian.all.python3 // rec {
    pythonVersion = builtins.head (builtins.match "([0-9]+\\.[0-9]+).*" debian.all.python3.version);
    sitePackages = "lib/python${pythonVersion}/site-packages";
    interpreter = "${debian.all.python3}/bin/python3";
    pkgs = wheels;
    withPackages = choose: pythonEnv (choose wheels);
  };

  wheels = import ./wheels.nix {
    inherit lock source system python3;
    inherit (debian.all) glibc;
  };

  # A virtual environment like that of Python's module venv, which Python and uwsgi recognize. Its commands can import all its
  # packages.
  pythonEnv =
    packages:
    let
      env = builders.buildEnv {
        name = "${python3.name}-env";
        paths = builtins.concatMap (package: package.wheels) packages;
        pathsToLink = [ "/bin" "/${python3.sitePackages}" ];
        postBuild = ''
          for command in $(find -L $out/bin -type f); do
            cp --remove-destination "$(readlink "$command")" "$command"
            sed -i "1s|${python3.interpreter}|$out/bin/python3|" "$command"
          done
          for name in python python3 python${python3.pythonVersion}; do
            ln -s ${python3}/bin/$name $out/bin
          done
          printf '%s\n' 'home = ${python3}/bin' 'include-system-site-packages = false' \
            'version = ${python3.version}' > $out/pyvenv.cfg
        '';
      };
    in
    env // { inherit (python3) pythonVersion sitePackages pkgs; interpreter = "${env}/bin/python3"; python = python3; };

  # uwsgi with the requested plugins, and with the plugin for `--http`, which nixpkgs compiles in.
  uwsgi = makeOverridable (
    { plugins, python3 }:
    let
      version = builtins.replaceStrings [ "." ] [ "" ] python3.pythonVersion;
      files.python3 = "${debian.all.uwsgi-plugin-python3}/lib/uwsgi/plugins/python${version}_plugin.so";
      link = plugin: {
        name = "lib/uwsgi/plugins/${plugin}_plugin.so";
        value = files.${plugin} or (throw "tests/packages: this uwsgi has no plugin ${plugin}");
      };
      core = debian.variant "uwsgi-core" {
        links = builtins.listToAttrs (map link plugins);
        moves."/usr/lib/uwsgi/plugins" = "@out@/lib/uwsgi/plugins";
      };
    in
    builders.writeTextFile {
      name = "uwsgi-${core.version}";
      destination = "/bin/uwsgi";
      executable = true;
      text = ''
        #!${builders.runtimeShell}
        export UWSGI_PLUGINS=http''${UWSGI_PLUGINS:+,$UWSGI_PLUGINS}
        exec ${core}/bin/uwsgi-core "$@"
      '';
    }
    // { pname = "uwsgi"; inherit (core) version; }
  ) { plugins = [ ]; inherit python3; };

  programs = {
    inherit (debian.all)
      bash bzip2 coreutils curl diffutils findutils gawk glibc gzip hello jq less ncurses nginx openssl procps
      readline skopeo sudo tini tzdata util-linux;
    inherit (wheels) honcho;
    inherit python3 uwsgi;
    bashInteractive = debian.all.bash;
    busybox = debian.all.busybox-static;
    cacert = import ./cacert.nix { inherit system; package = debian.all.ca-certificates; };
    coreutils-full = debian.all.coreutils;
    gettext = debian.all.gettext-base;
    gnugrep = debian.all.grep;
    gnused = debian.all.sed;
    gnutar = debian.all.tar;
    iana-etc = debian.all.netbase;
    nix = debian.all.nix-bin;
    pam = debian.all.linux-pam;
    shadow = debian.all.passwd;
    sqlite = debian.all.sqlite3;
    su = debian.variant "util-linux" { pname = "su"; only = [ "su" ]; };
    which = debian.all.gnu-which;
    xz = debian.all.xz-utils;
    zlib = debian.all.zlib1g;
  };

  builders = import ./builders.nix { inherit system; pkgs = programs; };

  self =
    programs
    // builders
    // {
      inherit lib system;
      pkgs = self;
      # Passes the set's attributes for the arguments that a function names.
      callPackage =
        path: args:
        let
          function = if builtins.isFunction path then path else import path;
        in
        makeOverridable function (builtins.intersectAttrs (builtins.functionArgs function) self // args);
      # Only Go's names of the system and the processor, which OCI also uses. The set has no Go.
      go = { GOOS = "linux"; GOARCH = { x86_64 = "amd64"; aarch64 = "arm64"; }.${processor} or processor; };
      # The machine's podman: engines are not in the set.
      podman = builders.writeShellScriptBin "podman" ''exec /usr/bin/podman "$@"'';
      python3Packages = python3.pkgs;
      dockerTools = import ./docker-tools.nix { pkgs = self; };
      fakeNss = self.dockerTools.fakeNss;
      # Store paths of all files by name, which set-up adds to a store.
      sources = builtins.listToAttrs (map (file: { inherit (file) name; value = (source file).outPath; }) files);
    };
in
self
