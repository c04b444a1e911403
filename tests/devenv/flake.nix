# A stand-in for devenv, to use as the input `devenv` of a flake: the options that its containers module reads from other modules,
# and a containers module for nixply's module to replace.
{
  outputs = { self }: { modules = ./.; };
}
