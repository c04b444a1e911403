# /etc of a container: its two users (root and the unprivileged user), and the PAM and login files for su and sudo.
{
  pkgs,
  # The unprivileged user: name, id (also its group's id), home.
  user,
}:

pkgs.runCommandLocal "container-etc"
  {
    inherit (user) name home;
    id = toString user.id;
    shell = "${pkgs.bashInteractive}/bin/bash";
  }
  ''
    mkdir -p $out/etc/pam.d
    cd $out/etc
    printf '%s\n' "root:x:0:0:System administrator:/root:$shell" "$name:x:$id:$id::$home:$shell" > passwd
    # Passwords that nothing matches.
    printf '%s\n' 'root:!x:::::::' "$name:!x:::::::" > shadow
    printf '%s\n' 'root:x:0:' "$name:x:$id:" > group
    printf '%s\n' \
      'account sufficient pam_unix.so' \
      'auth sufficient pam_rootok.so' \
      'password requisite pam_unix.so nullok sha512' \
      'session required pam_unix.so' > pam.d/other
    touch login.defs
  ''
