# nixpkgs' module system: `evalModules`, with its names, values and messages.
#
# load-modules.nix loads all modules as sets of one form. `joinTree` joins their declarations to one tree and assigns the
# definitions to the options. An option's value results from its definitions by conditions, priorities and order
# (properties.nix), and then by its type's merge (types.nix).
{ lib }:
let
  inherit (builtins)
    addErrorContext all attrNames concatLists concatMap filter foldl' head isAttrs length mapAttrs removeAttrs seq
    typeOf unsafeGetAttrPos zipAttrsWith
    ;
  inherit (lib)
    attrByPath init isOption last mergeDefinitions mkIf mkOption mkOptionDefault optional optionalAttrs
    pushDownProperties recursiveUpdate reverseList setAttrByPath showDefs showFiles showOption sortOn take types
    ;

  # Adds the value to an option.
  evalOptionValue =
    loc: option: definitions:
    let
      given =
        optional (option ? default) { file = head option.declarations; value = mkOptionDefault option.default; }
        ++ definitions;
      merged =
        if option.readOnly or false && length given > 1 then
          throw "The option `${showOption loc}' is read-only, but it's set multiple times. Definition values:${
            showDefs (
              map (
                definition: definition // { value = (mergeDefinitions loc option.type [ definition ]).mergedValue; }
              ) given
            )
          }"
        else
          mergeDefinitions loc option.type given;
    in
    option
    // {
      value = addErrorContext "while evaluating the option `${showOption loc}':" (
        (option.apply or (value: value)) merged.mergedValue
      );
      inherit (merged) highestPrio isDefined;
      definitions = map (definition: definition.value) merged.defsFinal;
      files = map (definition: definition.file) merged.defsFinal;
      definitionsWithLocations = merged.defsFinal;
      __toString = _: showOption loc;
    };

  # Joins several declarations to one. Types may be joined, such as the options of submodules; other attributes must be unique.
  mergeOptionDecls =
    loc:
    foldl'
      (
        known: declaration:
        let
          new = declaration.options;
          twice = throw "The option `${showOption loc}' in `${declaration._file}' is already declared in ${showFiles known.declarations}.";
          both = name: known ? ${name} && new ? ${name};
          joined = known.type.typeMerge new.type.functor;
          position = declaration.pos or null;
          modules = new.type.getSubModules or null;
        in
        if lib.any both [ "default" "example" "description" "apply" ] then
          twice
        else
          new
          // known
          // {
            declarations = known.declarations ++ [ declaration._file ];
            declarationPositions = known.declarationPositions ++ [
              (if position == null then { file = declaration._file; line = null; column = null; } else position)
            ];
            # Messages about a submodule name its file.
            options =
              (if modules == null then [ ] else map (setDefaultModuleLocation declaration._file) modules)
              ++ known.options;
          }
          // optionalAttrs (both "type") { type = if joined == null then twice else joined; }
      )
      {
        inherit loc;
        declarations = [ ];
        declarationPositions = [ ];
        options = [ ];
      };

  fixupOptionType =
    loc: option:
    if option.type.getSubModules or null == null then
      option // { type = option.type or types.unspecified; }
    else
      option // { type = option.type.substSubModules option.options; options = [ ]; };

  # Returns the options below `loc` with their values, and the definitions without an option.
  joinTree =
    loc: declarations: definitions:
    let
      declared = zipAttrsWith (_: found: found) (
        map (
          { _file, options, ... }:
          if isAttrs options then
            mapAttrs (name: inner: { inherit _file; options = inner; pos = unsafeGetAttrPos name options; }) options
          else
            throw ''
              An option declaration for `${showPath loc}' has type
              `${typeOf options}' rather than an attribute set.
              Did you mean to define this outside of `options'?
            ''
        ) declarations
      );
      defined = zipAttrsWith (_: found: found) (
        map (
          { file, value, ... }:
          if isAttrs value then
            mapAttrs (_: inner: { inherit file; value = inner; }) value
          else
            throw ''
              In module `${file}', you're trying to define a value of type `${typeOf value}'
              rather than an attribute set for the option
              `${showPath loc}'!

              This usually happens if `${showPath loc}' has option
              definitions inside that are not matched. Please check how to properly define
              this option by e.g. referring to `man 5 configuration.nix'!
            ''
        ) definitions
      );
      isDeclaration =
        at: { _file, options, ... }:
        options ? _type
        && (
          options._type == "option"
          || throw "In module ${_file}: expected an option declaration at option path `${showOption at}` but got an attribute set with type ${options._type}${
            if options._type == "option-type" then
              "\n\nWhen declaring an option, you must wrap the type in a `mkOption` call."
            else
              ""
          }"
        );
      results = mapAttrs (
        name: found:
        let
          at = loc ++ [ name ];
          own = defined.${name} or [ ];
          here = filter (isDeclaration at) found;
          asOption = option: { options = evalOptionValue at (fixupOptionType at option) own; unmatched = [ ]; };
          below = filter (declaration: !isOption declaration.options) found;
        in
        if length here == length found then
          asOption (mergeOptionDecls at found)
        else if here == [ ] then
          joinTree at found (
            concatMap ({ file, value }: map (inner: { inherit file; value = inner; }) (pushDownProperties value)) own
          )
        else if all (declaration: declaration.options.type.name or null == "submodule") here then
          # Options below a submodule's option belong to the submodule.
          asOption (
            mergeOptionDecls at (
              map (
                declaration:
                if isOption declaration.options then
                  declaration
                else
                  declaration
                  // {
                    options = mkOption {
                      type = types.submoduleWith {
                        modules = [ { inherit (declaration) options; } ];
                        shorthandOnlyDefinesConfig = null;
                      };
                    };
                  }
              ) found
            )
          )
        else
          throw "The option `${showOption at}' in module `${(head here)._file}' would be a parent of the following options, but its type `${
            (head here).options.type.description or "<no description>"
          }' does not support nested options.\n${
            lib.concatMapStringsSep "\n" (
              { _file, options, ... }:
              lib.concatMapStringsSep "\n" (
                name: " - option(s) with prefix `${showOption (at ++ [ name ])}' in module `${_file}'"
              ) (attrNames options)
            ) below
          }"
      ) declared;
    in
    {
      options = mapAttrs (_: result: result.options) results;
      # If there are no definitions, the options below are not evaluated.
      unmatched =
        if definitions == [ ] then
          [ ]
        else
          concatLists (
            lib.mapAttrsToList (
              name: map (definition: definition // { prefix = [ name ] ++ definition.prefix or [ ]; })
            ) (mapAttrs (_: result: result.unmatched) results // removeAttrs defined (attrNames results))
          );
    };
  showPath = lib.concatStringsSep ".";

  setDefaultModuleLocation = file: module: { _file = file; imports = [ module ]; };

  inherit (import ./load-modules.nix { inherit lib; }) loadAll;

  # Fails because an option does not exist, and suggests similar names.
  undeclared =
    prefix: options: definition:
    let
      parent = init (prefix ++ definition.prefix);
      siblings = attrNames (attrByPath (init definition.prefix) { } options);
      distance = lib.levenshtein (last definition.prefix);
      candidates = filter (name: definition.prefix != [ (last definition.prefix) ] || name != "_module") siblings;
      near = if length candidates < 100 then candidates else filter (name: distance name <= 2) candidates;
      meant = map (name: "`${showOption (parent ++ [ name ])}'") (take 3 (sortOn distance near));
      message = "The option `${showOption (prefix ++ definition.prefix)}' does not exist. Definition values:${
        addErrorContext "while evaluating a definition from `${definition.file}'" (showDefs [ definition ])
      }${
        if meant == [ ] then
          ""
        else if length meant == 1 then
          "\n\nDid you mean ${head meant}?"
        else
          "\n\nDid you mean ${lib.concatStringsSep ", " (init meant)} or ${last meant}?"
      }";
    in
    if attrNames options != [ "_module" ] then
      throw message
    else if prefix == [ ] then
      throw ''
        ${message}

        It seems as if you're trying to declare an option by placing it into `config' rather than `options'!
      ''
    else
      throw ''
        ${message}

        However there are no options defined in `${showOption prefix}'. Are you sure you've
        declared your options properly? This can happen if you e.g. declared your options in `types.submodule'
        under `config' rather than `options'.
      '';

  # The module that every evaluation includes.
  core =
    { prefix, specialArgs, extendModules, type }:
    {
      _file = "lib/modules.nix";
      key = "lib/modules.nix";
      options._module = {
        args = mkOption (
          {
            type = types.lazyAttrsOf types.raw;
            description = "Additional arguments passed to each module, but not to the modules of submodules.";
          }
          // optionalAttrs (prefix != [ ]) { internal = true; }
        );
        check = mkOption {
          type = types.bool;
          internal = true;
          default = true;
          description = "Whether to check whether all option definitions have matching declarations.";
        };
        freeformType = mkOption {
          type = types.nullOr types.optionType;
          internal = true;
          default = null;
          description = "If set, the type that merges all definitions that have no option.";
        };
        specialArgs = mkOption {
          readOnly = true;
          internal = true;
          description = "Arguments of modules that no module defines, so that imports may use them.";
        };
      };
      config._module = {
        args = { inherit extendModules; moduleType = type; };
        inherit specialArgs;
      };
    };

  evalModules =
    evaluation@{ modules, specialArgs ? { }, prefix ? [ ], class ? null }:
    let
      loaded =
        loadAll (specialArgs.modulesPath or "")
          (modules ++ [ (core { inherit prefix specialArgs extendModules type; }) ])
          (
            {
              inherit lib options specialArgs;
              _class = class;
              _prefix = prefix;
              config = addErrorContext "if you get an infinite recursion here, you probably reference `config` in `imports`. If you are trying to achieve a conditional import behavior dependent on `config`, consider importing unconditionally, and using `mkEnableOption` and `mkIf` to control its effect." config;
            }
            // specialArgs
          );
      # Definitions of imported modules precede a module's own.
      declarations = reverseList loaded;
      tree = joinTree prefix declarations (
        concatMap (
          module: map (value: { file = module._file; inherit value; }) (pushDownProperties module.config)
        ) declarations
      );
      inherit (tree) options;
      values = mapAttrs (_: option: if isOption option then option.value else values option);
      declared = values options;
      inherit (declared._module) freeformType;
      config =
        if freeformType == null || tree.unmatched == [ ] then
          declared
        else
          recursiveUpdate (freeformType.merge prefix (
            map (definition: {
              inherit (definition) file;
              value = setAttrByPath definition.prefix definition.value;
            }) tree.unmatched
          )) declared;
      checked = seq (
        if declared._module.check && freeformType == null && tree.unmatched != [ ] then
          undeclared prefix options (head tree.unmatched)
        else
          null
      );
      extendModules =
        extension:
        evalModules (
          evaluation
          // {
            modules = modules ++ extension.modules or [ ];
            specialArgs = specialArgs // extension.specialArgs or { };
            prefix = extension.prefix or prefix;
          }
        );
      type = types.submoduleWith { inherit modules specialArgs class; };
    in
    {
      _type = "configuration";
      options = checked options;
      config = checked (removeAttrs config [ "_module" ]);
      _module = checked config._module;
      inherit extendModules type class;
    };

in
{
  inherit evalModules evalOptionValue fixupOptionType mergeOptionDecls setDefaultModuleLocation;
}
