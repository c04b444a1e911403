//! Names of the Debian packages that the closures' apps refer to.

/// Packages of small closures.
pub(super) const SMALL: &[&str] =
    &["bash", "ca-certificates", "curl", "g++", "git", "openssl", "python3", "sqlite3"];

/// Further packages of medium closures.
pub(super) const MEDIUM: &[&str] = &[
    "clang",
    "cmake",
    "golang-go",
    "imagemagick",
    "nginx",
    "openjdk-17-jre-headless",
    "php-cli",
    "postgresql",
    "redis-server",
    "ruby",
];

/// Further packages of large closures.
pub(super) const LARGE: &[&str] = &[
    "blender",
    "cargo",
    "emacs-nox",
    "erlang-nox",
    "gdb",
    "gimp",
    "libboost-dev",
    "libreoffice-writer-nogui",
    "mariadb-server",
    "maven",
    "npm",
    "octave",
    "openjdk-17-jdk-headless",
    "python3-django",
    "python3-matplotlib",
    "python3-pandas",
    "python3-scipy",
    "qtbase5-dev",
    "r-base-core",
    "rustc",
    "texlive-latex-recommended",
    "valgrind",
    "vim-nox",
];
