//! Reads the workspace's Rust files: the modules, and the paths that each module uses.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::parse::{ParseStream, Parser};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, LitStr, Meta, UseTree, Visibility, token};

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is a directory of the workspace")
}

/// Returns all files below a directory with this extension, sorted.
pub(crate) fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_path_buf()];
    while let Some(directory) = left.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                left.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A path as the code writes it, such as `crate::plan::Strategy`.
pub(crate) type Segments = Vec<String>;

/// A crate's modules by their paths below the crate root. The root is the empty path.
pub(crate) struct Sources {
    modules: BTreeMap<Segments, Module>,
}

/// One file.
pub(crate) struct Module {
    /// The file's name below `src`.
    pub(crate) file: String,
    /// Its items, except tests.
    pub(crate) items: Vec<Item>,
    uses: Uses,
}

/// The paths in one file.
#[derive(Default)]
struct Uses {
    /// Names that `use` items bind, with the paths that they are bound to.
    bound: BTreeMap<String, Segments>,
    /// Those of the names that other modules can use.
    reexported: BTreeSet<String>,
    /// Paths outside of `use` items.
    paths: BTreeSet<Segments>,
}

impl Sources {
    /// Reads all files below `src`, except test modules.
    pub(crate) fn read(src: &Path) -> Self {
        let mut modules = BTreeMap::new();
        let mut tests: Vec<Segments> = Vec::new();
        for path in files(src, "rs") {
            let file = path.strip_prefix(src).unwrap().with_extension("");
            let mut name: Segments = file.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            if name.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
                name.pop();
            }
            let text = fs::read_to_string(&path).unwrap();
            let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            for item in &parsed.items {
                if let Item::Mod(item) = item
                    && is_test(&item.attrs)
                {
                    tests.push([&name[..], &[item.ident.to_string()]].concat());
                }
            }
            let items: Vec<Item> =
                parsed.items.into_iter().filter(|item| !is_test(attributes(item))).collect();
            let mut uses = Uses::default();
            items.iter().for_each(|item| uses.visit_item(item));
            let file = path.strip_prefix(src).unwrap().display().to_string();
            modules.insert(name, Module { file, items, uses });
        }
        let is_for_tests = |name: &Segments| tests.iter().any(|test| name.starts_with(test));
        modules.retain(|name, _| !is_for_tests(name));
        Self { modules }
    }

    /// Returns the modules with their paths below the crate root.
    pub(crate) fn modules(&self) -> impl Iterator<Item = (&Segments, &Module)> {
        self.modules.iter()
    }

    /// Returns the module with this path.
    pub(crate) fn module(&self, path: &[String]) -> Option<&Module> {
        self.modules.get(path)
    }

    /// Returns all paths that a module uses, including those of its `use` items, as the code writes them. A first segment that a
    /// `use` item binds is replaced by the path that it is bound to.
    pub(crate) fn paths<'m>(&self, module: &'m Module) -> impl Iterator<Item = Segments> + use<'m> {
        let whole = |path: &Segments| match module.uses.bound.get(&path[0]) {
            Some(bound) => [&bound[..], &path[1..]].concat(),
            None => path.clone(),
        };
        module.uses.paths.iter().map(whole).chain(module.uses.bound.values().cloned())
    }

    /// Returns the other modules of the crate that a module uses, each with one of the used paths. A module that uses a
    /// re-exported name uses the module that defines the name. The `pub use` itself does not count as a use.
    pub(crate) fn used_modules(&self, name: &Segments) -> BTreeMap<Segments, String> {
        let module = &self.modules[name];
        let used = |first: &String| module.uses.paths.iter().any(|path| path[0] == *first);
        let unused: Vec<&Segments> = module
            .uses
            .bound
            .iter()
            .filter(|(bound, _)| module.uses.reexported.contains(*bound) && !used(bound))
            .map(|(_, path)| path)
            .collect();
        let paths = self.paths(module).filter(|path| !unused.contains(&path));
        let mut edges = BTreeMap::new();
        for path in paths {
            let Some(target) = self.absolute(name, &path) else { continue };
            let (defining, has_rest) = self.defining(&target, 0);
            // A path that ends with a module only brings the module into scope. The file uses it with a longer path.
            if has_rest && defining != *name {
                edges.insert(defining, path.join("::"));
            }
        }
        edges
    }

    /// Returns a path from the crate root, or `None` for a path of another crate.
    fn absolute(&self, module: &Segments, path: &Segments) -> Option<Segments> {
        let mut at = module.clone();
        let mut rest = &path[..];
        match rest[0].as_str() {
            "crate" => {
                at.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|part| part == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
            }
            _ => {
                at.push(rest[0].clone());
                self.modules.get(&at)?;
                rest = &rest[1..];
            }
        }
        Some([&at[..], rest].concat())
    }

    /// Returns the module that defines the item of a path, and whether the path has segments after the module.
    fn defining(&self, path: &[String], depth: usize) -> (Segments, bool) {
        let length = (0..=path.len()).rev().find(|end| self.modules.contains_key(&path[..*end])).unwrap_or(0);
        let (name, rest) = (path[..length].to_vec(), &path[length..]);
        if let (Some(first), Some(module)) = (rest.first(), self.modules.get(&name))
            && module.uses.reexported.contains(first)
            && depth < 8
            && let Some(target) = self.absolute(&name, &module.uses.bound[first])
        {
            return self.defining(&[&target[..], &rest[1..]].concat(), depth + 1);
        }
        (name, !rest.is_empty())
    }
}

impl Uses {
    fn bind(&mut self, tree: &UseTree, before: &Segments, public: bool) {
        let with = |name: &syn::Ident| [&before[..], &[name.to_string()]].concat();
        let (name, path) = match tree {
            UseTree::Path(path) => return self.bind(&path.tree, &with(&path.ident), public),
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.bind(tree, before, public));
            }
            UseTree::Glob(_) => ("*".to_owned() + &before.join("::"), [&before[..], &["*".into()]].concat()),
            UseTree::Name(name) if name.ident == "self" => (before.last().unwrap().clone(), before.clone()),
            UseTree::Name(name) => (name.ident.to_string(), with(&name.ident)),
            UseTree::Rename(rename) if rename.ident == "self" => (rename.rename.to_string(), before.clone()),
            UseTree::Rename(rename) => (rename.rename.to_string(), with(&rename.ident)),
        };
        if public {
            self.reexported.insert(name.clone());
        }
        self.bound.insert(name, path);
    }
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.bind(&item.tree, &Segments::new(), !matches!(item.vis, Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        // The arguments of a macro are tokens, in which a path is written `a :: b`.
        let tokens = mac.tokens.to_string();
        let words: Vec<&str> = tokens.split(|c: char| !(c.is_alphanumeric() || "_:".contains(c))).collect();
        let text = words.join(" ").replace(" :: ", "::");
        for word in text.split_whitespace() {
            let path: Segments = word.split("::").map(str::to_owned).collect();
            if path.iter().all(|part| !part.is_empty()) {
                self.paths.insert(path);
            }
        }
        visit::visit_macro(self, mac);
    }
}

impl Module {
    /// Returns the module's string literals, including those in macros and attributes, but without doc comments and tests.
    pub(crate) fn texts(&self) -> Vec<String> {
        let mut texts = Texts(Vec::new());
        self.items.iter().for_each(|item| texts.visit_item(item));
        texts.0
    }
}

/// Collects string literals.
struct Texts(Vec<String>);

impl Texts {
    /// Adds the literals in the tokens of a macro or an attribute.
    fn add(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        while !input.is_empty() {
            let group;
            if input.peek(LitStr) {
                self.0.push(input.parse::<LitStr>()?.value());
            } else if input.peek(token::Paren) {
                syn::parenthesized!(group in input);
                self.add(&group)?;
            } else if input.peek(token::Bracket) {
                syn::bracketed!(group in input);
                self.add(&group)?;
            } else if input.peek(token::Brace) {
                syn::braced!(group in input);
                self.add(&group)?;
            } else {
                input.step(|cursor| {
                    let (_, rest) = cursor.token_tree().expect("the input is not empty");
                    Ok(((), rest))
                })?;
            }
        }
        Ok(())
    }
}

impl<'ast> Visit<'ast> for Texts {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        match &attribute.meta {
            Meta::List(list) => {
                Parser::parse2(|input: ParseStream<'_>| self.add(input), list.tokens.clone()).unwrap();
            }
            Meta::NameValue(value) if !value.path.is_ident("doc") => self.visit_expr(&value.value),
            _ => {}
        }
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        Parser::parse2(|input: ParseStream<'_>| self.add(input), mac.tokens.clone()).unwrap();
    }

    fn visit_lit_str(&mut self, text: &'ast LitStr) {
        self.0.push(text.value());
    }
}

/// Returns whether an item is compiled for tests only.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

impl Sources {
    /// Returns the public names that other crates can reach: the public functions, types, traits, constants, modules and
    /// re-exported names of the crate root and of each public module. Methods, fields and variants do not count. A name that is
    /// reachable by two paths counts twice.
    pub(crate) fn public_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.add_public_names(&mut Segments::new(), &mut names);
        names
    }

    fn add_public_names(&self, module: &mut Segments, names: &mut Vec<String>) {
        let full = |module: &Segments, name: &str| [&module[..], &[name.to_owned()]].concat().join("::");
        for item in &self.modules[module].items {
            let (visibility, name) = match item {
                Item::Const(item) => (&item.vis, &item.ident),
                Item::Enum(item) => (&item.vis, &item.ident),
                Item::Fn(item) => (&item.vis, &item.sig.ident),
                Item::Mod(item) => (&item.vis, &item.ident),
                Item::Static(item) => (&item.vis, &item.ident),
                Item::Struct(item) => (&item.vis, &item.ident),
                Item::Trait(item) => (&item.vis, &item.ident),
                Item::Type(item) => (&item.vis, &item.ident),
                Item::Use(item) => {
                    if matches!(item.vis, Visibility::Public(_)) {
                        let mut uses = Uses::default();
                        uses.bind(&item.tree, &Segments::new(), true);
                        names.extend(uses.bound.keys().map(|name| full(module, name)));
                    }
                    continue;
                }
                _ => continue,
            };
            if !matches!(visibility, Visibility::Public(_)) {
                continue;
            }
            names.push(full(module, &name.to_string()));
            if matches!(item, Item::Mod(_)) {
                module.push(name.to_string());
                self.add_public_names(module, names);
                module.pop();
            }
        }
    }
}
