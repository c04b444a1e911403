//! Checks of names in lock files, and of image names that may be written to a lock file. The checks run before any use of the
//! names.

use crate::store_path::is_name;

/// Checks the name of an image or container. The error contains the expected form.
pub fn check_image(name: &str) -> Result<(), String> {
    let begins = |part: &str| part.starts_with(|c: char| c.is_alphanumeric() || "_[".contains(c));
    let plain = |part: &str| {
        !part.ends_with(' ') && part.chars().all(|c| c.is_alphanumeric() || "_.:+-[] ".contains(c))
    };
    // Names with an index are reserved for the `layers` of images.
    let is_of_layers = name.contains(LAYERS);
    match !is_of_layers && name.split('/').all(|part| begins(part) && plain(part)) {
        true => Ok(()),
        false => Err("expected letters, digits, spaces and _ . : + - in parts that begin with a letter, a digit or _, \
                      joined by slashes, as in web or team/web"
            .into()),
    }
}

/// The text between an image's name and the index of a layer in it.
const LAYERS: &str = " layers[";

/// Checks an image's name in a lock file. An element of its `layers` has the index after the name.
pub(super) fn check_layers_of_image(name: &str) -> Result<(), String> {
    let is_place = |place: &str| !place.is_empty() && place.bytes().all(|byte| byte.is_ascii_digit());
    match name.split_once(LAYERS) {
        Some((image, rest)) if rest.strip_suffix(']').is_some_and(is_place) => check_image(image),
        _ => check_image(name),
    }
}

/// Checks a path's key: a package, optionally with `:` and an output, optionally with `#` and a number.
pub(super) fn check_key(key: &str) -> Result<(), String> {
    let (package, number) = key.split_once('#').unwrap_or((key, "1"));
    let (package, output) = package.split_once(':').unwrap_or((package, "out"));
    let plain = |text: &str| !text.is_empty() && text.bytes().all(is_name);
    match plain(package) && plain(output) && number.parse::<usize>().is_ok() {
        true => Ok(()),
        false => Err("expected a package's name, as in hello, openssl:dev or source#2".into()),
    }
}

/// Checks a key in a layer. If an image has rules for the path, the image's name follows after an `@`.
pub(super) fn check_key_in_layer(key: &str) -> Result<(), String> {
    let (path, image) = key.split_once('@').unwrap_or((key, "image"));
    check_key(path)?;
    check_layers_of_image(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_to_other_directories_are_refused() {
        for name in [
            "web",
            "a/b",
            "Registry/Some-Image",
            "localhost:5000/a",
            "[::1]:5000/a",
            "my_app.2",
            "ä",
            "my web",
        ] {
            check_image(name).unwrap();
        }
        for name in [
            "", ".", "..", "../x", "a/../b", "/a", "a/", "a//b", "{}", ".-x", "-x", " a", "a ", "a /b",
            "a\0", "a@b", "a\n",
        ] {
            check_image(name).unwrap_err();
            check_layers_of_image(&format!("{name} layers[0]")).unwrap_err();
            check_key_in_layer(&format!("hello@{name}")).unwrap_err();
        }
        check_layers_of_image("web layers[12]").unwrap();
        check_image("web layers[12]").unwrap_err();
        for name in ["web layers[]", "web layers[x]", "web layers[1", "web layers[1] layers[2]"] {
            check_layers_of_image(name).unwrap_err();
        }
    }

    #[test]
    fn keys_have_a_package_an_output_and_a_number() {
        for key in ["hello", "gtk+3", "openssl:dev", "source#2", "glibc:bin#12"] {
            check_key(key).unwrap();
            check_key_in_layer(&format!("{key}@web layers[0]")).unwrap();
        }
        for key in ["", "../../../etc/x", "a b", "a:", ":a", "#2", "a#", "a#x", "a#-1", "a\0", "a@web"] {
            check_key(key).unwrap_err();
        }
    }
}
