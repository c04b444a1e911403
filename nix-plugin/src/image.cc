#include "image.hh"

#include "arguments.hh"
#include "closure.hh"
#include "compat.hh"
#include "progress.hh"

namespace nixply {

namespace {

using compat::Position;
using nix::EvalState;
using nix::Value;
using nlohmann::json;

constexpr const char * image_doc = R"(
  Packs store paths into an OCI image and adds its spec to the store.

  The result is a derivation that `nix build` accepts. Its `outPath` is the spec (nix2container's `image.json`). `imageName`,
  `imageTag`, `imageId`, `manifestDigest` and `layers` describe the image. `description` is the spec as a file without references to
  store paths.

  The argument is an attribute set. `name` is required; `null` means absent.

)";

constexpr const char * images_doc = R"(
  Packs several images that share layers where they share store paths.

  The argument is an attribute set of images, each with the arguments of `builtins.nixplyImage`. An image without a name has the name
  of its attribute. One plan covers all images, within each image's `maxLayers`. Nix realises all store paths at once, and the packer
  packs the images in parallel. `lock` must be the same file in all images that have it. The result has the images by the same
  names, each as `builtins.nixplyImage` returns it.
)";

constexpr const char * index_doc = R"(
  Makes the spec of an image index from the specs of its images, and adds it to the store.

  The result is a derivation that `nix build` accepts. Its `outPath` is the spec. `imageName`, `imageTag`, `manifestDigest` (of the
  index) and `images` (sets with `platform`, `imageId` and `manifestDigest`) describe the index.

  The argument is an attribute set. `name` and `images` are required; `null` means absent.

)";

constexpr const char * plan_doc = R"(
  The layers of the image that `builtins.nixplyImage` makes of the same argument, from the bottom up. Nothing is packed.

  The result is a list of sets with `paths` and `size`: the total size of the store paths' archives in bytes. For a base image's layer,
  `size` is the size of its blob, and `digest` is its digest.
)";

constexpr const char * result_expression =
#include "result.nix.inc"
    ;

json strings(const rust::Vec<rust::String> & texts) {
    auto out = json::array();
    for (auto & text : texts) out.push_back(std::string(text));
    return out;
}

/// Returns the spec's file name, which nix2container forms in the same way from the last part of the image's name.
std::string spec_name(const std::string & kind, const std::string & image) {
    return kind + "-" + image.substr(image.rfind('/') + 1) + ".json";
}

Value * text_value(EvalState & state, const std::string & text) {
    auto * v = state.allocValue();
    nix::parseJSON(state, json(text).dump(), *v);
    return v;
}

/// Evaluates `expression` to a function, and calls it with a set of `arguments`.
void apply(EvalState & state, const char * expression, const std::vector<std::pair<const char *, Value *>> & arguments,
           const Position & pos, Value & v) {
    auto * function = state.allocValue();
    compat::eval(state, expression, *function);
    auto bindings = state.buildBindings(arguments.size());
    for (auto & [name, value] : arguments) bindings.insert(state.symbols.create(name), value);
    auto * set = state.allocValue();
    set->mkAttrs(bindings);
    state.callFunction(*function, *set, v, pos);
}

/// Adds a spec to the store. Returns its derivation, with the attributes of `data`.
void add_spec(EvalState & state, const std::string & name, const rust::String & text, const rust::String & description,
              const rust::Vec<rust::String> & paths, const json & data, const std::string & tag, const Position & pos,
              Value & v) {
    nix::StorePathSet references;
    for (auto & path : paths) references.insert(state.store->parseStorePath(std::string(path)));
    auto spec = compat::add_text(*state.store, name, std::string(text), references);
    auto * data_value = state.allocValue();
    nix::parseJSON(state, data.dump(), *data_value);
    auto * spec_value = state.allocValue();
    compat::set_store_path(state, spec, *spec_value);
    apply(state, result_expression,
          {{"data", data_value},
           {"spec", spec_value},
           {"description", text_value(state, std::string(description))},
           {"name", text_value(state, name)},
           {"system", text_value(state, nix::settings.thisSystem.get())},
           {"tag", text_value(state, tag)}},
          pos, v);
}

/// Adds an image's spec to the store. Returns the image's derivation.
void result(EvalState & state, const Arguments & arguments, const BuiltImage & built, const Position & pos, Value & v) {
    auto layers = json::array();
    for (auto & layer : built.layers)
        layers.push_back({{"digest", std::string(layer.digest)},
                          {"diffId", std::string(layer.diff_id)},
                          {"size", layer.size},
                          {"mediaType", std::string(layer.media_type)},
                          {"paths", strings(layer.paths)}});
    json data{{"imageName", std::string(built.name)},
              {"imageId", std::string(built.config_digest)},
              {"layers", std::move(layers)}};
    if (!built.manifest_digest.empty()) data["manifestDigest"] = std::string(built.manifest_digest);
    add_spec(state, spec_name("image", arguments.name()), built.spec, built.description, built.references, data,
             arguments.tag(), pos, v);
}

void image(EvalState & state, const Position & pos, Value & argument, Value & v) {
    std::vector<Arguments> images{read_arguments(state, argument, pos, "nixplyImage")};
    auto query = realise(state, images, pos, "nixplyImage");
    auto & arguments = images.front();
    auto built = [&] {
        Progress progress("packing image '" + arguments.name() + "'");
        return call(
            progress, [&] { return build_image(arguments.request.dump(), query.closure, query.packer, progress); },
            [&](const std::string & why) {
                compat::fail_now(state, arguments.places.of(why, pos),
                                 "cannot pack image '" + arguments.name() + "': " + why);
            });
    }();
    result(state, arguments, built, pos, v);
}

void images(EvalState & state, const Position & pos, Value & argument, Value & v) {
    state.forceValue(argument, pos);
    if (argument.type() != nix::nAttrs)
        compat::fail(state, pos,
                     "the argument of builtins.nixplyImages must be an attribute set of images, but it is " +
                         nix::showType(argument));
    rust::Vec<rust::String> keys;
    std::vector<Arguments> images;
    rust::Vec<rust::String> requests;
    for (auto & attr : compat::bindings(argument)) {
        auto key = std::string(compat::name(state, attr));
        images.push_back(read_arguments(state, *attr.value, compat::position(attr), "nixplyImages", key));
        keys.push_back(key);
    }
    auto query = realise(state, images, pos, "nixplyImages");
    for (auto & image : images) requests.push_back(image.request.dump());
    auto built = [&] {
        auto one = images.size() == 1;
        auto what = one ? "image '" + images.front().name() + "'" : std::to_string(images.size()) + " images";
        Progress progress("packing " + what);
        return call(
            progress, [&] { return build_images(keys, requests, query.closure, query.packer, progress); },
            [&](const std::string & why) { compat::fail_now(state, pos, "cannot pack the images: " + why); });
    }();
    auto bindings = state.buildBindings(images.size());
    for (std::size_t at = 0; at < images.size(); at++) {
        auto * value = state.allocValue();
        result(state, images[at], built[at], pos, *value);
        bindings.insert(state.symbols.create(std::string(keys[at])), value);
    }
    v.mkAttrs(bindings);
}

void index(EvalState & state, const Position & pos, Value & argument, Value & v) {
    std::vector<Arguments> indexes{read_arguments(state, argument, pos, "nixplyIndex", "", RequestKind::Index)};
    auto query = realise(state, indexes, pos, "nixplyIndex");
    auto & arguments = indexes.front();
    auto built = [&] {
        try {
            return build_index(arguments.request.dump(), query.closure, query.packer);
        } catch (const rust::Error & error) {
            std::string why = error.what();
            compat::fail_now(state, arguments.places.of(why, pos),
                             "cannot make index '" + arguments.name() + "': " + why);
        }
    }();
    auto images = json::array();
    for (auto & image : built.images) {
        json entry{{"platform", std::string(image.platform)}, {"imageId", std::string(image.config_digest)}};
        if (!image.manifest_digest.empty()) entry["manifestDigest"] = std::string(image.manifest_digest);
        images.push_back(std::move(entry));
    }
    json data{{"imageName", std::string(built.name)}, {"images", std::move(images)}};
    if (!built.index_digest.empty()) data["manifestDigest"] = std::string(built.index_digest);
    add_spec(state, spec_name("index", arguments.name()), built.spec, built.description, built.references, data,
             arguments.tag(), pos, v);
}

void plan(EvalState & state, const Position & pos, Value & argument, Value & v) {
    std::vector<Arguments> images{read_arguments(state, argument, pos, "nixplyPlan")};
    auto query = realise(state, images, pos, "nixplyPlan");
    auto & arguments = images.front();
    auto layers = json::array();
    auto planned = [&] {
        Progress progress("planning image '" + arguments.name() + "'", nix::lvlTalkative);
        return call(
            progress, [&] { return plan_image(arguments.request.dump(), query.closure, query.packer, progress); },
            [&](const std::string & why) {
                compat::fail_now(state, arguments.places.of(why, pos),
                                 "cannot plan image '" + arguments.name() + "': " + why);
            });
    }();
    for (auto & layer : planned) {
        json entry{{"size", layer.size}, {"paths", strings(layer.paths)}};
        if (!layer.digest.empty()) entry["digest"] = std::string(layer.digest);
        layers.push_back(std::move(entry));
    }
    nix::parseJSON(state, layers.dump(), v);
}

}

void register_builtins() {
    // Nix keeps the pointer.
    static const std::string documented = image_doc + std::string(argument_docs(RequestKind::Image));
    static const std::string documented_index = index_doc + std::string(argument_docs(RequestKind::Index));
    compat::register_primop(
        "__nixplyImage", {"image"}, documented.c_str(),
        [](EvalState & state, auto pos, auto args, Value & v) { image(state, compat::called_at(pos), *args[0], v); });
    compat::register_primop(
        "__nixplyImages", {"images"}, images_doc,
        [](EvalState & state, auto pos, auto args, Value & v) { images(state, compat::called_at(pos), *args[0], v); });
    compat::register_primop(
        "__nixplyIndex", {"index"}, documented_index.c_str(),
        [](EvalState & state, auto pos, auto args, Value & v) { index(state, compat::called_at(pos), *args[0], v); });
    compat::register_primop("__nixplyPlan", {"image"}, plan_doc, [](EvalState & state, auto pos, auto args, Value & v) {
        plan(state, compat::called_at(pos), *args[0], v);
    });
}

}
