#include "closure.hh"

#include "settings.hh"

namespace nixply {

namespace {

compat::Realised build(nix::EvalState & state, const compat::Context & context, const compat::Position & pos,
                       const std::string & builtin) {
    try {
        return compat::realise(state, context);
    } catch (nix::Error & error) {
        // Nix's own words name the setting and the derivation; what it cannot know is the other door.
        auto why = error.info().msg.str();
        if (why.find("allow-import-from-derivation") == std::string::npos) throw;
        compat::fail_now(
            state, pos,
            "builtins." + builtin +
                " builds its inputs while it is evaluated, which the setting "
                "'allow-import-from-derivation = false' forbids: allow it, or build the image in a derivation "
                "(nix/build-image.nix with usePlugin = false), which needs no plugin; Nix says: " +
                why);
    }
}

}

Query realise(nix::EvalState & state, std::vector<Arguments> & images, const compat::Position & pos,
              const std::string & builtin) {
    auto & store = *state.store;
    auto real_store_dir = compat::real_store_dir(store);
    if (!real_store_dir)
        compat::fail_now(state, pos,
                         "builtins." + builtin + " reads store paths, but the store '" + compat::uri(store) +
                             "' has no files on this machine: use a local store or its daemon, or build the image in a "
                             "derivation (nix/build-image.nix with usePlugin = false)");

    compat::Context context;
    for (auto & image : images) context.insert(image.context.begin(), image.context.end());
    auto realised = build(state, context, pos, builtin);
    auto roots = realised.paths;
    for (auto & image : images) {
        rewrite(image, realised.rewrites);
        for (auto & path : compat::realise(state, image.config_context).paths)
            image.request.config_roots.push_back(store.printStorePath(path));
    }

    // A path given as plain text has no context: it is taken if the store knows it.
    auto add_text = [&](const rust::Vec<rust::String> & texts, const char * argument) {
        for (auto & text : texts) {
            auto given = std::string(text);
            auto path = store.maybeParseStorePath(given);
            if (!path || !store.isValidPath(*path))
                compat::fail_now(
                    state, pos,
                    "'" + given + "', given as " + argument + " of builtins." + builtin +
                        ", is not a path in the store that Nix knows; give the derivation itself, or a path "
                        "that nix-store --realise or nix store add-path has made");
            roots.insert(*path);
        }
    };
    auto add_one = [&](const rust::String & text, const char * argument) {
        if (text.empty()) return;
        rust::Vec<rust::String> one;
        one.push_back(text);
        add_text(one, argument);
    };
    auto add_layer = [&](const LayerRequest & layer) {
        add_text(layer.deps, "deps");
        add_text(layer.copy_to_root, "copyToRoot");
        add_one(layer.prebuilt, "prebuilt");
        add_one(layer.lock.file, "lock.file");
    };
    for (auto & image : images) {
        add_layer(image.request.top);
        for (auto & layer : image.request.layers) add_layer(layer);
        add_one(image.request.from_image, "fromImage");
        add_one(image.request.lock, "lock");
    }

    // Whatever refers to them keeps the rest alive.
    for (auto & path : roots) store.addTempRoot(path);
    nix::StorePathSet closure;
    store.computeFSClosure(roots, closure);

    Query query;
    for (auto & path : closure) {
        auto info = store.queryPathInfo(path);
        PathInfo entry{store.printStorePath(path), compat::sri(info->narHash), info->narSize, {}};
        for (auto & reference : info->references) entry.references.push_back(store.printStorePath(reference));
        query.closure.push_back(std::move(entry));
    }
    auto & settings = Settings::get();
    query.machine = {std::string(store.storeDir), *real_store_dir,           settings.jobs.get(),
                     settings.cache_dir(),        settings.cacheLimit.get(), settings.cache_shared(),
                     settings.checkStore.get()};
    return query;
}

}
