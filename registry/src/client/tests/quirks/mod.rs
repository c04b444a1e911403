//! Quirks of registries: each test pushes to a registry with one of them, and asserts the requests and the content at the end.

mod acr;
mod any;
mod artifactory;
mod docker_hub;
mod ecr;
mod gcr;
mod ghcr;
mod gitlab;
mod harbor;
mod proxies;
mod quay;
