//! Processor and system of an image: the names that OCI takes from Go, and the spellings of Nix and of users.

use std::fmt;
use std::str::FromStr;

use nixply_documents::go_json::null_is_default;
use nixply_documents::{Error, Result, wording};
use serde::{Deserialize, Serialize};

/// Go's names of processors. Source: Go's `internal/syslist`, `knownArch`, and gccgo's additions, for which Debian has
/// images.
const PROCESSORS: [&str; 30] = [
    "386",
    "alpha",
    "amd64",
    "amd64p32",
    "arm",
    "arm64",
    "arm64be",
    "armbe",
    "ia64",
    "loong64",
    "m68k",
    "mips",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "mipsle",
    "nios2",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sh",
    "shbe",
    "sparc",
    "sparc64",
    "wasm",
];

/// Go's ports, which messages suggest. Source: `go tool dist list`; nixpkgs' `go.GOARCH` has no others.
const PORTS: [&str; 14] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le",
    "riscv64", "s390x", "wasm",
];

/// Other processors for which Debian or Nix builds programs. Go's remaining names are reserved, and no image has them.
const OTHER_PORTS: [&str; 6] = ["alpha", "ia64", "m68k", "ppc", "sh", "sparc64"];

/// Variants of the processors whose variants are versions; versions of arm64 may have a minor number, as in `v8.2`. Source: Go's
/// `GOAMD64`, `GOARM` and `GOARM64`, and containerd's `platforms`, which also knows arm/v8.
const VARIANTS: [(&str, &[&str]); 3] =
    [("amd64", &["v1", "v2", "v3", "v4"]), ("arm", &["v5", "v6", "v7", "v8"]), ("arm64", &["v8", "v9"])];

/// Returns the variants that a processor has, unless `variant` is one of them or the processor's variants are not versions.
fn other_variants(arch: &str, variant: &str) -> Option<&'static [&'static str]> {
    let (_, known) = VARIANTS.iter().find(|(name, _)| *name == arch)?;
    let (major, minor) = match variant.split_once('.') {
        Some((major, minor)) if arch == "arm64" => (major, Some(minor)),
        _ => (variant, None),
    };
    let is_digit = |minor: &str| minor.len() == 1 && minor.bytes().all(|byte| byte.is_ascii_digit());
    (!known.contains(&major) || !minor.is_none_or(is_digit)).then_some(*known)
}

/// Default operating system of an image.
pub const LINUX: &str = "linux";

/// A processor: OCI's `architecture` and `variant`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Processor {
    /// OCI's name, such as `arm64`.
    pub arch: String,
    /// OCI's variant, such as `v7` of `arm`; or empty.
    pub variant: String,
}

impl Processor {
    /// Reads the argument `arch`: OCI's name of a processor that images are made for, optionally with a variant, such as
    /// `arm/v7`.
    pub fn from_arch(text: &str) -> Result<Self> {
        Self::one_of(&[&PORTS[..], &OTHER_PORTS].concat(), text)
    }

    /// Like [`Processor::from_arch`], but accepts every processor for which Go has a name, as nix2container does and as existing
    /// images need.
    pub fn from_any_arch(text: &str) -> Result<Self> {
        Self::one_of(&PROCESSORS, text)
    }

    fn one_of(known: &[&str], text: &str) -> Result<Self> {
        let wrong = |why: String| Err(Error::invalid(format!("arch {}", wording::quoted(text)), why));
        if text.is_empty() {
            return Err(Error::invalid("arch", "it is empty: name a processor, as in amd64"));
        }
        let (arch, variant) =
            text.split_once('/').map_or((text, None), |(arch, variant)| (arch, Some(variant)));
        if !known.contains(&arch) {
            let cpu = arch.to_ascii_lowercase().replace("x86-64", "x86_64");
            if let Some(meant) = cpu.split('-').next().and_then(Self::of_cpu) {
                return wrong(format!("OCI's name for this processor is \"{meant}\""));
            }
            let near = wording::nearest(arch, PORTS);
            let near = near.map(|name| format!("; did you mean {name:?}?")).unwrap_or_default();
            return wrong(format!("expected OCI's name of a processor, such as {}{near}", PORTS.join(", ")));
        }
        let plain = |variant: &str| {
            variant.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.')
        };
        if let Some(variant) = variant {
            if let Some(known) = other_variants(arch, variant) {
                let known: Vec<String> = known.iter().map(|variant| format!("{arch}/{variant}")).collect();
                return wrong(format!("expected {arch}, or one of {}", known.join(", ")));
            }
            if variant.is_empty() || !plain(variant) {
                return wrong("expected a variant after the slash, as in arm/v7".into());
            }
        }
        Ok(Self { arch: arch.into(), variant: variant.unwrap_or_default().into() })
    }

    /// Returns the processor of a Nix system such as `x86_64-linux`.
    pub fn of_system(system: &str) -> Result<Self> {
        let Some((cpu, _)) = system.split_once('-') else {
            let why = "expected a processor and an operating system, as in x86_64-linux";
            return Err(Error::invalid(format!("system {system:?}"), why));
        };
        Self::of_cpu(cpu).ok_or_else(|| {
            let why = "its processor has no OCI name known here: set arch";
            Error::invalid(format!("system {system:?}"), why)
        })
    }

    /// Returns the processor with Nix's or Rust's name of a CPU.
    fn of_cpu(cpu: &str) -> Option<Self> {
        let (arch, variant) = match cpu {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", ""),
            "i386" | "i486" | "i586" | "i686" | "x86" => ("386", ""),
            "armv5tel" => ("arm", "v5"),
            "armv6l" => ("arm", "v6"),
            "armv7a" | "armv7l" => ("arm", "v7"),
            // Rust's name for a machine of any 32-bit ARM variant.
            "arm" => ("arm", ""),
            "riscv64" => ("riscv64", ""),
            "powerpc64" => ("ppc64", ""),
            "powerpc64le" => ("ppc64le", ""),
            "s390x" => ("s390x", ""),
            "mipsel" => ("mipsle", ""),
            "mips64el" => ("mips64le", ""),
            "loongarch64" => ("loong64", ""),
            _ => return None,
        };
        Some(Self { arch: arch.into(), variant: variant.into() })
    }

    /// Returns the processor of this machine.
    pub fn of_this_machine() -> Result<Self> {
        let cpu = std::env::consts::ARCH;
        let why = "it has no OCI name known here: set arch";
        Self::of_cpu(cpu).ok_or_else(|| Error::invalid(format!("this machine's processor {cpu}"), why))
    }

    /// Returns whether programs for `other` run on this processor, judging by the names. A later variant of 32-bit ARM runs
    /// programs for earlier ones. Other variants are not compared, because tools disagree on when to write them.
    pub fn runs(&self, other: &Self) -> bool {
        let number = |processor: &Self| processor.variant.strip_prefix('v')?.parse::<u32>().ok();
        let later = match (number(self), number(other)) {
            (Some(own), Some(others)) if self.arch == "arm" => own >= others,
            _ => true,
        };
        self.arch == other.arch && later
    }
}

impl fmt::Display for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.arch)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

/// OCI's `platform`: the operating system and processor that an index entry is for.
// The order of the fields is the JSON's. Reading ignores `os.version`, `os.features` and the order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// OCI's architecture: see [`Processor`].
    #[serde(deserialize_with = "null_is_default")]
    pub architecture: String,
    /// The operating system, such as `linux`.
    #[serde(deserialize_with = "null_is_default")]
    pub os: String,
    /// OCI's variant: see [`Processor`].
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// Returns the processor of the platform.
    pub fn processor(&self) -> Processor {
        Processor { arch: self.architecture.clone(), variant: self.variant.clone() }
    }

    /// Returns the platform as text, such as `arm/v7` or `windows/amd64`. Omits the system if it is Linux or unknown.
    pub fn short(&self) -> String {
        let processor = self.processor();
        // An unknown processor name before a variant would be read as a system.
        let is_plain = self.variant.is_empty() || PROCESSORS.contains(&self.architecture.as_str());
        match self.os.as_str() {
            "" | LINUX if is_plain => processor.to_string(),
            "" => format!("{LINUX}/{processor}"),
            _ => self.to_string(),
        }
    }

    /// Reads the result of [`Platform::short`].
    pub fn from_short(text: &str) -> Self {
        let parts: Vec<&str> = text.splitn(3, '/').collect();
        let (os, architecture, variant) = match parts[..] {
            [arch, variant] if PROCESSORS.contains(&arch) => (LINUX, arch, variant),
            [os, arch] => (os, arch, ""),
            [os, arch, variant] => (os, arch, variant),
            _ => (LINUX, text, ""),
        };
        Self { os: os.into(), architecture: architecture.into(), variant: variant.into() }
    }

    /// Returns the platform with OCI's names. Replaces the names that some tools write, such as `aarch64`.
    #[must_use]
    pub fn canonical(self) -> Self {
        let known = PROCESSORS.contains(&self.architecture.as_str());
        let lower = self.architecture.to_ascii_lowercase();
        match lower.split('-').next().and_then(Processor::of_cpu) {
            Some(Processor { arch, variant }) if !known => Self {
                architecture: arch,
                variant: if self.variant.is_empty() { variant } else { self.variant },
                ..self
            },
            _ => self,
        }
    }

    /// If the variant is an unknown version, such as `v9` of `amd64`, returns the variants that the processor has. Variants that
    /// are not versions occur in old images, so they are accepted.
    pub fn other_variants(&self) -> Option<&'static [&'static str]> {
        let version = self.variant.strip_prefix('v')?;
        let is_version = version.starts_with(|letter: char| letter.is_ascii_digit());
        other_variants(&self.architecture, &self.variant).filter(|_| is_version)
    }

    /// Returns whether programs of an image for `self` run on `wanted`.
    pub fn is(&self, wanted: &Self) -> bool {
        self.os == wanted.os && wanted.processor().runs(&self.processor())
    }

    /// Returns the platform without the variant if that is the processor's default, as containerd does before it compares
    /// platforms. 32-bit ARM without a variant is `v7`. Source: containerd's `platforms`, `normalizeArch`.
    #[must_use]
    pub fn normalized(self) -> Self {
        let variant = match (self.architecture.as_str(), self.variant.as_str()) {
            ("amd64", "v1") | ("arm64", "8" | "v8") => "",
            ("arm", "" | "7") => "v7",
            ("arm", "5") => "v5",
            ("arm", "6") => "v6",
            ("arm", "8") => "v8",
            _ => return self,
        };
        Self { variant: variant.into(), ..self }
    }

    /// Returns the variant as a number. The default of arm64 is 8, because every 64-bit ARM is at least a v8.
    pub fn variant_number(&self) -> u32 {
        let number = self.variant.strip_prefix('v').and_then(|number| number.parse().ok());
        number.unwrap_or(if self.architecture == "arm64" { 8 } else { 0 })
    }

    /// Returns whether the platform is `unknown/unknown`, which builders write for entries that are not images, such as
    /// attestations.
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" || self.architecture == "unknown"
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.processor())
    }
}

impl FromStr for Platform {
    type Err = Error;

    /// Reads `OS/ARCH`, `OS/ARCH/VARIANT`, or a Nix system such as `aarch64-linux`.
    fn from_str(text: &str) -> Result<Self> {
        if let Some(processor) = text.strip_suffix("-linux").and_then(|_| Processor::of_system(text).ok()) {
            return Ok(Self { os: LINUX.into(), architecture: processor.arch, variant: processor.variant });
        }
        let wrong = || Error::invalid(format!("platform {text:?}"), "expected OS/ARCH, as in linux/amd64");
        let (os, processor) = text.split_once('/').filter(|(os, _)| !os.is_empty()).ok_or_else(wrong)?;
        let Processor { arch, variant } = Processor::from_any_arch(processor)?;
        Ok(Self { os: os.into(), architecture: arch, variant })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nix_systems_are_read_as_platforms() {
        for (text, expected) in [
            ("x86_64-linux", "linux/amd64"),
            ("armv7l-linux", "linux/arm/v7"),
            ("linux/arm64/v8", "linux/arm64/v8"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected);
        }
        for text in ["x86_64", "pdp11-linux", "-linux", "x86_64-darwin"] {
            text.parse::<Platform>().unwrap_err();
        }
    }

    #[test]
    fn processors_of_nix_systems_have_oci_names_and_variants() {
        for (system, expected) in [
            ("x86_64-linux", "amd64"),
            ("aarch64-linux", "arm64"),
            ("armv7l-linux", "arm/v7"),
            ("armv6l-linux", "arm/v6"),
            ("armv5tel-linux", "arm/v5"),
            ("i686-linux", "386"),
            ("mips64el-linux", "mips64le"),
            ("loongarch64-linux", "loong64"),
        ] {
            let processor = Processor::of_system(system).unwrap();
            assert_eq!(processor.to_string(), expected);
            assert_eq!(Processor::from_arch(expected).unwrap(), processor);
        }
        let error = Processor::of_system("pdp11-linux").unwrap_err().to_string();
        assert!(error.contains("\"pdp11-linux\"") && error.ends_with("set arch"), "{error}");
        let error = Processor::of_system("x86_64").unwrap_err().to_string();
        assert!(
            error.ends_with("expected a processor and an operating system, as in x86_64-linux"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_arch_is_reported_with_the_right_name() {
        let error = |text: &str| Processor::from_arch(text).unwrap_err().to_string();
        for (text, meant) in
            [("x86_64", "amd64"), ("aarch64-linux", "arm64"), ("AARCH64", "arm64"), ("armv7l", "arm/v7")]
        {
            let expected =
                format!("arch {text:?} is not valid: OCI's name for this processor is \"{meant}\"");
            assert_eq!(error(text), expected);
        }
        assert!(error("amd46").ends_with("; did you mean \"amd64\"?"), "{}", error("amd46"));
        assert!(error("ARM64").ends_with("; did you mean \"arm64\"?"), "{}", error("ARM64"));
        for none in ["vax", "sparc", "amd64p32", "shbe"] {
            let expected = "expected OCI's name of a processor, such as 386, amd64";
            assert!(error(none).contains(expected), "{}", error(none));
        }
        assert_eq!(Processor::from_any_arch("sparc").unwrap().arch, "sparc");
        for known in PORTS.iter().chain(&OTHER_PORTS) {
            assert_eq!(Processor::from_arch(known).unwrap().arch, *known);
            assert!(PROCESSORS.contains(known), "{known}");
        }
        assert_eq!(error(""), "arch is not valid: it is empty: name a processor, as in amd64");
        for text in ["386/", "386/V7", "riscv64/a/x"] {
            assert!(error(text).contains("expected a variant after the slash"), "{}", error(text));
        }
        let expected = "is not valid: expected arm, or one of arm/v5, arm/v6, arm/v7, arm/v8";
        for text in ["arm/", "arm/V7", "arm/v7/x", "arm/7", "arm/v9", "arm/v4", "arm/v7.1"] {
            assert_eq!(error(text), format!("arch {text:?} {expected}"));
        }
        for text in ["amd64/v9", "amd64/v0", "amd64/v1.1", "arm64/v", "arm64/v7", "arm64/v8.", "arm64/v8.10"]
        {
            assert!(error(text).contains("is not valid: expected"), "{}", error(text));
        }
        for text in ["amd64/v1", "amd64/v4", "arm/v5", "arm/v8", "arm64/v8.2", "arm64/v9", "arm64/v9.0"] {
            assert_eq!(Processor::from_arch(text).unwrap().to_string(), text);
            assert_eq!(
                format!("linux/{text}").parse::<Platform>().unwrap().to_string(),
                format!("linux/{text}")
            );
        }
        "linux/arm/v9".parse::<Platform>().unwrap_err();
    }

    #[test]
    fn platforms_are_read_and_compared() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        assert!(platform("linux/arm64/v8").is(&platform("linux/arm64")));
        assert!(platform("linux/arm/v6").is(&platform("linux/arm/v7")));
        assert!(!platform("linux/arm/v7").is(&platform("linux/arm/v6")));
        assert!(!platform("windows/amd64").is(&platform("linux/amd64")));
        for text in ["", "amd64", "arm/v7", "windows/amd64", "freebsd/arm64/v8"] {
            assert_eq!(Platform::from_short(text).short(), text);
        }
        assert_eq!(Platform::from_short("arm/v7").to_string(), "linux/arm/v7");
        for text in ["", "linux", "/amd64", "linux/"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
        let processor = |text: &str| Processor::from_arch(text).unwrap();
        assert!(
            processor("arm/v7").runs(&processor("arm/v6")) && processor("arm").runs(&processor("arm/v7"))
        );
        assert!(
            !processor("arm/v6").runs(&processor("arm/v7")) && !processor("arm64").runs(&processor("arm"))
        );
        assert!(processor("arm64").runs(&processor("arm64/v8")));
    }
}
