//! The entrypoint of containers: the environment and the arguments of a command.

use nixply_tests::{Nix, harness};

/// Several arguments are a program and its arguments; a single argument is shell code. The exit code is the
/// command's in both cases.
#[test]
fn arguments_reach_the_program_unchanged() {
    let nix = harness!();
    let entrypoint = nix.build(&format!(
        r#"import {}/nix/modules/containers/entrypoint.nix {{
             inherit pkgs;
             enter = pkgs.writeText "enter" ''
               export GREETING="good  morning" PS1="prompt> " PATH=/bin:/usr/bin
               greet() {{ echo "$GREETING, $1"; }}; export -f greet
               set -- of the hook
             '';
           }}"#,
        Nix::repository().display()
    ));
    let said = |arguments: &[&str]| {
        let said = nixply_tests::run(std::process::Command::new(&entrypoint).args(arguments));
        (said.code, said.stdout)
    };
    let says = |text: &str| (Some(0), text.to_owned());
    assert_eq!(said(&["sh", "-c", "exit 7"]), (Some(7), String::new()));
    assert_eq!(said(&["printf", "<%s>", "a  b"]), says("<a  b>"));
    let odd = [
        "printf",
        "<%s>",
        "",
        " ",
        "$GREETING",
        "${GREETING}",
        "-x",
        "--",
        "a\nb",
        "it's",
        "\"",
        "*",
        "`id`",
        "\\",
    ];
    let expected: String = odd[2..].iter().map(|word| format!("<{word}>")).collect();
    assert_eq!(said(&odd), says(&expected));
    assert_eq!(said(&["sh", "-c", "echo \"$1 $GREETING\"", "sh", "$HOME"]), says("$HOME good  morning\n"));
    assert_eq!(said(&["sh", "-c", "kill -9 $$"]).0, Some(137));
    assert_eq!(said(&["sh", "-c", "kill -TERM $$"]).0, Some(143));
    assert_eq!((said(&["nosuch", "program"]).0, said(&["/tmp", "x"]).0), (Some(127), Some(126)));
    assert_eq!((said(&["-c", "exit 7"]).0, said(&["", "x"]).0), (Some(127), Some(127)));
    // Builtins, and functions of the environment.
    assert_eq!(said(&["exit", "3"]).0, Some(3));
    assert_eq!(said(&["greet", "all  of you"]), says("good  morning, all  of you\n"));
    assert_eq!(said(&["env", "printenv", "PS1"]), says("prompt> \n"));
    // A single argument is code with its own positional parameters.
    assert_eq!(said(&["exit 7"]).0, Some(7));
    assert_eq!(
        said(&["printf '<%s>' \"$GREETING\" $#; for n in 1 2; do echo $n; done"]),
        says("<good  morning><0>1\n2\n")
    );
    assert_eq!(said(&["kill -9 $$"]).0, Some(137));
    assert_eq!((said(&["-x"]).0, said(&[""]), said(&[])), (Some(127), says(""), says("")));
}

/// A shell with a stdenv: its functions, arrays and variables exist when the environment is entered.
#[test]
fn environment_is_entered_like_nix_develop() {
    let nix = harness!();
    let built = nix.build(
        &r#"let
            stdenv = pkgs.writeTextDir "setup" ''
              export PATH=${pkgs.coreutils}/bin''${PATH:+:$PATH}
              greet() { echo "greetings, $1"; }
              list=(one "two words" $'new\nline')
              declare -A map=([key]="a 'b' \"c\"" [other]='$d')
              readonly fixed=1
              unset never; declare -x nothing
            '';
            shell = derivation {
              name = "shell"; inherit (pkgs) system; inherit stdenv;
              builder = "${pkgs.bash}/bin/bash"; args = [ "-c" "exit 1" ];
              text = "it's \"quoted\"\n\${HOME} `x` \\ end "; HOME = "/homeless"; TMPDIR = "/nowhere";
              shellHook = "hooked=$((1 + 1)); greet hook";
              outputs = [ "out" "dev" ];
            };
            enter = import REPOSITORY/nix/modules/containers/shell-environment.nix { inherit pkgs shell; };
        in pkgs.writeScript "try" ''
          #!${pkgs.bash}/bin/bash
          export HOME=/env PATH=/before:${pkgs.coreutils}/bin
          source ${enter}
          printf '<%s>' "$text" "''${list[@]}" "''${map[key]}" "''${map[other]}" "$hooked" "$HOME" "$IN_NIX_SHELL"
          echo; greet you
          case $PATH in ${pkgs.coreutils}/bin:*/before:*) echo path;; *) echo "$PATH";; esac
          [ "$TMPDIR" = "$TMP" ] && [ -d "$TMPDIR" ] && rmdir "$TMPDIR" && echo temporary
          [ -z "''${fixed+x}" ] && echo free
        ''"#
        .replace("REPOSITORY", &Nix::repository().display().to_string()),
    );
    let said = nixply_tests::run(&mut std::process::Command::new(built)).ok();
    assert_eq!(
        said,
        "greetings, hook\n<it's \"quoted\"\n${HOME} `x` \\ end ><one><two words><new\nline><a 'b' \"c\"><$d><2></env><impure>\n\
         greetings, you\npath\ntemporary\nfree"
    );
}
