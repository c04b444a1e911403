//! Between the border's structs and the packer's.

use nixply_packer::closure::{Closure, PathInfo, Store, StorePath};
use nixply_packer::image::spec::{History, Layer};
use nixply_packer::request::{ImageRequest, LAYER_LIMIT, LayerLock, LayerRequest, NixDatabase};
use nixply_packer::rules::{Perm, PermPath};
use nixply_packer::{Error, Result, document, nar_hash};

use crate::bridge;

/// The closure, once it is known that no entry contradicts another and that every hash is one. That all of it lies in the
/// store is for the planner to check.
pub(crate) fn closure(infos: &[bridge::PathInfo]) -> Result<Closure> {
    for info in infos.iter().filter(|info| !info.nar_hash.is_empty()) {
        let wrong = |why| Error::invalid(format!("closure, hash of {}", info.path), why);
        nar_hash::check(&info.nar_hash).map_err(wrong)?;
    }
    let infos = infos.iter().map(|info| {
        Ok(PathInfo {
            path: StorePath::parse(&info.path)?,
            references: info
                .references
                .iter()
                .map(|path| StorePath::parse(path))
                .collect::<Result<_, _>>()?,
            nar_hash: info.nar_hash.clone(),
            nar_size: info.nar_size,
        })
    });
    Closure::consistent(infos.collect::<Result<Vec<_>>>()?, "closure")
}

pub(crate) fn store(machine: &bridge::Machine) -> Store {
    Store { dir: machine.store_dir.clone(), real_dir: machine.real_store_dir.clone().into() }
}

pub(crate) fn image(request: &bridge::ImageRequest) -> Result<ImageRequest> {
    let top = layer(&request.top, "")?;
    let layers = request.layers.iter().enumerate();
    Ok(ImageRequest {
        config: document::parse(&request.config, "config")?,
        name: given(&request.name),
        // The plugin has checked it.
        tag: None,
        config_roots: Some(request.config_roots.clone()),
        copy_to_root: top.copy_to_root,
        layers: layers.map(|(at, below)| layer(below, &format!("layers[{at}]."))).collect::<Result<_>>()?,
        parents: top.parents,
        max_layers: top.max_layers,
        strategy: top.strategy,
        groups: top.groups,
        lock: given(&request.lock),
        perms: top.perms,
        from_image: given(&request.from_image),
        any_platform: request.any_platform,
        arch: given(&request.arch),
        system: given(&request.system),
        created: request.created.clone(),
        compression: match request.compression.as_str() {
            "" => Default::default(),
            codec => codec.parse()?,
        },
        annotations: request.annotations.iter().map(|a| (a.name.clone(), a.text.clone())).collect(),
        inherit_config: request.inherit_config,
        healthcheck: given(&request.healthcheck)
            .map(|json| document::parse(&json, "healthcheck"))
            .transpose()?,
        nix_database: given(&request.nix_database.path).map(|path| NixDatabase {
            path,
            uid: request.nix_database.uid,
            gid: request.nix_database.gid,
        }),
        layer_limit: if request.layer_limit == 0 { LAYER_LIMIT } else { request.layer_limit as usize },
    })
}

/// `place` says where the layer stands, for messages.
fn layer(request: &bridge::LayerRequest, place: &str) -> Result<LayerRequest> {
    let metadata = &request.metadata;
    Ok(LayerRequest {
        deps: request.deps.clone(),
        copy_to_root: request.copy_to_root.clone(),
        ignore: request.ignore.clone(),
        perms: request.perms.iter().map(perm).collect(),
        max_layers: request.max_layers as usize,
        strategy: given(&request.strategy),
        groups: given(&request.groups)
            .map(|json| document::parse(&json, &format!("{place}groups")))
            .transpose()?,
        lock: given(&request.lock.file).map(|file| LayerLock { file, image: request.lock.image.clone() }),
        metadata: metadata.given.then(|| History {
            created: given(&metadata.created),
            created_by: metadata.created_by.clone(),
            author: metadata.author.clone(),
            comment: metadata.comment.clone(),
            empty_layer: false,
        }),
        parents: request.parents_given.then(|| request.parents.iter().map(|at| *at as usize).collect()),
        prebuilt: given(&request.prebuilt),
    })
}

fn perm(perm: &bridge::Perm) -> PermPath {
    PermPath {
        path: perm.path.clone(),
        perm: Perm {
            regex: perm.regex.clone(),
            mode: perm.mode.clone(),
            uid: perm.uid,
            gid: perm.gid,
            uname: perm.uname.clone(),
            gname: perm.gname.clone(),
        },
    }
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

pub(crate) fn layer_info(layer: &Layer) -> bridge::LayerInfo {
    bridge::LayerInfo {
        digest: layer.digest.to_string(),
        diff_id: layer.diff_id.to_string(),
        size: layer.size,
        media_type: layer.media_type.clone(),
        paths: layer.paths.iter().map(|path| path.path.to_string()).collect(),
    }
}
