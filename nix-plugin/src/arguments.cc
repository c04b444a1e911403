#include "arguments.hh"

#include <algorithm>
#include <functional>

namespace nixply {

namespace {

using compat::Position;
using nix::EvalState;
using nix::Value;

/// Where a value stands: for messages.
struct Place {
    std::string path;
    Position pos;

    Place in(const std::string & name, const Position & pos) const {
        return {path.empty() ? name : path + "." + name, pos};
    }
    Place at(std::size_t index) const { return {path + "[" + std::to_string(index) + "]", pos}; }
};

class Reader {
public:
    Reader(EvalState & state, Arguments & out, std::string builtin)
        : state(state), out(out), builtin(std::move(builtin)) {}

    void image(Value & v, const Position & pos, const std::string & key);

private:
    using Fields = std::vector<std::pair<const char *, std::function<void(Value &, const Place &)>>>;

    /// Reads an attribute set: each attribute by the field of its name, null as if it were absent.
    void set(Value & v, const Place & place, const Fields & fields) {
        expect(v, place, nix::nAttrs, "an attribute set");
        for (auto & attr : compat::bindings(v)) {
            auto name = compat::name(state, attr);
            auto where = place.in(name, compat::position(attr));
            auto field = std::find_if(fields.begin(), fields.end(), [&](auto & field) { return name == field.first; });
            if (field == fields.end()) unknown(where, name, fields);
            state.forceValue(*attr.value, where.pos);
            if (attr.value->type() != nix::nNull) field->second(*attr.value, where);
        }
    }

    [[noreturn]] void unknown(const Place & where, const std::string & name, const Fields & fields) {
        std::vector<rust::Str> known;
        for (auto & field : fields) known.emplace_back(field.first);
        auto guess = std::string(nearest(name, {known.data(), known.size()}));
        std::string text = "unknown argument '" + where.path + "' of builtins." + builtin;
        if (!guess.empty()) fail(where, text + "; did you mean '" + guess + "'?");
        text += "; it takes";
        for (auto & field : fields) text += std::string(" ") + field.first;
        fail(where, text);
    }

    [[noreturn]] void fail(const Place & place, const std::string & text) { compat::fail(state, place.pos, text); }

    [[noreturn]] void wrong(Value & v, const Place & place, const std::string & expected) {
        auto what = place.path.empty() ? std::string("the argument") : "argument '" + place.path + "'";
        fail(place, what + " of builtins." + builtin + " must be " + expected + ", but it is " + nix::showType(v));
    }

    void expect(Value & v, const Place & place, nix::ValueType type, const char * expected) {
        state.forceValue(v, place.pos);
        if (v.type() != type) wrong(v, place, expected);
    }

    /// Text for the other side of the border, where all text is UTF-8.
    rust::String utf8(const std::string & text, const Place & place) {
        try {
            return text;
        } catch (const std::invalid_argument &) {
            fail(place, "argument '" + place.path + "' of builtins." + builtin +
                            " is not UTF-8, as all text in OCI's documents must be");
        }
    }

    /// Text whose store paths, if it names any, belong to the image.
    rust::String text(Value & v, const Place & place) {
        expect(v, place, nix::nString, "a string");
        return utf8(compat::coerce(state, v, place.pos, out.context), place);
    }

    /// Text that names no store path.
    std::string plain(Value & v, const Place & place) {
        expect(v, place, nix::nString, "a string");
        compat::Context context;
        auto text = compat::coerce(state, v, place.pos, context);
        if (!context.empty())
            fail(place, "argument '" + place.path + "' of builtins." + builtin + " must not refer to a store path");
        utf8(text, place);
        return text;
    }

    /// Text that says something: on the other side of the border, no text means that the argument is absent.
    std::string word(Value & v, const Place & place) {
        auto text = plain(v, place);
        if (text.empty()) fail(place, "argument '" + place.path + "' of builtins." + builtin + " must not be empty");
        return text;
    }

    /// Calls a check of the packer's; what it throws gets the value's position.
    template<class F>
    auto checked(const Place & place, F f) {
        try {
            return f();
        } catch (const rust::Error & error) {
            fail(place, "argument '" + place.path + "' of builtins." + builtin + ": " + error.what());
        }
    }

    /// The config as JSON.
    rust::String json(Value & v, const Place & place) {
        auto text = [&] {
            try {
                return compat::to_json(state, v, place.pos, out.config_context);
            } catch (const nlohmann::json::exception &) {
                // Nix's JSON library has refused a string; which one, it does not say.
                fail(place, "argument '" + place.path + "' of builtins." + builtin +
                                " has text in it that is not UTF-8, as all text in OCI's documents must be");
            }
        }();
        return utf8(text, place);
    }

    /// Whether Nix can make a string of a set: a derivation, or anything else that has these.
    bool stands_for_path(Value & v) {
        auto & attrs = compat::bindings(v);
        return std::any_of(attrs.begin(), attrs.end(), [&](auto & attr) {
            auto name = compat::name(state, attr);
            return name == "outPath" || name == "__toString";
        });
    }

    /// A store path: a derivation, a path (which is copied to the store), or a string that names one.
    rust::String store_path(Value & v, const Place & place) {
        state.forceValue(v, place.pos);
        auto type = v.type();
        if (type != nix::nString && type != nix::nPath && !(type == nix::nAttrs && stands_for_path(v)))
            wrong(v, place, "a derivation, a path or a string with a store path");
        auto path = compat::coerce(state, v, place.pos, out.context);
        if (path.empty())
            fail(place,
                 "argument '" + place.path + "' of builtins." + builtin + " is an empty string, not a store path");
        return utf8(path, place);
    }

    /// A list of store paths; a single one stands for itself.
    void store_paths(Value & v, const Place & place, rust::Vec<rust::String> & out) {
        state.forceValue(v, place.pos);
        if (v.type() != nix::nList) {
            out.push_back(store_path(v, place));
            return;
        }
        std::size_t index = 0;
        for (auto * element : compat::elements(v)) out.push_back(store_path(*element, place.at(index++)));
    }

    std::uint32_t index(Value & v, const Place & place) {
        auto number = integer(v, place);
        if (number < 0 || number > 1'000'000)
            fail(place, "argument '" + place.path + "' of builtins." + builtin +
                            " must be the place of an earlier layer, from 0 on, but it is " + std::to_string(number));
        return static_cast<std::uint32_t>(number);
    }

    std::uint32_t count(Value & v, const Place & place) {
        auto number = integer(v, place);
        if (number < 1 || number > 1'000'000)
            fail(place, "argument '" + place.path + "' of builtins." + builtin +
                            " must be a number from 1 to 1000000, but it is " + std::to_string(number));
        return static_cast<std::uint32_t>(number);
    }

    std::int64_t integer(Value & v, const Place & place) {
        expect(v, place, nix::nInt, "an integer");
        return compat::integer(state, v, place.pos);
    }

    template<class F>
    void list(Value & v, const Place & place, const char * of, F each) {
        state.forceValue(v, place.pos);
        if (v.type() != nix::nList) wrong(v, place, std::string("a list of ") + of);
        std::size_t index = 0;
        for (auto * element : compat::elements(v)) each(*element, place.at(index++));
    }

    void perm(Value & v, const Place & place, rust::Vec<Perm> & perms) {
        Perm perm{};
        set(v, place,
            {
                {"path", [&](auto & v, auto & place) { perm.path = store_path(v, place); }},
                {"regex", [&](auto & v, auto & place) { perm.regex = text(v, place); }},
                {"mode",
                 [&](auto & v, auto & place) {
                     expect(v, place, nix::nString, "a string of octal digits, as in \"0755\"");
                     perm.mode = text(v, place);
                 }},
                {"uid", [&](auto & v, auto & place) { perm.uid = integer(v, place); }},
                {"gid", [&](auto & v, auto & place) { perm.gid = integer(v, place); }},
                {"uname", [&](auto & v, auto & place) { perm.uname = text(v, place); }},
                {"gname", [&](auto & v, auto & place) { perm.gname = text(v, place); }},
            });
        if (perm.path.empty()) fail(place, "argument '" + place.path + "' of builtins." + builtin + " has no path");
        perms.push_back(std::move(perm));
    }

    /// A group, or a part of one, as JSON: what stands for a store path is its name. Which keys there are, and what they take,
    /// the packer knows.
    nlohmann::json group(Value & v, const Place & place, int depth = 0) {
        // A set may contain itself, as package sets do.
        if (depth > 100) fail(place, "argument '" + place.path + "' of builtins." + builtin + " is nested too deeply");
        state.forceValue(v, place.pos);
        switch (v.type()) {
        case nix::nNull:
            return nullptr;
        case nix::nBool:
            return compat::boolean(v);
        case nix::nInt:
            return compat::integer(state, v, place.pos);
        case nix::nString:
            return std::string(text(v, place));
        case nix::nPath:
            return std::string(store_path(v, place));
        case nix::nList: {
            auto parts = nlohmann::json::array();
            for (auto * element : compat::elements(v))
                parts.push_back(group(*element, place.at(parts.size()), depth + 1));
            return parts;
        }
        case nix::nAttrs: {
            if (stands_for_path(v)) return std::string(store_path(v, place));
            auto parts = nlohmann::json::object();
            for (auto & attr : compat::bindings(v)) {
                auto name = compat::name(state, attr);
                auto where = place.in(name, compat::position(attr));
                parts[std::string(utf8(name, where))] = group(*attr.value, where, depth + 1);
            }
            return parts;
        }
        default:
            wrong(v, place, "a store path, a predicate or a list of them");
        }
    }

    /// The fields that an image and a layer share.
    Fields shared(LayerRequest & layer) {
        return {
            {"copyToRoot", [&](auto & v, auto & place) { store_paths(v, place, layer.copy_to_root); }},
            {"maxLayers", [&](auto & v, auto & place) { layer.max_layers = count(v, place); }},
            {"strategy", [&](auto & v, auto & place) { layer.strategy = word(v, place); }},
            {"groups",
             [&](auto & v, auto & place) {
                 auto groups = nlohmann::json::array();
                 list(v, place, "groups", [&](auto & v, auto place) { groups.push_back(group(v, place)); });
                 layer.groups = groups.dump();
             }},
            {"perms",
             [&](auto & v, auto & place) {
                 list(v, place, "attribute sets", [&](auto & v, auto place) { perm(v, place, layer.perms); });
             }},
            {"parents",
             [&](auto & v, auto & place) {
                 layer.parents_given = true;
                 list(v, place, "places in the list of layers",
                      [&](auto & v, auto place) { layer.parents.push_back(index(v, place)); });
             }},
        };
    }

    void layer(Value & v, const Place & place) {
        LayerRequest layer{};
        layer.max_layers = 1;
        auto fields = shared(layer);
        fields.emplace_back("deps", [&](auto & v, auto & place) { store_paths(v, place, layer.deps); });
        fields.emplace_back("prebuilt", [&](auto & v, auto & place) { layer.prebuilt = store_path(v, place); });
        fields.emplace_back("ignore", [&](auto & v, auto & place) { store_paths(v, place, layer.ignore); });
        fields.emplace_back("lock", [&](auto & v, auto & place) {
            auto & lock = layer.lock;
            set(v, place,
                {
                    {"file", [&](auto & v, auto & place) { lock.file = store_path(v, place); }},
                    {"image", [&](auto & v, auto & place) { lock.image = word(v, place); }},
                });
            if (lock.file.empty() || lock.image.empty())
                fail(place, "argument '" + place.path + "' of builtins." + builtin + " needs a file and an image");
        });
        fields.emplace_back("metadata", [&](auto & v, auto & place) {
            layer.metadata.given = true;
            set(v, place,
                {
                    {"created", [&](auto & v, auto & place) { layer.metadata.created = word(v, place); }},
                    {"created_by", [&](auto & v, auto & place) { layer.metadata.created_by = plain(v, place); }},
                    {"author", [&](auto & v, auto & place) { layer.metadata.author = plain(v, place); }},
                    {"comment", [&](auto & v, auto & place) { layer.metadata.comment = plain(v, place); }},
                });
        });
        set(v, place, fields);
        out.request.layers.push_back(std::move(layer));
    }

    EvalState & state;
    Arguments & out;
    std::string builtin;
};

void Reader::image(Value & v, const Position & pos, const std::string & key) {
    auto & request = out.request;
    request.config = "{}";
    request.created = "0001-01-01T00:00:00Z";
    request.system = nix::settings.thisSystem.get();
    request.top.max_layers = 1;
    auto fields = shared(request.top);
    auto named = [&](const std::string & name, const Place & place) {
        out.name = name;
        out.canonical_name = std::string(checked(place, [&] { return canonical_name(out.name); }));
        request.name = out.name;
    };
    fields.emplace_back("name", [&](auto & v, auto & place) { named(word(v, place), place); });
    fields.emplace_back("tag", [&](auto & v, auto & place) {
        out.tag = word(v, place);
        checked(place, [&] { check_tag(out.tag); });
    });
    fields.emplace_back("config", [&](auto & v, auto & place) {
        expect(v, place, nix::nAttrs, "an attribute set");
        request.config = json(v, place);
    });
    fields.emplace_back("layers", [&](auto & v, auto & place) {
        list(v, place, "attribute sets", [&](auto & v, auto place) { layer(v, place); });
    });
    fields.emplace_back("fromImage", [&](auto & v, auto & place) { request.from_image = store_path(v, place); });
    fields.emplace_back("lock", [&](auto & v, auto & place) { request.lock = store_path(v, place); });
    fields.emplace_back("arch", [&](auto & v, auto & place) { request.arch = word(v, place); });
    fields.emplace_back("system", [&](auto & v, auto & place) { request.system = word(v, place); });
    fields.emplace_back("created", [&](auto & v, auto & place) { request.created = word(v, place); });
    fields.emplace_back("compression", [&](auto & v, auto & place) { request.compression = word(v, place); });
    fields.emplace_back("annotations", [&](auto & v, auto & place) {
        expect(v, place, nix::nAttrs, "an attribute set of strings");
        for (auto & attr : compat::bindings(v)) {
            auto name = compat::name(state, attr);
            auto where = place.in(name, compat::position(attr));
            request.annotations.push_back({utf8(name, where), plain(*attr.value, where)});
        }
    });
    fields.emplace_back("inheritConfig", [&](auto & v, auto & place) {
        expect(v, place, nix::nBool, "true or false");
        request.inherit_config = compat::boolean(v);
    });
    fields.emplace_back("anyPlatform", [&](auto & v, auto & place) {
        expect(v, place, nix::nBool, "true or false");
        request.any_platform = compat::boolean(v);
    });
    fields.emplace_back("healthcheck", [&](auto & v, auto & place) {
        expect(v, place, nix::nAttrs, "an attribute set");
        request.healthcheck = json(v, place);
    });
    fields.emplace_back("nixDatabase", [&](auto & v, auto & place) {
        auto & database = request.nix_database;
        set(v, place,
            {
                {"path", [&](auto & v, auto & place) { database.path = store_path(v, place); }},
                {"uid", [&](auto & v, auto & place) { database.uid = integer(v, place); }},
                {"gid", [&](auto & v, auto & place) { database.gid = integer(v, place); }},
            });
        if (database.path.empty()) fail(place, "argument '" + place.path + "' of builtins." + builtin + " has no path");
    });
    fields.emplace_back("layerLimit", [&](auto & v, auto & place) { request.layer_limit = count(v, place); });
    Place place{key, pos};
    set(v, place, fields);
    if (out.name.empty() && !key.empty()) named(key, place);
    if (out.name.empty()) fail(place, "builtins." + builtin + " needs a name, as in name = \"hello\"");
    out.context.insert(out.config_context.begin(), out.config_context.end());
}

}

Arguments read_arguments(EvalState & state, Value & v, const Position & pos, const std::string & builtin,
                         const std::string & key) {
    Arguments out{};
    Reader(state, out, builtin).image(v, pos, key);
    return out;
}

void rewrite(Arguments & arguments, const nix::StringMap & rewrites) {
    if (rewrites.empty()) return;
    auto one = [&](rust::String & text) { text = nix::rewriteStrings(std::string(text), rewrites); };
    auto all = [&](rust::Vec<rust::String> & texts) {
        for (auto & text : texts) one(text);
    };
    auto layer = [&](LayerRequest & layer) {
        for (auto * paths : {&layer.deps, &layer.copy_to_root, &layer.ignore}) all(*paths);
        one(layer.groups);
        one(layer.lock.file);
        one(layer.prebuilt);
        for (auto & perm : layer.perms)
            for (auto * text : {&perm.path, &perm.regex, &perm.uname, &perm.gname}) one(*text);
    };
    one(arguments.request.config);
    one(arguments.request.healthcheck);
    one(arguments.request.from_image);
    one(arguments.request.lock);
    one(arguments.request.nix_database.path);
    layer(arguments.request.top);
    for (auto & below : arguments.request.layers) layer(below);
}

}
