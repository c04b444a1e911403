# A stand-in of devenv: the options that its containers module takes from its others, and a containers module to be put out
# of its place. To be used as the input `devenv` of a flake.
{
  outputs = { self }: { modules = ./.; };
}
