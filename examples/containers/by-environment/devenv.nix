# Packages for the shell only: `isBuilding` leaves git out of every container, and jq out of one.
{ pkgs, config, lib, ... }:

{
  packages = [ pkgs.openssl ]
    ++ lib.optionals (!config.container.isBuilding) [ pkgs.git ]
    ++ lib.optionals (!config.containers."processes".isBuilding) [ pkgs.jq ];

  processes.versions.exec = "openssl version";
}
