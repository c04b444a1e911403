#pragma once

// All differences between Nix versions, for Nix 2.8 and 2.24 to the newest, by feature detection. No other file of the plugin
// depends on the version.

#include <nlohmann/json.hpp>

#if __has_include("nix/expr/primops.hh") // 2.28 and later: headers in directories
#  include "nix/expr/eval.hh"
#  include "nix/expr/eval-inline.hh"
#  include "nix/expr/json-to-value.hh"
#  include "nix/expr/primops.hh"
#  include "nix/expr/value-to-json.hh"
#  include "nix/main/shared.hh"
#  include "nix/store/builtins.hh"
#  include "nix/store/derivations.hh"
#  include "nix/store/globals.hh"
#  include "nix/store/local-fs-store.hh"
#  include "nix/store/store-api.hh"
#  include "nix/util/config-global.hh"
#  include "nix/util/file-system.hh"
#  include "nix/util/logging.hh"
#  include "nix/util/serialise.hh"
#  include "nix/util/signals.hh"
#else // before 2.28: all headers in one directory
#  if __has_include("config-expr.hh")
#    include "config-util.hh"
#    include "config-store.hh"
#    include "config-expr.hh"
#  elif __has_include("config.h")
#    include "config.h"
#  else // 2.8 does not install config.h; these of its macros change the meaning of the headers
#    define HAVE_BOEHMGC 1
#    define HAVE_STRUCT_DIRENT_D_TYPE 1
#    define SYSTEM NIXPLY_SYSTEM
#  endif
#  include "eval.hh"
#  include "eval-inline.hh"
#  include "json-to-value.hh"
#  include "primops.hh"
#  include "value-to-json.hh"
#  include "shared.hh"
#  include "builtins.hh"
#  include "derivations.hh"
#  include "globals.hh"
#  include "local-fs-store.hh"
#  include "store-api.hh"
#  include "logging.hh"
#  include "serialise.hh"
#  if __has_include("config-global.hh")
#    include "config-global.hh"
#    include "file-system.hh"
#    include "signals.hh"
#  else
#    define NIXPLY_PATH_SETS 1 // contexts are sets of strings, positions are structs: 2.8
#    include "config.hh"
#    include "util.hh"
#  endif
#endif

namespace nix {
// In 2.29 and later. Declared here so that feature detection compiles with other versions.
struct RegisterBuiltinBuilder;
struct BuiltinBuilderContext;
}

namespace nixply::compat {

using namespace nix;

#ifdef NIXPLY_PATH_SETS
using Context = PathSet;
using Position = Pos;
using PrimOpInfo = RegisterPrimOp::Info;
inline Position position(const Attr & attr) { return *attr.pos; }
inline std::string name(EvalState &, const Attr & attr) { return attr.name; }
inline Bindings & bindings(Value & v) { return *v.attrs; }
#else
using Context = NixStringContext;
using Position = PosIdx;
using PrimOpInfo = PrimOp;
inline Position position(const Attr & attr) { return attr.pos; }
inline std::string name(EvalState & state, const Attr & attr) { return std::string(state.symbols[attr.name]); }
inline const Bindings & bindings(Value & v) { return *v.attrs(); }
#endif

/// The position of a builtin's call, from a position or a wrapper of one.
template<class P>
const Position & called_at(const P & pos) {
    if constexpr (requires { pos.pos; }) // 2.36: CallSite
        return pos.pos;
    else
        return pos;
}

/// Registers a builtin. `f` takes (EvalState &, auto pos, auto args, Value &), which fits the PrimOpFun of every version.
template<class P = PrimOpInfo, class F>
void register_primop(std::string name, std::vector<std::string> args, const char * doc, F f) {
    if constexpr (requires { &P::impl; }) // 2.34
        static RegisterPrimOp registered(P{.name = name, .args = args, .doc = doc, .impl = f});
    else
        static RegisterPrimOp registered(P{.name = name, .args = args, .doc = doc, .fun = f});
}

/// Registers a builtin builder if this Nix has builtin builders. Returns whether it has.
template<class R = RegisterBuiltinBuilder, class F>
bool register_builder(const char * name, F f) {
    if constexpr (requires { sizeof(R); }) {
        static R registered(name, f);
        return true;
    }
    return false;
}

/// Throws an error at a position. The default, `EvalError`, is for errors of the expression; the evaluation cache of flakes
/// remembers it.
template<class E = EvalError>
[[noreturn]] void fail(EvalState & state, const Position & pos, const std::string & text) {
#ifdef NIXPLY_PATH_SETS
    (void)state;
    throw E({.msg = hintfmt("%s", text), .errPos = pos});
#else
    state.error<E>("%s", text).atPos(pos).debugThrow();
#endif
}

/// Like `fail`, for errors that may be gone at the next try (the store, the disk, a setting), so that the evaluation cache does
/// not remember them.
[[noreturn]] inline void fail_now(EvalState & state, const Position & pos, const std::string & text) {
#ifdef NIXPLY_PATH_SETS
    fail<Error>(state, pos, text);
#else
    fail<EvalBaseError>(state, pos, text);
#endif
}

template<class V = Value>
std::vector<Value *> elements(V & v) {
    std::vector<Value *> out;
    if constexpr (requires { v.listView(); }) // 2.30
        for (auto * element : v.listView()) out.push_back(element);
    else
        for (auto * element : v.listItems()) out.push_back(element);
    return out;
}

/// The boolean in a forced value.
template<class V = Value>
bool boolean(V & v) {
    if constexpr (requires { v.boolean(); })
        return v.boolean();
    else
        return v.boolean;
}

template<class S = EvalState>
std::int64_t integer(S & state, Value & v, const Position & pos) {
    if constexpr (requires { state.forceInt(v, pos, "").value; }) // 2.25: overflow is checked
        return state.forceInt(v, pos, "").value;
    else if constexpr (requires { state.forceInt(v, pos, ""); })
        return state.forceInt(v, pos, "");
    else
        return state.forceInt(v, pos);
}

template<class S = EvalState>
double number(S & state, Value & v, const Position & pos) {
    if constexpr (requires { state.forceFloat(v, pos, ""); })
        return state.forceFloat(v, pos, "");
    else
        return state.forceFloat(v, pos);
}

/// Converts a string, path or derivation to a string. Copies a path to the store.
template<class S = EvalState>
std::string coerce(S & state, Value & v, const Position & pos, Context & context) {
    if constexpr (requires { state.coerceToString(pos, v, context, std::string_view()); })
        return std::string(*state.coerceToString(pos, v, context, "", false, true));
    else
        return std::string(*state.coerceToString(pos, v, context, false, true));
}

struct Realised {
    /// Placeholders of unbuilt outputs, with the store paths that replace them.
    StringMap rewrites;
    StorePathSet paths;
};

/// Builds or fetches all store paths of the context at once.
template<class S = EvalState>
Realised realise(S & state, const Context & context) {
    Realised out;
    if constexpr (requires { state.realiseContext(context, &out.paths, true); }) // 2.22
        out.rewrites = state.realiseContext(context, &out.paths, true);
    else {
        out.rewrites = state.realiseContext(context);
        for (auto & element : context) {
            auto [path, output] = decodeContext(*state.store, element);
            if (!output.empty())
                out.paths.insert(state.store->queryDerivationOutputMap(path).at(output));
            else
                out.paths.insert(path);
        }
    }
    return out;
}

/// The store's URI for messages.
template<class S = Store>
std::string uri(S & store) {
    if constexpr (requires { store.config.getHumanReadableURI(); }) // 2.31
        return store.config.getHumanReadableURI();
    else
        return store.getUri();
}

/// The directory of the store's files on this machine. None for a store without local files.
template<class L = LocalFSStore>
std::optional<std::string> real_store_dir(Store & store) {
    auto * local = dynamic_cast<L *>(&store);
    if (!local) return std::nullopt;
    return std::filesystem::path(local->getRealStoreDir()).string(); // 2.35: a path
}

template<class H = Hash>
std::string sri(const H & hash) {
#ifdef NIXPLY_PATH_SETS
    return hash.to_string(SRI, true);
#else
    return hash.to_string(HashFormat::SRI, true);
#endif
}

/// Adds a text file with references to the store.
template<class S = Store>
StorePath add_text(S & store, const std::string & name, const std::string & text, const StorePathSet & references) {
#ifdef NIXPLY_PATH_SETS
    return store.addTextToStore(name, text, references, NoRepair);
#else
    StringSource source(text);
    return store.addToStoreFromDump(source, name, FileSerialisationMethod::Flat, ContentAddressMethod::Raw::Text,
                                    HashAlgorithm::SHA256, references, NoRepair);
#endif
}

/// A store path as a string whose context is the path itself.
inline void set_store_path(EvalState & state, const StorePath & path, Value & v) {
    state.allowAndSetStorePathString(path, v);
}

/// Evaluates an expression that needs no files.
template<class S = EvalState>
void eval(S & state, const std::string & text, Value & v) {
    if constexpr (requires { state.rootPath(std::string_view("/")); })
        state.eval(state.parseExprFromString(text, state.rootPath(std::string_view("/"))), v);
    else
        state.eval(state.parseExprFromString(text, "/"), v);
}

}
