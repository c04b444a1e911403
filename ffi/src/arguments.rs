//! The arguments of images and image indexes, for the plugin. The plugin reads Nix values as the packer's schema describes, and leaves all checks
//! to the packer.

use nixply_documents::argument::Names;
use nixply_documents::document;
use nixply_packer::ImageRequest;
use nixply_packer::request::{IndexRequest, schema};

use crate::bridge::{PathText, RequestKind};
use crate::entry::{Failure, guarded};

/// The schema of a value in a request.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the bridge exports it")]
pub struct Argument(schema::Argument);

/// Returns the schema of a whole request.
pub(crate) fn request_argument(kind: RequestKind) -> Box<Argument> {
    Box::new(Argument(argument_of(kind)))
}

fn argument_of(kind: RequestKind) -> schema::Argument {
    match kind {
        RequestKind::Index => IndexRequest::argument(),
        _ => ImageRequest::argument(),
    }
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

pub(crate) fn argument_docs(kind: RequestKind) -> String {
    argument_of(kind).builtin_docs()
}

pub(crate) fn check_request(kind: RequestKind, request: &str, document: &str) -> Result<(), Failure> {
    guarded(|| {
        match kind {
            RequestKind::Index => IndexRequest::from_json(request, document).map(drop)?,
            _ => ImageRequest::from_json(request, document).map(drop)?,
        }
        Ok(())
    })
}

pub(crate) fn root_texts(kind: RequestKind, request: &str) -> Result<Vec<PathText>, Failure> {
    guarded(|| {
        let request = document::parse(request, "request")?;
        let texts = argument_of(kind).root_texts(&request).into_iter();
        Ok(texts.map(|text| PathText { place: text.place, path: text.text.to_owned() }).collect())
    })
}
