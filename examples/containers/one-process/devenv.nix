# A container with one of the project's processes as its startup command.
{ config, ... }:

{
  languages.python.enable = true;

  processes.serve.exec = "python -m http.server";

  containers."serve".name = "myapp";
  containers."serve".startupCommand = config.processes.serve.exec;
}
