"""``fashion-vgg completion``: print a script that completes subcommands, overrides and options in bash, zsh or fish."""

import argparse
import importlib
import pkgutil
import re
import sys
from contextlib import redirect_stdout, suppress
from io import StringIO

from fashion_vgg import commands

DESCRIPTION = "Print a script that completes fashion-vgg's command line when TAB is pressed."
EPILOG = """Run this line, or add it to the startup file of the shell:

  bash    eval "$(fashion-vgg completion bash)"         ~/.bashrc
  zsh     eval "$(fashion-vgg completion zsh)"          ~/.zshrc, at its end
  fish    fashion-vgg completion fish | source          ~/.config/fish/config.fish

A startup file that does not activate the environment needs the command's path: <environment>/bin/fashion-vgg."""

# The scripts pass the command line up to the cursor to --query; without candidates the shell completes files.
BASH = r"""_fashion_vgg() {
    local line=${COMP_LINE:0:COMP_POINT}
    local word=${line##*[[:space:]]}
    mapfile -t COMPREPLY < <("$1" completion bash --query="$line" 2>/dev/null)
    COMPREPLY=("${COMPREPLY[@]#"${word%"$2"}"}")  # bash replaces $2 alone: what follows the equals sign
    [[ ${COMPREPLY-} == *[=./] ]] && compopt -o nospace
}
complete -o default -F _fashion_vgg fashion-vgg"""
ZSH = r"""(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
_fashion_vgg() {
    local line="${(j: :)words[1,CURRENT-1]} $IPREFIX$PREFIX"
    local -a found=(${(f)"$($words[1] completion zsh --query="$line" 2>/dev/null)"})
    (( $#found )) || { compset -P '*='; _files; return }
    compadd -Q -S '' -- ${(M)found:#*[=./]}
    compadd -Q -- ${found:#*[=./]}
    (( compstate[nmatches] ))
}
compdef _fashion_vgg fashion-vgg"""
FISH = r"""function __fashion_vgg
    set -l command (commandline -opc)[1]
    set -g __fashion_vgg_found ($command completion fish --query=(commandline -cp | string collect) 2>/dev/null)
    test -n "$__fashion_vgg_found"
end
complete -c fashion-vgg -n __fashion_vgg -f -a '$__fashion_vgg_found'"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def main() -> None:
    parser = argparse.ArgumentParser("fashion-vgg completion", description=DESCRIPTION, epilog=EPILOG)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("shell", choices=SCRIPTS)
    parser.add_argument("--query", metavar="LINE", help=argparse.SUPPRESS)
    args = parser.parse_args()
    lines = [SCRIPTS[args.shell]] if args.query is None else candidates(args.query)
    sys.stdout.writelines(f"{line}\n" for line in lines)


def candidates(line: str) -> list[str]:
    """What the last word of ``line`` can become; empty if that is a file."""
    *before, word = re.split(r"\s+", line.lstrip())[1:] or [""]
    names = [module.name for module in pkgutil.iter_modules(commands.__path__)]
    match before:
        case []:
            found = [*names, "--help", "--version"]
        case ["completion"]:
            found = [*SCRIPTS, "--help"]
        case [name, *_] if name in names and word.startswith("-"):
            found = options(name)
        case [name, *given] if name in names and is_hydra_command(name):
            found = overrides(name, given, word)
        case _:
            found = []
    return [candidate for candidate in found if candidate.startswith(word)]


def is_hydra_command(name: str) -> bool:
    from fashion_vgg.config.app import CONF  # imports Hydra, which subcommands and the scripts do without

    return (CONF / f"{name}.yaml").is_file()


def options(name: str) -> list[str]:
    """Hydra's options, or for other commands those in the help text."""
    if is_hydra_command(name):
        from hydra._internal.utils import get_args_parser

        text = get_args_parser().format_usage()
    else:
        sys.argv[1:] = ["--help"]
        with redirect_stdout(StringIO()) as output, suppress(SystemExit):
            importlib.import_module(f"fashion_vgg.commands.{name}").main()
        text = output.getvalue()
    return sorted(set(re.findall(r"--[a-z][a-z-]*", text)))


def overrides(name: str, given: list[str], word: str) -> list[str]:
    """Hydra's candidates; among the overrides that are ``given``, the choices of groups decide which keys exist."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.plugins.completion_plugin import DefaultCompletionPlugin
    from hydra.types import RunMode

    from fashion_vgg.config.app import CONF, groups, options
    from fashion_vgg.config.overrides import key_of

    key, equals, value = word.partition("=")
    if equals and key_of(word) in groups():  # Hydra omits subfolders, as in experiment=kernels/one_7x7
        return [f"{key}={option}" for option in options(key_of(word))]
    if value.startswith((".", "/", "~")):  # Hydra completes such paths, but without a slash after a folder
        return []
    chosen = [other for other in given if key_of(other) in groups() or other.startswith("hydra/")]
    query = " ".join([*(other for other in chosen if "," not in other), word])
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        own = loader.compute_defaults_list(name, [], RunMode.RUN).overrides.known_choices
        found = DefaultCompletionPlugin(loader)._query(name, query)
    # Hydra offers the groups of all commands, and `experiment` without its equals sign, since it has a subfolder.
    found = [other for other in found if other.rstrip("=") not in groups() or other.rstrip("=") in own]
    return [f"{other}=" if other.lstrip("+") in groups() else other for other in found]
