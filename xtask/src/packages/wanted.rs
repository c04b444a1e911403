//! The names of the packages in the set.

/// The Debian packages whose programs or data the set has, by Debian's names.
pub(super) const WANTED: &[&str] = &[
    "bash",
    "busybox-static",
    "bzip2",
    "ca-certificates",
    "coreutils",
    "curl",
    "diffutils",
    "findutils",
    "gawk",
    "gettext-base",
    "gnu-which",
    "grep",
    "gzip",
    "hello",
    "jq",
    "less",
    "libc-bin",
    "libpam-modules",
    "login",
    "ncurses-base",
    "ncurses-bin",
    "netbase",
    "nginx",
    "nix-bin",
    "openssl",
    "passwd",
    "procps",
    "python3",
    "sed",
    "skopeo",
    "sqlite3",
    "sudo",
    "tar",
    "tini",
    "tzdata",
    "util-linux",
    "uwsgi-core",
    "uwsgi-plugin-python3",
    "xz-utils",
    "zlib1g",
];

/// Parts of Python's standard library that are separate packages in some releases of Debian and missing in others.
pub(super) const WANTED_WHERE_KNOWN: &[&str] = &["python3-distutils", "python3-lib2to3"];

/// The Python packages, by PyPI's names.
pub(super) const WHEELS: &[&str] = &["flask", "honcho"];

/// Debian packages that are one package in nixpkgs and become one store path. `*` matches any text. The C library and the
/// compiler's run-time library also depend on each other, which store paths cannot.
pub(super) const TOGETHER: &[(&str, &[&str])] = &[
    ("glibc", &["libc6", "libc-bin", "libgcc-s1", "gcc-*"]),
    ("ncurses", &["libtinfo*", "libncursesw*", "ncurses-base", "ncurses-bin"]),
    ("openssl", &["openssl", "libssl3*"]),
    ("linux-pam", &["libpam0g*", "libpam-modules*", "libpam-runtime"]),
    ("python3", &["python3*", "libpython3*"]),
    ("nginx", &["nginx", "nginx-common"]),
    ("readline", &["libreadline8*"]),
];
