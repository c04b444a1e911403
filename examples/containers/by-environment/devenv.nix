{ pkgs, config, lib, ... }:

{
  packages = [ pkgs.openssl ]
    ++ lib.optionals (!config.container.isBuilding) [ pkgs.git ]
    ++ lib.optionals (!config.containers."processes".isBuilding) [ pkgs.jq ];

  processes.versions.exec = "openssl version";
}
