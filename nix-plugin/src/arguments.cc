#include "arguments.hh"

#include <algorithm>

namespace nixply {

namespace {

using compat::Position;
using nix::EvalState;
using nix::Value;
using nlohmann::json;

/// The deepest nesting of a value. A set may contain itself, as package sets do.
constexpr int max_depth = 100;

/// A place in a request, its position, and the packer's schema of it.
struct Place {
    std::string path;
    Position pos;
    rust::Box<Argument> argument;
    int depth = 0;

    Place key(const std::string & name, const Position & pos) const {
        return {path.empty() ? name : path + "." + name, pos, argument->key(name), depth + 1};
    }
    Place element(std::size_t index) const {
        return {path + "[" + std::to_string(index) + "]", pos, argument->element(), depth + 1};
    }
};

/// Converts a Nix value to JSON. It follows the packer's schema only to avoid evaluating values that the packer would refuse: a set
/// where the schema allows none becomes an empty object, and the value of an unknown key becomes `true`. The packer then reports
/// the error.
class Reader {
public:
    Reader(EvalState & state, Arguments & out, std::string builtin)
        : state(state), out(out), builtin(std::move(builtin)) {}

    json read(Value & v, const Place & place) {
        if (place.depth > max_depth) fail(place, "is nested too deeply");
        out.places.add(place.path, place.pos);
        state.forceValue(v, place.pos);
        switch (v.type()) {
        case nix::nNull:
            return nullptr;
        case nix::nBool:
            return compat::boolean(v);
        case nix::nInt:
            return compat::integer(state, v, place.pos);
        case nix::nFloat:
            return compat::number(state, v, place.pos);
        case nix::nString:
        case nix::nPath:
            return text(v, place);
        case nix::nList:
            return list(v, place);
        case nix::nAttrs:
            if (stands_for_text(v)) return text(v, place);
            return object(v, place);
        default:
            fail(place, "cannot be " + std::string(nix::showType(v)));
        }
    }

private:
    [[noreturn]] void fail(const Place & place, const std::string & text) {
        auto what = place.path.empty() ? std::string("the argument of ") : "argument '" + place.path + "' of ";
        compat::fail(state, place.pos, what + "builtins." + builtin + " " + text);
    }

    /// Returns the text, or throws an error if it is not UTF-8, which Rust strings must be.
    std::string utf8(std::string text, const Place & place) {
        try {
            rust::String checked(text);
        } catch (const std::invalid_argument &) {
            fail(place, "is not UTF-8, as all text in OCI documents must be");
        }
        return text;
    }

    /// Reads a string, or a value that Nix converts to one: a path, which it copies to the store, or a derivation.
    std::string text(Value & v, const Place & place) {
        compat::Context context;
        auto text = utf8(compat::coerce(state, v, place.pos, context), place);
        if (!context.empty() && place.argument->names_nothing()) fail(place, "must not refer to a store path");
        auto & into = place.argument->is_config() ? out.config_context : out.context;
        into.insert(context.begin(), context.end());
        return text;
    }

    json list(Value & v, const Place & place) {
        auto out = json::array();
        if (!place.argument->takes_list()) return out;
        for (auto * element : compat::elements(v)) out.push_back(read(*element, place.element(out.size())));
        return out;
    }

    json object(Value & v, const Place & place) {
        auto object = json::object();
        if (!place.argument->takes_object()) return object;
        for (auto & attr : compat::bindings(v)) {
            auto name = utf8(compat::name(state, attr), place);
            auto value = place.key(name, compat::position(attr));
            if (place.argument->has_key(name))
                object[name] = read(*attr.value, value);
            else {
                object[name] = true;
                out.places.add(value.path, value.pos);
            }
        }
        return object;
    }

    /// Whether Nix converts a set to a string: a derivation, or anything else with these attributes.
    bool stands_for_text(Value & v) {
        auto & attrs = compat::bindings(v);
        return std::any_of(attrs.begin(), attrs.end(), [&](auto & attr) {
            auto name = compat::name(state, attr);
            return name == "outPath" || name == "__toString";
        });
    }

    EvalState & state;
    Arguments & out;
    std::string builtin;
};

}

Position Places::of(const std::string & message, const Position & call) const {
    const std::string * longest = nullptr;
    auto pos = call;
    for (auto & [place, position] : positions) {
        if (place.empty() || message.compare(0, place.size(), place) != 0) continue;
        // The place ends here: `groups[1]` is not the place of `groups[10]`, nor `config` that of `configRoots`.
        if (message.size() > place.size() && (std::isalnum(static_cast<unsigned char>(message[place.size()]))))
            continue;
        if (longest && longest->size() >= place.size()) continue;
        longest = &place;
        pos = position;
    }
    // "layers[1] cannot have the key `dep`": the key itself has a position.
    static const std::string unknown = " cannot have the key `";
    auto prefix = longest ? *longest : std::string();
    if (message.compare(prefix.size(), unknown.size(), unknown) == 0) {
        auto begin = prefix.size() + unknown.size();
        auto key = message.substr(begin, message.find('`', begin) - begin);
        auto found = positions.find(prefix.empty() ? key : prefix + "." + key);
        if (found != positions.end()) pos = found->second;
    }
    return pos;
}

Arguments read_arguments(EvalState & state, Value & v, const Position & pos, const std::string & builtin,
                         const std::string & key, RequestKind kind) {
    Arguments out{};
    out.kind = kind;
    state.forceValue(v, pos);
    if (v.type() != nix::nAttrs)
        compat::fail(state, pos,
                     "the argument of builtins." + builtin + " must be an attribute set, but it is " +
                         nix::showType(v));
    auto & request = out.request = Reader(state, out, builtin).read(v, Place{"", pos, request_argument(kind)});
    if (!request.is_object()) request = json::object();
    auto is_absent = [&](const char * name) { return !request.contains(name) || request[name].is_null(); };
    if (is_absent("name") && key.empty())
        compat::fail(state, pos, "builtins." + builtin + " needs a name, as in name = \"hello\"");
    if (is_absent("name")) {
        request["name"] = key;
        out.places.add("name", pos);
    }
    if (is_absent("tag")) request.erase("tag");
    if (kind == RequestKind::Image && is_absent("arch") && is_absent("system"))
        request["system"] = nix::settings.thisSystem.get();
    auto document = "builtins." + builtin;
    try {
        check_request(kind, request.dump(), document);
    } catch (const rust::Error & error) {
        std::string why = error.what();
        auto rest = why.substr(std::min(document.size(), why.size()));
        if (rest.compare(0, 2, ": ") == 0) rest.erase(0, 2);
        compat::fail(state, out.places.of(rest, pos), why);
    }
    out.context.insert(out.config_context.begin(), out.config_context.end());
    return out;
}

}
