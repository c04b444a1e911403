//! Hints for the packer's errors. The packer does not know this program's commands and flags.

use nixply_packer::Error;

/// Returns a hint for an error, if there is something to do about it with this program.
pub(crate) fn of(error: &Error) -> Option<String> {
    let hint = match error {
        Error::StoreOfOthers { .. } => "pass --store-dir to use another store".into(),
        Error::OutsideStore { .. } => "pass --store-dir if the image is from another store".into(),
        Error::BlobOutsideStore { .. } => "pass --allow-outside-store if you trust the author of the spec, as for specs from n2c image-from-dir".into(),
        Error::LockFile { .. } => "make a lock file with `nixply plan --lock FILE --update`, or for containers with \
                                   `nixply container lock NAME`; after a merge conflict, take one side and update it"
            .into(),
        Error::NotInLock { .. } => {
            "add the image with `nixply plan --images --lock FILE --update`, given all images".into()
        }
        Error::ImagesMissing { images } => {
            let images: Vec<_> = images.iter().map(|image| format!("--forget {image}")).collect();
            format!("pass {} to remove the missing images from the lock file", images.join(" "))
        }
        Error::NotSpec { .. } => {
            "make a spec of it with nixply n2c image-from-dir, or image-from-manifest".into()
        }
        Error::OtherPlatform { .. } => "omit --platform, or name the index".into(),
        Error::SeveralPlatforms { example: Some(platform), .. } => format!(
            "pass --platform, as in --platform {platform}, or save the manifest of one platform with skopeo inspect --raw \
             docker://NAME@DIGEST"
        ),
        Error::SeveralPlatforms { example: None, .. } => {
            "copy one of them to its own directory, as with skopeo copy oci:FOLDER:TAG dir:OTHER".into()
        }
        _ => return None,
    };
    Some(hint)
}
