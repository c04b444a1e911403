# Loads modules of all forms (paths, functions, sets with or without `config`) and their imports. Returns sets of one form, with
# `_file`, `key`, `imports`, `options` and `config`.
{ lib }:
let
  inherit (builtins)
    addErrorContext attrNames concatMap elem filter genericClosure head isAttrs isList isString mapAttrs removeAttrs
    substring
    ;
  inherit (lib) functionArgs imap1 isFunction mkMerge showDefs unknownModule;

  # Calls a module function. Arguments that the evaluation does not pass come from the option `_module.args`, lazily, so that
  # modules can define them.
  call =
    key: module: args:
    module (
      args
      // mapAttrs (
        name: _:
        addErrorContext "while evaluating the module argument `${name}' in \"${key}\":" (
          args.${name} or (addErrorContext
            "noting that argument `${name}` is not externally provided, so querying `_module.args` instead, requiring `config`"
            args.config._module.args.${name}
          )
        )
      ) (functionArgs module)
    );

  # A module with `config` or `options` may have only known attributes. Without both, a module's attributes are its config.
  canonical =
    file: key: module:
    let
      full = module ? config || module ? options;
      own = [ "_class" "_file" "key" "disabledModules" "imports" "freeformType" ];
      rest = removeAttrs module own;
      other = attrNames (removeAttrs rest [ "options" "config" "meta" ]);
      config =
        if !full then
          removeAttrs rest [ "require" ]
        else if module ? meta then
          mkMerge [ (module.config or { }) { inherit (module) meta; } ]
        else
          module.config or { };
    in
    if !isAttrs module then
      throw "module ${file} (${key}) does not look like a module."
    else if full && other != [ ] then
      throw "Module `${key}' has an unsupported attribute `${head other}'. This is caused by introducing a top-level `config' or `options' attribute. Add configuration attributes immediately on the top level instead, or move all of them (namely: ${toString other}) into the explicit `config' attribute."
    else
      {
        _file = toString (module._file or file);
        key = toString (module.key or key);
        disabledModules = module.disabledModules or [ ];
        imports = (if full then [ ] else module.require or [ ]) ++ module.imports or [ ];
        options = if full then module.options or { } else { };
        config =
          if module ? freeformType then
            mkMerge [ config { _module = { inherit (module) freeformType; }; } ]
          else
            config;
      };

  load =
    args: file: key: module:
    let
      kind = module._type or "module";
      imported = import module;
    in
    if isFunction module then
      canonical file key (call key module args)
    else if isAttrs module then
      if kind == "module" then
        canonical file key module
      else if kind == "if" || kind == "override" then
        load args file key { config = module; }
      else
        throw "Expected a module, but found a value of type ${builtins.toJSON kind}${
          if file == unknownModule then "" else ", while trying to load a module into ${toString file}"
        }."
    else if isList module then
      throw "Module imports can't be nested lists. Perhaps you meant to remove one level of lists? Definitions: ${
        showDefs [ { inherit file; value = module; } ]
      }"
    else
      canonical (toString module) (toString module) (
        if isFunction imported then call (toString module) imported args else imported
      );

  # The key of an element of `disabledModules`.
  keyOf =
    modulesPath: file: module:
    if isString module then
      if substring 0 1 module == "/" then module else "${toString modulesPath}/${module}"
    else if module ? key then
      module.key
    else if lib.isConvertibleWithToString module then
      toString module
    else
      throw "Module `${file}` contains a disabledModules item that is an attribute set, presumably a module, that does not have a `key` attribute.";
in
{
  # Returns all modules, each key once. Imported modules follow the modules that import them.
  loadAll =
    modulesPath: modules: args:
    let
      nodes =
        file: key:
        imap1 (
          at: written:
          let
            module = load args file "${key}:anon-${toString at}" written;
            children = nodes module._file module.key module.imports;
          in
          {
            inherit (module) key;
            inherit module children;
            disabled = map (keyOf modulesPath module._file) module.disabledModules ++ disabledIn children;
          }
        );
      disabledIn = concatMap (node: node.disabled);
      roots = nodes unknownModule "" modules;
      disabled = disabledIn roots;
      enabled = filter (node: !elem node.key disabled);
    in
    map (node: node.module) (genericClosure {
      startSet = enabled roots;
      operator = node: enabled node.children;
    });
}
