#include "closure.hh"

#include "settings.hh"

namespace nixply {

namespace {

compat::Realised build(nix::EvalState & state, const compat::Context & context, const compat::Position & pos,
                       const std::string & builtin) {
    try {
        return compat::realise(state, context);
    } catch (nix::Error & error) {
        // Nix's message names the setting and the derivation. It does not know the alternative.
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
        // JSON contains placeholders unchanged: they have no characters that JSON escapes.
        if (!realised.rewrites.empty())
            image.request = nlohmann::json::parse(nix::rewriteStrings(image.request.dump(), realised.rewrites));
        if (image.kind == RequestKind::Image) {
            auto & config_roots = image.request["configRoots"] = nlohmann::json::array();
            for (auto & path : compat::realise(state, image.config_context).paths)
                config_roots.push_back(store.printStorePath(path));
        }
        // A path given as plain text has no context. It is accepted if the store knows it.
        for (auto & text : root_texts(image.kind, image.request.dump())) {
            auto given = std::string(text.path);
            auto path = store.maybeParseStorePath(given);
            auto place = std::string(text.place);
            if (!path || !store.isValidPath(*path))
                compat::fail_now(state, image.places.of(place, pos),
                                 "builtins." + builtin + ": " + place + " '" + given +
                                     "' is not a valid path of this store: use the derivation itself, or a path that "
                                     "nix-store --realise or nix store add-path has made");
            roots.insert(*path);
        }
    }

    // The temporary roots keep the rest of the closure alive.
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
    query.packer = {std::string(store.storeDir), *real_store_dir,           settings.jobs.get(),
                    settings.cache_dir(),        settings.cacheLimit.get(), settings.cache_shared(),
                    settings.checkStore.get()};
    return query;
}

}
