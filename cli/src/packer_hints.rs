//! Hints for the packer's errors. The packer does not know this program's commands and flags.

use nixply_files::Error as FileError;
use nixply_packer::Error;
use nixply_planning::Error as PlanningError;

/// An error of the packer or of a crate below it, found inside the errors that only wrap it.
#[derive(Clone, Copy)]
pub(crate) enum Cause<'e> {
    Packer(&'e Error),
    Planning(&'e PlanningError),
    File(&'e FileError),
}

impl<'e> Cause<'e> {
    /// Finds the cause in an error.
    pub(crate) fn of(error: &'e anyhow::Error) -> Option<Self> {
        let packer = error.downcast_ref().map(Self::of_packer);
        let planning = || error.downcast_ref().map(Self::of_planning);
        packer.or_else(planning).or_else(|| error.downcast_ref().map(Self::File))
    }

    fn of_packer(error: &'e Error) -> Self {
        match error {
            // The name of an image does not change the kind of error.
            Error::OfImage { source, .. } => Self::of_packer(source),
            Error::Planning(error) => Self::of_planning(error),
            Error::File(error) => Self::File(error),
            error => Self::Packer(error),
        }
    }

    fn of_planning(error: &'e PlanningError) -> Self {
        match error {
            PlanningError::File(error) => Self::File(error),
            error => Self::Planning(error),
        }
    }

    /// Whether the user interrupted the program.
    pub(crate) fn is_interruption(self) -> bool {
        matches!(self, Self::Packer(Error::Interrupted) | Self::Planning(PlanningError::Interrupted))
    }

    /// Whether the error is about the machine, not about the user's input.
    pub(crate) fn is_of_the_machine(self) -> bool {
        matches!(
            self,
            Self::File(FileError::Io { .. } | FileError::DiskFull { .. })
                | Self::Packer(Error::Threads { .. } | Error::Memory)
        )
    }

    /// Returns a hint, if there is something to do about the error with this program.
    pub(crate) fn hint(self) -> Option<String> {
        match self {
            Self::Packer(error) => of_packer(error),
            Self::Planning(error) => of_planning(error).map(str::to_owned),
            Self::File(FileError::StoreOfOthers { .. }) => {
                Some("pass --store-dir to use another store".into())
            }
            Self::File(_) => None,
        }
    }
}

fn of_planning(error: &PlanningError) -> Option<&'static str> {
    match error {
        PlanningError::LockFile { .. } => Some(
            "make a lock file with `nixply plan --lock FILE --update`, or for containers with `nixply container lock NAME`; \
             after a merge conflict, take one side and update it",
        ),
        PlanningError::NotInLock { .. } => {
            Some("add the image with `nixply plan --images --lock FILE --update`, given all images")
        }
        _ => None,
    }
}

fn of_packer(error: &Error) -> Option<String> {
    let hint = match error {
        Error::OutsideStore { .. } => "pass --store-dir if the image is from another store".into(),
        Error::BlobOutsideStore { .. } => "pass --allow-outside-store if you trust the author of the spec, as for specs from n2c image-from-dir".into(),
        Error::ImagesMissing { images } => {
            let images: Vec<_> = images.iter().map(|image| format!("--forget {image}")).collect();
            format!("pass {} to remove the missing images from the lock file", images.join(" "))
        }
        Error::NotSpec { .. } => {
            "make a spec of it with nixply n2c image-from-dir, or image-from-manifest".into()
        }
        Error::LayerChanged { named_by: Some(_), .. } => {
            "build the image again without --cache-from; if that does not help, push it to another tag".into()
        }
        Error::OtherPlatform { .. } => "omit --platform, or name the index".into(),
        Error::SeveralPlatforms { example: Some(platform), .. } => format!(
            "pass --platform, as in --platform {platform}, or save the manifest of one platform with skopeo inspect --raw \
             docker://NAME@DIGEST"
        ),
        Error::SeveralPlatforms { example: None, .. } => {
            "copy one of them to its own directory, as with skopeo copy oci:DIR:TAG dir:OTHER".into()
        }
        _ => return None,
    };
    Some(hint)
}
