//! The arguments of an image, for the plugin. The plugin reads Nix values as the packer's schema describes, and leaves all checks
//! to the packer.

use nixply_documents::argument::Names;
use nixply_documents::document;
use nixply_packer::ImageRequest;
use nixply_packer::request::schema;

use crate::bridge::PathText;
use crate::entry::{Failure, guarded};

/// The schema of a value in an image's request.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the bridge exports it")]
pub struct Argument(schema::Argument);

/// Returns the schema of the whole request.
pub(crate) fn image_argument() -> Box<Argument> {
    Box::new(Argument(ImageRequest::argument()))
}

impl Argument {
    pub(crate) fn has_key(&self, name: &str) -> bool {
        self.0.key(name).is_some()
    }

    pub(crate) fn key(&self, name: &str) -> Box<Self> {
        Box::new(Self(self.0.key(name).unwrap_or(self.0)))
    }

    pub(crate) fn takes_object(&self) -> bool {
        self.0.takes_object()
    }

    pub(crate) fn takes_list(&self) -> bool {
        self.0.element().is_some()
    }

    pub(crate) fn element(&self) -> Box<Self> {
        Box::new(Self(self.0.element().unwrap_or(self.0)))
    }

    pub(crate) fn names_nothing(&self) -> bool {
        self.0.names() == Names::Nothing
    }

    pub(crate) fn is_config(&self) -> bool {
        self.0.names() == Names::Config
    }
}

pub(crate) fn argument_docs() -> String {
    schema::docs::builtin()
}

pub(crate) fn check_request(request: &str, document: &str) -> Result<(), Failure> {
    guarded(|| Ok(ImageRequest::from_json(request, document).map(drop)?))
}

pub(crate) fn root_texts(request: &str) -> Result<Vec<PathText>, Failure> {
    guarded(|| {
        let request = document::parse(request, "request")?;
        let texts = schema::root_texts(&request, ImageRequest::argument()).into_iter();
        Ok(texts.map(|text| PathText { place: text.place, path: text.text.to_owned() }).collect())
    })
}
