# A stand-in for devenv: the options that its containers module uses from others, and a containers module that
# nixply's module replaces. Use it as the input `devenv` of a flake.
{
  outputs = { self }: { modules = ./.; };
}
